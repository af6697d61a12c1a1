"""Fifty runs on one session, all under way together: each appends to a list that is absent at first, and adds a key."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from agentrt.run.response import RunStatus
from agentrt.storage.base import RunChange, StateChange, Storage, StoredRun
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.merge import copy_state
from agentrt.storage.sqlite import SqliteStorage

RUNS = [f"r{number}" for number in range(50)]


async def run_once(storage: Storage, run_id: str, wait_for_all: Callable[[], Awaitable[object]]) -> None:
    """A run that pauses once on the way: its key is `paused` by then, and its item comes when it goes on."""
    opening = await storage.begin(StoredRun(run_id=run_id, session_id="s", owner="me"))
    await wait_for_all()
    mine = {**copy_state(opening.state or {}), run_id: "paused"}
    state = StateChange(base=opening.state or {}, mine=mine)
    paused = await storage.commit(
        RunChange(run_id=run_id, session_id="s", status=RunStatus.PAUSED, state=state, epoch=1)
    )
    await wait_for_all()
    assert paused.state is not None
    epoch = await storage.claim(run_id, epoch=1, owner="me again", expect=[RunStatus.PAUSED])
    mine = {**paused.state, run_id: "done", "items": [*paused.state.get("items", []), run_id]}
    state = StateChange(base=paused.state, mine=mine)
    done = await storage.commit(
        RunChange(run_id=run_id, session_id="s", status=RunStatus.COMPLETED, state=state, epoch=epoch)
    )
    assert not paused.conflicts and not done.conflicts


async def check_nothing_is_lost(storage: Storage) -> None:
    session = await storage.load_session("s")
    assert session is not None
    assert sorted(session.state.pop("items")) == sorted(RUNS)
    assert session.state == dict.fromkeys(RUNS, "done")
    assert session.run_count == 50
    runs = await storage.list_runs("s", limit=100)
    assert sorted(run.number for run in runs) == list(range(1, 51))


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_fifty_runs_of_one_process_lose_nothing(kind: str, tmp_path: Path):
    storage: Storage = InMemoryStorage() if kind == "memory" else SqliteStorage(db_file=tmp_path / "data.db")
    together = asyncio.Barrier(50)

    async with asyncio.timeout(20):
        await asyncio.gather(*(run_once(storage, run_id, together.wait) for run_id in RUNS))

    await check_nothing_is_lost(storage)
    await storage.aclose()


def run_some(file: str, run_ids: list[str], together: Barrier) -> None:
    async def main() -> None:
        storage, here = SqliteStorage(db_file=file), asyncio.Barrier(len(run_ids))

        async def wait_for_all() -> None:
            if await here.wait() == 0:  # one of each process waits for the other processes
                await asyncio.to_thread(together.wait, 30)
            await here.wait()

        await asyncio.gather(*(run_once(storage, run_id, wait_for_all) for run_id in run_ids))
        await storage.aclose()

    asyncio.run(main())


def test_fifty_runs_of_four_processes_lose_nothing(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(4)
    shares = [RUNS[first::4] for first in range(4)]
    processes = [
        context.Process(target=run_some, args=(str(tmp_path / "data.db"), share, together)) for share in shares
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(50)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]

    async def check() -> None:
        storage = SqliteStorage(db_file=tmp_path / "data.db")
        await check_nothing_is_lost(storage)
        await storage.aclose()

    asyncio.run(check())
