"""`Delegate`: a tool whose calls are runs of their own."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentrt.run.response import ToolExecution
from agentrt.tools.function import Effect, Function

if TYPE_CHECKING:
    from agentrt.run.run import Run


class Delegate(Function):
    """A tool that hands a task to agents: what becomes of a call are runs, which its own run waits for.

    They are begun once, under ids that follow from the call's. So a call may be made again, after a pause or a crash:
    it goes on with the runs that there are.
    """

    open_runs: Callable[[Run, ToolExecution], list[Run]]
    """Makes the runs that a call stands for, in their order. Raises `ToolError` for a call that nobody can take."""
    effect: Effect | None = "idempotent"
    stream_events: bool = True
    """Are the events of those runs told in the stream of the run that makes the call?"""

    def __init__(self, entrypoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(entrypoint, **options)


def child_run_id(run: Run, call: ToolExecution, name: str) -> str:
    """The id of the run that a call to an agent of this name consists of: the same one each time."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{run.run_id}:{call.tool_call_id}:{name}").hex
