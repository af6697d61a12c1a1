"""Whose text a run's answer is: its own, and that of runs that its question was handed on to."""

from __future__ import annotations

from agentrt.run.events import BaseEvent, RunStarted, ToolCallStarted


class Speakers:
    """Told of the events of a stream in their order, it knows which runs give another run's answer."""

    __slots__ = ("_for", "_handing_on")

    def __init__(self) -> None:
        self._handing_on: set[str] = set()
        self._for: dict[str, str] = {}

    def hear(self, event: BaseEvent) -> None:
        if isinstance(event, ToolCallStarted) and event.tool.stop_after_tool_call:
            self._handing_on.add(event.run_id)
        elif isinstance(event, RunStarted) and (above := event.parent_run_id) in self._handing_on:
            self._for[event.run_id] = self.speaks_for(above) or above

    def speaks_for(self, run_id: str) -> str | None:
        """The run whose answer this one gives; None for one that speaks for itself."""
        return self._for.get(run_id)
