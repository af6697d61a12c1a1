"""Asks the user at the terminal for what a paused run waits for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from typing import Any, TextIO, TypeAlias

from agentrt.run.decisions import open_kinds
from agentrt.run.response import RunResponse, ToolExecution, UserInputField
from agentrt.utils._blocks import call_text, need_text
from agentrt.utils._clean import clean

Ask: TypeAlias = Callable[[str], str]
"""Shows a prompt and returns the line that is typed, as `input` does. `EOFError`: nobody will answer."""

YES = frozenset({"y", "yes"})


def at_terminal() -> Ask | None:
    """`input`, with line editing, where somebody sits at a terminal; else None."""
    streams: tuple[TextIO | None, ...] = (sys.stdin, sys.stdout)
    if not all(stream is not None and stream.isatty() for stream in streams):
        return None
    with suppress(ImportError):  # Windows has none
        import_module("readline")
    return input


def decided(response: RunResponse[Any], ask: Ask) -> RunResponse[Any] | None:
    """A copy of a paused response with the user's decisions on its tools; None if the user ends the input instead."""
    answered = replace(response, tools=deepcopy(response.tools), member_responses=deepcopy(response.member_responses))
    try:
        for tool in answered.tools_with_members:
            _decide(tool, ask)
    except EOFError:
        return None
    return answered


def _decide(tool: ToolExecution, ask: Ask) -> None:
    kinds = open_kinds(tool)
    if "confirmation" in kinds:
        tool.confirmed = ask(f"Run {call_text(tool)}? [y/N] ").strip().lower() in YES
        if not tool.confirmed:
            tool.confirmation_note = ask("Why not? (Enter for no reason) ").strip() or None
    if "unknown_outcome" in kinds:
        _find_out(tool, ask)
    if tool.confirmed is False or tool.is_done:
        return
    if "user_input" in kinds:
        for field in tool.user_input_schema or ():
            if field.value is None:
                hint = f" ({clean(field.description)})" if field.description else ""
                field.value = value_of(field, ask(f"{clean(field.name)}{hint}: "))
    if "external_execution" in kinds:
        tool.result = ask(f"The result of {call_text(tool)}: ")


def _find_out(tool: ToolExecution, ask: Ask) -> None:
    """Ask what became of a call that was cut. There is no answer by default: each of them may do harm."""
    question = f"{call_text(tool)} {need_text(tool)}. Run it [a]gain, give its [r]esult, [s]kip it? "
    while True:
        match ask(question).strip().lower():
            case "a" | "again":
                tool.confirmed = True
            case "r" | "result":
                tool.result = ask("Its result: ")
            case "s" | "skip":
                tool.confirmed = False
                tool.confirmation_note = ask("What is the model to be told? (Enter: it is not known) ") or UNKNOWN
            case _:
                continue
        return


UNKNOWN = "it is not known whether it has taken effect"


def value_of(field: UserInputField, text: str) -> Any:
    """What somebody typed for a field: JSON, unless the field is a text. The tool's schema has the last word."""
    if field.field_type is str:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
