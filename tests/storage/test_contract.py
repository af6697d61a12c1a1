"""Our own storages keep the contract that we publish."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing.contracts import OpenStorage, StorageCheck, storage_checks


@pytest.fixture(params=["memory", "sqlite", "sqlite-memory"])
def open_storage(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStorage:
    if request.param == "sqlite":
        return lambda: SqliteStorage(db_file=tmp_path / "data.db")
    storage: Storage = InMemoryStorage() if request.param == "memory" else SqliteStorage(db_file=":memory:")
    return lambda: storage


@pytest.mark.parametrize("check", storage_checks, ids=lambda check: check.__name__)
async def test_storage_keeps_the_contract(check: StorageCheck, open_storage: OpenStorage):
    await check(open_storage)
