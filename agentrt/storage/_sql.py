"""The tables and statements of SQL drivers, with `?` for each parameter.

Only what several databases understand: BIGINT for numbers and times (microseconds since 1970, UTC), TEXT for the rest,
`ON CONFLICT`, partial indexes, no `RETURNING` (SQLite before 3.35 has none). Large texts stand last in a row, as SQLite
reads a row from its front. Leases run by the database's clock, at the moment when the transaction is carried out, not
when it was asked for: each driver says which expression that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from agentrt.errors import ConfigurationError
from agentrt.models.message import Message
from agentrt.run.response import RunStatus
from agentrt.storage.base import Committed, RunChange, StateChange, StoredRun, StoredSession
from agentrt.storage.codec import dump_messages, dumps, load_messages, loads
from agentrt.storage.merge import merge

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

SESSION_COLUMNS: Final = "session_id, user_id, agent_id, name, run_count, created_at, updated_at"
RUN_COLUMNS: Final = (
    "run_id, session_id, number, status, user_id, agent_id, parent_run_id, owner, epoch, "
    "CASE WHEN lease_until > {now} THEN 0 ELSE 1 END, "
    "last_seq, created_at, updated_at, (SELECT MAX(seq) FROM {t}_events WHERE run_id = {t}_runs.run_id), "
    "(SELECT created_at FROM {t}_events WHERE run_id = {t}_runs.run_id ORDER BY seq DESC LIMIT 1)"
)
"""A commit that only adds to a run leaves its row alone: its newest fact may be newer than the row."""
ENDED: Final = ", ".join(f"'{status.value}'" for status in RunStatus if status.is_terminal)

# A version is its place in this list, from 1. Never change one that was released: add the next.
_MIGRATIONS: Final = (
    (
        "CREATE TABLE {t} (session_id TEXT PRIMARY KEY, user_id TEXT, agent_id TEXT, name TEXT, "
        "run_count BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, state TEXT)",
        "CREATE INDEX {t}_by_user ON {t} (user_id, updated_at)",
        # ended_at is set while facts of a run that has ended are kept, has_deltas (1) while deltas of a run are
        "CREATE TABLE {t}_runs (run_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, number BIGINT NOT NULL, "
        "status TEXT NOT NULL, user_id TEXT, agent_id TEXT, parent_run_id TEXT, owner TEXT, epoch BIGINT NOT NULL, "
        "lease_until BIGINT, cancel_request TEXT, ended_at BIGINT, has_deltas BIGINT, last_seq BIGINT NOT NULL, "
        "created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, input TEXT NOT NULL, response TEXT, messages TEXT, "
        "base_state TEXT)",
        "CREATE INDEX {t}_runs_session ON {t}_runs (session_id, number)",
        "CREATE INDEX {t}_runs_running ON {t}_runs (session_id, run_id) WHERE status = 'RUNNING'",
        "CREATE INDEX {t}_runs_paused ON {t}_runs (run_id) WHERE status = 'PAUSED'",
        "CREATE INDEX {t}_runs_ended ON {t}_runs (ended_at) WHERE ended_at IS NOT NULL",
        "CREATE INDEX {t}_runs_deltas ON {t}_runs (ended_at) WHERE has_deltas = 1",
        "CREATE TABLE {t}_steps (run_id TEXT NOT NULL, number BIGINT NOT NULL, kind TEXT NOT NULL, "
        "data TEXT NOT NULL, PRIMARY KEY (run_id, number))",
        "CREATE TABLE {t}_events (run_id TEXT NOT NULL, seq BIGINT NOT NULL, created_at BIGINT NOT NULL, "
        "data TEXT NOT NULL, PRIMARY KEY (run_id, seq))",
        "CREATE TABLE {t}_deltas (run_id TEXT NOT NULL, seq BIGINT NOT NULL, place BIGINT NOT NULL, "
        "data TEXT NOT NULL, PRIMARY KEY (run_id, seq, place))",
    ),
    (
        "CREATE TABLE {t}_media (hash TEXT PRIMARY KEY, data BYTEA NOT NULL)",  # to SQLite any name of a type is one
        "CREATE TABLE {t}_media_uses (session_id TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (session_id, hash))",
        "CREATE INDEX {t}_media_hash ON {t}_media_uses (hash)",
    ),
)


def check_table_name(name: str) -> str:
    """Return the name. Raises `ConfigurationError` for one that is not a plain identifier."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,47}", name) or name.lower().startswith("sqlite_"):
        raise ConfigurationError(
            f"table_name {name!r} can't name a table: it takes up to 48 letters, digits and underscores, no digit first"
        )
    return name


class Tables:
    """Tables that are named after `table`, and the version they are of, which `table_meta` tells.

    `now` is an SQL expression for the database's time, in microseconds since 1970.
    """

    suffixes: ClassVar[Sequence[str]]
    versions: ClassVar[Sequence[Sequence[str]]]
    """What makes the tables: a version is its place in this list, from 1."""
    mark: ClassVar[str]
    """What the version is called: tables of another use are not taken for these."""

    def __init__(self, table: str, *, now: str) -> None:
        self.table = table
        self._now = now
        named = self._named
        self.tables = tuple(f"{table}{suffix}" for suffix in self.suffixes)
        self.migrations = [[named(statement) for statement in version] for version in self.versions]
        self.create_meta = named("CREATE TABLE {t}_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        self.read_version = named(f"SELECT value FROM {{t}}_meta WHERE name = '{self.mark}'")
        self.write_version = named(
            f"INSERT INTO {{t}}_meta (name, value) VALUES ('{self.mark}', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        )

    def _named(self, statement: str) -> str:
        return re.sub(r"\{t\}(\w*)", rf'"{self.table}\1"', statement).replace("{now}", self._now)


class Sql(Tables):
    """The statements for sessions, in `table`, and their runs, steps, events and deltas, in `table_runs` and so on.

    Texts refer to media, by the hash of their content; which sessions use them is kept, to know when none does.
    """

    suffixes = ("", "_runs", "_steps", "_events", "_deltas", "_media", "_media_uses")
    versions = _MIGRATIONS
    mark = "agentrt_schema"

    def __init__(self, table: str, *, now: str) -> None:
        super().__init__(table, now=now)
        self._updates: dict[tuple[str | RunStatus | None, ...], str] = {}
        named = self._named

        # makes or takes over the session; changes no row when it belongs to somebody else
        self.enter_session = named(
            "INSERT INTO {t} (session_id, user_id, agent_id, run_count, created_at, updated_at) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (session_id) DO UPDATE SET user_id = excluded.user_id, "
            "run_count = {t}.run_count + excluded.run_count, updated_at = excluded.updated_at "
            "WHERE {t}.user_id IS NULL OR {t}.user_id = excluded.user_id"
        )
        self.read_entered = named("SELECT run_count, state FROM {t} WHERE session_id = ?")
        self.read_session = named(f"SELECT {SESSION_COLUMNS}, state FROM {{t}} WHERE session_id = ?")
        self.read_state = named("SELECT state FROM {t} WHERE session_id = ?")
        self.write_state = named("UPDATE {t} SET state = ?, updated_at = ? WHERE session_id = ?")
        self.rename_session = named("UPDATE {t} SET name = ? WHERE session_id = ?")
        hanging = "WHERE run_id IN (SELECT run_id FROM {t}_runs WHERE session_id = ?)"
        # in this order, each with the session's id; the last one tells whether there was such a session
        self.delete_session = (
            named(
                "DELETE FROM {t}_media WHERE hash IN (SELECT hash FROM {t}_media_uses AS used WHERE session_id = ? AND "
                "NOT EXISTS (SELECT 1 FROM {t}_media_uses WHERE hash = used.hash AND session_id <> used.session_id))"
            ),
            named("DELETE FROM {t}_media_uses WHERE session_id = ?"),
            named(f"DELETE FROM {{t}}_steps {hanging}"),
            named(f"DELETE FROM {{t}}_events {hanging}"),
            named(f"DELETE FROM {{t}}_deltas {hanging}"),
            named("DELETE FROM {t}_runs WHERE session_id = ?"),
            named("DELETE FROM {t} WHERE session_id = ?"),
        )

        # changes no row when there is such a run
        self.insert_run = named(
            "INSERT INTO {t}_runs (run_id, session_id, number, status, user_id, agent_id, parent_run_id, last_seq, "
            "created_at, updated_at, input, messages, base_state, owner, epoch, lease_until) "
            f"VALUES ({', '.join('?' * 14)}, 1, {{now}} + ?) ON CONFLICT (run_id) DO NOTHING"
        )
        self.find_driven = named(
            "SELECT run_id FROM {t}_runs WHERE status = 'RUNNING' AND session_id = ? AND run_id <> ? "
            "AND lease_until > {now} LIMIT 1"
        )
        self.run_status = named("SELECT status, epoch FROM {t}_runs WHERE run_id = ? AND session_id = ?")
        self.read_run = named(
            f"SELECT {RUN_COLUMNS}, input, response, messages, base_state FROM {{t}}_runs WHERE run_id = ?"
        )
        self.list_runs = named(
            f"SELECT {RUN_COLUMNS}, input, response FROM {{t}}_runs WHERE session_id = ? AND number > 0 AND number < ? "
            "ORDER BY number DESC LIMIT ?"
        )
        # by the index of running runs: with a plain run_id, SQLite would go through all runs by their key
        self.list_unfinished = {
            status: named(
                f"SELECT {RUN_COLUMNS}, input, response FROM {{t}}_runs WHERE status = '{status.value}' "
                "AND run_id || '' > ? ORDER BY run_id || '' LIMIT ?"
            )
            for status in (RunStatus.RUNNING, RunStatus.PAUSED)
        }
        self.history = named(
            "SELECT messages FROM {t}_runs WHERE session_id = ? AND number > 0 AND number < ? "
            f"AND status IN ({ENDED}) ORDER BY number DESC LIMIT ?"
        )

        self.insert_step = named("INSERT INTO {t}_steps (run_id, number, kind, data) VALUES (?, ?, ?, ?)")
        self.read_steps = named("SELECT number, kind, data FROM {t}_steps WHERE run_id = ? ORDER BY number")
        self.delete_steps = named("DELETE FROM {t}_steps WHERE run_id = ? AND number > 0")  # evidence stays
        self.insert_evidence = named(
            "INSERT INTO {t}_steps (run_id, number, kind, data) SELECT run_id, COALESCE((SELECT MIN(number) FROM "
            "{t}_steps WHERE {t}_steps.run_id = {t}_runs.run_id AND number < 0), 0) - 1, ?, ? FROM {t}_runs "
            "WHERE run_id = ?"
        )
        self.insert_media = named("INSERT INTO {t}_media (hash, data) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING")
        self.use_media = named(
            "INSERT INTO {t}_media_uses (session_id, hash) VALUES (?, ?) ON CONFLICT (session_id, hash) DO NOTHING"
        )
        self.read_media = named("SELECT data FROM {t}_media WHERE hash = ?")
        self.insert_event = named("INSERT INTO {t}_events (run_id, seq, created_at, data) VALUES (?, ?, ?, ?)")
        self.read_events = named("SELECT seq, data FROM {t}_events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?")
        self.insert_delta = named(
            "INSERT INTO {t}_deltas (run_id, seq, place, data) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (run_id, seq, place) DO UPDATE SET data = excluded.data"
        )
        self.read_deltas = named(
            "SELECT seq, place, data FROM {t}_deltas WHERE run_id = ? AND (seq, place) >= (?, ?) ORDER BY seq, place"
        )
        self.find_news = named(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM {t}_events WHERE run_id = ? AND seq > ?) "
            "OR EXISTS (SELECT 1 FROM {t}_deltas WHERE run_id = ? AND (seq, place) >= (?, ?))"
        )

        # leases; each of them changes no row where it is not, or no more, to be had
        self.renew = named(
            "UPDATE {t}_runs SET lease_until = {now} + ? WHERE run_id = ? AND epoch = ? AND status = 'RUNNING'"
        )
        self.read_lease = named("SELECT epoch, status, cancel_request FROM {t}_runs WHERE run_id = ?")
        self.request_cancel = named("UPDATE {t}_runs SET cancel_request = ? WHERE run_id = ? AND status = 'RUNNING'")

        # what is out of date, by its age
        self.find_old_events = named("SELECT run_id FROM {t}_runs WHERE ended_at <= {now} - ? LIMIT ?")
        self.find_old_deltas = named(
            "SELECT run_id FROM {t}_runs WHERE has_deltas = 1 AND ended_at <= {now} - ? LIMIT ?"
        )
        self.delete_events = named("DELETE FROM {t}_events WHERE run_id = ?")
        self.delete_deltas = named("DELETE FROM {t}_deltas WHERE run_id = ?")
        self.has_no_events = named("UPDATE {t}_runs SET ended_at = NULL, has_deltas = NULL WHERE run_id = ?")
        self.has_no_deltas = named("UPDATE {t}_runs SET has_deltas = NULL WHERE run_id = ?")

    def update_run(self, columns: Iterable[str], status: RunStatus | None) -> str:
        """Takes the values of the columns, and the run's id. A status other than RUNNING ends the lease."""
        shape = (*columns, status)
        if shape not in self._updates:
            self._updates[shape] = self._update_run(columns, status)
        return self._updates[shape]

    def _update_run(self, columns: Iterable[str], status: RunStatus | None) -> str:
        changes = [f"{name} = ?" for name in columns]
        if status not in (None, RunStatus.RUNNING):
            changes += ["owner = NULL", "lease_until = NULL"]
        if status is not None and status.is_terminal:
            changes += ["cancel_request = NULL", "ended_at = {now}"]
        if status in (RunStatus.COMPLETED, RunStatus.CANCELLED):
            changes += ["base_state = NULL"]
        return self._named(f"UPDATE {{t}}_runs SET {', '.join(changes)} WHERE run_id = ?")

    def claim(self, expected: int) -> str:
        """Takes the owner, the lease in microseconds, when it is, the run's id and epoch, and the statuses expected."""
        return self._named(
            "UPDATE {t}_runs SET status = 'RUNNING', owner = ?, epoch = epoch + 1, lease_until = {now} + ?, "
            "ended_at = NULL, updated_at = ? WHERE run_id = ? AND epoch = ? "
            f"AND status IN ({', '.join('?' * expected)})"
        )

    def list_sessions(self, *, by_user: bool, by_agent: bool) -> str:
        # what began as the session of a run below another, as a team's member's, is not listed
        conditions = [
            "NOT EXISTS (SELECT 1 FROM {t}_runs WHERE {t}_runs.session_id = {t}.session_id AND number = 1 "
            "AND parent_run_id IS NOT NULL)",
            *(f"{name} = ?" for name, used in (("user_id", by_user), ("agent_id", by_agent)) if used),
        ]
        return self._named(
            f"SELECT {SESSION_COLUMNS} FROM {{t}} WHERE {' AND '.join(conditions)} "
            "ORDER BY updated_at DESC LIMIT ? OFFSET ?"
        )


def to_micros(moment: datetime) -> int:
    """A naive time counts as UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND


def session_of(row: Sequence[Any], state: dict[str, Any]) -> StoredSession:
    """A row of `SESSION_COLUMNS`."""
    session_id, user_id, agent_id, name, run_count, created_at, updated_at = row
    return StoredSession(
        session_id=session_id,
        user_id=user_id,
        agent_id=agent_id,
        name=name,
        state=state,
        run_count=run_count,
        created_at=from_micros(created_at),
        updated_at=from_micros(updated_at),
    )


def run_of(row: Sequence[Any]) -> StoredRun:
    """A row of `RUN_COLUMNS`."""
    run_id, session_id, number, status, user_id, agent_id, parent_run_id, owner, epoch, is_expired, *when = row
    last_seq, created_at, updated_at, newest_seq, newest_at = when
    return StoredRun(
        run_id=run_id,
        session_id=session_id,
        user_id=user_id,
        agent_id=agent_id,
        parent_run_id=parent_run_id,
        status=RunStatus(status),
        number=number,
        owner=owner,
        epoch=epoch,
        lease_expired=bool(is_expired),
        last_seq=max(last_seq, newest_seq or 0),
        created_at=from_micros(created_at),
        updated_at=from_micros(max(updated_at, newest_at or 0)),
    )


def with_texts(run: StoredRun, input: str, response: str | None, media: Mapping[str, bytes]) -> StoredRun:
    run.input = loads(input, media)
    run.response = loads(response, media) if response else None
    return run


def histories(texts: Iterable[str | None], media: Mapping[str, bytes]) -> list[list[Message]]:
    """The messages of runs, in the same order."""
    return [load_messages(text, media) if text else [] for text in texts]


def columns_of(change: RunChange, now: int, media: dict[str, bytes]) -> dict[str, Any]:
    """What a change writes into the run's row, and into `media` what that refers to: nothing if it only adds facts."""
    columns: dict[str, Any] = {}
    if change.status is not None:
        columns["status"] = change.status.value
    if change.response is not None:
        columns["response"] = dumps(change.response, "response", media=media)
    if change.messages is not None:
        columns["messages"] = dump_messages(change.messages, media=media)
    if change.deltas:
        columns["has_deltas"] = 1
    if change.last_seq is not None and (columns or not change.events):
        columns["last_seq"] = change.last_seq
    if columns:
        columns["updated_at"] = now
    return columns


def merged_state(stored: str | None, change: StateChange) -> tuple[str | None, Committed]:
    """What to store as the session's state, None when it stays as it is; and what came of it."""
    if (stored or "{}") == dumps(change.base):  # nobody else wrote meanwhile
        state, conflicts = change.mine, []
    else:
        state, conflicts = merge(change.base, change.mine, loads(stored) if stored else {})
    text = dumps(state)
    return text if text != (stored or "{}") else None, Committed(state=state, conflicts=conflicts)
