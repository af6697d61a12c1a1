"""`PostgresMemoryDb`: memories in a Postgres database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agentrt.memory.db._sql import MemorySql, Rows, SqlMemoryDb, Statement
from agentrt.storage._postgres_client import PostgresClient
from agentrt.storage._postgres_pool import Connection, Transaction
from agentrt.storage._postgres_sql import PostgresTables
from agentrt.storage._sql import check_table_name

_LOCK: Final = "SELECT txid_current() FROM (SELECT pg_advisory_xact_lock(hashtextextended($1, 0))) AS lock"


class PostgresMemorySql(PostgresTables, MemorySql):
    """The shared statements, with `$n` for each parameter."""


class PostgresMemoryDb(SqlMemoryDb):
    """Keeps memories in a Postgres database, shared by any number of databases and processes.

    `db_url`, `pool`, `schema` and the other options mean what they mean for `PostgresStorage`; tables are named after
    `table_name`.
    """

    def __init__(
        self,
        table_name: str = "memory",
        db_url: str | None = None,
        schema: str | None = None,
        *,
        pool: Any = None,
        auto_migrate: bool = True,
        **options: Any,
    ) -> None:
        self._sql = PostgresMemorySql(check_table_name(table_name), schema)
        self._client = PostgresClient(
            self._sql, "PostgresMemoryDb", db_url=db_url, pool=pool, auto_migrate=auto_migrate, **options
        )

    def __repr__(self) -> str:
        return f"PostgresMemoryDb(table_name={self._sql.table!r}) at {self._client.where}"

    async def _run(self, statements: Sequence[Statement], *, subject: str | None = None) -> list[Rows]:
        pool = await self._client.pool()
        if subject is None:

            async def read(connection: Connection) -> list[Rows]:
                return [await connection.fetch(statement, *values) for statement, values in statements]

            return await pool.read(read)

        async def write(transaction: Transaction) -> list[Rows]:
            # one at a time: two that add the same, or merge crosswise, would be in each other's way
            [(transaction.number,)] = await transaction.fetch(_LOCK, f"{self._sql.table}/{subject}")
            return [await transaction.fetch(statement, *values) for statement, values in statements]

        return await pool.transact(write)

    async def aclose(self) -> None:
        """Wait for the calls under way and close the connections. A later call opens again."""
        await self._client.aclose()
