"""What the killed processes run: agents with tools of each effect, some changing the state, some asking.

What a tool did to the world is a row in a file of its own. The models remember nothing: what they say next depends on
the messages alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from pydantic import BaseModel

from agentrt import Agent, RunContext, tool
from agentrt.models.base import ModelRequest
from agentrt.storage.base import Storage
from agentrt.testing import FunctionModel, Reply, reply

FINAL = "all done"
EARLIER = "an earlier question"


class World:
    """What tools did, kept outside of the storage under test."""

    def __init__(self, side: str) -> None:
        self.side = side

    def add(self, what: str, run_id: str) -> None:
        with closing(sqlite3.connect(self.side, isolation_level=None, timeout=30)) as world:
            world.execute("CREATE TABLE IF NOT EXISTS acts (what TEXT, run_id TEXT)")
            world.execute("INSERT INTO acts VALUES (?, ?)", (what, run_id))

    def count(self, run_id: str) -> dict[str, int]:
        """How often each thing was done by a run."""
        with closing(sqlite3.connect(self.side, timeout=30)) as world:
            world.execute("CREATE TABLE IF NOT EXISTS acts (what TEXT, run_id TEXT)")
            found = world.execute("SELECT what, count(*) FROM acts WHERE run_id = ? GROUP BY what", (run_id,))
            return dict(found.fetchall())


class Answer(BaseModel):
    """The typed answer of a conversation."""

    text: str
    users: int
    """How many messages of users the model was shown."""


def tools_of(world: World) -> list[Any]:
    @tool(effect="idempotent")
    async def note(item: str, session_state: dict[str, Any], ctx: RunContext) -> str:
        world.add(f"note {ctx.idempotency_key}", ctx.run_id)
        session_state.setdefault("items", []).append(item)
        session_state["count"] = session_state.get("count", 0) + 1
        return f"noted {item}"

    def unmarked(item: str, session_state: dict[str, Any], ctx: RunContext) -> str:
        world.add(f"unmarked {item}", ctx.run_id)
        session_state.setdefault("unmarked", []).append(item)
        return f"did {item}"

    async def act(item: str, ctx: RunContext) -> str:
        world.add(f"act {item}", ctx.run_id)
        return f"acted on {item}"

    @tool(effect="once")
    async def pay(amount: int, ctx: RunContext) -> str:
        world.add(f"paid {amount}", ctx.run_id)
        return f"paid {amount}"

    @tool(effect="pure")
    def look(what: str, ctx: RunContext) -> str:
        world.add(f"looked {what}", ctx.run_id)
        return f"saw {what}"

    @tool(requires_confirmation=True)
    async def drop(what: str, session_state: dict[str, Any], ctx: RunContext) -> str:
        world.add(f"dropped {what}", ctx.run_id)
        session_state["dropped"] = what
        return f"dropped {what}"

    return [note, unmarked, act, pay, look, drop]


Turns = list[list[tuple[str, dict[str, Any]]]]
TOOLS: Turns = [
    [("note", {"item": "a"}), ("look", {"what": "x"}), ("pay", {"amount": 5})],
    [("unmarked", {"item": "u"}), ("note", {"item": "b"})],
    [("pay", {"amount": 7})],
]
PARALLEL: Turns = [
    [
        ("look", {"what": "x"}),
        ("pay", {"amount": 5}),
        ("act", {"item": "z"}),
        ("note", {"item": "a"}),
        ("note", {"item": "b"}),
        ("pay", {"amount": 7}),
    ]
]
CONVERSATION: Turns = [
    [("note", {"item": "a"})],
    [("drop", {"what": "t"}), ("note", {"item": "b"})],
    [("note", {"item": "c"})],
]


def speaking(turns: Turns, last: Callable[[ModelRequest], str]) -> FunctionModel:
    """Calls what the script says after so many turns of calls."""

    def answer(request: ModelRequest) -> Reply | str:
        turn = sum(bool(message.tool_calls) for message in request.messages)
        return reply(f"turn {turn}", tool_calls=turns[turn]) if turn < len(turns) else last(request)

    return FunctionModel(answer)


def agent(scenario: str, storage: Storage, world: World) -> Agent[Any]:
    common: dict[str, Any] = {"agent_id": "a", "tools": tools_of(world), "storage": storage}
    if scenario == "conversation":
        return Agent(
            model=speaking(CONVERSATION, _typed),
            response_model=Answer,
            use_json_mode=True,
            session_state={"count": 10, "items": ["first"]},
            add_history_to_messages=True,
            num_history_runs=3,
            **common,
        )
    return Agent(model=speaking(PARALLEL if scenario == "parallel" else TOOLS, lambda request: FINAL), **common)


def _typed(request: ModelRequest) -> str:
    users = sum(message.role == "user" for message in request.messages)
    return Answer(text=FINAL, users=users).model_dump_json()
