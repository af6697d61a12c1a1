"""What tests of memories are made with: a model for each side, and memories to begin with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentrt.memory.base import UserMemory
from agentrt.memory.memory import Memory
from agentrt.models.base import ModelRequest
from agentrt.models.message import Message
from agentrt.testing import FunctionModel, Reply, ScriptedModel, reply

M1, M2 = "Ann likes tea", "Bob likes coffee"


async def two_users(model: Any, **options: Any) -> Memory:
    """A memory that knows one thing about each of two users."""
    memory = Memory(model=model, **options)
    await memory.db.add_memory("u1", UserMemory(M1, memory_id="m1"))
    await memory.db.add_memory("u2", UserMemory(M2, memory_id="m2"))
    return memory


async def texts(memory: Memory, user_id: str) -> list[str]:
    return [known.memory for known in await memory.aget_user_memories(user_id)]


def calling(*calls: tuple[str, dict[str, Any]]) -> ScriptedModel:
    """A manager's model that makes these calls in one turn, and is done."""
    return ScriptedModel(reply(tool_calls=list(calls)), "Done.")


def note_all() -> FunctionModel:
    """A manager's model that notes whatever the user has said, word by word."""

    def answer(request: ModelRequest) -> str | Reply:
        if request.messages[-1].role == "tool":
            return "Done."
        material = (request.messages[-1].content or "").partition("<messages>\n")[2].partition("\n</messages>")[0]
        return reply(tool_calls=[("add_memory", {"memory": material})])

    return FunctionModel(answer)


def system_of(request: ModelRequest) -> str:
    [first, *_] = request.messages
    return (first.content or "") if first.role == "system" else ""


def all_text(request: ModelRequest) -> str:
    return "\n".join(message.content or "" for message in request.messages)


def echo(function: Callable[[Message], str] | None = None) -> FunctionModel:
    """An agent's model that answers every question."""
    return FunctionModel(lambda request: f"You said: {request.messages[-1].content}")
