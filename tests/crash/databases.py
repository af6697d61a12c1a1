"""The databases on which runs are cut short: how to open one, and what to look at from outside."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import asyncpg

from agentrt.storage.base import Storage
from tests.postgres_server import postgres_server

KINDS = ("sqlite", "postgres")


def new_url(kind: str, folder: Path) -> str:
    """Where an empty database is: a file, or one on the server for tests."""
    return str(folder / "data.db") if kind == "sqlite" else postgres_server().new_database()


def open_storage(url: str) -> Storage:
    """A storage of its own, as another process would have it."""
    if url.startswith("postgres"):
        from agentrt.storage.postgres import PostgresStorage

        return PostgresStorage(table_name="crash", db_url=url)
    from agentrt.storage.sqlite import SqliteStorage

    return SqliteStorage(table_name="crash", db_file=url)


async def open_transactions(url: str) -> int:
    """How many transactions are open by now that no call is under way."""
    if url.startswith("postgres"):
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
            )
        finally:
            await connection.close()
    connection = sqlite3.connect(url, timeout=0, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")  # refused while anybody holds a lock
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return 1
    finally:
        connection.close()
    return 0
