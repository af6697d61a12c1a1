from __future__ import annotations

from pathlib import Path

import pytest

from agentrt.memory.base import MemoryDb
from agentrt.memory.db.in_memory import InMemoryMemoryDb
from agentrt.memory.db.postgres import PostgresMemoryDb
from agentrt.memory.db.sqlite import SqliteMemoryDb
from tests.postgres_server import postgres_server

pytest.register_assert_rewrite("agentrt.testing.memory_contracts")

from agentrt.testing.memory_contracts import OpenMemoryDb  # noqa: E402  its asserts are rewritten


@pytest.fixture(params=["memory", "sqlite", "sqlite-memory", "postgres", "postgres-schema"])
def open_db(request: pytest.FixtureRequest, tmp_path: Path) -> OpenMemoryDb:
    if request.param == "sqlite":
        return lambda: SqliteMemoryDb(table_name="user_memories", db_file=tmp_path / "data.db")
    if request.param.startswith("postgres"):
        url = postgres_server().new_database()
        schema = "ai" if request.param.endswith("schema") else None
        return lambda: PostgresMemoryDb(table_name="user_memories", db_url=url, schema=schema)
    db: MemoryDb = InMemoryMemoryDb() if request.param == "memory" else SqliteMemoryDb(db_file=":memory:")
    return lambda: db
