"""What a run costs, counted: statements, round trips, tasks, hops between threads, encodings. Time is for benchmarks.

A figure here may go down. When one goes up, something is done twice, or for nothing.
"""

from __future__ import annotations

import asyncio
import gc
import json.encoder
import selectors
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent
from agentrt.models.openai import OpenAIChat
from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.postgres import PostgresStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, reply
from tests.http_server import Server, completion
from tests.postgres_server import cutting_proxy, postgres_server

CALLS = 10
PIECES = 200


async def add(a: int, b: int) -> int:
    return a + b


def chain(storage: Storage | None = None, calls: int = 0, **options: Any) -> Agent[Any]:
    """An agent that calls a tool so many times, one call a turn."""

    def answer(request: Any) -> Any:
        asked = max(at for at, message in enumerate(request.messages) if message.role == "user")
        done = len(request.messages[asked:]) // 2
        return "done" if done == calls else reply(tool_calls=[("add", {"a": done, "b": 1})])

    return Agent(agent_id="chain", model=FunctionModel(answer), tools=[add], storage=storage, **options)


def speaking(storage: Storage | None = None) -> Agent[Any]:
    """An agent whose answer comes in many pieces, all at once."""

    async def pieces() -> AsyncIterator[str]:
        for number in range(PIECES):
            yield f"w{number} "

    return Agent(agent_id="speaking", model=FunctionModel(lambda request: pieces()), storage=storage)


# --- SQLite ----------------------------------------------------------------------------------------------------------


class Statements:
    """Counts the statements that a storage carries out."""

    def __init__(self, storage: SqliteStorage) -> None:
        self.made = Counter[str]()
        jobs = storage._jobs  # pyright: ignore[reportPrivateUsage]
        open = jobs._open  # pyright: ignore[reportPrivateUsage]

        def traced() -> sqlite3.Connection:
            connection = open()
            connection.set_trace_callback(lambda statement: self.made.update([statement.split()[0]]))
            return connection

        jobs._open = traced  # pyright: ignore[reportPrivateUsage]

    async def of(self, run: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[int, int]:
        """How many transactions a run takes, and how many statements are in them.

        The least of a few: in one of them, its lease may have been renewed.
        """
        taken: list[tuple[int, int]] = []
        for _ in range(3):
            self.made.clear()
            await run()
            made = self.made
            taken.append((made["COMMIT"], made.total() - made["BEGIN"] - made["COMMIT"]))
        return min(taken)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    yield storage
    await storage.aclose()


@pytest.fixture
def statements(storage: SqliteStorage) -> Statements:
    return Statements(storage)


async def test_a_plain_run_is_three_transactions(storage: SqliteStorage, statements: Statements) -> None:
    agent = chain(storage)
    assert await statements.of(lambda: agent.arun("go")) == (3, 13)


async def test_each_call_of_a_chain_adds_two_transactions(storage: SqliteStorage, statements: Statements) -> None:
    """Before the tool is called, and with the start of the next model call. In them: two fences, seven rows."""
    agent = chain(storage, CALLS)
    assert await statements.of(lambda: agent.arun("go")) == (3 + 2 * CALLS, 13 + 9 * CALLS)


async def test_a_streamed_run_stores_no_more_than_a_plain_one(storage: SqliteStorage, statements: Statements) -> None:
    agent = speaking(storage)

    async def run() -> None:
        async for _ in agent.arun("go", stream=True):
            pass

    assert await statements.of(run) == (3, 13)


async def test_without_a_journal_a_run_is_two_transactions(storage: SqliteStorage, statements: Statements) -> None:
    agent = chain(storage, CALLS, journal="run")
    assert await statements.of(lambda: agent.arun("go")) == (2, 8)


async def test_a_turn_after_200_takes_as_many_statements_as_one_after_10(
    storage: SqliteStorage, statements: Statements
) -> None:
    agent = chain(storage, 1, add_history_to_messages=True, num_history_runs=3)

    async def after(turns: int) -> tuple[int, int]:
        for _ in range(turns):
            await agent.arun("go", session_id="s")
        return await statements.of(lambda: agent.arun("go", session_id="s"))

    assert await after(10) == await after(187)


# --- Postgres --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cache", "plain", "a_call"), [(None, 6, 4), (100, 3, 2)])
async def test_round_trips_to_postgres_of_a_plain_run_and_of_each_call(
    cache: int | None, plain: int, a_call: int
) -> None:
    url = await asyncio.to_thread(lambda: postgres_server().new_database())
    async with cutting_proxy(url) as (proxy_url, proxy):
        storage = PostgresStorage(db_url=proxy_url, statement_cache_size=cache)
        try:
            asked: dict[int, list[int]] = {0: [], CALLS: []}
            for calls in (0, CALLS) * 3:
                before = proxy.asked
                await chain(storage, calls).arun("go")
                asked[calls].append(proxy.asked - before)
        finally:
            await storage.aclose()
    assert min(asked[0]) == plain
    assert min(asked[CALLS]) == plain + a_call * CALLS


# --- the loop and threads --------------------------------------------------------------------------------------------


class Counting(selectors.DefaultSelector):
    """The loop selects once in each of its iterations."""

    rounds = 0

    def select(self, timeout: float | None = None) -> Any:
        self.rounds += 1
        return super().select(timeout)


def tasks_and_iterations(agent: Agent[Any]) -> tuple[int, int]:
    """How many tasks a run makes, one that is not the first, and how many iterations of the loop it takes."""
    selector, tasks = Counting(), 0
    loop = asyncio.SelectorEventLoop(selector)

    def factory(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        nonlocal tasks
        tasks += 1
        return asyncio.Task(work, loop=loop, **options)

    loop.set_task_factory(factory)  # pyright: ignore[reportArgumentType]

    async def run() -> tuple[int, int]:
        await agent.arun("go")
        before = tasks, selector.rounds
        await agent.arun("go")
        return tasks - before[0], selector.rounds - before[1]

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(run())


def test_a_plain_run_in_memory_is_one_task() -> None:
    assert tasks_and_iterations(chain()) == (1, 3)


def test_each_call_in_memory_is_one_task() -> None:
    assert tasks_and_iterations(chain(calls=CALLS)) == (1 + CALLS, 3 + 3 * CALLS)


def hops(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    hop = asyncio.BaseEventLoop.call_soon_threadsafe

    def counted(loop: Any, callback: Any, *args: Any, **options: Any) -> Any:
        made.append(callback)
        return hop(loop, callback, *args, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", counted)
    return made


def test_a_sync_run_is_one_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = chain(calls=CALLS)
    agent.run("go")
    made = hops(monkeypatch)
    agent.run("go")
    assert len(made) == 1


def test_a_sync_stream_is_a_hop_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = speaking()
    agent.run("go")
    made = hops(monkeypatch)
    assert sum(1 for _ in agent.run("go", stream=True)) > PIECES
    assert len(made) == 4  # to open it, for what is there, for the end, to close it


# --- memory and encodings --------------------------------------------------------------------------------------------


async def test_a_run_in_memory_keeps_few_objects() -> None:
    agent = chain(InMemoryStorage(), 1)
    assert isinstance(agent.model, FunctionModel)
    counts: list[int] = []
    for _ in range(3):
        for _ in range(50):
            await agent.arun("go", session_id="s")
        agent.model.requests.clear()  # which a scripted model keeps
        gc.collect()
        counts.append(len(gc.get_objects()))
    assert (counts[2] - counts[1]) / 50 <= 15


async def test_a_turn_encodes_each_message_of_its_history_once(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = Counter[str]()

    def counted(text: str) -> str:
        encoded[text] += 1
        return plain(text)

    plain = json.encoder.encode_basestring
    for name in ("encode_basestring", "encode_basestring_ascii"):
        monkeypatch.setattr(json.encoder, name, counted)
    with Server() as server:
        model = OpenAIChat(id="m", api_key="k", base_url=server.url)
        agent = Agent(model=model, storage=storage, add_history_to_messages=True, num_history_runs=10)
        for number in range(5):
            server.add(json=completion(f"answer {number}"))
            encoded.clear()
            await agent.arun(f"question {number}", session_id="s")
    earlier = [f"{what} {number}" for what in ("question", "answer") for number in range(4)]
    assert {text: encoded[text] for text in earlier} == dict.fromkeys(earlier, 1)
