"""`PostgresStorage`: sessions in a Postgres database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

try:
    import asyncpg  # pyright: ignore[reportMissingTypeStubs]
except ImportError as error:
    raise ImportError("PostgresStorage needs asyncpg: pip install 'agentrt[postgres]'") from error

from agentrt.errors import (
    AlreadyContinued,
    RunBusy,
    RunNotFound,
    SessionAccessDenied,
    SessionBusy,
    StorageError,
)
from agentrt.models.message import Message, utc_now
from agentrt.run.response import RunStatus
from agentrt.storage._postgres_client import PostgresClient
from agentrt.storage._postgres_pool import Connection, LoopPool, Transaction
from agentrt.storage._postgres_sql import CommitRows, PostgresSql
from agentrt.storage._sql import (
    check_table_name,
    columns_of,
    histories,
    merged_state,
    run_of,
    session_of,
    to_micros,
    with_texts,
)
from agentrt.storage.base import (
    Committed,
    LeaseNews,
    Opening,
    RunChange,
    StateChange,
    Step,
    Storage,
    StoredRun,
    StoredSession,
)
from agentrt.storage.codec import (
    clean_text,
    dump_messages,
    dumps,
    fill_in_media,
    load_messages,
    loads,
    media_in,
    refer_to_media,
)
from agentrt.storage.merge import copy_state

_MAX: Final = 2**63 - 1
_DAY: Final = 86_400_000_000
_SECOND: Final = 1_000_000
_DELTAS_KEPT: Final = 60 * _SECOND
_TIDIED: Final = 4  # runs per terminal write: more than end in it, so that what is out of date never piles up
_PRUNED: Final = 100  # runs per transaction


class PostgresStorage(Storage):
    """Keeps sessions in a Postgres database, shared by any number of storages and processes.

    `db_url` may be of SQLAlchemy's form (`"postgresql+psycopg://user:password@host:5432/database"`). Each event loop
    gets a pool of its own at first use, of up to `max_pool_size` connections and one more to listen on, and closes it
    at its end. `pool` is an asyncpg pool of yours instead: it serves the event loop that made it and is never closed
    here. With `db_url` besides, other loops (the sync methods', the one that renews leases while yours is blocked) get
    pools by that; without, using it there is an error.

    Tables are named after `table_name`, in `schema` (else where the user's `search_path` says), and made at first use;
    with `auto_migrate=False`, tables that are missing or of an older version are an error until `migrate()`. So is
    always a table of that name that is not agentrt's, or is of a newer version: both are left as they are.

    Works behind a transaction pooler as it is. On a direct connection `statement_cache_size=100` saves a round trip
    and the planning of nearly every statement; behind a pooler that does not know prepared statements it must be 0.

    A call waits for a connection up to `pool_timeout_s` and for an answer up to `command_timeout_s`. When the
    connection is lost, calls are made again for `reconnect_s`, and a commit that was not answered is looked up first,
    so that it is never made twice. The facts of a run are kept for `keep_events_days` after its end; the run itself
    until its session is deleted.
    """

    durable = True

    def __init__(
        self,
        *,
        table_name: str = "agent_sessions",
        db_url: str | None = None,
        pool: Any = None,
        schema: str | None = None,
        auto_migrate: bool = True,
        min_pool_size: int = 0,
        max_pool_size: int = 10,
        statement_cache_size: int | None = None,
        pool_timeout_s: float = 30.0,
        connect_timeout_s: float | None = None,
        command_timeout_s: float = 60.0,
        reconnect_s: float = 15.0,
        keep_events_days: float = 30.0,
    ) -> None:
        self._sql = PostgresSql(check_table_name(table_name), schema)
        self._keep_events = round(keep_events_days * _DAY)
        self._tidying = self._sql.tidying(str(_DELTAS_KEPT), str(self._keep_events), str(_TIDIED))
        self._client = PostgresClient(
            self._sql,
            "PostgresStorage",
            db_url=db_url,
            pool=pool,
            auto_migrate=auto_migrate,
            min_pool_size=min_pool_size,
            max_pool_size=max_pool_size,
            statement_cache_size=statement_cache_size,
            pool_timeout_s=pool_timeout_s,
            connect_timeout_s=connect_timeout_s,
            command_timeout_s=command_timeout_s,
            reconnect_s=reconnect_s,
        )
        self._shared, self._loops = self._client.shared, self._client.loops

    def __repr__(self) -> str:
        schema = f", schema={self._sql.schema!r}" if self._sql.schema else ""
        return f"PostgresStorage(table_name={self._sql.table!r}{schema}) at {self._shared.where}"

    # --- runs --------------------------------------------------------------------------------------------------------

    async def begin(
        self,
        run: StoredRun,
        *,
        history_runs: int | None = 0,
        initial_state: Mapping[str, Any] | None = None,
        given_state: Mapping[str, Any] | None = None,
        lease_s: float = 30.0,
        alone: bool = False,
    ) -> Opening:
        sql, is_own = self._sql, run.parent_run_id is None or run.own_session
        created, updated = to_micros(run.created_at), to_micros(run.updated_at)
        entered = (run.session_id, run.user_id, run.agent_id, int(is_own), created, updated)
        who = (run.status.value, run.user_id, run.agent_id, run.parent_run_id, run.last_seq, created, updated)
        media: dict[str, bytes] = {}
        texts = (dumps(run.input, "input", media=media), dump_messages(run.messages, media=media))
        lease = (run.owner, round(lease_s * _SECOND))
        initial, given = copy_state(initial_state or {}), copy_state(given_state or {})
        here = await self._loops.here()
        if not (initial or given or alone or media):
            values = (*entered, run.run_id, who[0], *who[3:5], *texts, *lease, history_runs)
            return await self._begin_at_once(here.pool, run, values)

        async def work(transaction: Transaction) -> tuple[int, str | None, list[str | None], dict[str, bytes]]:
            row = await transaction.fetchrow(sql.enter, *entered)
            if row is None:
                raise SessionAccessDenied(f"Session {run.session_id!r} belongs to another user")
            run_count, stored, transaction.number = row
            state = stored
            if initial or given:
                state = dumps({**initial, **(loads(stored) if stored else {}), **given})
            number = run_count if is_own else 0
            values = (run.run_id, run.session_id, number, *who, *texts, state, *lease, state != stored)
            try:
                driver, history = await transaction.fetchrow(sql.open_run, *values, alone, history_runs)
            except asyncpg.UniqueViolationError as error:
                raise RunBusy(f"There is a run {run.run_id!r} already") from error
            if driver is not None:
                raise SessionBusy(f"Run {driver!r} of session {run.session_id!r} is under way")
            await self._keep_media(transaction, run.session_id, media)
            return number, state, history, await self._read_media([history], transaction)

        number, state, history, found = await here.pool.transact(work, run_id=run.run_id)
        return Opening(state=loads(state) if state else {}, history=histories(history, found), number=number)

    async def _begin_at_once(self, pool: LoopPool, run: StoredRun, values: tuple[Any, ...]) -> Opening:
        """One statement, which may be repeated: a run that is there already is either its own or refuses it."""
        sql, own = self._sql, (run.run_id, run.owner, to_micros(run.created_at), values[-1])
        is_first = True

        async def work(connection: Connection) -> Any:
            nonlocal is_first
            was_first, is_first = is_first, False
            try:
                row = await connection.fetchrow(sql.begin, *values)
            except (asyncpg.UniqueViolationError, TimeoutError) as error:
                is_there = isinstance(error, asyncpg.UniqueViolationError)
                row = None if is_there and was_first else await connection.fetchrow(sql.begun, *own)
                if row is None and is_there:
                    raise RunBusy(f"There is a run {run.run_id!r} already") from error
                if row is None:
                    raise
            if row is None:
                raise SessionAccessDenied(f"Session {run.session_id!r} belongs to another user")
            return row

        number, state, history = await pool.once(work, run_id=run.run_id)
        found = await self._read_media([history])
        return Opening(state=loads(state) if state else {}, history=histories(history, found), number=number)

    async def commit(self, change: RunChange) -> Committed:
        now = to_micros(utc_now())
        media: dict[str, bytes] = {}
        columns = columns_of(change, now, media)
        steps = [
            (step.number, step.kind, dumps(step.data, f"step {step.number}", media=media)) for step in change.steps
        ]
        deltas = [(seq, offset, clean_text(data)) for seq, offset, data in change.deltas]

        def rows(committed: Committed) -> CommitRows:
            facts = change.facts(committed.conflicts)
            return CommitRows(
                now, steps, [(seq, refer_to_media(clean_text(data), media)) for seq, data in facts], deltas
            )

        here = await self._loops.here()
        is_terminal = change.status is not None and change.status.is_terminal
        tidying = self._tidying if is_terminal else None
        # a copy, as the run goes on changing its own
        state = StateChange(base=change.state.base, mine=copy_state(change.state.mine)) if change.state else None
        only = rows(Committed())
        # what can be told again from what it has stored
        if only.seqs or (state is None and not is_terminal and (only.numbers or change.expect is None)):
            texts = (dumps(state.base), dumps(state.mine)) if state is not None else None
            if await self._commit_at_once(here.pool, change, columns, only, media, texts, tidying):
                return Committed(state=state.mine if state is not None else None)

        async def work(transaction: Transaction) -> Committed:
            new_state, committed = None, Committed()
            if state is not None:
                stored = await self._locked(transaction, self._sql.lock_state, change)
                new_state, committed = merged_state(stored, state)
                await self._keep_media(transaction, change.session_id, media)
            elif media or change.epoch is None:  # else nobody adds to the run beside its owner, who does so in turn
                await self._keep_media(transaction, change.session_id, media)  # which locks the session: before the run
                await self._locked(transaction, self._sql.lock_run, change)
            statement, values = self._sql.commit(change, columns, rows(committed), new_state, tidying=tidying)
            try:
                found = await transaction.fetch(statement, *values)
            except asyncpg.UniqueViolationError as error:
                raise _moved_on(change.run_id) from error
            if not found:
                raise await self._refusal(transaction, change)
            transaction.number = found[0][1]
            return committed

        return await here.pool.transact(work, run_id=change.run_id)

    async def _commit_at_once(
        self,
        pool: LoopPool,
        change: RunChange,
        columns: dict[str, Any],
        rows: CommitRows,
        media: Mapping[str, bytes],
        states: tuple[str, str] | None,
        tidying: str | None,
    ) -> bool:
        """One statement, which may be repeated: rows that are there already are either its own or refuse it whole.

        `states` are the session's before and after; False where the one before is not what is stored, and nothing done.
        Media go before; where the commit is refused, they stay until their session is deleted.
        """
        base, state = states or (None, None)
        statement, values = self._sql.commit(change, columns, rows, state, base=base, tidying=tidying)
        own = (change.run_id, rows.now, rows.seqs, rows.facts, rows.numbers, rows.datas)
        is_first = True

        async def work(connection: Connection) -> bool:
            nonlocal is_first
            was_first, is_first = is_first, False
            cause = None
            await self._keep_media(connection, change.session_id, media)
            try:
                if await connection.fetch(statement, *values):
                    return True
            except asyncpg.UniqueViolationError as error:
                cause = error
            except TimeoutError:  # it may have been done by then
                if (rows.seqs or rows.numbers) and await connection.fetchval(self._sql.is_stored, *own):
                    return True
                raise
            if not was_first and (rows.seqs or rows.numbers) and await connection.fetchval(self._sql.is_stored, *own):
                return True
            if base is not None and cause is None:
                return False
            raise (_moved_on(change.run_id) if cause else await self._refusal(connection, change)) from cause

        return await pool.once(work, run_id=change.run_id)

    async def load_run(self, run_id: str) -> StoredRun | None:
        row = await self._fetchrow(self._sql.read_whole_run, run_id, run_id=run_id)
        if row is None:
            return None
        numbers, kinds, datas, *facts, input, response, messages, base_state = row
        media = await self._read_media([datas, (input, response, messages)])
        run = with_texts(run_of(facts), input, response, media)
        run.messages = load_messages(messages, media) if messages else []
        run.base_state = loads(base_state) if base_state else {}
        steps = zip(numbers, kinds, datas, strict=True)
        run.steps = [Step(number=number, kind=kind, data=loads(data, media)) for number, kind, data in steps]
        return run

    async def load_history(
        self, session_id: str, *, runs: int | None = None, before: int | None = None
    ) -> list[list[Message]]:
        bounds = (session_id, runs, _MAX if before is None else before)
        ((texts,),) = await self._fetch(self._sql.read_history, *bounds)
        return histories(texts, await self._read_media([texts]))

    async def list_runs(self, session_id: str, *, limit: int = 50, before: int | None = None) -> list[StoredRun]:
        rows = await self._fetch(self._sql.list_runs, session_id, _MAX if before is None else before, limit)
        return await self._listed(rows)

    async def load_events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> list[tuple[int, str]]:
        rows = await self._fetch(self._sql.read_events, run_id, after, limit, run_id=run_id)
        media = await self._read_media(rows)
        return [(seq, fill_in_media(data, media)) for seq, data in rows]

    async def load_deltas(self, run_id: str, *, after: tuple[int, int] = (0, 0)) -> list[tuple[int, int, str]]:
        rows = await self._fetch(self._sql.read_deltas, run_id, *after, run_id=run_id)
        return [(seq, offset, data) for seq, offset, data in rows]

    async def wait_for_news(self, run_id: str, *, after: tuple[int, int], timeout_s: float) -> None:
        here, time = await self._loops.here(), asyncio.get_running_loop().time
        until = time() + timeout_s
        with here.news.of(self._sql.news_key(run_id)) as told:
            while True:
                recheck_s = await here.news.listen()
                told.clear()
                if await self._fetch(self._sql.find_news, run_id, after[0], run_id, *after):
                    return
                left_s = until - time()
                if left_s <= 0:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, recheck_s)):
                        await told.wait()

    # --- who drives a run --------------------------------------------------------------------------------------------

    async def claim(
        self, run_id: str, *, epoch: int, owner: str, expect: Sequence[RunStatus], lease_s: float = 30.0
    ) -> int:
        sql, expected = self._sql, [status.value for status in expect]
        values = (owner, round(lease_s * _SECOND), to_micros(utc_now()), run_id, epoch, *expected)

        async def work(transaction: Transaction) -> int:
            if (
                row := await transaction.fetchrow(sql.claim(len(expected)) + " RETURNING txid_current()", *values)
            ) is None:
                found = await transaction.fetchrow(sql.read_lease, run_id)
                if found is None:
                    raise RunNotFound(f"There is no run {run_id!r}")
                if found[1] not in expected:
                    raise AlreadyContinued(f"Run {run_id!r} is {found[1].lower()} by now")
                raise RunBusy(f"Run {run_id!r} was taken over: it is in epoch {found[0]}, not {epoch}")
            (transaction.number,) = row
            return epoch + 1

        here = await self._loops.here()
        return await here.pool.transact(work, run_id=run_id)

    async def renew(self, leases: Sequence[tuple[str, int]], *, lease_s: float = 30.0) -> list[LeaseNews]:
        held = list(leases)
        if (loop := self._loops.loop_to_go_to()) is not None:
            hop = asyncio.run_coroutine_threadsafe(self.renew(held, lease_s=lease_s), loop)
            try:
                async with asyncio.timeout(self._shared.pool_timeout_s):
                    return await asyncio.wrap_future(hop)
            except TimeoutError as error:
                raise StorageError(
                    "The event loop of PostgresStorage's pool is blocked, so leases are not renewed. Don't block it, "
                    "or give db_url as well"
                ) from error
        ids, epochs = [run_id for run_id, _ in held], [epoch for _, epoch in held]
        rows = await self._write(self._sql.renew_all, ids, epochs, round(lease_s * _SECOND))
        return [LeaseNews(run_id=run_id, lost=lost, cancel=cancel) for run_id, lost, cancel in rows]

    async def request_cancel(self, run_id: str, request: str) -> bool:
        return await self._changes(self._sql.request_cancel, clean_text(request), run_id, run_id=run_id)

    async def add_evidence(self, run_id: str, kind: str, data: dict[str, Any]) -> None:
        text = dumps(data, "evidence")

        async def work(transaction: Transaction) -> None:
            row = await transaction.fetchrow(self._sql.lock_run, run_id)
            if row is None:
                raise RunNotFound(f"There is no run {run_id!r}")
            (transaction.number,) = row
            await transaction.fetch(self._sql.insert_evidence, kind, text, run_id)

        here = await self._loops.here()
        await here.pool.transact(work, run_id=run_id)

    async def list_unfinished(
        self, *, status: RunStatus = RunStatus.RUNNING, limit: int = 100, after: str | None = None
    ) -> list[StoredRun]:
        return await self._listed(await self._fetch(self._sql.list_unfinished[status], after or "", limit))

    async def _listed(self, rows: list[Any]) -> list[StoredRun]:
        media = await self._read_media(rows)
        return [with_texts(run_of(facts), input, response, media) for *facts, input, response in rows]

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def load_session(self, session_id: str) -> StoredSession | None:
        row = await self._fetchrow(self._sql.read_session, session_id)
        if row is None:
            return None
        *facts, state = row
        return session_of(facts, loads(state) if state else {})

    async def list_sessions(
        self, *, user_id: str | None = None, agent_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[StoredSession]:
        statement = self._sql.list_sessions(by_user=user_id is not None, by_agent=agent_id is not None)
        given = [value for value in (user_id, agent_id) if value is not None]
        return [session_of(row, {}) for row in await self._fetch(statement, *given, limit, offset)]

    async def rename_session(self, session_id: str, name: str | None) -> bool:
        return await self._changes(self._sql.rename_session, clean_text(name) if name else None, session_id)

    async def replace_state(self, session_id: str, state: dict[str, Any]) -> bool:
        return await self._changes(self._sql.write_state, dumps(state), to_micros(utc_now()), session_id)

    async def delete_session(self, session_id: str) -> bool:
        async def work(transaction: Transaction) -> bool:
            row = await transaction.fetchrow(self._sql.lock_state, session_id)
            if row is None:
                return False
            _, transaction.number = row
            # one after the other: what is being added to a run is seen once its row is ours
            runs = [run_id for (run_id,) in await transaction.fetch(self._sql.delete_runs, session_id)]
            await transaction.fetch(self._sql.delete_hanging, session_id, runs)
            if hashes := [hash for (hash,) in await transaction.fetch(self._sql.forget_media, session_id)]:
                await transaction.fetch(self._sql.lock_media, hashes)  # then it is seen who else has begun to use them
                await transaction.fetch(self._sql.delete_media, hashes)
            return True

        here = await self._loops.here()
        return await here.pool.transact(work)

    async def prune(self, *, older_than: timedelta) -> int:
        age, deleted, runs = older_than // timedelta(microseconds=1), 0, 1
        while runs:
            ((rows, runs),) = await self._write(self._sql.tidy, age, age, _PRUNED)
            deleted += rows
        return deleted

    # --- opening and closing -----------------------------------------------------------------------------------------

    async def migrate(self) -> None:
        """Bring the tables to this version, also with `auto_migrate=False`. Fine to call at any time, by anybody."""
        self._client.migrates()
        await self._fetch("SELECT 1")

    async def aclose(self) -> None:
        """Wait for the calls under way and close the connections. A later call opens again."""
        await self._client.aclose()

    # --- statements --------------------------------------------------------------------------------------------------

    async def _fetch(self, statement: str, *values: Any, run_id: str | None = None) -> list[Any]:
        async def work(connection: Connection) -> list[Any]:
            return await connection.fetch(statement, *values)

        here = await self._loops.here()
        return await here.pool.read(work, run_id=run_id)

    async def _fetchrow(self, statement: str, *values: Any, run_id: str | None = None) -> Any:
        return next(iter(await self._fetch(statement, *values, run_id=run_id)), None)

    async def _write(self, statement: str, *values: Any, run_id: str | None = None) -> list[Any]:
        """For a statement that may be repeated."""

        async def work(connection: Connection) -> list[Any]:
            return await connection.fetch(statement, *values)

        here = await self._loops.here()
        return await here.pool.once(work, run_id=run_id)

    async def _changes(self, statement: str, *values: Any, run_id: str | None = None) -> bool:
        """Does the statement, which may be repeated, change a row?"""
        return bool(await self._write(f"{statement} RETURNING 1", *values, run_id=run_id))

    async def _keep_media(
        self, connection: Transaction | Connection, session_id: str, media: Mapping[str, bytes]
    ) -> None:
        """Store what the session does not use yet. May be repeated."""
        if media:
            known = {hash for (hash,) in await connection.fetch(self._sql.find_media, session_id, list(media))}
            new = {hash: content for hash, content in media.items() if hash not in known}
            if new:
                await connection.fetch(self._sql.keep_media, session_id, list(new), list(new.values()))

    async def _read_media(
        self, rows: Iterable[Iterable[Any]], transaction: Transaction | None = None
    ) -> dict[str, bytes]:
        """The media that texts in the rows refer to."""
        hashes = list(media_in(rows))
        if not hashes:
            return {}
        fetch = transaction.fetch if transaction is not None else self._fetch
        return dict(await fetch(self._sql.read_all_media, hashes))

    async def _locked(self, transaction: Transaction, statement: str, change: RunChange) -> str | None:
        """Lock the session, or the run: always in this order. Returns the session's state."""
        row = await transaction.fetchrow(statement, change.session_id if change.state else change.run_id)
        if row is None:
            raise _not_found(change)
        *state, transaction.number = row
        return state[0] if state else None

    async def _refusal(self, connection: Transaction | Connection, change: RunChange) -> StorageError:
        """Why a commit changed nothing."""
        found = await connection.fetchrow(self._sql.run_status, change.run_id, change.session_id)
        if found is None:
            return _not_found(change)
        status, epoch = found
        if change.epoch is not None and epoch != change.epoch:
            return RunBusy(f"Run {change.run_id!r} was taken over: it is in epoch {epoch}, and this is {change.epoch}")
        if change.expect is not None and status != change.expect.value:
            return AlreadyContinued(f"Run {change.run_id!r} is {status.lower()} by now")
        return _moved_on(change.run_id)


def _not_found(change: RunChange) -> RunNotFound:
    return RunNotFound(f"There is no run {change.run_id!r} in session {change.session_id!r}")


def _moved_on(run_id: str) -> RunBusy:
    return RunBusy(f"Run {run_id!r} has moved on: what is to be added to it is there already")
