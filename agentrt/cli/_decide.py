"""Asks the user at the terminal for what a paused run waits for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from agentrt.run.response import RunResponse, UserInputField
from agentrt.utils._blocks import call_text
from agentrt.utils._clean import clean

YES = frozenset({"y", "yes"})


def decide(response: RunResponse[Any], ask: Callable[[str], str]) -> bool:
    """Put the user's decisions on the response's tools; False if the user leaves the run paused (end of input)."""
    try:
        for tool in response.tools_requiring_confirmation:
            tool.confirmed = ask(f"Run {call_text(tool)}? [y/N] ").strip().lower() in YES
            if not tool.confirmed:
                tool.confirmation_note = ask("Why not? (Enter for no reason) ").strip() or None
        for tool in response.tools_requiring_user_input:
            for field in tool.user_input_schema or ():
                if field.value is None:
                    field.value = _value(field, ask)
        for tool in response.tools_awaiting_external_execution:
            tool.result = ask(f"The result of {call_text(tool)}: ")
    except EOFError:
        return False
    return True


def _value(field: UserInputField, ask: Callable[[str], str]) -> Any:
    hint = f" ({clean(field.description)})" if field.description else ""
    text = ask(f"{clean(field.name)}{hint}: ")
    if field.field_type is str:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text  # the tool's schema has the last word
