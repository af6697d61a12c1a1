"""A decision as it is given on the command line, and the call it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from agentrt.cli._runs import tools_of
from agentrt.errors import ConfigurationError
from agentrt.run.decisions import open_kinds
from agentrt.run.response import RunStatus, ToolExecution
from agentrt.storage.base import StoredRun
from agentrt.utils._ask import value_of
from agentrt.utils._blocks import call_text, need_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    confirm: bool
    reject: str | None
    result: str | None
    values: dict[str, str]

    @classmethod
    def of(cls, *, confirm: bool, reject: str | None, result: str | None, values: Sequence[str]) -> Self:
        """Raises `ConfigurationError` for options that say nothing, or contradict each other."""
        pairs: dict[str, str] = {}
        for text in values:
            name, is_pair, value = text.partition("=")
            if not is_pair:
                raise ConfigurationError(f"--set takes FIELD=VALUE, not {text!r}")
            pairs[name] = value
        if not (confirm or pairs) and reject is None and result is None:
            raise ConfigurationError("Decide with --confirm, --reject WHY, --result TEXT or --set FIELD=VALUE")
        if reject is not None and (confirm or pairs or result is not None):
            raise ConfigurationError("A call that is rejected is not run: --reject stands alone")
        return cls(confirm=confirm, reject=reject, result=result, values=pairs)


def find_call(stored: StoredRun, tool_call_id: str) -> ToolExecution:
    """The open call of that id. Raises `ConfigurationError` naming those there are."""
    if stored.status is not RunStatus.PAUSED:
        raise ConfigurationError(f"Run {stored.run_id} is {stored.status.lower()}: it waits for nothing")
    waiting = [tool for tool in tools_of(stored) if need_text(tool)]
    for tool in waiting:
        if tool.tool_call_id == tool_call_id:
            return tool
    lines = [f"  {tool.tool_call_id}  {call_text(tool)} {need_text(tool)}" for tool in waiting]
    raise ConfigurationError("\n".join([f"Run {stored.run_id} waits for no call {tool_call_id!r}, but for:", *lines]))


def apply(decision: Decision, tool: ToolExecution) -> None:
    """Put a decision on a call. Raises `ConfigurationError` for one that the call does not wait for."""
    kinds = open_kinds(tool)
    asks_leave = "confirmation" in kinds or "unknown_outcome" in kinds
    if decision.reject is not None:
        if not asks_leave:
            _refuse(tool, "can't be rejected")
        tool.confirmed, tool.confirmation_note = False, decision.reject or None
        return
    if decision.confirm:
        if not asks_leave:
            _refuse(tool, "has nothing to confirm")
        tool.confirmed = True
    if decision.result is not None:
        if not ("external_execution" in kinds or "unknown_outcome" in kinds):
            _refuse(tool, "makes its result itself")
        tool.result = decision.result
    fields = {field.name: field for field in tool.user_input_schema or ()}
    for name, text in decision.values.items():
        if name not in fields:
            _refuse(tool, f"has no field {name!r} (its fields: {', '.join(fields) or 'none'})")
        fields[name].value = value_of(fields[name], text)


def _refuse(tool: ToolExecution, why: str) -> None:
    raise ConfigurationError(f"{call_text(tool)} {why}: it {need_text(tool)}")
