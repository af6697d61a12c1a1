"""What is decided on the command line, and the call that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Self

from agentrt.cli._runs import tools_of
from agentrt.errors import ConfigurationError
from agentrt.run.decisions import Confirm, Decision, Provide, Reject, Resolve, kind_for, open_kinds
from agentrt.run.response import RunStatus, ToolExecution
from agentrt.storage.base import StoredRun
from agentrt.utils._ask import value_of
from agentrt.utils._blocks import call_text, need_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The options that say what is decided."""

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


def decisions_about(tool: ToolExecution, given: Given) -> list[Decision]:
    """What is decided about a call: the values first, as they alone may still be refused.

    Raises `ConfigurationError` for what the call does not wait for.
    """
    if given.reject is not None:
        return [Reject(reason=given.reject or None)]
    made: list[Decision] = []
    if given.values:
        made.append(Provide(_values(tool, given.values)))
    if given.confirm:
        made.append(Confirm())
    if given.result is not None:
        made.append(Resolve(given.result))
    for decision in made:
        if kind_for(tool, decision) is None:
            _refuse(tool, _MISFITS[type(decision)])
    if given.confirm and given.result is not None and "unknown_outcome" in open_kinds(tool):
        _refuse(tool, "is made again, or has its result, but not both")
    return made


_MISFITS: dict[type[Decision], str] = {
    Confirm: "has nothing to confirm",
    Provide: "asks for no values",
    Resolve: "makes its result itself",
}


def _values(tool: ToolExecution, texts: dict[str, str]) -> dict[str, object]:
    fields = {field.name: field for field in tool.user_input_schema or ()}
    for name in texts:
        if name not in fields:
            _refuse(tool, f"has no field {name!r} (its fields: {', '.join(fields) or 'none'})")
    return {name: value_of(fields[name], text) for name, text in texts.items()}


def _refuse(tool: ToolExecution, why: str) -> NoReturn:
    raise ConfigurationError(f"{call_text(tool)} {why}: it {need_text(tool)}")
