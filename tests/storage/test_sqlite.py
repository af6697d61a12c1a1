from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentrt.errors import ConfigurationError, StorageError
from agentrt.models.message import Message
from agentrt.run.response import RunStatus
from agentrt.storage.base import RunChange, StateChange, Storage, StoredRun
from agentrt.storage.sqlite import SqliteStorage


async def turn(storage: Storage, run_id: str, session_id: str = "s", state: dict[str, Any] | None = None) -> None:
    """A whole run: it appends its id to `seen`, and adds `state`."""
    opening = await storage.begin(StoredRun(run_id=run_id, session_id=session_id), history_runs=1)
    base = opening.state or {}
    mine = {**base, "seen": [*base.get("seen", []), run_id], **(state or {})}
    await storage.commit(
        RunChange(
            run_id=run_id,
            session_id=session_id,
            status=RunStatus.COMPLETED,
            messages=[Message(role="user", content=run_id)],
            state=StateChange(base=base, mine=mine),
        )
    )


async def seen(storage: Storage, session_id: str = "s") -> list[str]:
    session = await storage.load_session(session_id)
    assert session is not None
    return session.state["seen"]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "agentrt-sqlite"]


def script(code: str, *args: object) -> str:
    """Run code in a process of its own, with warnings as errors; return what it printed."""
    # in debug mode asyncio tells on stderr of whatever a busy machine makes slow
    quiet = {name: value for name, value in os.environ.items() if name not in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, args)],
        env=quiet,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


# --- where -----------------------------------------------------------------------------------------------------------


async def test_folders_of_the_file_are_made(tmp_path: Path):
    storage = SqliteStorage(db_file=tmp_path / "a" / "b" / "data.db")
    await turn(storage, "r1")
    await storage.aclose()

    assert (tmp_path / "a" / "b" / "data.db").exists()


async def test_a_url_names_the_file_as_in_sqlalchemy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///relative%20one.db", f"sqlite+aiosqlite:///{tmp_path}/absolute.db"):
        storage = SqliteStorage(db_url=url)
        await turn(storage, "r1")
        await storage.aclose()

    assert (tmp_path / "relative one.db").exists() and (tmp_path / "absolute.db").exists()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"db_file": "a.db", "db_url": "sqlite:///b.db"},
        {"db_url": "postgresql://host/db"},
        {"db_url": "sqlite://relative.db"},
        {"db_file": "a.db", "table_name": 'x"; DROP TABLE y'},
        {"db_file": "a.db", "table_name": "sqlite_sessions"},
        {"db_file": "a.db", "synchronous": "maybe"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]):
    with pytest.raises(ConfigurationError):
        SqliteStorage(**options)


async def test_a_folder_is_no_database(tmp_path: Path):
    with pytest.raises(StorageError, match="is a folder: name a file in it"):
        await seen(SqliteStorage(db_file=tmp_path))


async def test_table_names_keep_storages_on_one_file_apart(tmp_path: Path):
    one = SqliteStorage(db_file=tmp_path / "data.db", table_name="order")
    other = SqliteStorage(db_file=tmp_path / "data.db", table_name="group")
    await turn(one, "r1")
    await turn(other, "r2")

    assert (await seen(one), await seen(other)) == (["r1"], ["r2"])
    await one.aclose()
    await other.aclose()


async def test_a_database_in_memory_is_shared_by_the_calls_of_its_storage_alone():
    one, other = SqliteStorage(db_file=":memory:"), SqliteStorage(db_url="sqlite://")
    await asyncio.gather(*(turn(one, f"r{number}") for number in range(10)))

    assert len(await seen(one)) == 10
    assert await other.load_session("s") is None
    await one.aclose()
    await other.aclose()


# --- whose tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["agent_sessions", "agent_sessions_runs", "AGENT_SESSIONS_META"])
async def test_a_foreign_table_of_that_name_is_refused_and_left_as_it_is(tmp_path: Path, table: str):
    file = tmp_path / "data.db"
    with sqlite3.connect(file) as connection:
        connection.execute(f"CREATE TABLE {table} (name TEXT, value TEXT)")
    connection.close()
    before = file.read_bytes()
    storage = SqliteStorage(db_file=file)

    with pytest.raises(StorageError, match="did not make"):
        await turn(storage, "r1")
    await storage.aclose()

    assert file.read_bytes() == before


async def test_tables_of_a_newer_version_are_refused_and_left_as_they_are(tmp_path: Path):
    file = tmp_path / "data.db"
    storage = SqliteStorage(db_file=file)
    await turn(storage, "r1")
    await storage.aclose()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE agent_sessions_meta SET value = '99'")
    connection.close()
    before = file.read_bytes()

    with pytest.raises(StorageError, match="are of version 99"):
        await storage.load_session("s")
    await storage.aclose()

    assert file.read_bytes() == before


async def test_without_auto_migrate_tables_are_not_made(tmp_path: Path):
    storage = SqliteStorage(db_file=tmp_path / "data.db", auto_migrate=False)
    with pytest.raises(StorageError, match="auto_migrate"):
        await turn(storage, "r1")
    maker = SqliteStorage(db_file=tmp_path / "data.db")
    await turn(maker, "r1")

    await turn(storage, "r2")

    assert await seen(maker) == ["r1", "r2"]
    await storage.aclose()
    await maker.aclose()


# --- what goes wrong -------------------------------------------------------------------------------------------------


async def test_a_file_that_is_no_database_is_an_error_that_says_so(tmp_path: Path):
    file = tmp_path / "notes.txt"
    file.write_text("these are my notes, and they are longer than the header of a database file would be" * 3)
    storage = SqliteStorage(db_file=file)

    with pytest.raises(StorageError, match=r"notes\.txt is a file, but not an SQLite database"):
        await turn(storage, "r1")
    await storage.aclose()

    assert file.read_text().startswith("these are my notes")


async def test_a_path_that_cannot_be_opened_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "data.db"):
        storage = SqliteStorage(db_file=path)
        with pytest.raises(StorageError, match=str(path)):
            await turn(storage, "r1")
        await storage.aclose()


async def test_a_database_that_stays_locked_is_an_error_that_names_the_setting(tmp_path: Path):
    storage = SqliteStorage(db_file=tmp_path / "data.db", busy_timeout_s=0.05)
    await turn(storage, "r1")
    holder = sqlite3.connect(tmp_path / "data.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    outcomes = await asyncio.gather(*(turn(storage, f"late{n}") for n in range(3)), return_exceptions=True)
    holder.execute("ROLLBACK")
    holder.close()

    assert all(isinstance(error, StorageError) and "busy_timeout_s=0.05" in str(error) for error in outcomes)
    await turn(storage, "r2")
    assert await seen(storage) == ["r1", "r2"]
    await storage.aclose()


def test_a_full_disk_is_an_error_and_what_was_stored_before_is_there(tmp_path: Path):
    told = script(
        """
        import asyncio, resource, sys
        from agentrt.errors import StorageError
        from agentrt.storage.sqlite import SqliteStorage
        from tests.storage.test_sqlite import seen, turn

        async def main():
            storage = SqliteStorage(db_file=sys.argv[1])
            await turn(storage, "r1")
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
            try:
                await turn(storage, "r2", state={"big": "x" * 1_000_000})
            except StorageError as error:
                print(error)
            await turn(storage, "r3")
            print(await seen(storage))
            await storage.aclose()

        asyncio.run(main())
        """,
        tmp_path / "data.db",
    )

    assert "data.db can't be read or written" in told or "disk is full" in told
    assert told.endswith("['r1', 'r3']")


async def test_text_that_is_no_identifier_is_an_error(tmp_path: Path):
    storage = SqliteStorage(db_file=tmp_path / "data.db")

    with pytest.raises(StorageError):
        await turn(storage, "half a pair: \ud83d")
    await turn(storage, "r1")

    assert await seen(storage) == ["r1"]
    await storage.aclose()


# --- many at once ----------------------------------------------------------------------------------------------------


async def test_eight_storages_open_a_new_file_at_once(tmp_path: Path):
    storages = [SqliteStorage(db_file=tmp_path / "data.db") for _ in range(8)]

    await asyncio.gather(*(turn(storage, f"r{n}", f"s{n}") for n, storage in enumerate(storages)))

    assert len(await storages[0].list_sessions()) == 8
    for storage in storages:
        await storage.aclose()


async def test_fifty_writers_wait_for_a_lock_that_somebody_else_holds(tmp_path: Path):
    storages = [SqliteStorage(db_file=tmp_path / "data.db") for _ in range(5)]
    await turn(storages[0], "first")
    holder = sqlite3.connect(tmp_path / "data.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")

    writers = [asyncio.create_task(turn(storages[n % 5], f"r{n}")) for n in range(50)]
    release = threading.Timer(1.2, lambda: (holder.execute("COMMIT"), holder.close()))
    release.start()
    async with asyncio.timeout(30):
        await asyncio.gather(*writers)

    release.join()
    assert sorted(await seen(storages[1])) == sorted(["first", *(f"r{n}" for n in range(50))])
    for storage in storages:
        await storage.aclose()


async def test_a_failing_call_does_not_harm_those_it_shared_a_transaction_with(tmp_path: Path):
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    await storage.begin(StoredRun(run_id="taken", session_id="s"))

    names = ["r1", "taken", "r2", "taken", "r3"]
    outcomes = await asyncio.gather(*(turn(storage, name) for name in names), return_exceptions=True)

    assert [type(outcome).__name__ for outcome in outcomes] == [
        "NoneType",
        "RunBusy",
        "NoneType",
        "RunBusy",
        "NoneType",
    ]
    assert sorted(await seen(storage)) == ["r1", "r2", "r3"]
    await storage.aclose()


# --- loops, forks, ends ----------------------------------------------------------------------------------------------


def test_event_loops_that_come_and_go_leave_no_descriptor(tmp_path: Path):
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    process = psutil.Process()
    asyncio.run(turn(storage, "r0"))
    before = process.num_fds()

    for number in range(1, 4):
        asyncio.run(turn(storage, f"r{number}"))

    assert process.num_fds() == before
    assert asyncio.run(seen(storage)) == ["r0", "r1", "r2", "r3"]
    asyncio.run(storage.aclose())


async def test_a_storage_that_is_dropped_takes_its_thread_with_it(tmp_path: Path):
    before = threads()
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    await turn(storage, "r1")
    (thread,) = (thread for thread in threads() if thread not in before)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del storage
        gc.collect()
        await asyncio.to_thread(thread.join, 5)

    assert not thread.is_alive()


async def test_closing_ends_the_thread_after_what_was_called_before(tmp_path: Path):
    before = threads()
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    calls = [asyncio.create_task(storage.begin(StoredRun(run_id=f"r{n}", session_id="s"))) for n in range(5)]
    await asyncio.sleep(0)
    (thread,) = (thread for thread in threads() if thread not in before)

    await storage.aclose()
    await asyncio.gather(*calls)
    await asyncio.to_thread(thread.join, 5)

    assert not thread.is_alive()
    assert len(await storage.list_runs("s")) == 5
    await storage.aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_opens_anew_and_both_go_on(tmp_path: Path):
    told = script(
        """
        import asyncio, os, psutil, sys
        from agentrt.storage.sqlite import SqliteStorage
        from tests.storage.test_sqlite import seen, turn

        storage = SqliteStorage(db_file=sys.argv[1])
        asyncio.run(turn(storage, "before"))
        child = os.fork()
        if not child:  # a connection that was open across the fork would take its locks for the child's
            assert not [file.path for file in psutil.Process().open_files() if sys.argv[1] in file.path]
        asyncio.run(turn(storage, "parent" if child else "child"))
        if child:
            assert os.waitpid(child, 0)[1] == 0
            asyncio.run(turn(storage, "after"))
            print(sorted(asyncio.run(seen(storage))))
        """,
        tmp_path / "data.db",
    )

    assert told == "['after', 'before', 'child', 'parent']"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_forking_again_and_again_while_threads_write_neither_hangs_nor_loses(tmp_path: Path):
    told = script(
        """
        import asyncio, os, sys, threading
        from agentrt.storage.sqlite import SqliteStorage
        from tests.storage.test_sqlite import seen, turn

        storage = SqliteStorage(db_file=sys.argv[1])

        async def write(name):
            for number in range(40):
                await turn(storage, f"{name}{number}", name)

        writers = [threading.Thread(target=asyncio.run, args=(write(name),)) for name in "ab"]
        for writer in writers:
            writer.start()
        children = []
        for number in range(8):
            child = os.fork()
            if child == 0:
                asyncio.run(turn(storage, f"c{number}", "c"))
                os._exit(0)
            children.append(child)
        assert all(os.waitpid(child, 0)[1] == 0 for child in children)
        for writer in writers:
            writer.join()
        print([len(asyncio.run(seen(storage, name))) for name in "abc"])
        """,
        tmp_path / "data.db",
    )

    assert told == "[40, 40, 8]"


def test_what_is_queued_at_the_end_of_the_process_is_written(tmp_path: Path):
    script(
        """
        import asyncio, sys
        from agentrt.storage.base import StoredRun
        from agentrt.storage.sqlite import SqliteStorage

        storage = SqliteStorage(db_file=sys.argv[1])

        async def main():
            for number in range(50):
                call = asyncio.ensure_future(storage.begin(StoredRun(run_id=f"r{number}", session_id="s")))
            await asyncio.sleep(0)

        asyncio.run(main())
        """,
        tmp_path / "data.db",
    )

    storage = SqliteStorage(db_file=tmp_path / "data.db")
    session = asyncio.run(storage.load_session("s"))
    asyncio.run(storage.aclose())
    assert session is not None
    assert session.run_count == 50
    assert not (tmp_path / "data.db-wal").exists()


async def test_a_turn_reads_and_writes_the_same_however_long_the_session_is(tmp_path: Path):
    storage = SqliteStorage(db_file=tmp_path / "data.db")

    async def work(first: int, count: int) -> int:
        """SQLite's own steps for some turns: it counts what it does, whatever the machine is doing."""
        steps = 0

        def count_one() -> int:
            nonlocal steps
            steps += 1
            return 0

        def watch(handler: Any) -> Any:
            return lambda connection: connection.set_progress_handler(handler, 1)

        await storage._read(watch(count_one))  # pyright: ignore[reportPrivateUsage]
        for number in range(first, first + count):
            await storage.begin(StoredRun(run_id=f"r{number:05}", session_id="s"), history_runs=3, alone=True)
            assert len(await storage.list_unfinished()) == 1
            await storage.commit(
                RunChange(run_id=f"r{number:05}", session_id="s", status=RunStatus.COMPLETED, messages=[])
            )
        await storage._read(watch(None))  # pyright: ignore[reportPrivateUsage]
        return steps

    await work(0, 10)
    early = await work(10, 20)
    await work(30, 1000)
    late = await work(1030, 20)

    assert late <= early * 1.1
    await storage.aclose()


def test_the_module_loads_neither_pydantic_nor_a_provider(tmp_path: Path):
    told = script(
        """
        import sys
        import agentrt.storage.sqlite, agentrt.storage.in_memory
        print([name for name in ("pydantic", "openai", "anthropic", "aiosqlite", "rich") if name in sys.modules])
        """
    )

    assert told == "[]"
