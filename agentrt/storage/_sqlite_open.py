"""Opening an SQLite file: where it is, and bringing its tables to this version."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from agentrt.errors import ConfigurationError, StorageError
from agentrt.storage._sql import Tables
from agentrt.storage._sqlite_thread import LOCK_WAIT_S

Connection = sqlite3.Connection

NOW: Final = "agentrt_now()"
"""The time in microseconds since 1970, by a function of the connection: SQLite's own clock knows milliseconds only."""


def opener(
    file: str | None, sql: Tables, synchronous: str, busy_timeout_s: float, auto_migrate: bool
) -> Callable[[], Connection]:
    def open() -> Connection:
        if file is not None:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            file or ":memory:",
            timeout=min(LOCK_WAIT_S, busy_timeout_s),
            isolation_level=None,
            check_same_thread=False,  # it is closed by whoever forks
        )
        try:
            connection.create_function(NOW.removesuffix("()"), 0, lambda: time.time_ns() // 1000)
            _migrate(connection, sql, file or ":memory:", auto_migrate)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection

    return open


def _migrate(connection: Connection, sql: Tables, file: str, auto_migrate: bool) -> None:
    """Bring the tables to this version, one process at a time. Touches nothing that is not agentrt's."""
    newest = len(sql.migrations)
    if _version(connection, sql, file) == newest:
        return
    if not auto_migrate:
        raise StorageError(
            f"{file} has no tables {sql.table!r} of version {newest}, and auto_migrate is off. Open it once with "
            "auto_migrate=True"
        )
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection, sql, file)  # somebody else may have been faster
    if version == 0:
        connection.execute(sql.create_meta)
    for statements in sql.migrations[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(sql.write_version, (str(newest),))
    connection.execute("COMMIT")


def _version(connection: Connection, sql: Tables, file: str) -> int:
    """The version of the tables, 0 when there are none. Raises `StorageError` for tables that are not for us."""
    names = (*sql.tables, f"{sql.table}_meta")
    marks = ", ".join("?" * len(names))
    found = connection.execute(
        f"SELECT name FROM sqlite_master WHERE lower(name) IN ({marks})", [name.lower() for name in names]
    ).fetchall()
    if not found:
        return 0
    try:
        row = connection.execute(sql.read_version).fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        row = None  # no such table, or no such column
    if row is None:
        raise StorageError(
            f"{file} has a table {found[0][0]!r} that agentrt did not make (Agno's, perhaps). It was left as it is; "
            "choose another table_name or another db_file"
        )
    version = int(row[0])
    if version > len(sql.migrations):
        raise StorageError(
            f"The tables {sql.table!r} in {file} are of version {version}; this agentrt knows up to version "
            f"{len(sql.migrations)}. Upgrade agentrt, or choose another table_name or db_file"
        )
    return version


def file_of(db_file: str | Path | None, db_url: str | None, taker: str = "SqliteStorage") -> str | None:
    """The path of the file, None for a database in memory."""
    if (db_file is None) == (db_url is None):
        raise ConfigurationError(f'{taker} takes db_file="tmp/data.db" (or ":memory:"), or else db_url')
    if db_url is not None:
        url = urlsplit(db_url)
        if url.scheme.partition("+")[0] != "sqlite" or url.netloc or url.query:
            raise ConfigurationError(f"db_url {db_url!r} is not of the form sqlite:///path/to/file.db")
        db_file = unquote(url.path[1:]) or ":memory:"
    if str(db_file) == ":memory:":
        return None
    return str(Path(str(db_file)).expanduser().absolute())  # where it is now, whatever the working directory later
