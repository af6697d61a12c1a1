"""What everything that keeps something in Postgres has in common: its options, its pools, its tables' versions."""

from __future__ import annotations

from typing import Any

try:
    import asyncpg  # pyright: ignore[reportMissingTypeStubs, reportUnusedImport]  # noqa: F401  what follows needs it
except ImportError as error:
    raise ImportError("Postgres needs asyncpg: pip install 'agentrt[postgres]'") from error

from agentrt.errors import ConfigurationError
from agentrt.storage._postgres_loops import Loops
from agentrt.storage._postgres_pool import Connection, LoopPool, Shared
from agentrt.storage._postgres_schema import prepare
from agentrt.storage._postgres_sql import PostgresTables
from agentrt.storage._postgres_url import Place, place_of
from agentrt.storage._sql import check_table_name


class PostgresClient:
    """The pools by which `taker` (a class's name, for errors) has its statements carried out, on any event loop."""

    def __init__(
        self,
        sql: PostgresTables,
        taker: str,
        *,
        db_url: str | None,
        pool: Any = None,
        auto_migrate: bool = True,
        min_pool_size: int = 0,
        max_pool_size: int = 10,
        statement_cache_size: int | None = None,
        pool_timeout_s: float = 30.0,
        connect_timeout_s: float | None = None,
        command_timeout_s: float = 60.0,
        reconnect_s: float = 15.0,
    ) -> None:
        if db_url is None and pool is None:
            raise ConfigurationError(
                f'{taker} takes db_url="postgresql://user:password@host:5432/database", or else pool'
            )
        if not 0 <= min_pool_size <= max_pool_size or max_pool_size < 1:
            raise ConfigurationError(f"max_pool_size={max_pool_size} is to be 1 or more, and not below min_pool_size")
        if sql.schema is not None:
            _check_schema(sql.schema)
        place = place_of(db_url) if db_url is not None else None
        self._sql = sql
        self._auto_migrate = auto_migrate
        self.where = place.where if place is not None else "the pool's server"
        self.shared = Shared(
            where=self.where,
            prepare=self._prepare,
            pool_timeout_s=pool_timeout_s,
            command_timeout_s=command_timeout_s,
            reconnect_s=reconnect_s,
        )
        self.loops = Loops(
            self.shared,
            place=place,
            users_pool=pool,
            pool_options={"min_size": min_pool_size, "max_size": max_pool_size},
            connect_options=_connect_options(place, statement_cache_size, connect_timeout_s, command_timeout_s),
        )

    async def pool(self) -> LoopPool:
        """The pool of the running loop."""
        return (await self.loops.here()).pool

    def migrates(self) -> None:
        """Have the tables brought to this version with the next call, whatever `auto_migrate` said."""
        self._auto_migrate, self.shared.is_prepared = True, False

    async def _prepare(self, connection: Connection) -> None:
        await prepare(connection, self._sql, self.where, migrate=self._auto_migrate)

    async def aclose(self) -> None:
        self.shared.is_prepared = False
        await self.loops.aclose()


def _check_schema(schema: str) -> None:
    try:
        check_table_name(schema)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace("table_name", "schema").replace("name a table", "be one")) from None


def _connect_options(
    place: Place | None, statement_cache_size: int | None, connect_timeout_s: float | None, command_timeout_s: float
) -> dict[str, Any]:
    """What is given here wins over what the URL says."""
    if statement_cache_size is None:
        statement_cache_size = place.statement_cache_size if place is not None else None
    if connect_timeout_s is None:
        connect_timeout_s = place.connect_timeout_s if place is not None else None
    return {
        "statement_cache_size": statement_cache_size or 0,
        "timeout": connect_timeout_s or 10.0,
        "command_timeout": command_timeout_s,
    }
