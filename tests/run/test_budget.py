"""Budgets: reserved before a request is sent, settled after; shared by whatever has them."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from agentrt import Agent, Budget, Price, RunStatus
from agentrt.errors import BudgetExceeded, ConfigurationError, ModelServerError
from agentrt.models.base import ModelRequest
from agentrt.models.fallback import FallbackModel
from agentrt.models.message import Message, Usage
from agentrt.models.openai import OpenAIChat
from agentrt.run.budget import MESSAGE_TOKENS, Reservation
from agentrt.testing import FunctionModel, Gate, ScriptedModel, reply
from tests.http_server import Server, completion

HUNDRED = Usage(input_tokens=60, output_tokens=40)
DOLLAR = Price(input=1_000_000.0, output=1_000_000.0)
"""A dollar a token."""


class Limited(FunctionModel):
    """A function model that says how long its answers get."""

    max_tokens: int = 100

    def __init__(self, function: Any, **options: Any) -> None:
        super().__init__(function, **options)


def fine(request: ModelRequest) -> Any:
    return reply("fine", usage=HUNDRED)


def model(answer: Any = None) -> Limited:
    return Limited(answer or fine)


async def test_what_requests_used_is_taken_off_a_budget() -> None:
    budget = Budget(tokens=1_000)
    agent = Agent(model=model(), budget=budget)
    await agent.arun("hi")
    await agent.arun("hi")
    assert (budget.used_tokens, budget.remaining_tokens) == (200, 800)
    assert (budget.used_cost_usd, budget.remaining_cost_usd) == (0.0, None)


async def test_a_request_that_does_not_fit_is_refused_before_anything_is_sent() -> None:
    budget = Budget(tokens=250)
    asked = model()
    agent = Agent(model=asked, budget=budget)
    await agent.arun("hi")
    await agent.arun("hi")
    with pytest.raises(BudgetExceeded) as caught:
        await agent.arun("hi")

    error = caught.value
    assert len(asked.requests) == 2
    assert (error.budget, error.value, error.used, error.reserved) == ("tokens", 250, 200, 0)
    assert error.needed > 100
    assert "250 tokens" in str(error) and "Budget(tokens=…)" in str(error) and "max_tokens" in str(error)
    assert error.run_response is not None
    assert error.run_response.status is RunStatus.FAILED
    assert budget.remaining_tokens == 50


async def test_a_fallbacks_answer_has_the_price_of_the_model_that_answered() -> None:
    def failing(request: ModelRequest) -> Any:
        raise ModelServerError("down", provider="test", model_id="dear")

    cheap = Price(input=1_000.0, output=1_000.0)
    budget = Budget(cost_usd=10_000.0, price={"dear": DOLLAR, "cheap": cheap})
    models = (Limited(failing, id="dear", max_retries=0), Limited(fine, id="cheap"))
    agent = Agent(model=FallbackModel(*models), budget=budget)

    await agent.arun("hi")

    assert budget.used_cost_usd == pytest.approx(0.1)
    assert budget.remaining_cost_usd == pytest.approx(9_999.9)


async def test_for_a_fallback_the_dearest_of_its_models_is_reserved() -> None:
    cheap = Price(input=1.0, output=1.0)
    models = (Limited(fine, id="cheap"), Limited(fine, id="dear", max_tokens=200))
    budget = Budget(cost_usd=200.0, price={"dear": DOLLAR, "cheap": cheap})

    with pytest.raises(BudgetExceeded) as caught:
        await Agent(model=FallbackModel(*models), budget=budget).arun("hi")

    assert caught.value.needed > 200
    assert not models[0].requests


async def test_a_fallback_to_a_model_without_a_known_price_is_refused_before_anything_is_sent() -> None:
    models = (Limited(fine, id="known"), Limited(fine, id="unheard-of"))
    budget = Budget(cost_usd=200.0, price={"known": DOLLAR})

    with pytest.raises(ConfigurationError, match="unheard-of"):
        await Agent(model=FallbackModel(*models), budget=budget).arun("hi")

    assert not models[0].requests


async def test_a_run_that_was_refused_goes_on_with_another_budget() -> None:
    agent = Agent(model=ScriptedModel("fine"), budget=Budget(tokens=1))
    with pytest.raises(BudgetExceeded):
        await agent.arun("hi", run_id="r")
    response = await agent.acontinue_run(run_id="r", budget=Budget(tokens=10_000))
    assert (response.content, response.usage.model_calls) == ("fine", 1)


async def test_runs_at_the_same_time_never_reserve_more_than_there_is() -> None:
    gate = Gate()
    need = 100 + MESSAGE_TOKENS + 1
    budget = Budget(tokens=10 * need)
    asked = model(lambda request: reply("fine", usage=HUNDRED, gate=gate))
    agents = [Agent(model=asked, budget=budget), Agent(model=asked, budget=budget)]
    runs = [asyncio.ensure_future(agents[i % 2].arun("hi")) for i in range(50)]
    async with asyncio.timeout(5):
        await asyncio.wait(runs[10:])
        assert len(asked.requests) == 10
        assert budget.remaining_tokens == 0
        gate.open()
        outcomes = await asyncio.gather(*runs, return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, BudgetExceeded)]
    assert len(refused) == 40
    assert {(error.used, error.reserved, error.needed) for error in refused} == {(0, 10 * need, need)}
    assert (budget.used_tokens, budget.remaining_tokens) == (1_000, 10 * need - 1_000)


async def test_what_a_request_takes_beyond_its_reservation_is_all_that_is_overspent() -> None:
    budget = Budget(tokens=1_000)
    greedy = model(lambda request: reply("fine", usage=Usage(input_tokens=10, output_tokens=150)))
    runs = [Agent(model=greedy, budget=budget).arun("hi") for _ in range(50)]
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    done = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert budget.used_tokens == 160 * len(done)
    assert budget.used_tokens <= 1_000 + 60 * len(done)
    assert all(isinstance(outcome, BudgetExceeded) for outcome in outcomes if isinstance(outcome, BaseException))


async def test_event_loops_in_several_threads_share_one_budget() -> None:
    budget = Budget(tokens=5_000)
    agent = Agent(model=model(), budget=budget)

    async def some() -> list[Any]:
        return await asyncio.gather(*(agent.arun("hi") for _ in range(20)), return_exceptions=True)

    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*(asyncio.to_thread(asyncio.run, some()) for _ in range(4)))
    done = sum(not isinstance(outcome, BaseException) for each in outcomes for outcome in each)
    assert budget.used_tokens == 100 * done <= 5_000
    assert budget.remaining_tokens == 5_000 - 100 * done


# --- whose budget ----------------------------------------------------------------------------------------------------


async def test_a_runs_own_budget_replaces_the_agents() -> None:
    agents, runs = Budget(tokens=1_000), Budget(tokens=1_000)
    agent = Agent(model=model(), budget=agents)
    await agent.arun("hi", budget=runs)
    assert (agents.used_tokens, runs.used_tokens) == (0, 100)


async def test_child_runs_share_their_parents_budget_also_with_one_of_their_own() -> None:
    own, shared = Budget(tokens=1_000), Budget(tokens=1_000)
    child = Agent(model=model())

    async def ask() -> str:
        await child.arun("hi")
        await child.arun("hi", budget=shared)
        return (await child.arun("hi", budget=own)).text()

    asked = ScriptedModel(reply(tool_calls=[("ask", {})], usage=HUNDRED), reply("done", usage=HUNDRED))
    budget = Budget(tokens=20_000)
    await Agent(model=asked, tools=[ask]).arun("hi", budget=budget)
    assert (budget.used_tokens, shared.used_tokens, own.used_tokens) == (500, 100, 100)


async def test_a_request_that_one_of_two_budgets_refuses_leaves_nothing_reserved_in_the_other() -> None:
    small, large = Budget(tokens=1), Budget(tokens=20_000)
    child = Agent(model=model(), budget=small)

    async def ask() -> str:
        with pytest.raises(BudgetExceeded):
            await child.arun("hi", budget=small)
        assert large.remaining_tokens == 20_000 - large.used_tokens
        return "refused"

    asked = ScriptedModel(reply(tool_calls=[("ask", {})], usage=HUNDRED), reply("done", usage=HUNDRED))
    response = await Agent(model=asked, tools=[ask], budget=large).arun("hi")
    assert response.tools[0].result == "refused"
    assert large.used_tokens == 200


# --- what counts -----------------------------------------------------------------------------------------------------


async def test_a_failed_request_gives_back_what_it_had_reserved() -> None:
    budget = Budget(tokens=1_000)
    with pytest.raises(ModelServerError):
        await Agent(model=model(lambda request: ModelServerError("down", retryable=False)), budget=budget).arun("hi")
    assert (budget.used_tokens, budget.remaining_tokens) == (0, 1_000)


async def test_an_answer_without_usage_counts_as_estimated() -> None:
    budget = Budget(tokens=1_000)
    await Agent(model=model(lambda request: ["x" * 30]), budget=budget).arun("hi")  # bare deltas: none of usage
    assert budget.used_tokens == MESSAGE_TOKENS + 1 + 10


async def test_a_cancelled_request_counts_what_was_sent_and_what_had_come() -> None:
    gate = Gate()
    budget = Budget(tokens=1_000)
    cut = model(lambda request: reply(["x" * 30, "never"], gate=gate, gate_after=1))
    async with asyncio.timeout(5):
        async with Agent(model=cut, budget=budget).stream("hi"):
            await gate.reached.wait()
    assert budget.used_tokens == MESSAGE_TOKENS + 1 + 10
    assert budget.remaining_tokens == 1_000 - budget.used_tokens


@pytest.mark.parametrize(
    "text", ["The quick brown fox jumps over the lazy dog. " * 20, "敏捷的棕色狐狸跳过了懒狗。" * 20, "ä\ud800" * 9]
)
def test_input_is_estimated_from_its_bytes(text: str) -> None:
    request = ModelRequest(messages=[Message(role="user", content=text)])
    budget = Budget(tokens=100_000)
    with Reservation([budget], model(), request):
        reserved = 100_000 - (budget.remaining_tokens or 0)
    assert reserved == 100 + MESSAGE_TOKENS + -(-len(text.encode("utf-8", "surrogatepass")) // 3)


# --- money -----------------------------------------------------------------------------------------------------------


async def test_a_price_given_by_hand_is_per_million_tokens() -> None:
    budget = Budget(cost_usd=1.0, price=Price(input=2.0, output=8.0, cached_input=0.5, cache_write=4.0))
    usage = Usage(input_tokens=100_000, output_tokens=10_000, cached_input_tokens=50_000, cache_write_tokens=10_000)
    await Agent(model=model(lambda request: reply("fine", usage=usage)), budget=budget).arun("hi")
    assert budget.used_cost_usd == 0.225
    assert budget.remaining_cost_usd == pytest.approx(1.0 - budget.used_cost_usd)
    assert budget.used_tokens == 110_000


async def test_a_request_that_costs_too_much_is_refused() -> None:
    asked = model()
    agent = Agent(model=asked, budget=Budget(cost_usd=150.0, price=DOLLAR))
    await agent.arun("hi")
    with pytest.raises(BudgetExceeded, match=r"150 USD.*100 are used.*Budget\(cost_usd=…\)") as caught:
        await agent.arun("hi")
    assert (caught.value.budget, caught.value.used) == ("cost_usd", 100.0)
    assert len(asked.requests) == 1


async def test_prices_of_known_models_need_not_be_given(server: Server) -> None:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 500, "total_tokens": 1_500}
    server.add(json={**completion("fine"), "usage": usage})
    budget = Budget(cost_usd=1.0)
    openai = OpenAIChat(id="gpt-4.1", api_key="test", base_url=f"{server.url}/v1")
    await Agent(model=openai, budget=budget).arun("hi")
    await openai.aclose()
    assert budget.used_cost_usd == pytest.approx(1_000 * 2e-6 + 500 * 8e-6)


async def test_a_model_of_unknown_price_is_an_error_before_the_request() -> None:
    asked = model()
    with pytest.raises(ConfigurationError, match=r"function:function is not known.*price=Price"):
        await Agent(model=asked, budget=Budget(cost_usd=1.0)).arun("hi")
    assert asked.requests == []


async def test_prices_may_be_given_by_model() -> None:
    budget = Budget(cost_usd=1_000.0, price={"function:a": DOLLAR, "b": Price(input=0.0, output=0.0)})
    for name in ("a", "b"):
        await Agent(model=Limited(lambda request: reply("fine", usage=HUNDRED), id=name), budget=budget).arun("hi")
    assert (budget.used_cost_usd, budget.used_tokens) == (100.0, 200)
    with pytest.raises(ConfigurationError, match="function:c"):
        await Agent(model=Limited(lambda request: "fine", id="c"), budget=budget).arun("hi")


async def test_without_the_package_of_prices_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'agentrt\[prices\]'"):
        await Agent(model=model(), budget=Budget(cost_usd=1.0)).arun("hi")


def test_a_budget_of_nothing_in_particular_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"tokens=…\) or"):
        Budget()


def test_a_budget_shows_how_far_it_is_used() -> None:
    assert repr(Budget(tokens=5, cost_usd=0.5)) == "Budget(tokens=5, used_tokens=0, cost_usd=0.5, used_cost_usd=0.0)"
