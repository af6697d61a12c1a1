"""Memories in an SQL database: tables, statements, and the port over them.

Each method is a list of statements that are one transaction; what is to be decided is decided in SQL, so that a driver
need do no more than carry a list out. Times are microseconds since 1970. No user is the empty text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from agentrt.memory.base import MemoryDb, PendingUpdate, SessionSummary, UserMemory, new_memory_id, subject_of
from agentrt.storage._sql import Tables, from_micros, to_micros
from agentrt.storage.codec import clean_text

Statement: TypeAlias = "tuple[str, tuple[Any, ...]]"
Rows: TypeAlias = "Sequence[Sequence[Any]]"

# A version is its place in this list, from 1. Never change one that was released: add the next.
_VERSIONS: Final = (
    (
        "CREATE TABLE {t} (user_id TEXT NOT NULL, memory_id TEXT NOT NULL, text_key TEXT NOT NULL, "
        "updated_at BIGINT NOT NULL, topics TEXT NOT NULL, memory TEXT NOT NULL, PRIMARY KEY (user_id, memory_id))",
        "CREATE UNIQUE INDEX {t}_by_text ON {t} (user_id, text_key)",
        "CREATE TABLE {t}_summaries (session_id TEXT NOT NULL, user_id TEXT NOT NULL, updated_at BIGINT NOT NULL, "
        "summary TEXT NOT NULL, PRIMARY KEY (session_id, user_id))",
        "CREATE TABLE {t}_updates (update_id TEXT PRIMARY KEY, subject TEXT NOT NULL, kind TEXT NOT NULL, "
        "user_id TEXT NOT NULL, session_id TEXT NOT NULL, run_id TEXT NOT NULL, created_at BIGINT NOT NULL, "
        "owner TEXT, attempts BIGINT NOT NULL, lease_until BIGINT NOT NULL, material TEXT NOT NULL)",
        "CREATE INDEX {t}_updates_of ON {t}_updates (subject, created_at)",
    ),
)
_UPDATE: Final = (
    "SELECT update_id, kind, user_id, session_id, run_id, material, created_at, owner, attempts, "
    "CASE WHEN lease_until > {now} THEN 1 ELSE 0 END FROM {t}_updates WHERE subject = ?"
)


class MemorySql(Tables):
    """The statements for memories, in `table`, and their summaries and updates, in `table_summaries` and so on."""

    suffixes = ("", "_summaries", "_updates")
    versions = _VERSIONS
    mark = "agentrt_memory_schema"

    def __init__(self, table: str, *, now: str) -> None:
        super().__init__(table, now=now)
        named = self._named
        mine = "WHERE user_id = ? AND memory_id = ?"
        self.list_memories = named(
            "SELECT memory, topics, memory_id, updated_at FROM {t} WHERE user_id = ? "
            "ORDER BY updated_at DESC, memory_id"
        )
        self.has_memory = named(f"SELECT memory_id FROM {{t}} {mine}")
        self.add_memory = named(
            "INSERT INTO {t} (user_id, memory_id, text_key, updated_at, topics, memory) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (user_id, text_key) DO UPDATE SET updated_at = excluded.updated_at, "
            "topics = CASE WHEN excluded.topics = '[]' THEN {t}.topics ELSE excluded.topics END"
        )
        self.merge_into = named(
            f"DELETE FROM {{t}} {mine} AND EXISTS (SELECT 1 FROM {{t}} AS other WHERE other.user_id = ? "
            "AND other.text_key = ? AND other.memory_id <> ?)"
        )
        self.replace_memory = named(f"UPDATE {{t}} SET memory = ?, text_key = ?, updated_at = ?, topics = ? {mine}")
        self.find_text = named("SELECT memory_id FROM {t} WHERE user_id = ? AND text_key = ?")
        self.count = named("SELECT count(*) FROM {t} WHERE user_id = ?")
        self.delete_memory = named(f"DELETE FROM {{t}} {mine}")
        self.delete_all = named("DELETE FROM {t} WHERE user_id = ?")

        self.load_summary = named("SELECT summary, updated_at FROM {t}_summaries WHERE session_id = ? AND user_id = ?")
        self.save_summary = named(
            "INSERT INTO {t}_summaries (session_id, user_id, updated_at, summary) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (session_id, user_id) DO UPDATE SET updated_at = excluded.updated_at, "
            "summary = excluded.summary"
        )

        self.delete_summary = named("DELETE FROM {t}_summaries WHERE session_id = ? AND user_id = ?")
        self.delete_updates = named("DELETE FROM {t}_updates WHERE subject = ?")

        self.queue = named(
            "INSERT INTO {t}_updates (update_id, subject, kind, user_id, session_id, run_id, created_at, attempts, "
            "lease_until, material) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?) ON CONFLICT (update_id) DO NOTHING"
        )
        self.list_updates = named(f"{_UPDATE} ORDER BY created_at, update_id")
        self.claim = named(
            "UPDATE {t}_updates SET owner = ?, attempts = attempts + 1, lease_until = {now} + ? WHERE update_id = "
            "(SELECT update_id FROM {t}_updates WHERE subject = ? ORDER BY created_at, update_id LIMIT 1) "
            "AND (owner IS NULL OR owner = ? OR lease_until <= {now})"
        )
        self.read_claimed = named(f"{_UPDATE} AND owner = ?")
        self.delete_update = named("DELETE FROM {t}_updates WHERE update_id = ?")
        self.finish_update = named("DELETE FROM {t}_updates WHERE update_id = ? AND owner = ?")
        self.free_update = named(
            "UPDATE {t}_updates SET owner = NULL, lease_until = 0 WHERE update_id = ? AND owner = ?"
        )
        self.clear = tuple(named(f"DELETE FROM {{t}}{suffix}") for suffix in self.suffixes)
        self.forget = tuple(named(f"DELETE FROM {{t}}{suffix} WHERE user_id = ?") for suffix in self.suffixes)


class SqlMemoryDb(MemoryDb):
    """The port, over a driver's `_run`."""

    _sql: MemorySql

    async def _run(self, statements: Sequence[Statement], *, subject: str | None = None) -> list[Rows]:
        """Carry the statements out as one transaction, and return the rows of each.

        Those that write have a `subject`: of one subject, one transaction is carried out at a time.
        """
        raise NotImplementedError

    async def list_memories(self, user_id: str) -> list[UserMemory]:
        [rows] = await self._run([(self._sql.list_memories, (user_id,))])
        return [
            UserMemory(memory, topics=json.loads(topics), memory_id=memory_id, last_updated=from_micros(updated))
            for memory, topics, memory_id, updated in rows
        ]

    async def add_memory(self, user_id: str, memory: UserMemory) -> str:
        sql, memory_id = self._sql, memory.memory_id or new_memory_id()
        text, topics, updated = _values(memory)
        *_, found = await self._run(
            [
                (sql.delete_memory, (user_id, memory_id)),
                (sql.add_memory, (user_id, memory_id, memory.key, updated, topics, text)),
                (sql.find_text, (user_id, memory.key)),
            ],
            subject=user_id,
        )
        return found[0][0]

    async def replace_memory(self, user_id: str, memory_id: str, memory: UserMemory) -> str | None:
        sql, key = self._sql, memory.key
        text, topics, updated = _values(memory)
        had, *_, found = await self._run(
            [
                (sql.has_memory, (user_id, memory_id)),
                (sql.merge_into, (user_id, memory_id, user_id, key, memory_id)),
                (sql.replace_memory, (text, key, updated, topics, user_id, memory_id)),
                (sql.find_text, (user_id, key)),
            ],
            subject=user_id,
        )
        return found[0][0] if had else None

    async def delete_memories(self, user_id: str, memory_ids: Sequence[str] | None = None) -> int:
        sql = self._sql
        deletes = [(sql.delete_all, (user_id,))]
        if memory_ids is not None:
            deletes = [(sql.delete_memory, (user_id, memory_id)) for memory_id in memory_ids]
        count = (sql.count, (user_id,))
        before, *_, after = await self._run([count, *deletes, count], subject=user_id)
        return before[0][0] - after[0][0]

    async def load_summary(self, session_id: str, user_id: str | None) -> SessionSummary | None:
        [rows] = await self._run([(self._sql.load_summary, (session_id, user_id or ""))])
        for summary, updated in rows:
            return SessionSummary(summary, session_id=session_id, user_id=user_id, last_updated=from_micros(updated))
        return None

    async def save_summary(self, summary: SessionSummary, *, update_id: str | None = None) -> None:
        sql, subject = self._sql, summary.user_id or ""
        updated = to_micros(summary.last_updated)
        await self._run(
            [
                (sql.save_summary, (summary.session_id, subject, updated, clean_text(summary.summary))),
                (sql.delete_update, (update_id or "",)),
            ],
            subject=subject,
        )

    async def delete_summary(self, session_id: str, user_id: str | None) -> None:
        subject = subject_of("summary", user_id, session_id)
        await self._run(
            [(self._sql.delete_summary, (session_id, user_id or "")), (self._sql.delete_updates, (subject,))],
            subject=subject,
        )

    async def forget(self, user_id: str) -> None:
        await self._run([(statement, (user_id,)) for statement in self._sql.forget], subject=user_id)

    async def queue(self, update: PendingUpdate) -> None:
        who = (update.update_id, update.subject, update.kind, update.user_id or "", update.session_id, update.run_id)
        values = (*who, to_micros(update.created_at), clean_text(update.material))
        await self._run([(self._sql.queue, values)], subject=update.subject)

    async def list_updates(self, subject: str) -> list[PendingUpdate]:
        [rows] = await self._run([(self._sql.list_updates, (subject,))])
        return [_update_of(row) for row in rows]

    async def claim_update(
        self, subject: str, *, owner: str, lease_s: float, gone: str | None = None
    ) -> PendingUpdate | None:
        sql, lease = self._sql, round(lease_s * 1_000_000)
        _, rows = await self._run(
            [(sql.claim, (owner, lease, subject, gone or "")), (sql.read_claimed, (subject, owner))], subject=subject
        )
        return _update_of(rows[0]) if rows else None

    async def settle_update(self, update_id: str, *, owner: str, done: bool) -> None:
        statement = self._sql.finish_update if done else self._sql.free_update
        await self._run([(statement, (update_id, owner))], subject=update_id)

    async def clear(self) -> None:
        await self._run([(statement, ()) for statement in self._sql.clear], subject="")


def _values(memory: UserMemory) -> tuple[str, str, int]:
    return clean_text(memory.memory), json.dumps(memory.topics), to_micros(memory.last_updated)


def _update_of(row: Sequence[Any]) -> PendingUpdate:
    update_id, kind, user_id, session_id, run_id, material, created, owner, attempts, is_claimed = row
    return PendingUpdate(
        update_id=update_id,
        kind=kind,
        user_id=user_id or None,
        session_id=session_id,
        run_id=run_id,
        material=material,
        created_at=from_micros(created),
        owner=owner,
        attempts=attempts,
        is_claimed=bool(is_claimed),
    )
