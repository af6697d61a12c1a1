"""The tables and statements of SQL drivers, with `?` for each parameter.

Only what several databases understand: BIGINT for numbers and times (microseconds since 1970, UTC), TEXT for the rest,
`ON CONFLICT`, no `RETURNING` (SQLite before 3.35 has none). Large texts stand last in a row, as SQLite reads a row from
its front.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from agentrt.errors import ConfigurationError
from agentrt.run.response import RunStatus
from agentrt.storage.base import StoredRun, StoredSession

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

SESSION_COLUMNS: Final = "session_id, user_id, agent_id, name, run_count, created_at, updated_at"
RUN_COLUMNS: Final = (
    "run_id, session_id, number, status, user_id, agent_id, parent_run_id, last_seq, created_at, updated_at"
)
ENDED: Final = ", ".join(f"'{status.value}'" for status in RunStatus if status.is_terminal)

# A version is its place in this list, from 1. Never change one that was released: add the next.
_MIGRATIONS: Final = (
    (
        "CREATE TABLE {t} (session_id TEXT PRIMARY KEY, user_id TEXT, agent_id TEXT, name TEXT, "
        "run_count BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, state TEXT)",
        "CREATE INDEX {t}_by_user ON {t} (user_id, updated_at)",
        "CREATE TABLE {t}_runs (run_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, number BIGINT NOT NULL, "
        "status TEXT NOT NULL, user_id TEXT, agent_id TEXT, parent_run_id TEXT, last_seq BIGINT NOT NULL, "
        "created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, input TEXT NOT NULL, response TEXT, messages TEXT)",
        "CREATE INDEX {t}_runs_by_session ON {t}_runs (session_id, number)",
        "CREATE TABLE {t}_steps (run_id TEXT NOT NULL, number BIGINT NOT NULL, kind TEXT NOT NULL, "
        "data TEXT NOT NULL, PRIMARY KEY (run_id, number))",
        "CREATE TABLE {t}_events (run_id TEXT NOT NULL, seq BIGINT NOT NULL, created_at BIGINT NOT NULL, "
        "data TEXT NOT NULL, PRIMARY KEY (run_id, seq))",
    ),
)


def check_table_name(name: str) -> str:
    """Return the name. Raises `ConfigurationError` for one that is not a plain identifier."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,47}", name) or name.lower().startswith("sqlite_"):
        raise ConfigurationError(
            f"table_name {name!r} can't name a table: it takes up to 48 letters, digits and underscores, no digit first"
        )
    return name


class Sql:
    """The statements for the tables named `table`, `table_runs`, `table_steps`, `table_events` and `table_meta`."""

    def __init__(self, table: str) -> None:
        self.table = table

        def named(statement: str) -> str:
            return re.sub(r"\{t\}(\w*)", rf'"{table}\1"', statement)

        self._named = named
        self.tables = tuple(f"{table}{suffix}" for suffix in ("", "_runs", "_steps", "_events"))
        self.migrations = [[named(statement) for statement in version] for version in _MIGRATIONS]

        self.create_meta = named("CREATE TABLE {t}_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        self.read_version = named("SELECT value FROM {t}_meta WHERE name = 'agentrt_schema'")
        self.write_version = named(
            "INSERT INTO {t}_meta (name, value) VALUES ('agentrt_schema', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        )

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
            named(f"DELETE FROM {{t}}_steps {hanging}"),
            named(f"DELETE FROM {{t}}_events {hanging}"),
            named("DELETE FROM {t}_runs WHERE session_id = ?"),
            named("DELETE FROM {t} WHERE session_id = ?"),
        )

        # changes no row when there is such a run
        self.insert_run = named(
            f"INSERT INTO {{t}}_runs ({RUN_COLUMNS}, input, messages) VALUES ({', '.join('?' * 12)}) "
            "ON CONFLICT (run_id) DO NOTHING"
        )
        self.run_status = named("SELECT status FROM {t}_runs WHERE run_id = ? AND session_id = ?")
        self.read_run = named(f"SELECT {RUN_COLUMNS}, input, response, messages FROM {{t}}_runs WHERE run_id = ?")
        self.list_runs = named(
            f"SELECT {RUN_COLUMNS}, input, response FROM {{t}}_runs WHERE session_id = ? AND number > 0 AND number < ? "
            "ORDER BY number DESC LIMIT ?"
        )
        self.history = named(
            "SELECT messages FROM {t}_runs WHERE session_id = ? AND number > 0 "
            f"AND status IN ({ENDED}) ORDER BY number DESC LIMIT ?"
        )

        self.insert_step = named("INSERT INTO {t}_steps (run_id, number, kind, data) VALUES (?, ?, ?, ?)")
        self.read_steps = named("SELECT number, kind, data FROM {t}_steps WHERE run_id = ? ORDER BY number")
        self.delete_steps = named("DELETE FROM {t}_steps WHERE run_id = ?")
        self.insert_event = named("INSERT INTO {t}_events (run_id, seq, created_at, data) VALUES (?, ?, ?, ?)")
        self.read_events = named("SELECT seq, data FROM {t}_events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?")

    def update_run(self, columns: Iterable[str]) -> str:
        return self._named(f"UPDATE {{t}}_runs SET {', '.join(f'{name} = ?' for name in columns)} WHERE run_id = ?")

    def list_sessions(self, *, by_user: bool, by_agent: bool) -> str:
        conditions = [f"{name} = ?" for name, used in (("user_id", by_user), ("agent_id", by_agent)) if used]
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        return self._named(f"SELECT {SESSION_COLUMNS} FROM {{t}} {where}ORDER BY updated_at DESC LIMIT ? OFFSET ?")


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
    run_id, session_id, number, status, user_id, agent_id, parent_run_id, last_seq, created_at, updated_at = row
    return StoredRun(
        run_id=run_id,
        session_id=session_id,
        user_id=user_id,
        agent_id=agent_id,
        parent_run_id=parent_run_id,
        status=RunStatus(status),
        number=number,
        last_seq=last_seq,
        created_at=from_micros(created_at),
        updated_at=from_micros(updated_at),
    )
