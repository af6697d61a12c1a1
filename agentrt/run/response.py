"""What a run gives back: `RunResponse`, and the tool calls it holds."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal

from typing_extensions import TypeVar

from agentrt.media import Audio, File, Image, Video
from agentrt.models.message import FinishReason, Message, Usage, utc_now

if TYPE_CHECKING:
    from agentrt.run.decisions import Requirement

Out = TypeVar("Out", default=str)

StopReason = Literal[
    "end",
    "output_limit",
    "refusal",
    "model_call_limit",
    "tool_call_limit",
    "input_token_limit",
    "output_token_limit",
    "total_token_limit",
    "time_limit",
    "tool",
    "cancelled",
    "error",
]


CancelMode = Literal["now", "after_tools", "after_turn"]
"""When a cancelled run stops: at once; when the tools that run by then are done; when the turn is done, model call,
tools and all. A run that ends by itself before that is completed."""


class RunStatus(enum.StrEnum):
    """Where a run is: pending → running → (paused ⇄ running) → completed | cancelled | failed."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"

    @property
    def is_terminal(self) -> bool:
        return self in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.FAILED)


class _ByName:
    """Tells pydantic that a type of a form stands in JSON by its name: `"int"`."""

    TYPES: ClassVar[dict[str, type[Any]]] = {cls.__name__: cls for cls in (str, int, float, bool, list, dict)}

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        by_name = core_schema.no_info_after_validator_function(
            self.TYPES.__getitem__, core_schema.literal_schema(list(self.TYPES))
        )
        return core_schema.json_or_python_schema(
            json_schema=by_name,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(type), by_name]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda cls: cls.__name__, return_schema=core_schema.literal_schema(list(self.TYPES))
            ),
        )


@dataclass(slots=True, kw_only=True)
class UserInputField:
    """One value that a tool call needs from a user. `value` is None until somebody fills it."""

    name: str
    field_type: Annotated[type[Any], _ByName()]
    description: str | None = None
    value: Any = None


@dataclass(slots=True, kw_only=True)
class ToolExecution:
    """One tool call of a run: what was asked, what is needed from people, and what came of it.

    `result` is the text that the model is told. `tool_call_error` says that it reports a failure; `error` then names
    the exception, as `ValueError: no such city`.
    """

    tool_call_id: str
    tool_name: str
    tool_args: dict[str, Any] = field(default_factory=dict[str, Any])
    result: Any = None
    images: list[Image] | None = None
    """The images that the tool returned: the model sees them, if it can."""
    audio: list[Audio] | None = None
    videos: list[Video] | None = None
    files: list[File] | None = None
    tool_call_error: bool = False
    error: str | None = None
    elapsed_s: float | None = None
    requires_confirmation: bool = False
    confirmed: bool | None = None
    confirmation_note: str | None = None
    edited_args: dict[str, Any] | None = None
    """The arguments that whoever confirmed put in place of the model's."""
    expires_at: datetime | None = None
    """Until when somebody may decide; after that `on_expiry` holds."""
    on_expiry: Literal["reject", "confirm"] = "reject"
    requires_user_input: bool = False
    user_input_schema: list[UserInputField] | None = None
    external_execution_required: bool = False
    unknown_outcome: bool = False
    """Its process ended while it ran, and its tool must not act twice: confirm, reject, or give its result."""
    stop_after_tool_call: bool = False
    run_id: str | None = None
    """The run that makes the call: a member's, where a team shows what its member waits for."""
    child_run_ids: list[str] | None = None
    """The runs that the call consists of, when it hands a task to members or to an agent that is a tool."""
    created_at: datetime = field(default_factory=utc_now)

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.tool_call_error


NextAction = Literal["continue", "validate", "final_answer"]


@dataclass(slots=True, kw_only=True)
class Thought:
    """One step of reasoning that is written down. `confidence` is between 0 and 1."""

    title: str = ""
    reasoning: str = ""
    action: str | None = None
    """What is to be done, or was."""
    result: str | None = None
    """What came of it."""
    next_action: NextAction | None = None
    confidence: float | None = None

    def text(self) -> str:
        """The step as text: its title, then what it says."""
        said = (("", self.reasoning), ("Action: ", self.action), ("Result: ", self.result))
        return "\n".join([*([self.title] if self.title else []), *(f"{label}{text}" for label, text in said if text)])


@dataclass(slots=True, kw_only=True)
class MemoryUpdate:
    """What a run leaves for its agent's memory, which takes it in after the answer, in a run of its own: `run_id`.

    Kept up to date while this process lives; what failed is tried again with the next one of the user.
    """

    kind: Literal["memories", "summary"]
    run_id: str
    status: RunStatus = RunStatus.PENDING
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class RunResponse(Generic[Out]):
    """A run as far as it has come.

    `member_responses` are those of the runs that its calls consisted of, members' and those of agents that are tools,
    in the order of the calls; read from storage they are without messages.

    `content` is the answer: a text, or an instance of `response_model`; None before there is one. `messages` are the
    run's own (not the session's history). `usage` is the run's own, `total_usage` that of its child runs, too.
    `stop_reason` says what ended the run: `"end"` is the model's own end.
    """

    run_id: str | None = None
    content: Out | None = None
    status: RunStatus = RunStatus.COMPLETED
    session_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    agent_name: str | None = None
    parent_run_id: str | None = None
    model: str | None = None
    model_provider: str | None = None
    reasoning_content: str | None = None
    citations: list[dict[str, Any]] | None = None
    """What the answer rests on: annotations, citations, grounding, in the form of the model's provider."""
    reasoning_steps: list[Thought] = field(default_factory=list[Thought])
    messages: list[Message] = field(default_factory=list[Message])
    tools: list[ToolExecution] = field(default_factory=list[ToolExecution])
    member_responses: list[RunResponse[Any]] = field(default_factory=list["RunResponse[Any]"])
    usage: Usage = field(default_factory=Usage)
    total_usage: Usage = field(default_factory=Usage)
    memory_updates: list[MemoryUpdate] = field(default_factory=list[MemoryUpdate])
    """What it leaves for its agent's memory, and what has become of that."""
    stop_reason: StopReason | None = None
    finish_reason: FinishReason | None = None
    error: str | None = None
    elapsed_s: float | None = None
    session_state: dict[str, Any] | None = None
    repeated: bool | None = None
    """True when a workflow yields it again, having yielded it before it was cut."""
    created_at: datetime = field(default_factory=utc_now)

    @property
    def is_paused(self) -> bool:
        return self.status is RunStatus.PAUSED

    @property
    def is_refusal(self) -> bool:
        """The model refused; `content` is what it said."""
        return self.finish_reason == "refusal"

    @property
    def requirements(self) -> list[Requirement]:
        """What the run waits for, one by one: `.confirm()`, `.reject(reason)`, `.provide({…})`, `.resolve(result)`.

        What its members wait for is among it, with the member's `run_id` and `path`, and is decided here.
        """
        from agentrt.run.decisions import Requirement, open_kinds  # which builds on this module

        name = self.agent_name or self.agent_id or "agent"
        own = [
            Requirement(
                run_id=self.run_id or "",
                kind=kind,
                tool=tool,
                path=(name,),
                session_id=self.session_id,
                user_id=self.user_id,
                agent_id=self.agent_id,
                created_at=tool.created_at,
            )
            for tool in self.tools
            for kind in open_kinds(tool)
        ]
        below = [asked for member in self.waiting_members for asked in member.requirements]
        return [*own, *(replace(asked, path=(name, *asked.path)) for asked in below)]

    @property
    def waiting_members(self) -> list[RunResponse[Any]]:
        """The paused runs of members that this run's open calls wait for."""
        open_runs = {run_id for tool in self.tools if not tool.is_done for run_id in tool.child_run_ids or ()}
        return [member for member in self.member_responses if member.is_paused and member.run_id in open_runs]

    @property
    def tools_with_members(self) -> list[ToolExecution]:
        """The run's tool calls, and those of the members' runs that it waits for."""
        return [*self.tools, *(tool for member in self.waiting_members for tool in member.tools_with_members)]

    @property
    def tools_requiring_confirmation(self) -> list[ToolExecution]:
        return [tool for tool in self.tools_with_members if tool.requires_confirmation and not tool.is_done]

    @property
    def tools_requiring_user_input(self) -> list[ToolExecution]:
        return [tool for tool in self.tools_with_members if tool.requires_user_input and not tool.is_done]

    @property
    def tools_with_unknown_outcome(self) -> list[ToolExecution]:
        return [tool for tool in self.tools_with_members if tool.unknown_outcome and not tool.is_done]

    @property
    def tools_awaiting_external_execution(self) -> list[ToolExecution]:
        return [tool for tool in self.tools_with_members if tool.external_execution_required and not tool.is_done]

    def to_json(self) -> str:
        """The response as a JSON object, for a client; a typed answer is its plain data."""
        from agentrt.run.encoding import plain_json

        return plain_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> RunResponse[Any]:
        """Return the response that `to_json` wrote; what was a typed answer comes back as plain data."""
        from agentrt.run.encoding import response_from_json

        return response_from_json(text)

    def text(self) -> str:
        """The content as text: a typed answer as JSON, nothing as ""."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        from agentrt.tools.results import to_text

        return to_text(self.content)
