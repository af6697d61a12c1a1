"""`SqliteStorage`: sessions in an SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

from agentrt.errors import (
    AlreadyContinued,
    ConfigurationError,
    RunBusy,
    RunNotFound,
    SessionAccessDenied,
    SessionBusy,
)
from agentrt.models.message import Message, utc_now
from agentrt.run.response import RunStatus
from agentrt.storage._sql import (
    Sql,
    check_table_name,
    columns_of,
    histories,
    merged_state,
    run_of,
    session_of,
    to_micros,
    with_texts,
)
from agentrt.storage._sqlite_open import NOW, file_of, opener
from agentrt.storage._sqlite_thread import SqliteJobs
from agentrt.storage.base import (
    Committed,
    Kept,
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

T = TypeVar("T")
Connection = sqlite3.Connection
_Texts: TypeAlias = tuple[list[Any], dict[str, bytes]]
"""Rows, and the media that they refer to."""

_MAX: Final = 2**63 - 1
_DAY: Final = 86_400_000_000
_SECOND: Final = 1_000_000
_POLL_S: Final = 0.05
_DELTAS_KEPT_S: Final = 60
_TIDIED: Final = 4  # runs per terminal write: more than end in it, so that what is out of date never piles up
_PRUNED: Final = 100  # runs per transaction


class SqliteStorage(Storage):
    """Keeps sessions in an SQLite file, shared by any number of storages, processes, event loops and threads.

    The file is `db_file`, whose folders are made as needed, or what `db_url` names (`"sqlite:///tmp/data.db"`);
    `":memory:"` is a database that lasts until `aclose()`. Tables are named after `table_name` and made at first use;
    with `auto_migrate=False`, tables that are missing or of an older version are an error. So is always a table of
    that name that is not agentrt's, or is of a newer version: both are left as they are.

    `synchronous` says what survives: with `"normal"`, whatever becomes of the process, nothing committed is lost,
    but a power cut or a crash of the operating system may take back the last moments (the file stays sound); with
    `"full"`, nothing is lost then either, at the price of waiting for the disk at each commit. Where another process
    holds the lock, a call waits for it up to `busy_timeout_s`. The facts of a run are kept for `keep_events_days` after
    its end; the run itself until its session is deleted.
    """

    durable = True

    def __init__(
        self,
        *,
        table_name: str = "agent_sessions",
        db_file: str | Path | None = None,
        db_url: str | None = None,
        synchronous: Literal["normal", "full"] = "normal",
        busy_timeout_s: float = 30.0,
        auto_migrate: bool = True,
        keep_events_days: float = 30.0,
    ) -> None:
        if synchronous not in ("normal", "full"):
            raise ConfigurationError(f"synchronous is 'normal' or 'full', not {synchronous!r}")
        if keep_events_days < 0:
            raise ConfigurationError(f"keep_events_days is {keep_events_days!r}; it can't be negative")
        self._file = file_of(db_file, db_url)
        self._sql = Sql(check_table_name(table_name), now=NOW)
        self._keep_events = round(keep_events_days * _DAY)
        open = opener(self._file, self._sql, synchronous, busy_timeout_s, auto_migrate)
        self._jobs = SqliteJobs(open, self._file, busy_timeout_s)

    def __repr__(self) -> str:
        return f"SqliteStorage(table_name={self._sql.table!r}, db_file={self._file or ':memory:'!r})"

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
        ids = (run.run_id, run.session_id)
        who = (run.status.value, run.user_id, run.agent_id, run.parent_run_id, run.last_seq, created, updated)
        media: dict[str, bytes] = {}
        texts = (dumps(run.input, "input", media=media), dump_messages(run.messages, media=media))
        lease = (run.owner, round(lease_s * _SECOND))
        initial, given = copy_state(initial_state or {}), copy_state(given_state or {})

        def work(connection: Connection) -> tuple[int, str | None, _Texts]:
            execute = connection.execute
            entered = (run.session_id, run.user_id, run.agent_id, int(is_own), created, updated)
            if execute(sql.enter_session, entered).rowcount == 0:
                raise SessionAccessDenied(f"Session {run.session_id!r} belongs to another user")
            run_count, state = execute(sql.read_entered, (run.session_id,)).fetchone()
            if initial or given:
                new_state = dumps({**initial, **(loads(state) if state else {}), **given})
                if new_state != state:
                    execute(sql.write_state, (new_state, updated, run.session_id))
                state = new_state
            number = run_count if is_own else 0
            if execute(sql.insert_run, (*ids, number, *who, *texts, state, *lease)).rowcount == 0:
                raise RunBusy(f"There is a run {run.run_id!r} already")
            if alone and (driven := execute(sql.find_driven, (run.session_id, run.run_id)).fetchone()):
                raise SessionBusy(f"Run {driven[0]!r} of session {run.session_id!r} is under way")
            self._keep_media(connection, run.session_id, media)
            return number, state, self._read_history(connection, run.session_id, history_runs)

        number, state, history = await self._write(work)
        return Opening(state=loads(state) if state else {}, history=_oldest_first(*history), number=number)

    def commit(self, change: RunChange) -> Kept[Committed]:
        sql, run_id, session_id = self._sql, change.run_id, change.session_id
        now = to_micros(utc_now())
        media: dict[str, bytes] = {}
        columns = columns_of(change, now, media)
        steps = [
            (run_id, step.number, step.kind, dumps(step.data, f"step {step.number}", media=media))
            for step in change.steps
        ]
        deltas = [(run_id, seq, offset, clean_text(data)) for seq, offset, data in change.deltas]
        state = change.state
        if state is not None:  # what the run goes on changing is not what another thread may read
            state = StateChange(base=state.base, mine=copy_state(state.mine))

        def work(connection: Connection) -> Committed:
            found = connection.execute(sql.run_status, (run_id, session_id)).fetchone()
            if found is None:
                raise RunNotFound(f"There is no run {run_id!r} in session {session_id!r}")
            status, epoch = found
            if change.epoch is not None and epoch != change.epoch:
                raise RunBusy(f"Run {run_id!r} was taken over: it is in epoch {epoch}, and this is {change.epoch}")
            if change.expect is not None and status != change.expect.value:
                raise AlreadyContinued(f"Run {run_id!r} is {status.lower()} by now")
            if change.status is not None and change.status.is_terminal:
                self._tidy(connection)
            merged = self._merge_state(connection, session_id, state, now) if state is not None else Committed()
            facts = change.facts(merged.conflicts)
            events = [(run_id, seq, now, refer_to_media(clean_text(data), media)) for seq, data in facts]
            self._keep_media(connection, session_id, media)
            if columns:
                if events:
                    columns["last_seq"] = events[-1][1]
                connection.execute(sql.update_run(columns, change.status), (*columns.values(), run_id))
            if deltas:
                connection.executemany(sql.insert_delta, deltas)
            try:
                if steps:
                    connection.executemany(sql.insert_step, steps)
                if events:
                    connection.executemany(sql.insert_event, events)
            except sqlite3.IntegrityError as error:
                raise RunBusy(f"Run {run_id!r} has moved on: what is to be added to it is there already") from error
            if change.status in (RunStatus.COMPLETED, RunStatus.CANCELLED):
                connection.execute(sql.delete_steps, (run_id,))
            return merged

        committed = Kept[Committed](loop=asyncio.get_running_loop())
        self._jobs.submit(work, writes=True, to=committed)
        return committed

    async def load_run(self, run_id: str) -> StoredRun | None:
        def work(connection: Connection) -> tuple[Any, list[Any], dict[str, bytes]]:
            row = connection.execute(self._sql.read_run, (run_id,)).fetchone()
            steps = connection.execute(self._sql.read_steps, (run_id,)).fetchall()
            return row, steps, self._read_media(connection, [row or (), *steps])

        row, steps, media = await self._read(work)
        if row is None:
            return None
        *facts, input, response, messages, base_state = row
        run = with_texts(run_of(facts), input, response, media)
        run.messages = load_messages(messages, media) if messages else []
        run.base_state = loads(base_state) if base_state else {}
        run.steps = [Step(number=number, kind=kind, data=loads(data, media)) for number, kind, data in steps]
        return run

    async def load_history(
        self, session_id: str, *, runs: int | None = None, before: int | None = None
    ) -> list[list[Message]]:
        history = await self._read(lambda connection: self._read_history(connection, session_id, runs, before))
        return _oldest_first(*history)

    async def list_runs(self, session_id: str, *, limit: int = 50, before: int | None = None) -> list[StoredRun]:
        bounds = (session_id, _MAX if before is None else before, limit)
        return await self._list_runs(self._sql.list_runs, bounds)

    async def load_events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> list[tuple[int, str]]:
        bounds = (run_id, after, _MAX if limit is None else limit)
        rows, media = await self._read(lambda connection: self._with_media(connection, self._sql.read_events, bounds))
        return [(seq, fill_in_media(text, media)) for seq, text in rows]

    async def load_deltas(self, run_id: str, *, after: tuple[int, int] = (0, 0)) -> list[tuple[int, int, str]]:
        values = (run_id, *after)
        return await self._read(lambda connection: connection.execute(self._sql.read_deltas, values).fetchall())

    async def wait_for_news(self, run_id: str, *, after: tuple[int, int], timeout_s: float) -> None:
        values = (run_id, after[0], run_id, *after)
        until = time.monotonic() + timeout_s
        while not await self._read(lambda connection: connection.execute(self._sql.find_news, values).fetchone()):
            left_s = until - time.monotonic()
            if left_s <= 0:
                return
            await asyncio.sleep(min(_POLL_S, left_s))  # any process may write: a file tells nobody

    # --- who drives a run --------------------------------------------------------------------------------------------

    async def claim(
        self, run_id: str, *, epoch: int, owner: str, expect: Sequence[RunStatus], lease_s: float = 30.0
    ) -> int:
        sql, expected = self._sql, [status.value for status in expect]
        values = (owner, round(lease_s * _SECOND), to_micros(utc_now()), run_id, epoch, *expected)

        def work(connection: Connection) -> int:
            if connection.execute(sql.claim(len(expected)), values).rowcount:
                return epoch + 1
            found = connection.execute(sql.read_lease, (run_id,)).fetchone()
            if found is None:
                raise RunNotFound(f"There is no run {run_id!r}")
            if found[1] not in expected:
                raise AlreadyContinued(f"Run {run_id!r} is {found[1].lower()} by now")
            raise RunBusy(f"Run {run_id!r} was taken over: it is in epoch {found[0]}, not {epoch}")

        return await self._write(work)

    async def renew(self, leases: Sequence[tuple[str, int]], *, lease_s: float = 30.0) -> list[LeaseNews]:
        sql, held = self._sql, list(leases)
        values = [(round(lease_s * _SECOND), *lease) for lease in held]

        def work(connection: Connection) -> list[LeaseNews]:
            connection.executemany(sql.renew, values)
            news: list[LeaseNews] = []
            for run_id, epoch in held:
                found = connection.execute(sql.read_lease, (run_id,)).fetchone()
                if found is None or found[0] != epoch:
                    news.append(LeaseNews(run_id=run_id, lost=True))
                elif found[1] == RunStatus.RUNNING.value and found[2] is not None:
                    news.append(LeaseNews(run_id=run_id, cancel=found[2]))
            return news

        return await self._write(work)

    async def request_cancel(self, run_id: str, request: str) -> bool:
        return await self._change([self._sql.request_cancel], (clean_text(request), run_id))

    async def add_evidence(self, run_id: str, kind: str, data: dict[str, Any]) -> None:
        if not await self._change([self._sql.insert_evidence], (kind, dumps(data, "evidence"), run_id)):
            raise RunNotFound(f"There is no run {run_id!r}")

    async def list_unfinished(
        self, *, status: RunStatus = RunStatus.RUNNING, limit: int = 100, after: str | None = None
    ) -> list[StoredRun]:
        return await self._list_runs(self._sql.list_unfinished[status], (after or "", limit))

    async def _list_runs(self, statement: str, bounds: tuple[Any, ...]) -> list[StoredRun]:
        rows, media = await self._read(lambda connection: self._with_media(connection, statement, bounds))
        return [with_texts(run_of(facts), input, response, media) for *facts, input, response in rows]

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def load_session(self, session_id: str) -> StoredSession | None:
        row = await self._read(
            lambda connection: connection.execute(self._sql.read_session, (session_id,)).fetchone(),
        )
        if row is None:
            return None
        *facts, state = row
        return session_of(facts, loads(state) if state else {})

    async def list_sessions(
        self, *, user_id: str | None = None, agent_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[StoredSession]:
        statement = self._sql.list_sessions(by_user=user_id is not None, by_agent=agent_id is not None)
        values = [*(value for value in (user_id, agent_id) if value is not None), limit, offset]
        rows = await self._read(lambda connection: connection.execute(statement, values).fetchall())
        return [session_of(row, {}) for row in rows]

    async def rename_session(self, session_id: str, name: str | None) -> bool:
        return await self._change([self._sql.rename_session], (clean_text(name) if name else None, session_id))

    async def replace_state(self, session_id: str, state: dict[str, Any]) -> bool:
        return await self._change([self._sql.write_state], (dumps(state), to_micros(utc_now()), session_id))

    async def delete_session(self, session_id: str) -> bool:
        return await self._change(self._sql.delete_session, (session_id,))

    async def prune(self, *, older_than: timedelta) -> int:
        age, deleted = older_than // timedelta(microseconds=1), 0
        while rows := await self._write(lambda connection: self._delete_old(connection, age, age, _PRUNED)):
            deleted += sum(rows)
        return deleted

    async def aclose(self) -> None:
        """Close the connection, once all that was called before is done. A later call opens again."""
        await self._jobs.aclose()

    # --- in a transaction --------------------------------------------------------------------------------------------

    def _read_history(
        self, connection: Connection, session_id: str, runs: int | None, before: int | None = None
    ) -> _Texts:
        if runs == 0:
            return [], {}
        bounds = (session_id, _MAX if before is None else before, -1 if runs is None else runs)
        return self._with_media(connection, self._sql.history, bounds)

    def _with_media(self, connection: Connection, statement: str, values: tuple[Any, ...]) -> _Texts:
        """The rows of a query, and the media that they refer to."""
        rows = connection.execute(statement, values).fetchall()
        return rows, self._read_media(connection, rows)

    def _read_media(self, connection: Connection, rows: Iterable[Sequence[Any]]) -> dict[str, bytes]:
        found = ((hash, connection.execute(self._sql.read_media, (hash,)).fetchone()) for hash in media_in(rows))
        return {hash: row[0] for hash, row in found if row is not None}

    def _keep_media(self, connection: Connection, session_id: str, media: Mapping[str, bytes]) -> None:
        if media:
            connection.executemany(self._sql.insert_media, media.items())
            connection.executemany(self._sql.use_media, [(session_id, hash) for hash in media])

    def _tidy(self, connection: Connection) -> None:
        self._delete_old(connection, self._keep_events, _DELTAS_KEPT_S * _SECOND, _TIDIED)

    def _delete_old(self, connection: Connection, events_age: int, deltas_age: int, limit: int) -> list[int]:
        """Delete the facts and deltas of up to `limit` runs each that ended so long ago; how many, run by run."""
        sql, execute, deleted = self._sql, connection.execute, list[int]()
        for run in execute(sql.find_old_deltas, (deltas_age, limit)).fetchall():
            deleted.append(execute(sql.delete_deltas, run).rowcount)
            execute(sql.has_no_deltas, run)
        for run in execute(sql.find_old_events, (events_age, limit)).fetchall():
            deleted += [execute(sql.delete_events, run).rowcount, execute(sql.delete_deltas, run).rowcount]
            execute(sql.has_no_events, run)
        return deleted

    def _merge_state(self, connection: Connection, session_id: str, change: StateChange, now: int) -> Committed:
        (stored,) = connection.execute(self._sql.read_state, (session_id,)).fetchone()
        text, committed = merged_state(stored, change)
        if text is not None:
            connection.execute(self._sql.write_state, (text, now, session_id))
        return committed

    # --- to the thread and back --------------------------------------------------------------------------------------

    async def _change(self, statements: Sequence[str], values: tuple[Any, ...]) -> bool:
        def work(connection: Connection) -> bool:
            return [connection.execute(statement, values).rowcount for statement in statements][-1] > 0

        return await self._write(work)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._jobs.submit(work, writes=True)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await self._jobs.submit(work, writes=False)


def _oldest_first(rows: Iterable[tuple[str | None]], media: Mapping[str, bytes]) -> list[list[Message]]:
    return histories((messages for (messages,) in rows), media)[::-1]
