"""The database that a command works on: an SQLite file or a Postgres URL, and the tables of agentrt's in it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Protocol

from agentrt.agent import Agent
from agentrt.errors import ConfigurationError, StorageError
from agentrt.storage._sql import Sql, check_table_name
from agentrt.storage.base import Storage

VARIABLE: Final = "AGENTRT_DB"
TABLE: Final = "agent_sessions"
"""The storages' own default."""

_META: Final = "_meta"


class Database(Protocol):
    where: str
    """What it is called to people; holds no password."""

    async def tables(self) -> dict[str, int]:
        """The versions of the sets of tables that agentrt has made there, by name. Makes nothing."""
        ...

    async def migrate(self, table: str) -> None:
        """Bring a set of tables to the newest version, or make it."""
        ...

    def storage(self, table: str, *, auto_migrate: bool) -> Storage: ...


async def open_storage(db: str | None, table: str | None, agent: Agent[Any] | None) -> Storage:
    """Open what is stored already: the database that was named, else the agent's own, else `AGENTRT_DB`'s."""
    own = agent.storage if agent is not None else None
    if db is None and own is not None:
        if not own.durable:
            raise ConfigurationError("The agent keeps its runs in memory, where no other process can find them")
        return own
    database = database_of(db)
    tables = await database.tables()
    if table is None and not tables:
        raise ConfigurationError(f"{database.where}: there is nothing of agentrt's there")
    table = choose(table, tables, database.where)
    if table not in tables:
        raise ConfigurationError(f"{database.where} has no tables {table!r}; it has {', '.join(tables) or 'none'}")
    if tables[table] < newest_version():
        raise ConfigurationError(
            f"The tables {table!r} in {database.where} are of version {tables[table]}, and this agentrt's are of "
            f"version {newest_version()}. Bring them there with: agentrt db upgrade"
        )
    return database.storage(table, auto_migrate=False)


async def make_storage(db: str, table: str | None) -> Storage:
    """Open a storage whose tables are made where there are none."""
    database = database_of(db)
    table = choose(table, await database.tables(), database.where)
    return database.storage(table, auto_migrate=True)


def database_of(db: str | None) -> Database:
    """The database that was named, else `AGENTRT_DB`'s. Raises `ConfigurationError` without either."""
    db = db or os.environ.get(VARIABLE)
    if not db:
        raise ConfigurationError(
            "Which database? Any of these says it:\n"
            "  agentrt … --db data.db                          an SQLite file\n"
            "  agentrt … --db postgresql://user@host/database\n"
            f"  export {VARIABLE}=data.db                       to make it the default"
        )
    scheme, is_url, _ = db.partition("://")
    if not is_url:
        return SqliteFile(db_file=db)
    match scheme.partition("+")[0]:
        case "sqlite":
            return SqliteFile(db_url=db)
        case "postgres" | "postgresql":
            return PostgresDatabase(db)
        case _:
            raise ConfigurationError(f"A database is a file, sqlite:///… or postgresql://…; not {scheme}://…")


def choose(table: str | None, tables: dict[str, int], where: str) -> str:
    """The set of tables that was named, else the only one there is, else the storages' default."""
    if table is not None:
        return table
    if len(tables) > 1:
        raise ConfigurationError(f"{where} holds several sets of tables; choose with --table {' | '.join(tables)}")
    return next(iter(tables), TABLE)


def newest_version() -> int:
    """The version of this agentrt's tables."""
    return len(Sql(TABLE, now="").migrations)


class SqliteFile:
    def __init__(self, **place: str) -> None:
        from agentrt.storage._sqlite_open import file_of

        self._file = file_of(place.get("db_file"), place.get("db_url"))
        self.where = self._file or ":memory:"

    async def tables(self) -> dict[str, int]:
        return self._tables()

    def _tables(self) -> dict[str, int]:
        if self._file is None or not Path(self._file).exists():
            return {}
        try:
            with closing(sqlite3.connect(f"{Path(self._file).as_uri()}?mode=rw", uri=True)) as connection:
                names = connection.execute(r"SELECT name FROM sqlite_master WHERE name LIKE '%\_meta' ESCAPE '\'")
                found = {name.removesuffix(_META): _version(connection, name) for (name,) in names.fetchall()}
        except sqlite3.Error as error:
            raise StorageError(f"{self.where} can't be read: {error}") from error
        return {name: version for name, version in sorted(found.items()) if version is not None}

    async def migrate(self, table: str) -> None:
        storage = self.storage(table, auto_migrate=True)
        try:
            await storage.list_unfinished(limit=1)
        finally:
            await storage.aclose()

    def storage(self, table: str, *, auto_migrate: bool) -> Storage:
        from agentrt.storage.sqlite import SqliteStorage

        return SqliteStorage(table_name=table, db_file=self.where, auto_migrate=auto_migrate)


def _version(connection: sqlite3.Connection, meta: str) -> int | None:
    """The version that a table of agentrt's says; None for another program's table."""
    try:
        statement = Sql(check_table_name(meta.removesuffix(_META)), now="").read_version
        row = connection.execute(statement).fetchone()
    except (ConfigurationError, sqlite3.OperationalError):
        return None
    return int(row[0]) if row is not None else None


# tables of another program may be called so, too: ours have two texts
_FIND: Final = r"""
    SELECT nspname, relname, pg_table_is_visible(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relname LIKE '%\_meta' AND has_table_privilege(c.oid, 'SELECT') AND 2 = (
        SELECT count(*) FROM pg_attribute WHERE attrelid = c.oid AND attname IN ('name', 'value')
        AND atttypid = 'text'::regtype)
    ORDER BY nspname, relname
"""


class PostgresDatabase:
    def __init__(self, db_url: str) -> None:
        from agentrt.storage._postgres_url import place_of

        self._db_url = db_url
        self._place = place_of(db_url)
        self.where = f"Postgres at {self._place.where}"
        try:
            import agentrt.storage.postgres as postgres
        except ImportError as error:
            raise ConfigurationError(str(error)) from error
        self._storage = postgres.PostgresStorage

    async def tables(self) -> dict[str, int]:
        import asyncpg  # pyright: ignore[reportMissingTypeStubs]

        from agentrt.storage._postgres_errors import FAILURES, translated

        timeout_s = self._place.connect_timeout_s or 10.0
        connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        try:
            connection = await connect(self._place.dsn, timeout=timeout_s, statement_cache_size=0)
            try:
                return await self._found(connection)
            finally:
                await connection.close()
        except FAILURES as error:
            raise translated(error, self._place.where, timeout_s) from error

    async def _found(self, connection: Any) -> dict[str, int]:
        from agentrt.storage._postgres_sql import PostgresSql

        versions: dict[str, int] = {}
        for schema, meta, is_visible in await connection.fetch(_FIND):
            table: str = meta.removesuffix(_META)
            try:
                statement = PostgresSql(check_table_name(table), check_table_name(schema)).read_version
            except ConfigurationError:
                continue
            version = await connection.fetchval(statement)
            if version is not None:
                versions[table if is_visible else f"{schema}.{table}"] = int(version)
        return versions

    async def migrate(self, table: str) -> None:
        storage = self.storage(table, auto_migrate=True)
        try:
            await storage.migrate()
        finally:
            await storage.aclose()

    def storage(self, table: str, *, auto_migrate: bool) -> Any:
        schema, _, name = table.rpartition(".")
        return self._storage(table_name=name, schema=schema or None, db_url=self._db_url, auto_migrate=auto_migrate)
