from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing.synchronize import Barrier
from typing import Any

import asyncpg
import pytest

from agentrt.errors import AlreadyContinued, ConfigurationError, RunBusy, StorageError
from agentrt.models.message import Message
from agentrt.run.response import RunStatus
from agentrt.storage._postgres_url import place_of
from agentrt.storage.base import RunChange, StateChange, Step, StoredRun
from agentrt.storage.postgres import PostgresStorage
from agentrt.testing.contracts import StorageCheck, storage_checks
from tests.postgres_server import PostgresServer, cutting_proxy, postgres_server, transaction_pooler
from tests.storage.test_many_at_once import RUNS, check_nothing_is_lost, run_once
from tests.storage.test_sqlite import script


@pytest.fixture(scope="module")
def server() -> PostgresServer:
    return postgres_server()


@pytest.fixture
def url(server: PostgresServer) -> str:
    """An empty database."""
    return server.new_database()


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncGenerator[PostgresStorage]:
    storage = PostgresStorage(db_url=url, **options)
    try:
        async with asyncio.timeout(30):
            yield storage
    finally:
        await storage.aclose()


async def ask(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *values)]
    finally:
        await connection.close()


async def turn(storage: PostgresStorage, run_id: str, session_id: str = "s") -> None:
    """A whole run: it appends its id to `seen`."""
    opening = await storage.begin(StoredRun(run_id=run_id, session_id=session_id, owner="me"), history_runs=1)
    base = opening.state or {}
    await storage.commit(
        RunChange(
            run_id=run_id,
            session_id=session_id,
            status=RunStatus.COMPLETED,
            messages=[Message(role="user", content=run_id)],
            events=[(1, "{}")],
            state=StateChange(base=base, mine={**base, "seen": [*base.get("seen", []), run_id]}),
        )
    )


async def seen(storage: PostgresStorage, session_id: str = "s") -> list[str]:
    session = await storage.load_session(session_id)
    assert session is not None
    return session.state["seen"]


def step(number: int, text: str = "") -> RunChange:
    """A journal write: one step and one fact."""
    steps = [Step(number=number, kind="model", data={"said": text or f"step {number}"})]
    return RunChange(run_id="r", session_id="s", steps=steps, events=[(number, f'{{"n":{number}}}')])


_OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_url(server: PostgresServer) -> str:
    return server.new_database()


@pytest.mark.parametrize("check", storage_checks, ids=lambda check: check.__name__)
async def test_storage_keeps_the_contract(check: StorageCheck, shared_url: str):
    await check(lambda: PostgresStorage(db_url=shared_url, schema=check.__name__[:48]))


# --- where -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("db_url", "dsn", "where"),
    [
        ("postgres://h/d", "postgresql://h/d", "h:5432/d"),
        ("postgresql+asyncpg://u:p%40@h:6/d?ssl=require", "postgresql://u:p%40@h:6/d?sslmode=require", "h:6/d"),
        ("postgresql+psycopg://u@h/d?sslmode=disable", "postgresql://u@h/d?sslmode=disable", "h:5432/d"),
        ("postgresql://u:p@h/d?channel_binding=require", "postgresql://u:p@h/d", "h:5432/d"),
        ("postgresql://u@/d?host=/tmp/sockets", "postgresql://u@/d?host=%2Ftmp%2Fsockets", "/tmp/sockets:5432/d"),
        ("postgresql://u:p@a:1,b:2/d", "postgresql://u:p@a:1,b:2/d", "the hosts of db_url"),
    ],
)
def test_a_url_is_read_as_sqlalchemy_and_libpq_write_it(db_url: str, dsn: str, where: str):
    place = place_of(db_url)

    assert (place.dsn, place.where) == (dsn, where)
    assert where in repr(PostgresStorage(db_url=db_url))


def test_what_a_url_says_of_caches_and_time_is_not_sent_to_the_server():
    place = place_of("postgresql://h/d?pgbouncer=true&statement_cache_size=9&connect_timeout=3")

    assert (place.dsn, place.statement_cache_size, place.connect_timeout_s) == ("postgresql://h/d", 0, 3.0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"db_url": "sqlite:///secret.db"},
        {"db_url": "postgresql://u:secret/@h:5432/d"},
        {"db_url": "postgresql://h/d", "table_name": 'x"; DROP TABLE y'},
        {"db_url": "postgresql://h/d", "schema": "a.b"},
        {"db_url": "postgresql://h/d", "max_pool_size": 0},
        {"db_url": "postgresql://h/d", "max_pool_size": 1, "min_pool_size": 2},
    ],
)
def test_options_that_make_no_sense_are_refused_without_telling_the_password(options: dict[str, Any]):
    with pytest.raises(ConfigurationError) as caught:
        PostgresStorage(**options)

    assert "secret" not in str(caught.value)


async def test_a_sqlalchemy_url_reaches_the_database(url: str):
    async with opened(url.replace("postgresql://", "postgresql+psycopg://")) as storage:
        await turn(storage, "r1")

        assert await seen(storage) == ["r1"]


async def test_table_names_and_schemas_keep_storages_in_one_database_apart(url: str):
    places = [{"table_name": "order"}, {"table_name": "group"}, {"table_name": "order", "schema": "select"}]
    for number, place in enumerate(places):
        async with opened(url, **place) as storage:
            await turn(storage, f"r{number}")

            assert await seen(storage) == [f"r{number}"]


# --- tables ----------------------------------------------------------------------------------------------------------


def test_eight_storages_that_open_a_fresh_database_at_once_make_the_tables_once(url: str):
    together = threading.Barrier(8, timeout=20)

    async def one(number: int) -> None:
        async with opened(url, schema="new") as storage:
            together.wait()
            await turn(storage, f"r{number}", f"s{number}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: asyncio.run(one(number)), range(8)))

    assert asyncio.run(ask(url, "SELECT count(*) FROM new.agent_sessions")) == [(8,)]
    assert asyncio.run(ask(url, "SELECT value FROM new.agent_sessions_meta")) == [("2",)]


@pytest.mark.parametrize("name", ["agent_sessions", "agent_sessions_runs", "agent_sessions_meta"])
async def test_a_table_of_somebody_else_is_refused_and_left_alone(url: str, name: str):
    await ask(url, f"CREATE TABLE {name} (name text, other int)")
    async with opened(url) as storage:
        with pytest.raises(StorageError, match=f"has a table public.{name} that agentrt did not make"):
            await storage.load_session("s")

    assert await ask(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [(name,)]


async def test_tables_of_a_newer_version_are_refused_and_left_alone(url: str):
    async with opened(url) as storage:
        await turn(storage, "r1")
    await ask(url, "UPDATE agent_sessions_meta SET value = '99'")

    async with opened(url) as storage:
        with pytest.raises(StorageError, match="are of version 99; this agentrt knows up to version 2"):
            await turn(storage, "r2")

    assert await ask(url, "SELECT run_id FROM agent_sessions_runs") == [("r1",)]


async def test_without_auto_migrate_tables_are_made_by_migrate_alone(url: str):
    async with opened(url, auto_migrate=False) as storage:
        with pytest.raises(StorageError, match="auto_migrate is off"):
            await storage.load_session("s")
        assert await ask(url, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []

        await storage.migrate()
        await storage.migrate()
        await turn(storage, "r1")


# --- the pool --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement_cache_size", [0, 100])
async def test_many_saves_share_a_pool_of_two(url: str, statement_cache_size: int):
    async with opened(url, max_pool_size=2, statement_cache_size=statement_cache_size) as storage:
        await asyncio.gather(*(turn(storage, f"r{number}") for number in range(20)))

        assert sorted(await seen(storage)) == sorted(f"r{number}" for number in range(20))
        assert await ask(url, f"SELECT count(*) {_OTHERS}") == [(2,)]


async def test_waiting_for_the_pool_is_bounded_and_says_so(url: str):
    async with opened(url, max_pool_size=1, pool_timeout_s=0.05) as storage:
        await turn(storage, "r1")
        async with held(url, "SELECT 1 FROM agent_sessions FOR UPDATE"):
            waiting = asyncio.create_task(turn(storage, "r2"))
            with pytest.raises(
                StorageError, match=r"no connection was free within pool_timeout_s=0\.05; all of max_pool"
            ):
                while True:
                    await storage.load_session("s")
        await waiting

        assert await seen(storage) == ["r1", "r2"]


async def test_an_answer_that_takes_too_long_is_an_error_and_nothing_is_half_done(url: str):
    async with opened(url, command_timeout_s=0.2) as storage:
        await turn(storage, "r1")
        async with held(url, "SELECT 1 FROM agent_sessions FOR UPDATE"):
            with pytest.raises(StorageError, match=r"took longer than command_timeout_s=0\.2"):
                await turn(storage, "r2")
        await turn(storage, "r3")

        assert await seen(storage) == ["r1", "r3"]
        assert await storage.load_run("r2") is None


@asynccontextmanager
async def held(url: str, statement: str) -> AsyncGenerator[None]:
    """Keeps what a statement locks."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(statement)
            yield
    finally:
        await connection.close()


async def test_a_pool_of_the_users_is_used_and_not_closed(url: str):
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        storage = PostgresStorage(pool=pool)
        await asyncio.gather(*(turn(storage, f"r{number}") for number in range(5)))
        await storage.wait_for_news("r0", after=(0, 0), timeout_s=5)
        await storage.aclose()

        assert await pool.fetchval("SELECT count(*) FROM agent_sessions_runs") == 5
        await turn(storage, "after closing")
        assert pool.get_size() == pool.get_idle_size()
        await storage.aclose()


async def test_the_users_pool_serves_its_own_loop_and_renews_leases_from_any(url: str):
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        storage = PostgresStorage(pool=pool)
        await storage.begin(StoredRun(run_id="r1", session_id="s", owner="me"))
        await storage.request_cancel("r1", "now")

        def elsewhere() -> Any:
            with pytest.raises(StorageError, match="belongs to another event loop"):
                asyncio.run(storage.load_session("s"))
            return asyncio.run(storage.renew([("r1", 1)]))

        news = await asyncio.to_thread(elsewhere)

        assert [(item.run_id, item.lost, item.cancel) for item in news] == [("r1", False, "now")]
        await storage.aclose()


async def test_with_a_url_besides_the_users_pool_other_loops_have_pools_too(url: str):
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        storage = PostgresStorage(pool=pool, db_url=url)
        await turn(storage, "here")
        await asyncio.to_thread(asyncio.run, turn(storage, "there"))

        assert await seen(storage) == ["here", "there"]
        await storage.aclose()


async def test_a_server_that_is_not_there_and_a_database_that_is_not_are_told_at_once(url: str):
    async with opened("postgresql://u:secret@localhost:1/d") as storage:
        with pytest.raises(StorageError, match=r"Postgres at localhost:1/d can't be reached") as caught:
            await storage.load_session("s")
    assert isinstance(caught.value.__cause__, OSError)
    assert "secret" not in str(caught.value)

    async with opened(url.replace("/test_", "/none_")) as storage:
        with pytest.raises(StorageError, match="has no such database") as caught:
            await storage.load_session("s")
    assert isinstance(caught.value.__cause__, asyncpg.InvalidCatalogNameError)


# --- loops and the end -----------------------------------------------------------------------------------------------


def test_one_event_loop_after_the_other_leaves_no_connection(url: str):
    storage = PostgresStorage(db_url=url)

    async def use(number: int) -> None:
        await turn(storage, f"r{number}")
        await storage.wait_for_news("r0", after=(0, 0), timeout_s=5)

    for number in range(3):
        asyncio.run(use(number))
        gc.collect()  # a connection that was left open would warn

        assert asyncio.run(ask(url, f"SELECT count(*) {_OTHERS}")) == [(0,)]
    assert asyncio.run(seen(storage)) == ["r0", "r1", "r2"]


async def test_closing_twice_is_fine_and_a_later_call_opens_again(url: str):
    storage = PostgresStorage(db_url=url)
    await storage.aclose()
    await turn(storage, "r1")
    await asyncio.gather(storage.aclose(), storage.aclose())
    assert await ask(url, f"SELECT count(*) {_OTHERS}") == [(0,)]

    await turn(storage, "r2")
    assert await seen(storage) == ["r1", "r2"]
    await storage.aclose()


async def test_closing_reaches_the_other_loops_that_are_running(url: str):
    storage = PostgresStorage(db_url=url)
    is_done, may_end = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        await turn(storage, "r1")
        is_done.set()
        await asyncio.to_thread(may_end.wait, 20)

    other = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
    await asyncio.to_thread(is_done.wait, 20)
    await storage.aclose()

    assert await ask(url, f"SELECT count(*) {_OTHERS}") == [(0,)]
    may_end.set()
    await other


async def test_a_cancelled_call_is_carried_out_whole_and_in_its_place(url: str):
    async with opened(url, max_pool_size=3) as storage:
        await storage.begin(StoredRun(run_id="r", session_id="s"))
        for number in range(1, 21):
            task = asyncio.create_task(storage.commit(step(number)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled()

            run = await storage.load_run("r")
            assert run is not None and len(run.steps) == number

        assert await ask(url, f"SELECT count(*) {_OTHERS} AND state <> 'idle'") == [(0,)]


async def test_calls_for_one_run_are_carried_out_in_the_order_of_the_calls(url: str):
    async with opened(url) as storage:
        calls: list[Any] = [storage.begin(StoredRun(run_id="r", session_id="s"))]
        calls += [storage.commit(RunChange(run_id="r", session_id="s", last_seq=number)) for number in range(1, 21)]
        await asyncio.gather(*calls)
        run = await storage.load_run("r")

        assert run is not None and run.last_seq == 20


async def test_the_end_of_the_loop_in_the_middle_of_a_call_leaves_no_transaction(url: str):
    storage = PostgresStorage(db_url=url)
    await turn(storage, "r1")

    async def die() -> None:
        asyncio.get_running_loop().create_task(turn(storage, "r2"))
        while not await ask(url, f"SELECT 1 {_OTHERS} AND wait_event_type = 'Lock'"):
            pass

    async with held(url, "SELECT 1 FROM agent_sessions FOR UPDATE"):
        await asyncio.to_thread(asyncio.run, die())
    await turn(storage, "r3")

    assert await seen(storage) == ["r1", "r3"]
    await storage.aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_opens_anew_and_both_go_on(url: str):
    told = script(
        """
        import asyncio, os, sys, threading, warnings
        from agentrt.storage.postgres import PostgresStorage
        from tests.storage.test_postgres import seen, turn

        warnings.simplefilter("ignore", DeprecationWarning)  # of forking at all, from Python 3.12 on
        storage = PostgresStorage(db_url=sys.argv[1])
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()

        def there(call):
            return asyncio.run_coroutine_threadsafe(call, loop).result(20)

        there(turn(storage, "before"))
        child = os.fork()
        if not child:
            asyncio.run(turn(storage, "child"))
            asyncio.run(storage.aclose())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        there(turn(storage, "parent"))
        print(sorted(there(seen(storage))))
        there(storage.aclose())
        """,
        url,
    )

    assert told == "['before', 'child', 'parent']"


# --- what the database does ------------------------------------------------------------------------------------------


async def test_transactions_that_the_database_undoes_are_made_again(url: str):
    name = url.partition("?")[0].rpartition("/")[2]
    await ask(url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    async with opened(url) as storage:
        await storage.begin(StoredRun(run_id="r", session_id="s"))
        steps = (
            RunChange(run_id="r", session_id="s", events=[(number, "{}")], deltas=[(1, number, "{}")])
            for number in range(1, 6)
        )
        others = [PostgresStorage(db_url=url) for _ in range(5)]
        await asyncio.gather(*(other.commit(change) for other, change in zip(others, steps, strict=True)))

        assert [seq for seq, _ in await storage.load_events("r")] == [1, 2, 3, 4, 5]
        for other in others:
            await other.aclose()


async def test_a_restart_of_the_server_between_two_runs_is_not_noticed(server: PostgresServer, url: str):
    async with opened(url) as storage:
        await asyncio.gather(*(turn(storage, f"r{number}") for number in range(4)))
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*(turn(storage, f"r{number}") for number in range(4, 8)))

        assert sorted(await seen(storage)) == [f"r{number}" for number in range(8)]


async def test_a_call_waits_for_a_server_that_is_away_for_a_while(server: PostgresServer, url: str):
    async with opened(url) as storage:
        await turn(storage, "r1")
        await asyncio.to_thread(server.stop)
        calls = asyncio.gather(turn(storage, "r2"), storage.load_run("r1"))
        await asyncio.to_thread(server.start)
        await calls

        assert await seen(storage) == ["r1", "r2"]


async def test_a_server_that_stays_away_is_an_error_that_names_it(server: PostgresServer, url: str):
    async with opened(url, reconnect_s=0.1) as storage:
        await turn(storage, "r1")
        await asyncio.to_thread(server.stop)
        try:
            with pytest.raises(StorageError, match=r"Postgres at .* can't be reached .* Start it, or correct db_url"):
                await turn(storage, "r2")
        finally:
            await asyncio.to_thread(server.start)
        await turn(storage, "r3")

        assert await seen(storage) == ["r1", "r3"]


@pytest.mark.parametrize("events", [[(1, "{}")], []], ids=["at once", "in a transaction"])
async def test_a_connection_that_is_killed_during_commit_is_replaced_and_the_change_made_once(
    url: str, events: list[tuple[int, str]]
):
    async with opened(url) as storage:
        await turn(storage, "r1")
        await storage.begin(StoredRun(run_id="r2", session_id="s"))
        ends = RunChange(run_id="r2", session_id="s", status=RunStatus.COMPLETED, events=events)
        ends.state = StateChange(base={"seen": ["r1"]}, mine={"seen": ["r1", "r2"]})
        await ask(
            url,
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END'",
        )
        await ask(
            url,
            "CREATE CONSTRAINT TRIGGER hold AFTER UPDATE ON agent_sessions DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION hold()",
        )
        async with held(url, "SELECT pg_advisory_xact_lock(7)"):
            saving = asyncio.ensure_future(storage.commit(ends))
            killed: list[tuple[Any, ...]] = []
            while not killed:
                killed = await ask(url, f"SELECT pg_terminate_backend(pid) {_OTHERS} AND wait_event_type = 'Lock'")
        await saving

        assert await seen(storage) == ["r1", "r2"]


@pytest.mark.parametrize("passes", [True, False], ids=["done", "not done"])
async def test_a_commit_that_is_not_answered_is_made_exactly_once(url: str, passes: bool):
    async with cutting_proxy(url) as (proxy_url, cut), opened(proxy_url) as storage:
        for number in range(3):
            opening = await storage.begin(StoredRun(run_id=f"r{number}", session_id="s"))
            base = opening.state or {}
            cut.at, cut.passes = b"COMMIT", passes
            committed = await storage.commit(
                RunChange(
                    run_id=f"r{number}",
                    session_id="s",
                    status=RunStatus.COMPLETED,
                    expect=RunStatus.RUNNING,
                    state=StateChange(base=base, mine={**base, "seen": [*base.get("seen", []), number]}),
                )
            )
            assert committed.state == {"seen": list(range(number + 1))}

        assert cut.count == 3
        assert await seen(storage) == [0, 1, 2]


@pytest.mark.parametrize("passes", [True, False], ids=["done", "not done"])
async def test_a_turn_that_is_not_answered_is_begun_and_ended_exactly_once(url: str, passes: bool):
    async with cutting_proxy(url) as (proxy_url, cut), opened(proxy_url) as storage:
        cut.passes = passes
        for number in range(3):
            cut.at = b"the question"
            run = StoredRun(run_id=f"r{number}", session_id="s", owner="me")
            run.messages = [Message(role="user", content="the question")]
            base = (await storage.begin(run)).state or {}
            mine = {**base, "seen": [*base.get("seen", []), number]}
            ends = RunChange(run_id=run.run_id, session_id="s", status=RunStatus.COMPLETED, epoch=1)
            ends.state, ends.events = StateChange(base=base, mine=mine), [(1, '{"n":"the last one"}')]
            cut.at = b"the last one"
            assert (await storage.commit(ends)).state == mine

        assert cut.count == 6
        assert await seen(storage) == [0, 1, 2]
        assert await ask(url, "SELECT run_count FROM agent_sessions") == [(3,)]


async def test_a_run_that_somebody_else_began_meanwhile_is_not_taken_for_our_own(url: str):
    async with cutting_proxy(url) as (proxy_url, cut), opened(proxy_url) as storage, opened(url) as other:
        await other.begin(StoredRun(run_id="r", session_id="s", owner="another"))
        cut.at, cut.passes = b"an owner", False
        with pytest.raises(RunBusy):
            await storage.begin(StoredRun(run_id="r", session_id="s", owner="an owner"))

        assert cut.count == 1
        assert await ask(url, "SELECT run_count FROM agent_sessions") == [(1,)]


@pytest.mark.parametrize("passes", [True, False], ids=["done", "not done"])
async def test_beginning_claiming_evidence_and_deleting_are_done_once_without_an_answer(url: str, passes: bool):
    async with cutting_proxy(url) as (proxy_url, cut), opened(proxy_url) as storage:
        await turn(storage, "r0")

        cut.at, cut.passes = b"an owner", passes
        opening = await storage.begin(StoredRun(run_id="r", session_id="s", owner="an owner"))
        cut.at = b"COMMIT"
        epoch = await storage.claim("r", epoch=1, owner="me", expect=[RunStatus.RUNNING])
        cut.at = b"COMMIT"
        await storage.add_evidence("r", "tool", {"late": True})
        run = await storage.load_run("r")
        cut.at = b"COMMIT"
        assert await storage.delete_session("s")

        assert (cut.count, opening.number, epoch) == (4, 2, 2)
        assert run is not None and [step.number for step in run.steps] == [-1]
        assert await ask(url, "SELECT 1 FROM agent_sessions_steps") == []


@pytest.mark.parametrize("passes", [True, False], ids=["done", "not done"])
async def test_a_journal_write_that_is_not_answered_is_made_exactly_once(url: str, passes: bool):
    async with cutting_proxy(url) as (proxy_url, cut), opened(proxy_url) as storage:
        await storage.begin(StoredRun(run_id="r", session_id="s"))
        cut.passes = passes
        for number in range(1, 4):
            cut.at = b"what is said"
            await storage.commit(step(number, "what is said"))
        cut.at = b"the last one"
        ends = RunChange(run_id="r", session_id="s", expect=RunStatus.RUNNING, status=RunStatus.PAUSED)
        ends.events = [(4, '{"n":"the last one"}')]
        await storage.commit(ends)
        run = await storage.load_run("r")

        assert cut.count == 4
        assert run is not None and [item.number for item in run.steps] == [1, 2, 3]
        assert (run.status, [seq for seq, _ in await storage.load_events("r")]) == (RunStatus.PAUSED, [1, 2, 3, 4])


async def test_a_journal_write_that_is_made_again_is_refused_if_somebody_else_was_there(url: str):
    async with cutting_proxy(url) as (proxy_url, cut), opened(proxy_url) as storage, opened(url) as other:
        await storage.begin(StoredRun(run_id="r", session_id="s"))
        await other.commit(step(1, "by another"))
        await other.commit(RunChange(run_id="r", session_id="s", status=RunStatus.PAUSED))

        cut.at, cut.passes = b"by us", False
        with pytest.raises(RunBusy):
            await storage.commit(step(1, "by us"))
        cut.at = b"by us"
        change = step(2, "by us")
        change.expect = RunStatus.RUNNING
        with pytest.raises(AlreadyContinued):
            await storage.commit(change)

        assert cut.count == 2


@pytest.mark.parametrize("statement_cache_size", [0, 100])
async def test_runs_lose_and_repeat_nothing_while_their_connections_are_killed(url: str, statement_cache_size: int):
    async with opened(url, statement_cache_size=statement_cache_size) as storage:
        await turn(storage, "first")

        async def journalled(run_id: str) -> None:
            opening = await storage.begin(StoredRun(run_id=run_id, session_id="s", owner="me"))
            base = opening.state or {}
            for number in range(1, 6):
                change = step(number)
                change.run_id, change.epoch = run_id, 1
                await storage.commit(change)
            state = StateChange(base=base, mine={**base, "seen": [*base["seen"], run_id]})
            ends = RunChange(run_id=run_id, session_id="s", status=RunStatus.FAILED, epoch=1, state=state)
            ends.expect, ends.events = RunStatus.RUNNING, [(6, "{}")]
            await storage.commit(ends)

        runs = asyncio.gather(*(journalled(f"r{number}") for number in range(40)))
        kill = f"SELECT pg_terminate_backend(pid) {_OTHERS} AND state <> 'idle' ORDER BY random() LIMIT 1"
        killed = 0
        while not runs.done():
            killed += len(await ask(url, kill))
            await asyncio.wait((runs,), timeout=0.03)
        await runs

        assert killed
        assert sorted(await seen(storage)) == sorted(["first", *(f"r{number}" for number in range(40))])
        assert await ask(url, "SELECT run_count FROM agent_sessions") == [(41,)]
        assert await ask(url, "SELECT count(*) FROM agent_sessions_steps") == [(200,)]
        assert await ask(url, "SELECT count(*) FROM agent_sessions_events") == [(241,)]


# --- many at once ----------------------------------------------------------------------------------------------------


def run_some(url: str, run_ids: list[str], together: Barrier) -> None:
    async def main() -> None:
        storage, here = PostgresStorage(db_url=url), asyncio.Barrier(len(run_ids))

        async def wait_for_all() -> None:
            if await here.wait() == 0:  # one of each process waits for the other processes
                await asyncio.to_thread(together.wait, 30)
            await here.wait()

        await asyncio.gather(*(run_once(storage, run_id, wait_for_all) for run_id in run_ids))
        await storage.aclose()

    asyncio.run(main())


def test_fifty_runs_of_four_processes_lose_nothing(url: str):
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(4)
    processes = [context.Process(target=run_some, args=(url, RUNS[first::4], together)) for first in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(50)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]

    async def check() -> None:
        async with opened(url) as storage:
            await check_nothing_is_lost(storage)

    asyncio.run(check())


async def test_a_session_deleted_while_it_is_used_leaves_nothing_behind(url: str):
    async with opened(url) as storage:
        for _ in range(5):
            await storage.begin(StoredRun(run_id="r", session_id="s"))
            calls = [storage.commit(step(number)) for number in range(1, 6)]
            async with opened(url) as other:
                await asyncio.gather(*calls, other.delete_session("s"), return_exceptions=True)

            for table in ("", "_runs", "_steps", "_events"):
                assert await ask(url, f"SELECT 1 FROM agent_sessions{table}") == []


# --- news ------------------------------------------------------------------------------------------------------------


async def told(reader: PostgresStorage, writer: PostgresStorage, number: int) -> None:
    """`reader` is waiting by the time that `writer` stores a fact; returns when it was told."""
    waiting = asyncio.create_task(reader.wait_for_news("r", after=(number - 1, 10**9), timeout_s=20))
    await asyncio.wait((waiting,), timeout=0.05)
    assert not waiting.done()
    await writer.commit(step(number))
    await waiting


async def is_listening(url: str) -> bool:
    return await ask(url, f"SELECT 1 {_OTHERS} AND query LIKE 'LISTEN%'") != []


async def test_readers_are_told_by_the_database(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agentrt.storage._postgres_news.POLL_S", 1000.0)
    monkeypatch.setattr("agentrt.storage._postgres_news._RECHECK_S", 1000.0)
    async with opened(url) as reader, opened(url) as writer:
        await writer.begin(StoredRun(run_id="r", session_id="s"))
        for number in range(1, 4):
            await told(reader, writer, number)

        assert await is_listening(url)


async def test_readers_are_told_after_the_connection_they_listen_on_is_lost(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agentrt.storage._postgres_news._RETRY_S", 0.0)
    async with opened(url) as reader, opened(url) as writer:
        await writer.begin(StoredRun(run_id="r", session_id="s"))
        await told(reader, writer, 1)
        waiting = asyncio.create_task(reader.wait_for_news("r", after=(1, 10**9), timeout_s=20))
        await ask(url, f"SELECT pg_terminate_backend(pid) {_OTHERS} AND query LIKE 'LISTEN%'")
        while not await is_listening(url):
            pass
        await writer.commit(step(2))
        await waiting


async def test_a_reader_that_waits_no_longer_than_it_may_takes_no_connection_of_the_pool(url: str):
    async with opened(url, max_pool_size=1) as storage:
        await storage.begin(StoredRun(run_id="r", session_id="s"))
        readers = [storage.wait_for_news("r", after=(0, 0), timeout_s=0.2) for _ in range(10)]
        await asyncio.gather(*readers, storage.commit(RunChange(run_id="r", session_id="s", last_seq=1)))


# --- behind a transaction pooler -------------------------------------------------------------------------------------


async def test_everything_works_behind_a_transaction_pooler(url: str):
    async with transaction_pooler(url) as pooler_url, opened(pooler_url) as storage, opened(pooler_url) as other:
        await asyncio.gather(*(turn((storage, other)[number % 2], f"r{number}") for number in range(20)))
        assert sorted(await seen(storage)) == sorted(f"r{number}" for number in range(20))

        await storage.begin(StoredRun(run_id="r", session_id="s"))
        await told(storage, other, 1)
        assert not await is_listening(url)


async def test_a_pooler_that_hides_itself_is_found_out_as_nothing_is_heard(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("agentrt.storage._postgres_news._PROBE_S", 0.1)
    async with transaction_pooler(url, size=1, hides=True) as pooler_url, opened(pooler_url) as storage:
        await storage.begin(StoredRun(run_id="r", session_id="s"))

        await told(storage, storage, 1)
        assert not await is_listening(url)
