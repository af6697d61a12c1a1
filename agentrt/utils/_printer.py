"""Turns the events of a run, in their order, into blocks on a screen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self

from rich.console import Console

from agentrt.models.message import Usage
from agentrt.run.events import (
    BaseEvent,
    CustomEvent,
    ModelCallReset,
    ReasoningContent,
    ReasoningStep,
    RunCancelled,
    RunCompleted,
    RunContent,
    RunError,
    RunPaused,
    RunStarted,
    ToolCallCompleted,
    ToolCallError,
    ToolCallProgress,
    ToolCallStarted,
)
from agentrt.run.response import RunResponse, RunStatus, Thought, ToolExecution
from agentrt.run.speakers import Speakers
from agentrt.utils import _blocks
from agentrt.utils._blocks import Block, TextBlock, ToolsBlock
from agentrt.utils._clean import Cleaner, clean
from agentrt.utils._screens import screen_for


class Printer:
    """Prints a run: feed it what comes, events or responses. Leaving the `with` prints what is unfinished."""

    def __init__(
        self,
        console: Console | None = None,
        *,
        stream: bool = True,
        markdown: bool = False,
        show_time: bool = True,
        show_tool_calls: bool = True,
        show_reasoning: bool = True,
        show_full_reasoning: bool = False,
        show_members_responses: bool = False,
    ) -> None:
        self._screen = screen_for(console or Console(), stream=stream)
        self._markdown = markdown
        self._show_time = show_time
        self._show_tool_calls = show_tool_calls
        self._show_reasoning = show_reasoning or show_full_reasoning
        self._show_full_reasoning = show_full_reasoning
        self._show_members_responses = show_members_responses
        self._began = time.monotonic()
        self._failed = False
        self._growing: Block | None = None
        self._cleaner = Cleaner()
        self._runs: set[str] = set()
        self._answered: set[str] = set()
        """The runs whose answer was streamed after their last tool call, so that it need not be printed again."""
        self._speakers = Speakers()
        self._speaker = ""
        """The run whose text was printed last."""

    def __enter__(self) -> Self:
        self._screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.stop()

    def message(self, message: Any) -> None:
        self._screen.done(_blocks.message_block(message))

    def error(self, error: Exception) -> None:
        """Print what a run raised, unless an event of it already said so."""
        if not self._failed:
            self._fail(str(error), type(error).__name__)

    def feed(self, item: Any) -> None:
        if isinstance(item, BaseEvent):
            self._speakers.hear(item)
        match item:
            case RunResponse():
                self.response(item)  # pyright: ignore[reportUnknownArgumentType]
            case RunContent() if self._is_own(item) or self._speakers.speaks_for(item.run_id):
                self._write(item.content, self._shown(""), by=item.run_id)
                self._answered.add(self._speakers.speaks_for(item.run_id) or item.run_id)
            case ReasoningContent() if self._is_own(item):
                if self._show_reasoning:
                    block = TextBlock(title="Reasoning", style="green", markdown=self._markdown)
                    self._write(item.content, block, by=item.run_id)
            case ReasoningStep():
                self._step(item.step, owner=self._owner(item))
            case ToolCallCompleted() if self._is_said(item.tool):
                pass
            case ToolCallStarted() | ToolCallCompleted() | ToolCallError():
                self._answered.discard(item.run_id)
                self._tool(item.tool, owner=self._owner(item))
            case ToolCallProgress():
                self._progress(item)
            case ModelCallReset() if self._is_own(item):
                self._reset(item.run_id)
            case RunStarted():
                self._runs.add(item.run_id)
            case RunPaused() | RunCompleted() | RunCancelled() | RunError() if self._is_own(item):
                self._end(item)
            case RunCompleted() if self._show_members_responses and not self._speakers.speaks_for(item.run_id):
                self._member_response(item)
            case str():  # a piece that the code of a workflow yields
                self._write(item, self._shown(""), by="")
            case BaseEvent() if not isinstance(item, CustomEvent):
                pass  # an event that says nothing to a reader of the answer
            case _:
                self._content(item.content if isinstance(item, CustomEvent) else item)

    def response(self, response: RunResponse[Any]) -> None:
        """Print a whole response."""
        if self._show_reasoning and response.reasoning_content:
            self._finish()
            text = clean(response.reasoning_content)
            self._screen.done(TextBlock(title="Reasoning", style="green", text=text, markdown=self._markdown))
        for step in response.reasoning_steps:
            self._step(step, owner="")
        for tool in response.tools:
            if tool.is_done:
                self._tool(tool, owner="")
        self._close(response)

    # --- pieces -------------------------------------------------------------------------------------------------

    def _is_own(self, event: BaseEvent) -> bool:
        """Is this the text of a run that was asked for here, rather than of one that another's tool has asked for?"""
        return event.parent_run_id not in self._runs

    def _is_said(self, tool: ToolExecution) -> bool:
        """Did the run that this call handed the question on to say its answer, just above?"""
        return isinstance(self._growing, TextBlock) and any(map(self._speakers.speaks_for, tool.child_run_ids or ()))

    def _owner(self, event: BaseEvent) -> str:
        return "" if self._is_own(event) or not event.path else clean(event.path[-1])

    def _write(self, text: str, fresh: TextBlock, *, by: str) -> None:
        block = self._growing
        if not isinstance(block, TextBlock) or block.title != fresh.title:
            self._finish()
            self._cleaner = Cleaner()
            block = self._growing = fresh
        elif by != self._speaker:
            block.text += "\n\n"
        self._speaker = by
        block.text += self._cleaner.feed(text)
        if block.text.strip():
            self._screen.show(block)

    def _step(self, step: Thought, *, owner: str) -> None:
        if self._show_reasoning:
            self._finish()
            self._screen.done(_blocks.step_block(step, full=self._show_full_reasoning, owner=owner))

    def _tool(self, tool: ToolExecution, *, owner: str) -> None:
        if not self._show_tool_calls:
            return
        block = self._growing
        if not isinstance(block, ToolsBlock) or block.owner != owner:
            self._finish()
            block = self._growing = ToolsBlock(owner=owner)
        block.tools[tool.tool_call_id] = tool
        self._screen.show(block)
        if block.all_done:
            self._finish()

    def _progress(self, event: ToolCallProgress) -> None:
        if isinstance(self._growing, ToolsBlock):
            content: Any = event.content
            self._growing.progress[event.tool_call_id] = _blocks.shorten(str(content))
            self._screen.show(self._growing)

    def _member_response(self, event: RunCompleted) -> None:
        self._finish()
        block = self._shown(event.content)
        block.title = f"{block.title} of {self._owner(event)}"
        self._screen.done(block)

    def _finish(self, last: Callable[[Block], Block] | None = None) -> None:
        block, self._growing = self._growing, None
        if block is not None and not (isinstance(block, TextBlock) and not block.text.strip()):
            self._screen.done(last(block) if last else block)

    def _reset(self, run_id: str) -> None:
        self._answered.discard(run_id)
        if not isinstance(self._growing, TextBlock):
            return
        if self._screen.drop():
            self._growing = None
        else:
            self._finish()
            self._screen.line("The connection broke; the answer begins anew:")

    def _content(self, content: Any) -> None:
        if content is not None:
            self._finish()
            self._screen.done(self._shown(content))

    def _shown(self, content: Any) -> TextBlock:
        return _blocks.content_block(content, markdown=self._markdown)

    # --- ends ---------------------------------------------------------------------------------------------------

    def _end(self, event: RunPaused | RunCompleted | RunCancelled | RunError) -> None:
        response: RunResponse[Any] = event.response
        content: Any = event.content
        match event:
            case RunError():
                self._fail(str(content), event.error_type)
            case RunCancelled():
                self._finish()
                self._screen.line(f"Cancelled: {clean(str(content))}" if content else "Cancelled")
            case _:
                self._close(response)

    def _close(self, response: RunResponse[Any]) -> None:
        """Print what of a response is not there yet: its answer, unless that was streamed, and how it ended."""
        growing = self._growing if response.run_id in self._answered else None
        block = growing if isinstance(growing, TextBlock) else None
        if block is None or not isinstance(response.content, (str, type(None))):
            if block is not None and _blocks.is_json(block.text):
                block.note = self._note(response)  # where it is printed for good; elsewhere the object takes its place
            else:
                self._finish()
            block = None if response.content is None else self._shown(response.content)
        if isinstance(block, TextBlock):
            block.title = "Refused" if response.is_refusal else block.title
            block.note = self._note(response)
            self._growing = block
            self._finish()
        if response.status is RunStatus.PAUSED and (pause := _blocks.pause_block(response)):
            self._screen.done(pause)
        if response.status is RunStatus.FAILED and response.error:
            self._fail(response.error, "Error")

    def _fail(self, message: str, kind: str) -> None:
        self._failed = True
        self._finish()
        self._screen.done(_blocks.error_block(message, kind))

    def _note(self, response: RunResponse[Any]) -> str:
        elapsed_s = response.elapsed_s if response.elapsed_s is not None else time.monotonic() - self._began
        usage: Usage = response.total_usage if response.total_usage.total_tokens else response.usage
        return _blocks.note(elapsed_s if self._show_time else None, usage, response.stop_reason)
