"""`kept`: who waits for what is being stored, and is cancelled, waits to its end and knows what came of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentrt.errors import RunNotFound
from agentrt.storage.base import Committed, Kept, RunChange, StoredRun, kept
from agentrt.storage.sqlite import SqliteStorage


async def until(go_on: asyncio.Event, error: Exception | None = None) -> str:
    await go_on.wait()
    if error is not None:
        raise error
    return "stored"


@pytest.mark.parametrize("error", [None, ValueError("refused")])
async def test_a_cancellation_is_heard_at_the_end(error: Exception | None):
    go_on, ended = asyncio.Event(), list[Kept[str]]()

    async def wait() -> None:
        ended.append(kept(until(go_on, error)))
        await ended[0]

    waiting = asyncio.create_task(wait())
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    assert not waiting.done()
    go_on.set()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert ended[0].exception() is error
    assert error is not None or ended[0].result() == "stored"


async def test_what_comes_of_kept_work_is_returned_or_raised():
    go_on = asyncio.Event()
    go_on.set()
    assert await kept(until(go_on)) == "stored"
    with pytest.raises(ValueError, match="refused"):
        await kept(until(go_on, ValueError("refused")))


def test_the_end_of_the_loop_ends_kept_work():
    waiting = list[asyncio.Task[str]]()

    async def wait() -> str:
        return await kept(until(asyncio.Event()))

    async def main() -> None:
        waiting.append(asyncio.create_task(wait()))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert waiting[0].cancelled()


async def test_a_commit_to_sqlite_needs_no_task(tmp_path: Path):
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    await storage.begin(StoredRun(run_id="r", session_id="s"))
    before = asyncio.all_tasks()
    ended = kept(storage.commit(RunChange(run_id="r", session_id="s", last_seq=1)))
    assert asyncio.all_tasks() == before
    assert await ended == Committed()
    with pytest.raises(RunNotFound):
        await kept(storage.commit(RunChange(run_id="none", session_id="s")))
    await storage.aclose()
