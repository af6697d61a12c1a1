"""A typed answer while it comes in: what is finished of it, and the whole as far as it is there."""

from __future__ import annotations

from typing import Any

from agentrt.run.events import (
    BaseEvent,
    DeltaEvent,
    ModelCallCompleted,
    ModelCallReset,
    ModelCallStarted,
    OutputPart,
    OutputPartial,
    RunContent,
)
from agentrt.run.json_text import AfterThought, JsonScanner, Path
from agentrt.run.output_type import WRAPPED, OutputType, unwrapped

COPIED_PER_CHAR = 16
"""How many references an event's `value` may copy for each character that came since the last one. That bounds the
cost of all of them by the length of the answer: behind very long lists, events come for several pieces at once."""


class PartialOutput:
    """Feed it the answer's text as it comes; it gives the events that are due."""

    def __init__(self, type: OutputType) -> None:
        self._type = type
        self._text = AfterThought()
        self._scanner = JsonScanner(self._finished)
        self._root: Any = None
        self._complete: list[Path] = []
        self._parts: list[OutputPart] = []
        self._chars = 0

    def feed(self, text: str) -> OutputPartial | None:
        """Take a piece of the answer; return what is new, None when nothing is or it would cost too much yet."""
        text = self._text.feed(text)
        self._scanner.feed(text)
        self._chars += len(text)
        return self._event() if self._chars * COPIED_PER_CHAR >= self._scanner.size() else None

    def end(self) -> OutputPartial | None:
        """Return what was not told yet."""
        return self._event() if self._chars else None

    def _event(self) -> OutputPartial | None:
        scanner = self._scanner
        if scanner.is_broken or not (self._complete or scanner.is_writing):
            return None
        self._chars = 0
        value = scanner.snapshot()
        if self._type.wrapped:
            value = unwrapped(value)
        event = OutputPartial(value=value, complete=self._complete, parts=self._parts)
        self._complete, self._parts = [], []
        return event

    def _finished(self, path: Path, container: Any, key: Any) -> None:
        if self._scanner.root is not self._root:  # the answer begins anew
            self._root, self._complete, self._parts = self._scanner.root, [], []
        if self._type.wrapped and path[0] == WRAPPED:
            path = path[1:]
        value = container[key]
        check = self._type.check_of(path, value) if path else None
        if check is not None:
            try:
                value = container[key] = check(value)
            except ValueError:  # said when the whole is there
                return
            self._parts.append(OutputPart(path=path, value=value))
        self._complete.append(path)


class RereadOutput:
    """The same for who reads a run from afar: the text is stored, and these events are made from it again."""

    def __init__(self, type: OutputType, run_id: str) -> None:
        self._type = type
        self._run_id = run_id
        self._partial = PartialOutput(type)

    def read(self, event: BaseEvent) -> OutputPartial | None:
        """Take the run's next event; return what there is to tell after it."""
        told = None
        if event.run_id != self._run_id:
            return None
        if isinstance(event, RunContent):
            told = self._partial.feed(event.content)
        elif isinstance(event, ModelCallCompleted):
            told = self._partial.end()
        elif isinstance(event, (ModelCallStarted, ModelCallReset)):
            self._partial = PartialOutput(self._type)
        if told is not None:
            for name in ("run_id", "path", "agent_id", "session_id", "parent_run_id", "seq"):
                setattr(told, name, getattr(event, name))
            told.offset = event.offset + len(event.content) if isinstance(event, DeltaEvent) else 0
        return told
