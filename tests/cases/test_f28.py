"""F28: values that storage cannot hold, in memory and in SQLite."""

from __future__ import annotations

import enum
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from agentrt import Agent, RunStatus, errors
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.kit import add_chat, add_claude, call, claude, go, openai, text_block, ways
from tests.cases.pairing import check_chat, tool_messages
from tests.http_server import Server


class Size(enum.Enum):
    BIG = "big"


class Cart(BaseModel):
    sku: str
    price: Decimal


HOLDABLE: dict[str, Any] = {
    "decimal": Decimal("12.34"),
    "when": datetime(2025, 3, 4, tzinfo=UTC),
    "id": UUID("7b0d2f6e-0c1a-4f57-9d3e-2a4b6c8d0e1f"),
    "set": {1, 2},
    "bytes": b"\xff",
    "enum": Size.BIG,
    "model": Cart(sku="a", price=Decimal("1.10")),
    "int keys": {7: "seven"},
    "deep": {"er": [{"tuple": (1, Decimal("0.1"))}]},
}


class Stores:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory = InMemoryStorage()
        self._opened: list[SqliteStorage] = []

    def open(self, kind: str) -> Any:
        """The storage, as another process would open it where it is a file."""
        if kind == "memory":
            return self._memory
        self._opened.append(SqliteStorage(db_file=self._path / "a.db"))
        return self._opened[-1]

    async def close(self) -> None:
        for one in self._opened:
            await one.aclose()


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    made = Stores(tmp_path)
    yield made
    await made.close()


kinds = pytest.mark.parametrize("kind", ["memory", "sqlite"])


def keeper(values: dict[str, Any]) -> Any:
    def keep(session_state: dict[str, Any]) -> str:
        session_state.update(values)
        return "kept"

    return keep


@kinds
@ways
async def test_what_can_be_held_comes_back_the_same(server: Server, stores: Stores, kind: str, way: str) -> None:
    add_chat(server, way, calls=[call("c1", "keep")])
    add_chat(server, way, "done")
    agent = Agent(model=openai(server), tools=[keeper(HOLDABLE)], storage=stores.open(kind), session_id="s")
    outcome = await go(agent, way)

    assert outcome.error is None
    session = await stores.open(kind).load_session("s")
    assert session.state == HOLDABLE
    assert {name: type(value) for name, value in session.state.items()} == {
        name: type(value) for name, value in HOLDABLE.items()
    }

    seen: list[Any] = []

    def look(session_state: dict[str, Any]) -> str:
        seen.append(dict(session_state))
        return "seen"

    add_chat(server, way, calls=[call("c1", "look")])
    add_chat(server, way, "done")
    await go(Agent(model=openai(server), tools=[look], storage=stores.open(kind), session_id="s"), way)
    assert seen == [HOLDABLE]


@ways
async def test_what_cannot_be_held_is_named_and_the_run_is_recorded(server: Server, stores: Stores, way: str) -> None:
    add_chat(server, way, calls=[call("c1", "keep")])
    add_chat(server, way, "done")
    values = {"fine": 1, "cart": ["a", {"odd": object()}]}
    agent = Agent(model=openai(server), tools=[keeper(values)], storage=stores.open("sqlite"), session_id="s",
                  add_history_to_messages=True)  # fmt: skip
    outcome = await go(agent, way)

    assert isinstance(outcome.error, errors.StorageError)
    assert "cart" in str(outcome.error) and "odd" in str(outcome.error)
    assert outcome.response.status is RunStatus.FAILED and "RunCompleted" not in outcome.names
    stored = await stores.open("sqlite").load_run(outcome.response.run_id or "")
    assert stored.status is RunStatus.FAILED
    assert [m.role for m in stored.messages][:3] == ["user", "assistant", "tool"]
    assert "cart" in str(stored.response)

    again = await go(agent, way, "again")
    assert again.response.content == "done"
    check_chat(server.bodies[1])


async def test_memory_holds_any_object_by_reference(server: Server, stores: Stores) -> None:
    thing = object()
    add_chat(server, "plain", calls=[call("c1", "keep")])
    add_chat(server, "plain", "done")
    agent = Agent(model=openai(server), tools=[keeper({"thing": thing})], storage=stores.open("memory"), session_id="s")
    outcome = await go(agent, "plain")

    assert outcome.error is None
    assert (await stores.open("memory").load_session("s")).state["thing"] is thing


async def test_a_tool_result_that_cannot_be_held_is_still_told_as_text(server: Server, stores: Stores) -> None:
    def odd() -> Any:
        return {"a": object(), "when": datetime(2025, 3, 4)}

    add_chat(server, "plain", calls=[call("c1", "odd")])
    add_chat(server, "plain", "done")
    agent = Agent(model=openai(server), tools=[odd], storage=stores.open("sqlite"), session_id="s")
    outcome = await go(agent, "plain")

    assert outcome.error is None and "2025-03-04" in tool_messages(server.bodies[1])["c1"]


TEXTS = ["a\x00b", "\ud83d", "x\ud83dy", "😀", "\\u0000", "\\ud83d", "\ud83d\ude00"]
SAME = {"😀": "😀", "\\u0000": "\\u0000", "\\ud83d": "\\ud83d", "\ud83d\ude00": "😀"}


@kinds
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_texts_that_databases_refuse_are_mended_and_no_others(
    server: Server, stores: Stores, kind: str, provider: str, text: str
) -> None:
    def odd(session_state: dict[str, Any]) -> str:
        session_state["text"] = text
        session_state[f"key {text}"] = [text]
        return text

    if provider == "openai":
        add_chat(server, "plain", calls=[call("c1", "odd")])
        add_chat(server, "plain", f"it says {text}")
        model: Any = openai(server)
    else:
        add_claude(server, "plain", {"type": "tool_use", "id": "c1", "name": "odd", "input": {}})
        add_claude(server, "plain", text_block(f"it says {text}"))
        model = claude(server)
    agent = Agent(model=model, tools=[odd], storage=stores.open(kind), session_id="s", add_history_to_messages=True)
    outcome = await go(agent, "plain", f"ask {text}")

    assert outcome.error is None
    for request in server.requests:
        decoded = request.body.decode()  # valid UTF-8
        assert json.loads(decoded) and not lone(json.loads(decoded)), decoded
    session = await stores.open(kind).load_session("s")
    stored = await stores.open(kind).load_run(outcome.response.run_id or "")
    assert stored.status is RunStatus.COMPLETED
    if text in SAME:
        assert session.state["text"] == SAME[text] or kind == "memory"
        assert [m.content for m in stored.messages if m.role == "tool"] == [SAME[text]]
    elif kind == "sqlite":
        assert not lone(session.state) and not lone([m.content for m in stored.messages])

    if provider == "openai":
        add_chat(server, "plain", "fine")
    else:
        add_claude(server, "plain", text_block("fine"))
    again = await go(agent, "plain", "again")
    assert again.response.content == "fine"
    assert not lone(json.loads(server.requests[-1].body.decode()))


def lone(value: Any) -> bool:
    """Is there half of a surrogate pair, or NUL where a text was mended, in the value?"""
    if isinstance(value, str):
        return any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return any(lone(key) or lone(item) for key, item in value.items())
    return isinstance(value, list) and any(lone(item) for item in value)
