"""Tasks are cancelled wherever they can be: what was committed stays, the run says so, the storage is as before."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunContext, RunStatus, tool
from agentrt.models.base import ModelRequest
from agentrt.runtime import Runtime
from agentrt.storage.base import Storage
from agentrt.testing import FunctionModel, Reply, reply
from tests.crash.checks import check_ended
from tests.crash.databases import KINDS, new_url, open_storage, open_transactions

TURNS = [
    [("note", {"item": "a"}), ("look", {"what": "x"}), ("note", {"item": "b"})],
    [("slow", {}), ("look", {"what": "y"})],
]


def agent(storage: Any, **options: Any) -> Agent[Any]:
    async def note(item: str, session_state: dict[str, Any]) -> str:
        session_state.setdefault("items", []).append(item)
        await asyncio.sleep(0)
        return f"noted {item}"

    @tool(effect="pure")
    async def look(what: str) -> str:
        return f"saw {what}"

    async def slow(ctx: RunContext) -> Any:
        for n in range(3):
            yield n
            await asyncio.sleep(0)

    def answer(request: ModelRequest) -> Reply | str:
        turn = sum(bool(message.tool_calls) for message in request.messages)
        text = f"this is turn {turn}"
        return reply(text, tool_calls=TURNS[turn]) if turn < len(TURNS) else text

    return Agent(agent_id="a", model=FunctionModel(answer), tools=[note, look, slow], storage=storage, **options)


class Cancelling:
    """A storage at one of whose writes `cancel` is called: before it, while it is under way, or when it is done."""

    def __init__(self, storage: Storage, write: int, when: str, times: int) -> None:
        self._storage, self._write, self._when, self._times = storage, write, when, times
        self.writes = 0
        self.cancel: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)
        if name not in ("begin", "commit", "claim"):
            return method

        async def cancelling(*args: Any, **options: Any) -> Any:
            self.writes += 1
            is_it = self.writes == self._write
            if is_it and self._when == "before":
                self._cancel()
            if is_it and self._when == "during":
                asyncio.get_running_loop().call_soon(self._cancel)
            result = await method(*args, **options)
            if is_it and self._when == "after":
                self._cancel()
            return result

        return cancelling

    def _cancel(self) -> None:
        self.cancel()
        if self._times > 1:  # and again while the first is being heard
            asyncio.get_running_loop().call_soon(self.cancel)
            asyncio.get_running_loop().call_later(0.001, self.cancel)


async def plain(storage: Any, run_id: str, hold: Callable[[Callable[[], object]], None]) -> None:
    task = asyncio.create_task(agent(storage).arun("go", run_id=run_id, session_id="s"))
    hold(task.cancel)
    await asyncio.wait([task])
    assert task.cancelled() or task.result().status is RunStatus.COMPLETED


async def streamed(storage: Any, run_id: str, hold: Callable[[Callable[[], object]], None]) -> None:
    async def read() -> None:
        async with agent(storage).stream("go", run_id=run_id, session_id="s", stream_intermediate_steps=True) as run:
            last = 0
            async for event in run:
                if not event.is_delta:
                    assert event.seq == last + 1
                    last = event.seq

    task = asyncio.create_task(read())
    hold(task.cancel)
    await asyncio.wait([task])
    assert task.cancelled() or task.result() is None


async def in_background(storage: Any, run_id: str, hold: Callable[[Callable[[], object]], None]) -> None:
    """The driver itself is cancelled, as the end of an event loop does, and a reader sees it to its end."""
    before = asyncio.all_tasks()
    starting = asyncio.create_task(agent(storage).start("go", run_id=run_id, session_id="s"))

    def cancel() -> None:
        for task in asyncio.all_tasks() - before - {starting, *readers}:
            if task.get_name() == f"agentrt run {run_id}":  # a late cancel must not meet the next run
                task.cancel()

    readers: set[asyncio.Task[Any]] = set()
    hold(cancel)
    await asyncio.wait([starting])
    if starting.cancelled():
        return
    handle = starting.result()

    async def read() -> list[Any]:
        return [event async for event in handle.events()]

    reader = asyncio.create_task(read())
    readers.add(reader)
    events = await reader
    facts = [event.seq for event in events if not event.is_delta]
    assert facts == list(range(1, len(facts) + 1))
    assert events[-1].event in ("RunCompleted", "RunCancelled")
    await asyncio.wait([handle.driver])


WAYS = {"plain": plain, "streamed": streamed, "background": in_background}


async def drivers() -> None:
    """Wait for the ends of runs whose callers were cancelled so often that they did not."""
    while left := [task for task in asyncio.all_tasks() if "agentrt run" in task.get_name()]:
        await asyncio.wait(left)


async def cancel_once(storage: Storage, way: str, run_id: str, hold: Any, cancelling: Any) -> str:
    before = asyncio.all_tasks()
    async with asyncio.timeout(20):
        await WAYS[way](cancelling, run_id, hold)
        await drivers()
    assert asyncio.all_tasks() == before
    if await storage.load_run(run_id) is None:
        return "never stored"
    return (await check_ended(storage, run_id)).status


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path)


@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_at_every_write(url: str, way: str, times: int) -> None:
    storage = open_storage(url)
    seen: Counter[str] = Counter()
    write = 0
    while True:
        write += 1
        for when in ("before", "during", "after"):
            cancelling = Cancelling(storage, write, when, times)
            run_id = f"{way}-{write}-{when}"

            def hold(cancel: Callable[[], object], cancelling: Any = cancelling) -> None:
                cancelling.cancel = cancel

            seen[await cancel_once(storage, way, run_id, hold, cancelling)] += 1
            assert await open_transactions(url) == 0, run_id
        if cancelling.writes < write:
            break
    assert write > 5
    response = await agent(storage).arun("go", session_id="s")
    assert response.status is RunStatus.COMPLETED
    await storage.aclose()


async def cancel_somewhere(storage: Storage, random: random.Random, number: int) -> str:
    """Run, and be cancelled after some steps of the loop; now and then twice."""
    run_id = f"r{number}"
    task = asyncio.create_task(agent(storage).arun("go", run_id=run_id, session_id=f"s{number % 7}"))
    for times in range(random.choice((1, 1, 2))):
        for _ in range(int(2 ** random.uniform(0, 9 - 4 * times))):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    return run_id


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
async def test_two_hundred_runs_cancelled_anywhere(url: str, seed: int) -> None:
    storage, chance, before = open_storage(url), random.Random(seed), asyncio.all_tasks()
    seen: Counter[str] = Counter()
    async with asyncio.timeout(50):
        for first in range(0, 200, 20):
            together = (cancel_somewhere(storage, chance, first + number) for number in range(20))
            for run_id in await asyncio.gather(*together):
                stored = await storage.load_run(run_id)
                seen["never stored" if stored is None else (await check_ended(storage, run_id)).status] += 1
    assert set(seen) <= {"never stored", "CANCELLED", "COMPLETED"} and seen["CANCELLED"] > 20, seen
    assert asyncio.all_tasks() == before
    assert await open_transactions(url) == 0
    assert await storage.list_unfinished() == []
    assert (await agent(storage).arun("go", session_id="s1")).status is RunStatus.COMPLETED
    await storage.aclose()


def asking(storage: Any) -> Agent[Any]:
    @tool(requires_confirmation=True)
    async def drop(session_state: dict[str, Any]) -> str:
        session_state["dropped"] = True
        return "dropped"

    def answer(request: ModelRequest) -> Reply | str:
        return "done" if request.messages[-1].role == "tool" else reply("may I?", tool_calls=[("drop", {})])

    return Agent(agent_id="a", model=FunctionModel(answer), tools=[drop], storage=storage)


@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.slow), 2])
async def test_a_continued_run_cancelled_at_every_write(url: str, times: int) -> None:
    storage, seen, write = open_storage(url), Counter[str](), 0
    while True:
        write += 1
        for when in ("before", "during", "after"):
            run_id = f"{write}-{when}"
            paused = await asking(storage).arun("go", run_id=run_id, session_id="s")
            paused.tools[0].confirmed = True
            cancelling = Cancelling(storage, write, when, times)
            task = asyncio.create_task(asking(cancelling).acontinue_run(paused))
            cancelling.cancel = task.cancel
            async with asyncio.timeout(20):
                await asyncio.wait([task])
                await drivers()
            stored = await storage.load_run(run_id)
            assert stored is not None
            if stored.status is RunStatus.PAUSED:  # it had not been claimed
                response = await asking(storage).acontinue_run(run_id=run_id, updated_tools=paused.tools)
                assert response.status is RunStatus.COMPLETED
            else:
                ended = await check_ended(storage, run_id)
                assert [message.role for message in ended.messages[:3]] == ["user", "assistant", "tool"]
            seen[stored.status] += 1
            assert await open_transactions(url) == 0
        if cancelling.writes < write:
            break
    assert seen["CANCELLED"] > 3 and seen["COMPLETED"] >= 3
    await storage.aclose()


@pytest.mark.slow
def test_a_loop_that_ends_under_a_run_leaves_it_ended_or_to_be_recovered(url: str) -> None:
    """`asyncio.run` cancels all tasks there are, also those of the storage and of the journal."""
    write, seen = 0, Counter[str]()

    async def leave(run_id: str, cancelling: Cancelling) -> None:
        left = asyncio.Event()
        cancelling.cancel = left.set
        handle = await agent(cancelling).start("go", run_id=run_id, session_id="s")
        await asyncio.wait([handle.driver, asyncio.ensure_future(left.wait())], return_when=asyncio.FIRST_COMPLETED)

    async def look(run_id: str) -> None:
        storage = open_storage(url)
        stored = await storage.load_run(run_id)
        seen[stored.status if stored else "never stored"] += 1
        await Runtime(agents=[agent(storage)], storage=storage).recover()
        if stored is not None:
            await check_ended(storage, run_id)
        assert await open_transactions(url) == 0
        await storage.aclose()

    while True:
        write += 1
        for when in ("before", "during", "after"):
            cancelling = Cancelling(open_storage(url), write, when, 1)
            asyncio.run(leave(f"{write}-{when}", cancelling))
            asyncio.run(look(f"{write}-{when}"))
        if cancelling.writes < write:
            break
    assert seen["CANCELLED"] > 5, seen
