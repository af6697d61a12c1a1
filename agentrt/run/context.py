"""`RunContext`: what a tool, an instruction function or a hook knows about the run it works for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic

from typing_extensions import TypeVar

from agentrt.models.message import Usage
from agentrt.run.events import BaseEvent, CustomEvent

Deps = TypeVar("Deps", default=Any)


@dataclass(slots=True, kw_only=True)
class RunContext(Generic[Deps]):
    """The run that a tool works for. A tool gets one by a parameter named `ctx` or annotated `RunContext`.

    `session_state` is the run's live state. `dependencies` is what the caller handed to the run. Each tool call gets
    a context of its own: `tool_call_id` and `idempotency_key` are that call's, and the same again when the call is
    repeated after a crash. `usage` is the run's, so far.
    """

    run_id: str
    session_id: str
    user_id: str | None = None
    parent_run_id: str | None = None
    path: tuple[str, ...] = ()
    agent: Any = None
    team: Any = None
    session_state: dict[str, Any] = field(default_factory=dict[str, Any])
    dependencies: Deps = None  # pyright: ignore[reportAssignmentType]  None when the caller gave none
    usage: Usage = field(default_factory=Usage)
    tool_call_id: str | None = None
    tool_name: str | None = None
    attempt: int = 1
    cancel_flag: threading.Event = field(default_factory=threading.Event, repr=False)
    emit_event: Callable[[BaseEvent], None] | None = field(default=None, repr=False)
    state_lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def idempotency_key(self) -> str | None:
        """A key for this call that is the same each time the call is repeated; None outside a tool call."""
        return f"{self.run_id}:{self.tool_call_id}" if self.tool_call_id else None

    @property
    def cancelled(self) -> bool:
        """Has the run been cancelled? A long sync tool asks now and then, and returns."""
        return self.cancel_flag.is_set()

    def emit(self, event: BaseEvent | Any) -> None:
        """Put an event of your own into the run's stream; any other value is wrapped in a `CustomEvent`."""
        if self.emit_event is not None:
            self.emit_event(event if isinstance(event, BaseEvent) else CustomEvent(content=event))

    @asynccontextmanager
    async def state(self) -> AsyncGenerator[dict[str, Any], None]:
        """Hold the session state alone: `async with ctx.state() as state:`. For tools that run beside others."""
        async with self.state_lock:
            yield self.session_state
