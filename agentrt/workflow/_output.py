"""What the code of a workflow gives out: told as it comes, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from agentrt.run.events import BaseEvent, CustomEvent, RunCancelled, RunCompleted, RunPaused, WorkflowCompleted
from agentrt.run.response import RunResponse
from agentrt.run.run import Run
from agentrt.run.stream import RunStream


class Output:
    """Takes what code yields and returns. Values that were yielded before the run was cut are not told again."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.before = 0
        """How many values an earlier driver of the run took."""
        self._count = 0
        self._content: Any = None
        self._grows = False
        """Is the content a text to which the next text is added?"""
        self.readers: list[Callable[[Any], None]] = []

    def take(self, item: Any) -> None:
        """Take one value that was yielded. What is an event of a run that was begun here is told already."""
        if isinstance(item, RunPaused):
            return  # this run is paused with that one, and tells of it
        if isinstance(item, BaseEvent):
            if isinstance(item, RunCompleted):
                self._content, self._grows = item.content, False
            if not item.run_id:
                self._run.custom(item)
        else:
            self._value(item)
        for read in self.readers:
            read(item)

    def _value(self, item: Any) -> None:
        run, repeated = self._run, self._count < self.before
        self._count += 1
        content: Any = item
        if isinstance(item, RunResponse):
            content = item.content  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            item.run_id, item.session_id = item.run_id or run.run_id, item.session_id or run.session_id
            item.repeated = True if repeated else item.repeated
        self._add(content, whole=isinstance(item, RunResponse))
        if repeated:
            return
        assert run.code is not None
        run.code.yields = count = self._count
        run.journal.add_step("yield", lambda: {"count": count})
        run.custom(CustomEvent(name="yield", content=content))

    def _add(self, content: Any, *, whole: bool) -> None:
        grows = isinstance(content, str) and not whole
        self._content = self._content + content if grows and self._grows else content
        self._grows = grows

    def content(self, returned: Any) -> Any:
        """What the code comes to: what it returned, else the last that it yielded, of texts all that came together."""
        if isinstance(returned, RunResponse):
            return returned.content  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return self._content if returned is None else returned


class ItemStream(RunStream[Any]):
    """What the code of a workflow yields, as it comes: `async for item in workflow.arun(…)`.

    A run that pauses, or is cancelled by its id, gives that event last; one that had ended before gives its response.
    Otherwise as a `RunStream`.
    """

    def __init__(self, run: Run, output: Output) -> None:
        super().__init__(run, all_steps=True, raises=True, events=False)
        emit = cast("Callable[[Any], None]", self._channel.emit)  # which takes anything, to readers that want it all

        def read(event: BaseEvent) -> None:
            if event.run_id != run.run_id:
                return
            if isinstance(event, (RunPaused, RunCancelled)):
                emit(event)
            elif isinstance(event, WorkflowCompleted) and event.repeated:
                response: RunResponse[Any] = event.response
                response.repeated = True
                emit(response)

        output.readers.append(emit)
        run.journal.readers.append(read)
