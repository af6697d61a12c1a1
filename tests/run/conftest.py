"""Storages as separate processes open them: on the same data, in memory, in a file and in Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.postgres import PostgresStorage
from agentrt.storage.sqlite import SqliteStorage
from tests.postgres_server import postgres_server

OpenStorage: TypeAlias = Callable[[], Storage]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def same_place(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStorage:
    """Opens a storage, each time on the same place, empty at first."""
    if request.param == "memory":
        shared = InMemoryStorage()
        return lambda: shared
    if request.param == "sqlite":
        return lambda: SqliteStorage(db_file=tmp_path / "data.db")
    url = postgres_server().new_database()
    return lambda: PostgresStorage(db_url=url)


@pytest.fixture
async def open_storage(same_place: OpenStorage) -> AsyncIterator[OpenStorage]:
    """As `same_place`; what was opened is closed when the test is over."""
    opened: list[Storage] = []

    def open() -> Storage:
        opened.append(same_place())
        return opened[-1]

    yield open
    for storage in opened:
        await storage.aclose()
