"""What a paused run waits for, and what is decided about it.

A decision counts once it is stored, first writer first; until then it is local to the `RunResponse` it was made on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from agentrt.models.message import utc_now
from agentrt.run.response import ToolExecution
from agentrt.tools.results import to_text

RequirementKind = Literal["confirmation", "user_input", "external_execution", "unknown_outcome"]


@dataclass(slots=True, kw_only=True)
class Confirm:
    """Make the call; with `args` in place of the model's arguments, where the tool allows edits."""

    args: dict[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class Reject:
    """Don't make the call; the model is told so, with the reason as the user's words."""

    reason: str | None = None


@dataclass(slots=True)
class Provide:
    """The values of the fields that a user was to fill, by name."""

    values: dict[str, Any]


@dataclass(slots=True)
class Resolve:
    """The call's result, of any kind that a tool may return: it was made elsewhere, or is known to have happened."""

    value: Any


Decision: TypeAlias = "Confirm | Reject | Provide | Resolve"


@dataclass(slots=True, kw_only=True)
class Decided:
    """A decision as it is stored: about which call of which pause, by whom, when."""

    epoch: int
    tool_call_id: str
    kind: RequirementKind
    decision: Decision
    run_id: str | None = None
    """The member's run whose call it is; None when it is the paused run's own."""
    by: str | None = None
    at: datetime = field(default_factory=utc_now)


@dataclass(slots=True, kw_only=True)
class Requirement:
    """One thing that a run waits for. Its methods decide on this `RunResponse`; `continue_run` takes that along.

    `run_id` is the run whose call it is: a member's, when a team waits for its member.
    """

    run_id: str
    kind: RequirementKind
    tool: ToolExecution
    path: tuple[str, ...] = ()
    """Who waits: the name of the agent, below those of the teams that wait for it."""
    session_id: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    created_at: datetime = field(default_factory=utc_now)

    @property
    def tool_call_id(self) -> str:
        return self.tool.tool_call_id

    @property
    def is_open(self) -> bool:
        return self.kind in open_kinds(self.tool)

    def confirm(self, args: dict[str, Any] | None = None) -> None:
        """Have the call made; `args` replaces the model's arguments, where the tool allows edits."""
        self.tool.confirmed, self.tool.edited_args = True, args

    def reject(self, reason: str | None = None) -> None:
        """Have the call not made, and the model told so."""
        self.tool.confirmed, self.tool.confirmation_note = False, reason

    def provide(self, values: dict[str, Any]) -> None:
        """Fill the user's fields. Raises `KeyError` for one that was not asked for."""
        fields = {field.name: field for field in self.tool.user_input_schema or ()}
        for name, value in values.items():
            fields[name].value = value

    def resolve(self, value: Any) -> None:
        """Give the call's result."""
        self.tool.result = value


def open_kinds(tool: ToolExecution) -> list[RequirementKind]:
    """What a call still waits for."""
    if tool.is_done or tool.confirmed is False:
        return []
    kinds: list[RequirementKind] = []
    if tool.unknown_outcome and tool.confirmed is None:
        kinds.append("unknown_outcome")
    elif tool.requires_confirmation and tool.confirmed is None:
        kinds.append("confirmation")
    if tool.requires_user_input and any(field.value is None for field in tool.user_input_schema or ()):
        kinds.append("user_input")
    if tool.external_execution_required:
        kinds.append("external_execution")
    return kinds


def made(stored: ToolExecution, brought: ToolExecution) -> list[tuple[RequirementKind, Decision]]:
    """What `brought`, as a caller changed it, decides about the open call `stored`. All else in it is ignored."""
    decisions: list[tuple[RequirementKind, Decision]] = []
    for kind in open_kinds(stored):
        if kind in ("external_execution", "unknown_outcome") and brought.result is not None:
            decisions.append((kind, Resolve(to_text(brought.result))))
        elif kind in ("confirmation", "unknown_outcome") and brought.confirmed is True:
            decisions.append((kind, Confirm(args=brought.edited_args)))
        elif brought.confirmed is False:
            decisions.append((kind, Reject(reason=brought.confirmation_note)))
        elif kind == "user_input":
            given = {field.name: field.value for field in brought.user_input_schema or ()}
            asked = [field.name for field in stored.user_input_schema or () if field.value is None]
            if all(given.get(name) is not None for name in asked):
                decisions.append((kind, Provide({name: given[name] for name in asked})))
    return decisions


def kind_for(tool: ToolExecution, decision: Decision) -> RequirementKind | None:
    """Which open requirement of a call a decision is about; None when it fits none."""
    fitting: dict[type[Any], tuple[RequirementKind, ...]] = {
        Confirm: ("confirmation", "unknown_outcome"),
        Reject: ("confirmation", "unknown_outcome", "external_execution", "user_input"),
        Provide: ("user_input",),
        Resolve: ("external_execution", "unknown_outcome"),
    }
    return next((kind for kind in open_kinds(tool) if kind in fitting[type(decision)]), None)


def apply(tool: ToolExecution, decision: Decision) -> None:
    """Take a decision over into a call."""
    match decision:
        case Confirm(args=args):
            tool.confirmed = True
            if args is not None:
                tool.edited_args, tool.tool_args = args, args
        case Reject(reason=reason):
            tool.confirmed, tool.confirmation_note = False, reason
        case Provide(values=values):
            for field_ in tool.user_input_schema or ():
                field_.value = values.get(field_.name, field_.value)
            tool.tool_args = {**tool.tool_args, **values}
        case Resolve(value=value):
            tool.result = value


def expired(tools: Sequence[ToolExecution], now: datetime) -> list[tuple[ToolExecution, RequirementKind, Decision]]:
    """The decisions that time has made about calls whose requirement had an end."""
    return [
        (tool, kind, Confirm() if tool.on_expiry == "confirm" else Reject(reason="nobody decided in time"))
        for tool in tools
        if tool.expires_at is not None and tool.expires_at <= now
        for kind in open_kinds(tool)
    ]
