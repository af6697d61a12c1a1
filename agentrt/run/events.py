"""The events of a run: typed notices of what happened.

*Facts* are numbered by `seq` within the root run and never dropped. *Deltas* (`RunContent`, `ReasoningContent`,
`ToolCallArguments`, `OutputPartial`) carry the `seq` of the last fact and the `offset` of their first character in the
model call; behind a slow reader adjacent ones are joined. A reader's place is `event.cursor`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias, TypeVar, dataclass_transform

from agentrt.models.message import FinishReason, Usage, utc_now
from agentrt.run.response import RunResponse, Thought, ToolExecution

T = TypeVar("T")

JOINED_CHARS: Final = 16_384
"""No joined delta grows beyond this, so that joining costs no more than the text."""
JOINED_PATHS: Final = 256
"""The same for the paths of a joined `OutputPartial`."""


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
def event_class(cls: type[T]) -> type[T]:
    """Make a dataclass of an event, with `BaseEvent`'s comparison and repr: own ones would slow the import."""
    return dataclass(slots=True, kw_only=True, eq=False, repr=False)(cls)


@event_class
class BaseEvent:
    """What every event says: whose run it is of, where it stands, and its `content` where it has one.

    `path` holds the names of agent, team and member from the root run down to this one.
    """

    is_delta: ClassVar[bool] = False
    event: str = ""
    run_id: str = ""
    parent_run_id: str | None = None
    path: tuple[str, ...] = ()
    agent_id: str | None = None
    session_id: str | None = None
    seq: int = 0
    content: Any = None
    repeated: bool | None = None
    """True when it tells again of what was told before: of a run that had ended when it was called, or gone on with."""
    created_at: datetime = field(default_factory=utc_now)

    def __eq__(self, other: object) -> bool:
        if self.__class__ is not other.__class__:
            return NotImplemented
        fields = self.__dataclass_fields__.items()
        return all(getattr(self, name) == getattr(other, name) for name, spec in fields if spec.compare)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  an event changes

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name, spec in self.__dataclass_fields__.items() if spec.repr)
        return f"{self.__class__.__name__}({', '.join(fields)})"

    @property
    def cursor(self) -> str:
        """The place of a reader that has read this event: `"seq:offset"`."""
        return f"{self.seq}:0"

    def to_json(self) -> str:
        """The event as a JSON object; `agentrt.run.encoding.event_from_json` reads it back."""
        from agentrt.run.encoding import event_to_json

        return event_to_json(self)

    def to_sse(self) -> str:
        """The event as one server-sent event: its name, its cursor as id, its JSON as data."""
        return f"event: {self.event}\nid: {self.cursor}\ndata: {self.to_json()}\n\n"


@event_class
class DeltaEvent(BaseEvent):
    """A piece of text. `content` is the piece; `offset` is where it begins in its model call, in characters."""

    is_delta: ClassVar[bool] = True
    content: str = ""
    offset: int = 0

    @property
    def cursor(self) -> str:
        return f"{self.seq}:{self.offset + len(self.content)}"

    def joined(self, later: DeltaEvent) -> Self | None:
        """Return this delta with `later` added, which follows directly; None when the two can't be one."""
        fits = type(later) is type(self) and later.run_id == self.run_id and later.seq == self.seq
        if not fits or len(self.content) >= JOINED_CHARS or self._of() != later._of():
            return None
        return replace(self, content=self.content + later.content)

    def cut(self, count: int) -> Self:
        """Return this delta without its first `count` characters."""
        return replace(self, content=self.content[count:], offset=self.offset + count)

    def _of(self) -> str:
        """Which text of its run it is a piece of, where there are several of a kind."""
        return ""


# --- run -------------------------------------------------------------------------------------------------------------


@event_class
class RunStarted(BaseEvent):
    """The run exists. `model` is what it will call, as `provider:id`."""

    event: Literal["RunStarted"] = "RunStarted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    model: str | None = None


@event_class
class RunPaused(BaseEvent):
    """The run waits for people or systems outside; `response.tools` says for what."""

    event: Literal["RunPaused"] = "RunPaused"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    response: RunResponse[Any] = field(default_factory=RunResponse[Any])


@event_class
class RunContinued(BaseEvent):
    """A paused or interrupted run goes on."""

    event: Literal["RunContinued"] = "RunContinued"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag


@event_class
class RunCompleted(BaseEvent):
    """The run is over and stored; `content` is the answer, `response` the whole."""

    event: Literal["RunCompleted"] = "RunCompleted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    response: RunResponse[Any] = field(default_factory=RunResponse[Any])


@event_class
class RunCancelled(BaseEvent):
    """The run was cancelled and is stored as far as it came; `content` is the reason."""

    event: Literal["RunCancelled"] = "RunCancelled"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    response: RunResponse[Any] = field(default_factory=RunResponse[Any])


@event_class
class RunError(BaseEvent):
    """The run failed and is stored as far as it came; `content` is the message, `error_type` the class's name."""

    event: Literal["RunError"] = "RunError"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    error_type: str = ""
    response: RunResponse[Any] = field(default_factory=RunResponse[Any])


# --- content (deltas) ------------------------------------------------------------------------------------------------


@event_class
class RunContent(DeltaEvent):
    """A piece of the answer."""

    event: Literal["RunContent"] = "RunContent"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag


@event_class
class ReasoningContent(DeltaEvent):
    """A piece of the model's reasoning."""

    event: Literal["ReasoningContent"] = "ReasoningContent"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag


@dataclass(slots=True, kw_only=True)
class OutputPart:
    """A finished part of a typed answer, checked by its type: a member, or an item of a list or map."""

    path: tuple[str | int, ...]
    value: Any = None


@event_class
class OutputPartial(DeltaEvent):
    """More of a typed answer is there. `complete` are the paths that were finished since the last such event.

    `parts` are those of them that are checked one by one (members; items in place of lists and maps), each told once.
    `value` is the whole as far as it is there: plain data, the finished `parts` in their types. It is not in the JSON
    of an event, so that a stream's length is that of the answer. Its `content` is empty: the text is in `RunContent`.
    """

    event: Literal["OutputPartial"] = "OutputPartial"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    value: Any = field(default=None, compare=False)
    complete: list[tuple[str | int, ...]] = field(default_factory=list[tuple[str | int, ...]])
    parts: list[OutputPart] = field(default_factory=list[OutputPart])

    def joined(self, later: DeltaEvent) -> Self | None:
        if not isinstance(later, OutputPartial) or later.run_id != self.run_id or later.seq != self.seq:
            return None
        if len(self.complete) >= JOINED_PATHS:
            return None
        return replace(self, value=later.value, complete=self.complete + later.complete, parts=self.parts + later.parts)


@event_class
class ToolCallArguments(DeltaEvent):
    """A piece of a tool call's arguments, as the model writes them."""

    event: Literal["ToolCallArguments"] = "ToolCallArguments"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    tool_call_id: str = ""
    tool_name: str = ""

    def _of(self) -> str:
        return self.tool_call_id


# --- model -----------------------------------------------------------------------------------------------------------


@event_class
class ModelCallStarted(BaseEvent):
    """A model is asked. `index` counts the run's model calls from 1."""

    event: Literal["ModelCallStarted"] = "ModelCallStarted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    index: int = 0
    model: str = ""


@event_class
class ModelCallCompleted(BaseEvent):
    """The model's answer is there, or `error` says why not. Times are seconds."""

    event: Literal["ModelCallCompleted"] = "ModelCallCompleted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    index: int = 0
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason | None = None
    time_to_first_token_s: float | None = None
    elapsed_s: float = 0.0
    error: str | None = None


@event_class
class ModelCallReset(BaseEvent):
    """The model is asked anew, as its answer was cut, or is not what was asked for: drop what that call streamed."""

    event: Literal["ModelCallReset"] = "ModelCallReset"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    index: int = 0


# --- tools -----------------------------------------------------------------------------------------------------------


@event_class
class ToolCallStarted(BaseEvent):
    """A tool is called; `content` is its name."""

    event: Literal["ToolCallStarted"] = "ToolCallStarted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    tool: ToolExecution


@event_class
class ToolCallProgress(BaseEvent):
    """A generator tool yielded `content` on its way."""

    event: Literal["ToolCallProgress"] = "ToolCallProgress"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    tool_call_id: str = ""
    tool_name: str = ""


@event_class
class ToolCallCompleted(BaseEvent):
    """A tool has answered; `content` is the text that the model is told."""

    event: Literal["ToolCallCompleted"] = "ToolCallCompleted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    tool: ToolExecution


@event_class
class ToolCallError(BaseEvent):
    """A call failed, was refused or cut short; `content` is the text that the model is told."""

    event: Literal["ToolCallError"] = "ToolCallError"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    tool: ToolExecution


# --- reasoning -------------------------------------------------------------------------------------------------------


@event_class
class ReasoningStarted(BaseEvent):
    """A plan is made before the answer, step by step, with `reasoning` or a `reasoning_model`; `model` makes it."""

    event: Literal["ReasoningStarted"] = "ReasoningStarted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    model: str = ""


@event_class
class ReasoningStep(BaseEvent):
    """One step of reasoning: of that plan, or of a tool of `ReasoningTools`. `content` is its text."""

    event: Literal["ReasoningStep"] = "ReasoningStep"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    step: Thought = field(default_factory=Thought)


@event_class
class ReasoningCompleted(BaseEvent):
    """The plan is made, of so many `steps`; or `error` says why not."""

    event: Literal["ReasoningCompleted"] = "ReasoningCompleted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    steps: int = 0
    error: str | None = None


# --- memory ----------------------------------------------------------------------------------------------------------


@event_class
class MemoryUpdateStarted(BaseEvent):
    """Memories of the user are being updated; `content` is what an agent wants done with them, None after a run."""

    event: Literal["MemoryUpdateStarted"] = "MemoryUpdateStarted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag


@event_class
class MemoryUpdateCompleted(BaseEvent):
    """The user's memories are updated; `content` says what was changed, `error` what kept the rest from it."""

    event: Literal["MemoryUpdateCompleted"] = "MemoryUpdateCompleted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    error: str | None = None


@event_class
class SessionSummaryUpdated(BaseEvent):
    """The session has a new summary, which is `content`."""

    event: Literal["SessionSummaryUpdated"] = "SessionSummaryUpdated"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag


# --- workflow --------------------------------------------------------------------------------------------------------


@event_class
class WorkflowStarted(BaseEvent):
    """The run of a workflow exists; `content` is what it was called with, as a text."""

    event: Literal["WorkflowStarted"] = "WorkflowStarted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag


@event_class
class WorkflowStepStarted(BaseEvent):
    """A step is begun; `content` is its name."""

    event: Literal["WorkflowStepStarted"] = "WorkflowStepStarted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    step: str = ""
    key: str = ""


@event_class
class WorkflowStepCompleted(BaseEvent):
    """A step has ended; `content` is its result, or `error` says why there is none. A step is not told of twice."""

    event: Literal["WorkflowStepCompleted"] = "WorkflowStepCompleted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    step: str = ""
    key: str = ""
    error: str | None = None
    elapsed_s: float = 0.0


@event_class
class WorkflowCompleted(RunCompleted):
    """The run of a workflow is over and stored; `content` is what came of it, `response` the whole."""

    event: Literal["WorkflowCompleted"] = "WorkflowCompleted"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag


# --- state, user's own, unknown --------------------------------------------------------------------------------------


@event_class
class StateConflict(BaseEvent):
    """Two runs changed the same place of a session's state; the later writer's value stands. `content` is the path."""

    event: Literal["StateConflict"] = "StateConflict"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    mine: Any = None
    theirs: Any = None


@event_class
class CustomEvent(BaseEvent):
    """A user's own event: make one, or a subclass, and hand it to `ctx.emit` or yield it from a tool."""

    event: Literal["CustomEvent"] = "CustomEvent"  # pyright: ignore[reportIncompatibleVariableOverride]  a tag
    name: str = ""


@event_class
class UnknownEvent(BaseEvent):
    """An event of a newer version; `data` is its JSON object."""

    data: dict[str, Any] = field(default_factory=dict[str, Any])


RunEvent: TypeAlias = (
    RunStarted
    | RunPaused
    | RunContinued
    | RunCompleted
    | RunCancelled
    | RunError
    | RunContent
    | ReasoningContent
    | OutputPartial
    | ToolCallArguments
    | ModelCallStarted
    | ModelCallCompleted
    | ModelCallReset
    | ToolCallStarted
    | ToolCallProgress
    | ToolCallCompleted
    | ToolCallError
    | ReasoningStarted
    | ReasoningStep
    | ReasoningCompleted
    | MemoryUpdateStarted
    | MemoryUpdateCompleted
    | SessionSummaryUpdated
    | WorkflowStarted
    | WorkflowStepStarted
    | WorkflowStepCompleted
    | WorkflowCompleted
    | StateConflict
    | CustomEvent
    | UnknownEvent
)

INTERMEDIATE = frozenset(
    {
        "ModelCallStarted",
        "ModelCallCompleted",
        "ToolCallArguments",
        "ReasoningStarted",
        "ReasoningStep",
        "ReasoningCompleted",
        "MemoryUpdateStarted",
        "MemoryUpdateCompleted",
        "SessionSummaryUpdated",
        "StateConflict",
    }
)
"""Events that a stream yields only with `stream_intermediate_steps=True`."""
