"""`SqliteMemoryDb`: memories in an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from agentrt.memory.db._sql import MemorySql, Rows, SqlMemoryDb, Statement
from agentrt.storage._sql import check_table_name
from agentrt.storage._sqlite_open import NOW, file_of, opener
from agentrt.storage._sqlite_thread import SqliteJobs


class SqliteMemoryDb(SqlMemoryDb):
    """Keeps memories in an SQLite file, shared by any number of databases, processes, event loops and threads.

    The file may be that of a `SqliteStorage`. `db_file`, `db_url`, `synchronous`, `busy_timeout_s` and `auto_migrate`
    mean what they mean there; tables are named after `table_name`.
    """

    def __init__(
        self,
        table_name: str = "memory",
        db_url: str | None = None,
        db_file: str | Path | None = None,
        *,
        synchronous: Literal["normal", "full"] = "normal",
        busy_timeout_s: float = 30.0,
        auto_migrate: bool = True,
    ) -> None:
        self._file = file_of(db_file, db_url, "SqliteMemoryDb")
        self._sql = MemorySql(check_table_name(table_name), now=NOW)
        open = opener(self._file, self._sql, synchronous, busy_timeout_s, auto_migrate)
        self._jobs = SqliteJobs(open, self._file, busy_timeout_s)

    def __repr__(self) -> str:
        return f"SqliteMemoryDb(table_name={self._sql.table!r}, db_file={self._file or ':memory:'!r})"

    async def _run(self, statements: Sequence[Statement], *, subject: str | None = None) -> list[Rows]:
        def work(connection: sqlite3.Connection) -> list[Rows]:
            return [connection.execute(statement, values).fetchall() for statement, values in statements]

        return await self._jobs.submit(work, writes=subject is not None)

    async def aclose(self) -> None:
        await self._jobs.aclose()
