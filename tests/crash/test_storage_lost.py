"""The storage itself fails: a process dies while it commits, connections are cut, the disk is full, the lock is held,
the server is gone for a while. What was committed stays, the run says what is wrong, and goes on afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentrt import Agent, RunStatus, tool
from agentrt.errors import RunBusy, StorageError
from agentrt.models.base import ModelRequest
from agentrt.run import lease, prepare
from agentrt.storage.base import Storage
from agentrt.storage.postgres import PostgresStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, Reply, ScriptedModel, reply
from tests.crash.checks import check_ended
from tests.crash.databases import KINDS, new_url, open_storage, open_transactions
from tests.crash.processes import KILLED, Processes
from tests.crash.program import Task
from tests.crash.scenarios import FINAL, World, agent
from tests.postgres_server import postgres_server

RUNS = [f"r{number}" for number in range(20)]


async def run_all(storage: Storage, world: World) -> None:
    """Twenty runs at once, which must not notice anything."""

    async def one(name: str) -> None:
        response = await agent("parallel", storage, world).arun("go", run_id=name, session_id=name)
        assert response.content == FINAL
        assert response.session_state is not None and response.session_state["items"] == ["a", "b"]

    await asyncio.gather(*map(one, RUNS))
    for name in RUNS:
        assert (await check_ended(storage, name)).status is RunStatus.COMPLETED
        assert once(world, name)


def once(world: World, run_id: str) -> bool:
    done = world.count(run_id)
    return done["paid 5"] == done["paid 7"] == 1 and done.get("act z", 0) <= 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_many_runs_commit(kind: str, times: int, processes: Processes, tmp_path: Path) -> None:
    url, chance = new_url(kind, tmp_path), random.Random(7)
    kills = recovered = 0
    for number in range(times):
        name, side = f"m{number}", str(tmp_path / f"side-{number}.db")
        code, said = processes.do(Task("many", "parallel", url, side, name, seconds=chance.uniform(0.02, 0.3)))
        assert code in (KILLED, 0), said
        kills += code == KILLED
        if kind == "sqlite":
            with contextlib.closing(sqlite3.connect(url)) as file:
                assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        code, ended = processes.do(Task("all", "parallel", url, side, name))
        assert code == 0, ended
        recovered += len(ended)
        asyncio.run(check_many(url, {line.split()[1] for line in said}, set(ended), World(side)))
    # how far each came depends on how busy the machine is: a few may all have been killed early
    assert kills > times / 4 and recovered > times / 4, (kills, recovered)


async def check_many(url: str, begun: set[str], recovered: set[str], world: World) -> None:
    """Whatever was said to have begun is there and came to its end; nothing else is left open."""
    storage = open_storage(url)
    assert await storage.list_unfinished() == []
    for run_id in begun | recovered:
        assert (await check_ended(storage, run_id)).status is RunStatus.COMPLETED
        assert once(world, run_id)
        session = await storage.load_session(run_id)
        assert session is not None and session.state["items"] == ["a", "b"]
    await storage.aclose()


async def test_connections_cut_while_runs_commit_are_not_noticed(tmp_path: Path) -> None:
    url = await asyncio.to_thread(new_url, "postgres", tmp_path)
    storage, world = open_storage(url), World(str(tmp_path / "side.db"))
    await storage.load_session("")
    cutter = await asyncpg.connect(url)
    running = asyncio.create_task(run_all(storage, world))
    cut = 0
    async with asyncio.timeout(50):
        while not running.done() and cut < 100:
            cut += await cutter.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND (state <> 'idle' OR random() < 0.3)"
            )
            await asyncio.wait([running], timeout=0.01)
        await running
    assert cut > 5
    await cutter.close()
    assert await open_transactions(url) == 0
    await storage.aclose()


# --- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be made here to fill: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(1024))


async def test_a_full_disk_fails_the_run_and_nothing_else(small_disk: Path) -> None:
    file = small_disk / "data.db"
    storage = SqliteStorage(db_file=file)
    filled: list[None] = []

    @tool(effect="idempotent")
    def write_much(session_state: dict[str, Any]) -> str:
        session_state["written"] = True
        if not filled:
            filled.append(fill(small_disk))
        return "written"

    def answer(request: ModelRequest) -> Reply | str:
        return "done" if request.messages[-1].role == "tool" else reply(tool_calls=[("write_much", {})])

    chat = Agent(agent_id="a", model=ScriptedModel("one", "two", "three"), storage=storage, session_id="s")
    assert (await chat.arun("first")).content == "one"
    writing = chat.copy(model=FunctionModel(answer), tools=[write_much])

    with pytest.raises(StorageError, match=r"disk is full.*make room") as caught:
        await writing.arun("write", run_id="w")
    assert str(file) in str(caught.value)
    with pytest.raises(StorageError, match="disk is full"):  # it never began
        await chat.arun("second", run_id="n")
    assert [len(messages) for messages in await storage.load_history("s")] == [2]

    (small_disk / "filler").unlink()
    await storage.replace_state("s", {"meanwhile": True})
    response = await writing.acontinue_run(run_id="w")
    assert (response.status, response.content) == (RunStatus.COMPLETED, "done")
    assert response.session_state == {"meanwhile": True, "written": True}
    assert (await check_ended(storage, "w")).status is RunStatus.COMPLETED
    assert await storage.load_run("n") is None
    assert (await chat.arun("second", run_id="n")).content == "two"
    with contextlib.closing(sqlite3.connect(file)) as found:
        assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    await storage.aclose()


# --- gone for a while ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(file: str, seconds: float) -> Iterator[None]:
    """Somebody else holds the file's lock for a while, also while this thread does not come to let it go."""
    holder = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=10)
    holder.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(seconds, holder.execute, ("ROLLBACK",))
    timer.start()
    try:
        yield
    finally:
        timer.join()
        holder.close()


@pytest.mark.parametrize("seconds", [1.3, pytest.param(3, marks=pytest.mark.slow)])
async def test_runs_wait_for_a_lock_that_is_held_for_a_while(tmp_path: Path, seconds: float) -> None:
    url = str(tmp_path / "data.db")
    storage, world = open_storage(url), World(str(tmp_path / "side.db"))
    await storage.load_session("")
    running = asyncio.create_task(run_all(storage, world))
    while not world.count("r0"):  # in the middle of it
        await asyncio.wait([running], timeout=0.001)
    with locked(url, seconds):
        async with asyncio.timeout(30):
            await running
    await storage.aclose()


async def test_a_run_that_waited_too_long_for_a_lock_fails_and_goes_on_later(tmp_path: Path) -> None:
    file = str(tmp_path / "data.db")
    storage = SqliteStorage(db_file=file, busy_timeout_s=0.1)
    locks = contextlib.ExitStack()

    @tool(effect="idempotent")
    async def lock() -> str:
        if not locks_taken:
            locks_taken.append(1)
            locks.enter_context(locked(file, 1.0))
        return "done"

    locks_taken: list[int] = []
    model = FunctionModel(lambda r: "ok" if r.messages[-1].role == "tool" else reply(tool_calls=[("lock", {})]))
    locking = Agent(agent_id="a", model=model, tools=[lock], storage=storage)
    with pytest.raises(StorageError, match=r"locked.*busy_timeout_s=0\.1"):
        await locking.arun("go", run_id="r", session_id="s")
    locks.close()
    response = await locking.acontinue_run(run_id="r")
    assert (response.status, response.content) == (RunStatus.COMPLETED, "ok")
    await check_ended(storage, "r")
    await storage.aclose()


@pytest.mark.parametrize("seconds", [0.5, pytest.param(3, marks=pytest.mark.slow)])
async def test_runs_outlive_a_server_that_is_gone_for_a_while(tmp_path: Path, seconds: float) -> None:
    url = await asyncio.to_thread(new_url, "postgres", tmp_path)
    storage, world = open_storage(url), World(str(tmp_path / "side.db"))
    await storage.load_session("")
    running = asyncio.create_task(run_all(storage, world))
    while not world.count("r0"):
        await asyncio.wait([running], timeout=0.001)
    await asyncio.to_thread(postgres_server().stop)
    await asyncio.wait([running], timeout=seconds)
    await asyncio.to_thread(postgres_server().start)
    async with asyncio.timeout(40):
        await running
    await storage.aclose()


async def test_a_run_whose_server_does_not_come_back_in_time_fails_and_goes_on_later(tmp_path: Path) -> None:
    url = await asyncio.to_thread(new_url, "postgres", tmp_path)
    storage = PostgresStorage(table_name="crash", db_url=url, reconnect_s=0.2)
    stops: list[int] = []

    @tool(effect="idempotent")
    def stop() -> str:
        if not stops:
            stops.append(1)
            postgres_server().stop()
        return "done"

    model = FunctionModel(lambda r: "ok" if r.messages[-1].role == "tool" else reply(tool_calls=[("stop", {})]))
    stopping = Agent(agent_id="a", model=model, tools=[stop], storage=storage)
    with pytest.raises(StorageError, match=r"can't be reached.*Start it"):
        await stopping.arun("go", run_id="r", session_id="s")
    await asyncio.to_thread(postgres_server().start)
    response = await stopping.acontinue_run(run_id="r")
    assert (response.status, response.content) == (RunStatus.COMPLETED, "ok")
    await check_ended(storage, "r")
    await storage.aclose()


# --- leases ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("renewed", [True, False])
async def test_a_tool_that_blocks_the_loop_for_longer_than_the_lease_keeps_its_run(
    kind: str, renewed: bool, processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await asyncio.to_thread(new_url, kind, tmp_path)
    storage, lease_s = open_storage(url), 0.6
    monkeypatch.setattr(prepare, "LEASE_S", lease_s)
    monkeypatch.setattr(lease, "LEASE_S", lease_s)
    monkeypatch.setattr(lease, "RENEW_S", 0.05 if renewed else 60)
    monkeypatch.setattr(lease, "_keeper", lease._Keeper())
    taken: list[str] = []

    async def act(item: str) -> str:
        threading.Event().wait(2 * lease_s)  # nothing else happens in this loop meanwhile
        code, said = processes.do(Task("elsewhere", "parallel", url, str(tmp_path / "side.db"), "r"))
        assert code == 0, said
        taken.extend(said)
        return "acted"

    model = FunctionModel(
        lambda r: FINAL if r.messages[-1].role == "tool" else reply(tool_calls=[("act", {"item": "x"})])
    )
    blocking = Agent(agent_id="a", model=model, tools=[act], storage=storage)
    if renewed:
        assert (await blocking.arun("go", run_id="r", session_id="s")).content == FINAL
        assert taken == []
    else:  # so it would be, were it not for the thread
        with pytest.raises(RunBusy):
            await blocking.arun("go", run_id="r", session_id="s")
        assert taken == ["r"]
    stored = await check_ended(storage, "r")
    assert (stored.status, stored.epoch) == (RunStatus.COMPLETED, 1 if renewed else 2)
    await storage.aclose()
