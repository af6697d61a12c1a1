"""The versions of tables in Postgres."""

from __future__ import annotations

from typing import Any, Final

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from agentrt.errors import StorageError
from agentrt.storage._postgres_sql import PostgresTables

_LOCK: Final = 0x6167656E747274  # one migration at a time in a database, whatever the table and schema


async def prepare(connection: Any, sql: PostgresTables, where: str, *, migrate: bool) -> None:
    """See that the tables are of this version, or bring them there. Touches nothing that is not agentrt's.

    May be repeated, and done by any number of processes at once. Raises `StorageError` for tables that are not for us.
    """
    newest = len(sql.migrations)
    if await _version(connection, sql, where) == newest:
        return
    if not migrate:
        raise StorageError(
            f"Postgres at {where} has no tables {sql.table!r} of version {newest}, and auto_migrate is off. Bring it "
            "up to date with its `await ….migrate()`"
        )
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        version = await _version(connection, sql, where)  # somebody else may have been faster
        if version == 0:
            # asked for first, as even IF NOT EXISTS takes the right to create schemas
            if sql.schema is not None and not await connection.fetchval(sql.find_schema, sql.schema):
                await connection.execute(sql.create_schema)
            await connection.execute(sql.create_meta)
        for statements in sql.migrations[version:]:
            for statement in statements:
                await connection.execute(statement)
        await connection.execute(sql.write_version, str(newest))


async def _version(connection: Any, sql: PostgresTables, where: str) -> int:
    """The version of the tables, 0 when there are none."""
    found = [name for (name,) in await connection.fetch(sql.find_tables, sql.all_tables, sql.schema)]
    if not found:
        return 0
    try:
        version = await connection.fetchval(sql.read_version)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        version = None
    if version is None:
        raise StorageError(
            f"Postgres at {where} has a table {found[0]} that agentrt did not make (Agno's, perhaps). It was left as "
            "it is; choose another table_name or schema"
        )
    if int(version) > len(sql.migrations):
        raise StorageError(
            f"The tables {sql.table!r} in Postgres at {where} are of version {version}; this agentrt knows up to "
            f"version {len(sql.migrations)}. Upgrade agentrt, or choose another table_name or schema"
        )
    return int(version)
