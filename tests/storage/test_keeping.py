"""What is kept for readers of runs that have ended goes with the terminal writes of later runs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agentrt.errors import ConfigurationError
from agentrt.run.response import RunStatus
from agentrt.storage.base import RunChange, Storage, StoredRun
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage


async def end(storage: Storage, run_id: str, *, facts: int = 2) -> None:
    await storage.begin(StoredRun(run_id=run_id, session_id="s"))
    events = [(seq, "{}") for seq in range(1, facts + 1)]
    await storage.commit(RunChange(run_id=run_id, session_id="s", events=events, deltas=[(1, 0, "{}")]))
    await storage.commit(RunChange(run_id=run_id, session_id="s", status=RunStatus.COMPLETED))


async def kept(storage: Storage, run_id: str) -> tuple[int, int]:
    return len(await storage.load_events(run_id)), len(await storage.load_deltas(run_id))


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_facts_older_than_the_setting_go_with_the_next_runs_end(kind: str, tmp_path: Path):
    storage: Storage = (
        InMemoryStorage(keep_events_days=0)
        if kind == "memory"
        else SqliteStorage(db_file=tmp_path / "data.db", keep_events_days=0)
    )
    await end(storage, "r1")
    assert await kept(storage, "r1") == (2, 1)
    await storage.begin(StoredRun(run_id="driven", session_id="s"))
    await storage.commit(RunChange(run_id="driven", session_id="s", events=[(1, "{}")]))
    assert await kept(storage, "r1") == (2, 1)

    await end(storage, "r2")

    assert await kept(storage, "r1") == (0, 0)
    assert await kept(storage, "r2") == (2, 1)
    assert await kept(storage, "driven") == (1, 0)
    assert len(await storage.load_history("s")) == 2
    await storage.aclose()


async def test_deltas_go_a_minute_after_the_end_and_facts_stay(tmp_path: Path):
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    await end(storage, "old")
    await end(storage, "new")
    with sqlite3.connect(tmp_path / "data.db") as connection:
        connection.execute("UPDATE agent_sessions_runs SET ended_at = ended_at - 61000000 WHERE run_id = 'old'")
    connection.close()

    await end(storage, "next")

    assert [await kept(storage, run_id) for run_id in ("old", "new", "next")] == [(2, 0), (2, 1), (2, 1)]
    await storage.aclose()


async def test_however_much_is_out_of_date_one_end_deletes_only_some_of_it(tmp_path: Path):
    keeping = SqliteStorage(db_file=tmp_path / "data.db")
    for number in range(10):
        await end(keeping, f"r{number}")
    await keeping.aclose()
    storage = SqliteStorage(db_file=tmp_path / "data.db", keep_events_days=0)

    left: list[int] = []
    for number in range(4):
        await end(storage, f"later{number}")
        left.append(sum([(await kept(storage, f"r{number}"))[0] > 0 for number in range(10)]))

    assert left == [6, 2, 0, 0]
    await storage.aclose()


def test_a_negative_age_is_refused():
    with pytest.raises(ConfigurationError, match="keep_events_days"):
        SqliteStorage(db_file=":memory:", keep_events_days=-1)
    with pytest.raises(ConfigurationError, match="keep_events_days"):
        InMemoryStorage(keep_events_days=-1)
