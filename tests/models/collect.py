"""Reading a model's deltas in tests: what they add up to."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from agentrt.models.base import (
    FinishDelta,
    Model,
    ModelDelta,
    ModelRequest,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageDelta,
)
from agentrt.models.message import Message, Usage


@dataclass
class Collected:
    deltas: list[ModelDelta] = field(default_factory=list[ModelDelta])

    def of(self, kind: type[Any]) -> list[Any]:
        return [delta for delta in self.deltas if isinstance(delta, kind)]

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.of(TextDelta))

    @property
    def reasoning(self) -> str:
        return "".join(delta.text for delta in self.of(ReasoningDelta))

    @property
    def refusal(self) -> str:
        return "".join(delta.text for delta in self.of(RefusalDelta))

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        """`(id, name, arguments)` of each call, put together as the engine does it."""
        calls: dict[int, list[str]] = {}
        for delta in self.of(ToolCallDelta):
            call = calls.setdefault(delta.index, ["", "", ""])
            call[0] = call[0] or delta.id
            call[1] = call[1] or delta.name
            call[2] += delta.arguments
        return [(call_id, name, arguments) for _, (call_id, name, arguments) in sorted(calls.items())]

    @property
    def usage(self) -> Usage | None:
        usages = self.of(UsageDelta)
        return usages[-1].usage if usages else None

    @property
    def finish(self) -> FinishDelta:
        (finish,) = self.of(FinishDelta)
        return finish


async def collect(model: Model, *, stream: bool = True, into: Collected | None = None, **fields: Any) -> Collected:
    """Make a call and read it to its end, within five seconds."""
    found = into or Collected()
    messages = fields.pop("messages", None) or [Message(role="user", content="hello")]
    request = ModelRequest(messages=messages, stream=stream, **fields)
    async with asyncio.timeout(5), aclosing(model.stream(request)) as deltas:
        async for delta in deltas:
            found.deltas.append(delta)
    return found
