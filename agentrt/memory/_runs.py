"""The runs that updates are: driven by the engine like any other, children of the run that they come of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agentrt.models.message import Message
from agentrt.run.definition import RunDefinition
from agentrt.run.events import BaseEvent
from agentrt.run.journal import Journal
from agentrt.run.limits import RunLimits
from agentrt.run.response import RunResponse
from agentrt.run.run import Run
from agentrt.run.stream import RunStream
from agentrt.storage.base import Storage


async def run_alone(
    definition: RunDefinition[Any],
    input: str,
    *,
    storage: Storage,
    run_id: str,
    session_id: str,
    user_id: str | None,
    parent: Run | None = None,
    belongs_to: str | None = None,
    path: tuple[str, ...] = (),
    opening: Sequence[BaseEvent] = (),
    closing: Callable[[BaseEvent], BaseEvent] | None = None,
) -> RunResponse[Any]:
    """Run a definition and return its response; raises what the run raised. Nothing of it shows in another's stream.

    It is part of `parent`, which waits for it, or stands below a run that is over (`belongs_to`).
    """
    journal = Journal(storage, run_id, steps=False)
    journal.session_id = session_id
    journal.keep_for_readers()
    run = Run(
        definition=definition,
        storage=storage,
        journal=journal,
        limits=definition.limits or RunLimits(),
        budgets=parent.budgets if parent is not None else (),
        run_id=run_id,
        session_id=session_id,
        user_id=user_id,
        parent=parent,
        belongs_to=belongs_to,
        path=(*path, definition.name or "memory"),
        input=[Message(role="user", content=input)],
        opening=list(opening),
        closing=closing,
    )
    return await RunStream[Any](run, events=False).run_to_end()
