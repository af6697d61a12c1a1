"""`agent.map`: many inputs, outcomes as they finish, no more held than there is room for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from agentrt import Agent, Budget, RunResponse
from agentrt.errors import BudgetExceeded, ConfigurationError, ModelServerError
from agentrt.models.base import ModelRequest
from agentrt.models.message import Usage
from agentrt.testing import FunctionModel, Gate, Signal, reply


def echo(request: ModelRequest) -> Any:
    return f"I was told {request.messages[-1].content}"


def contents(outcomes: list[tuple[int, Any]]) -> dict[int, Any]:
    return {index: outcome.content for index, outcome in outcomes}


async def alone() -> None:
    """Wait until no task is left but this one."""
    async with asyncio.timeout(5):
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


async def test_each_input_gives_its_outcome_with_its_index() -> None:
    agent = Agent(model=FunctionModel(echo))
    outcomes = [outcome async for outcome in agent.map(["a", "b", "c"])]
    assert contents(outcomes) == {0: "I was told a", 1: "I was told b", 2: "I was told c"}


async def test_outcomes_come_as_they_finish() -> None:
    first = Gate()
    agent = Agent(model=FunctionModel(lambda r: reply("slow", gate=first) if r.messages[-1].content == "0" else "fast"))
    order: list[int] = []
    async with asyncio.timeout(5):
        async for index, _ in agent.map(["0", "1", "2"]):
            order.append(index)
            if len(order) == 2:
                first.open()
    assert (sorted(order[:2]), order[2]) == ([1, 2], 0)


async def test_an_error_is_an_outcome_and_stops_nothing_else() -> None:
    def answer(request: ModelRequest) -> Any:
        return ModelServerError("down", retryable=False) if request.messages[-1].content == "1" else "fine"

    inputs: list[Any] = ["0", "1", {"role": "nobody"}, "3"]
    outcomes: dict[int, Any] = dict([outcome async for outcome in Agent(model=FunctionModel(answer)).map(inputs)])
    assert isinstance(outcomes[1], ModelServerError) and outcomes[1].run_response is not None
    assert isinstance(outcomes[2], ValueError)
    assert [outcomes[at].content for at in (0, 3)] == ["fine", "fine"]


async def test_no_more_runs_than_max_concurrency_go_on_and_no_more_inputs_are_taken() -> None:
    gate, taken, running, most = Gate(), 0, 0, 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield str(number)

    async def answer(request: ModelRequest) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            gate.open()
        await gate.wait()
        running -= 1
        return "fine"

    async with asyncio.timeout(5), Agent(model=FunctionModel(answer)).map(endless(), max_concurrency=3) as outcomes:
        for _ in range(20):
            await anext(outcomes)
    assert most == 3
    assert taken <= 23


async def test_a_reader_that_is_slow_holds_up_the_inputs() -> None:
    taken: list[int] = []

    def endless() -> Iterator[str]:
        for number in itertools.count():
            taken.append(number)
            yield str(number)

    agent = Agent(model=FunctionModel(echo))
    async with asyncio.timeout(5), agent.map(endless(), max_concurrency=4) as outcomes:
        await anext(outcomes)
        for _ in range(2_000):  # long enough for any number of runs
            await asyncio.sleep(0)
        assert len(taken) <= 5


async def test_inputs_may_come_as_they_are_made() -> None:
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    async def inputs() -> AsyncIterator[str]:
        while (item := await queue.get()) is not None:
            yield item

    queue.put_nowait("0")
    outcomes: list[tuple[int, Any]] = []
    async with asyncio.timeout(5):
        async for outcome in Agent(model=FunctionModel(echo)).map(inputs()):
            outcomes.append(outcome)
            queue.put_nowait("next" if len(outcomes) < 3 else None)
    assert contents(outcomes) == {0: "I was told 0", 1: "I was told next", 2: "I was told next"}


async def test_an_exception_of_the_inputs_is_raised_when_their_runs_are_read() -> None:
    def inputs() -> Iterator[str]:
        yield from ("0", "1")
        raise OSError("the disk is gone")

    seen: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"):
        async for index, _ in Agent(model=FunctionModel(echo)).map(inputs()):
            seen.append(index)
    assert sorted(seen) == [0, 1]


# --- leaving ---------------------------------------------------------------------------------------------------------


def stuck() -> tuple[FunctionModel, Signal]:
    """A model that answers one of its calls and hangs in all others; the signal says that some do."""
    gate = Gate()
    return FunctionModel(lambda r: "fine" if r.messages[-1].content == "0" else reply("never", gate=gate)), gate.reached


async def test_breaking_off_cancels_what_runs_and_leaves_no_task() -> None:
    model, hangs = stuck()
    async for _, _ in Agent(model=model).map(map(str, itertools.count())):
        await hangs.wait()
        break
    await alone()
    assert model.open_streams == 0


async def test_leaving_the_async_with_waits_until_all_has_ended() -> None:
    model, hangs = stuck()
    async with asyncio.timeout(5), Agent(model=model).map(map(str, itertools.count())) as outcomes:
        async for _ in outcomes:
            await hangs.wait()
            break
    assert model.open_streams == 0
    assert len(asyncio.all_tasks()) == 1


async def test_cancelling_the_reader_cancels_what_runs() -> None:
    model, hangs = stuck()

    async def read() -> None:
        async for _ in Agent(model=model).map(map(str, itertools.count(1)), max_concurrency=2):
            pass

    reader = asyncio.ensure_future(read())
    async with asyncio.timeout(5):
        await hangs.wait()
        reader.cancel()
        await asyncio.wait([reader])
    assert model.open_streams == 0
    assert len(asyncio.all_tasks()) == 1


async def test_a_wait_that_times_out_cancels_nothing() -> None:
    gate = Gate()
    async with Agent(model=FunctionModel(lambda r: reply("at last", gate=gate))).map(["0"]) as outcomes:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(outcomes), 0.02)
        gate.open()
        async with asyncio.timeout(5):
            index, outcome = await anext(outcomes)
    assert isinstance(outcome, RunResponse)
    assert (index, outcome.content) == (0, "at last")


# --- options ---------------------------------------------------------------------------------------------------------


async def test_runs_share_a_budget_and_those_it_has_no_room_for_are_refused() -> None:
    budget = Budget(tokens=5_000)
    model = FunctionModel(lambda r: reply("fine", usage=Usage(input_tokens=50, output_tokens=50)))
    outcomes = [o async for _, o in Agent(model=model).map(map(str, range(30)), max_concurrency=1, budget=budget)]
    done = [outcome for outcome in outcomes if isinstance(outcome, RunResponse)]
    assert (len(outcomes), budget.used_tokens) == (30, 100 * len(done))
    assert 0 < len(done) < 30
    assert all(isinstance(outcome, (RunResponse, BudgetExceeded)) for outcome in outcomes)


async def test_each_input_has_a_session_of_its_own_unless_one_is_given() -> None:
    agent = Agent(model=FunctionModel(echo))
    own = [o async for _, o in agent.map(["a", "b", "c"], instructions="Be brief.")]
    one = [o async for _, o in agent.map(["a", "b", "c"], session_id="s")]
    assert len({o.session_id for o in own if isinstance(o, RunResponse)}) == 3
    assert {o.session_id for o in one if isinstance(o, RunResponse)} == {"s"}


async def test_what_can_not_be_meant_is_refused_at_once() -> None:
    agent = Agent(model=FunctionModel(echo))
    with pytest.raises(TypeError, match="no option 'run_id'"):
        agent.map(["a"], run_id="r")  # pyright: ignore[reportCallIssue]
    with pytest.raises(ConfigurationError, match="max_concurrency=0"):
        agent.map(["a"], max_concurrency=0)
    with pytest.raises(TypeError, match="not iterable"):
        agent.map(5)  # pyright: ignore[reportArgumentType]
