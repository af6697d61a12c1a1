"""How far a run may go, its child runs included; and usage, counted once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunLimits, RunResponse, RunStatus
from agentrt.errors import ConfigurationError, LimitReached, ModelServerError
from agentrt.models.base import ModelRequest
from agentrt.models.message import Usage
from agentrt.run.events import ModelCallCompleted
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, Gate, ScriptedModel, reply

CALL = ("work", {})
TEN = Usage(input_tokens=8, output_tokens=2, cached_input_tokens=4, reasoning_tokens=1)


def work() -> str:
    return "worked"


def tireless(**more: Any) -> FunctionModel:
    """A model that calls its tool as long as it may, and takes ten tokens a call."""

    def answer(request: ModelRequest) -> Any:
        done = not request.tools or request.tool_choice == "none"
        return reply("done" if done else "", tool_calls=() if done else [CALL], usage=TEN)

    return FunctionModel(answer, **more)


def working(limits: RunLimits, **options: Any) -> Agent[Any]:
    return Agent(model=tireless(), tools=[work], limits=limits, **options)


def parent_of(child: Agent[Any], limits: RunLimits, *, at_once: int = 1, **options: Any) -> Agent[Any]:
    """An agent that asks `child` as long as it may; what the child fails with is told to its model."""

    async def ask() -> str:
        return (await child.arun("go")).text()

    def answer(request: ModelRequest) -> Any:
        done = request.tool_choice == "none"
        return reply("done" if done else "", tool_calls=() if done else [("ask", {})] * at_once, usage=TEN)

    return Agent(model=FunctionModel(answer), tools=[ask], limits=limits, **options)


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "stop_reason", "calls"),
    [
        (RunLimits(input_tokens=16), "input_token_limit", 3),
        (RunLimits(output_tokens=3), "output_token_limit", 3),
        (RunLimits(total_tokens=11), "total_token_limit", 3),
        (RunLimits(total_tokens=1), "total_token_limit", 2),
    ],
)
async def test_reaching_a_token_limit_gives_a_last_turn_without_tools(
    limits: RunLimits, stop_reason: str, calls: int
) -> None:
    agent = working(limits)
    response = await agent.arun("go")
    assert (response.content, response.stop_reason) == ("done", stop_reason)
    assert response.usage.model_calls == calls


@pytest.mark.parametrize(
    ("limit", "value", "stop_reason"),
    [
        ("input_tokens", 5, "input_token_limit"),
        ("output_tokens", 2, "output_token_limit"),
        ("total_tokens", 10, "total_token_limit"),
        ("model_calls", 2, "model_call_limit"),
        ("tool_calls", 1, "tool_call_limit"),
    ],
)
async def test_a_model_that_insists_meets_an_error_that_names_limit_value_and_setting(
    limit: str, value: int, stop_reason: str
) -> None:
    model = FunctionModel(lambda request: reply(tool_calls=[CALL], usage=TEN))
    with pytest.raises(LimitReached) as caught:
        await Agent(model=model, tools=[work], limits=RunLimits(**{limit: value})).arun("go")

    error = caught.value
    assert (error.limit, error.value) == (limit.replace("_", " "), value)
    assert f"RunLimits({limit}=…)" in error.setting and error.setting in str(error)
    assert error.run_response is not None
    assert (error.run_response.status, error.run_response.stop_reason) == (RunStatus.FAILED, stop_reason)
    assert [m.role for m in error.run_response.messages][-2:] == ["assistant", "tool"]


async def test_limits_of_one_run_replace_the_agents() -> None:
    agent = working(RunLimits(total_tokens=11))
    response = await agent.arun("go", limits=RunLimits(model_calls=5))
    assert (response.stop_reason, response.usage.model_calls) == ("model_call_limit", 5)


@pytest.mark.parametrize("wrong", [{"model_calls": 0}, {"parallel_tools": 0}, {"total_tokens": -1}, {"seconds": -1.0}])
def test_a_limit_that_lets_nothing_happen_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        RunLimits(**wrong)


# --- child runs ------------------------------------------------------------------------------------------------------


async def test_what_child_runs_use_counts_for_their_parents_token_limit() -> None:
    child = working(RunLimits(model_calls=3))
    response = await parent_of(child, RunLimits(total_tokens=45)).arun("go")

    # 10 of its own, 30 of the child, 10 of its own; then the child has nothing left, which is told
    assert (response.content, response.stop_reason) == ("done", "total_token_limit")
    assert (response.usage.total_tokens, response.total_usage.total_tokens) == (30, 60)
    assert "its limit of 45 total tokens" in str(response.tools[-1].result)


@pytest.mark.parametrize("at_once", [1, 4])
async def test_child_runs_take_no_more_model_calls_than_their_parent_has_left(at_once: int) -> None:
    child = working(RunLimits(model_calls=4))
    response = await parent_of(child, RunLimits(model_calls=7), at_once=at_once).arun("go")

    assert (response.content, response.stop_reason) == ("done", "model_call_limit")
    assert response.total_usage.model_calls == 7


async def test_each_run_between_keeps_a_model_call_for_its_own_last_turn() -> None:
    middle = parent_of(working(RunLimits()), RunLimits(), name="middle")
    response = await parent_of(middle, RunLimits(model_calls=6), name="top").arun("go")

    assert (response.content, response.usage.model_calls, response.total_usage.model_calls) == ("done", 2, 6)


async def test_child_runs_take_no_more_tool_calls_than_their_parent_has_left() -> None:
    ran: list[int] = []

    def work() -> str:
        ran.append(1)
        return "worked"

    child = Agent(model=tireless(), tools=[work])
    response = await parent_of(child, RunLimits(tool_calls=5)).arun("go")
    assert len(ran) == 4  # and the one that asked the child
    assert (response.content, response.stop_reason) == ("done", "tool_call_limit")


async def test_a_child_run_may_have_narrower_limits_of_its_own() -> None:
    seen: list[RunResponse[Any]] = []
    child = working(RunLimits(model_calls=2))

    async def ask() -> str:
        seen.append(await child.arun("go"))
        return seen[-1].text()

    model = ScriptedModel(reply(tool_calls=[("ask", {})]), "done")
    response = await Agent(model=model, tools=[ask], limits=RunLimits(model_calls=40)).arun("go")
    assert (seen[0].stop_reason, seen[0].usage.model_calls) == ("model_call_limit", 2)
    assert response.stop_reason == "end"


async def test_the_error_of_a_child_run_says_whose_limit_it_met() -> None:
    errors: list[LimitReached] = []
    child = Agent(model=FunctionModel(lambda request: reply(tool_calls=[CALL], usage=TEN)), tools=[work])

    async def ask() -> str:
        with pytest.raises(LimitReached) as caught:
            await child.arun("go")
        errors.append(caught.value)
        return "failed"

    model = ScriptedModel(reply(tool_calls=[("ask", {})], usage=TEN), "done")
    await Agent(model=model, tools=[ask], name="boss", limits=RunLimits(total_tokens=30)).arun("go")
    assert [error.setting for error in errors] == ["limits=RunLimits(total_tokens=…) of 'boss'"]


async def test_a_child_run_has_no_more_time_than_its_parent() -> None:
    errors: list[BaseException] = []
    never = Gate()
    child = Agent(model=FunctionModel(lambda request: reply("late", gate=never)))

    async def ask() -> str:
        try:
            return (await child.arun("go")).text()
        except BaseException as error:
            errors.append(error)
            raise

    model = ScriptedModel(reply(tool_calls=[("ask", {})]), "I had to stop")
    async with asyncio.timeout(5):
        response = await Agent(model=model, tools=[ask], limits=RunLimits(seconds=0.1)).arun("go")
    assert (response.content, response.stop_reason) == ("I had to stop", "time_limit")
    assert len(errors) == 1


async def test_a_limit_of_depth_holds_below_the_run_that_has_it() -> None:
    leaf = Agent(model=ScriptedModel("leaf"), limits=RunLimits(depth=1))
    may = await parent_of(leaf, RunLimits(model_calls=3, depth=2)).arun("go")
    assert may.tools[0].result == "leaf"

    may_not = await parent_of(leaf, RunLimits(model_calls=3, depth=1)).arun("go")
    assert "its limit of 1 levels of nested runs" in str(may_not.tools[0].result)


# --- usage -----------------------------------------------------------------------------------------------------------


async def test_usage_is_counted_once_per_call_per_run_and_with_child_runs() -> None:
    child = working(RunLimits(model_calls=3))
    model = ScriptedModel(reply(tool_calls=[("ask", {}), ("ask", {})], usage=TEN), reply("done", usage=TEN))

    async def ask() -> str:
        return (await child.arun("go")).text()

    async with Agent(model=model, tools=[ask]).stream("go", stream_intermediate_steps=True) as run:
        events = [event async for event in run]
        response = await run.result()

    calls = [event.usage for event in events if isinstance(event, ModelCallCompleted)]
    assert [usage.total_tokens for usage in calls] == [10, 10]
    assert response.usage == Usage(
        input_tokens=16, output_tokens=4, cached_input_tokens=8, reasoning_tokens=2, model_calls=2
    )
    assert response.total_usage == Usage(
        input_tokens=64, output_tokens=16, cached_input_tokens=32, reasoning_tokens=8, model_calls=8
    )


async def test_usage_of_child_runs_survives_a_failure_and_another_process(tmp_path: Path) -> None:
    child = working(RunLimits(model_calls=3))

    async def ask() -> str:
        return (await child.arun("go")).text()

    first = ScriptedModel(reply(tool_calls=[("ask", {})], usage=TEN), ModelServerError("down"), max_retries=0)
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    with pytest.raises(ModelServerError) as caught:
        await Agent(model=first, tools=[ask], storage=storage).arun("go", run_id="r")
    assert caught.value.run_response is not None
    assert caught.value.run_response.total_usage.total_tokens == 40

    agent = Agent(model=ScriptedModel(reply("done", usage=TEN)), tools=[ask], storage=storage)
    response = await agent.acontinue_run(run_id="r")
    assert (response.usage.total_tokens, response.total_usage.total_tokens) == (20, 50)
    await agent.aclose()


async def test_usage_of_child_runs_survives_a_process_that_is_gone(tmp_path: Path) -> None:
    child, gate = working(RunLimits(model_calls=3)), Gate()

    async def ask() -> str:
        return (await child.arun("go")).text()

    model = ScriptedModel(
        reply(tool_calls=[("ask", {})], usage=TEN), reply("never", gate=gate), reply("done", usage=TEN)
    )
    agent = Agent(model=model, tools=[ask], storage=SqliteStorage(db_file=tmp_path / "data.db"))
    handle = await agent.start("go")
    async with asyncio.timeout(5):
        await gate.reached.wait()
        await handle.let_go()
        response = await agent.acontinue_run(run_id=handle.run_id)
    assert (response.content, response.usage.total_tokens, response.total_usage.total_tokens) == ("done", 20, 50)
    await agent.aclose()
