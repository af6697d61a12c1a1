"""`debug_mode`: what a run does, a line each, at DEBUG."""

from __future__ import annotations

from agentrt.models.message import Message
from agentrt.run.events import (
    BaseEvent,
    ModelCallCompleted,
    ModelCallStarted,
    RunCancelled,
    RunCompleted,
    RunError,
    RunStarted,
    ToolCallCompleted,
    ToolCallError,
    ToolCallStarted,
)

SHOWN_CHARS = 500
"""No text in a line is longer than this."""


def line_of(event: BaseEvent) -> str:
    """What a fact says, on one line."""
    return f"{event.run_id[:8]} {event.event}{_about(event)}"


def line_of_message(message: Message) -> str:
    """A message as it is sent, on one line."""
    calls = "".join(f" {call.name}({_short(call.arguments)})" for call in message.tool_calls or ())
    return f"  {message.role}: {_short(message.content)}{calls}"


def _about(event: BaseEvent) -> str:
    match event:
        case RunStarted(model=model):
            return f" on {model} in session {event.session_id}"
        case ModelCallStarted(index=index, model=model):
            return f" {index} of {model}"
        case ModelCallCompleted(index=index, usage=usage, elapsed_s=elapsed_s, finish_reason=reason, error=error):
            spent = f"{usage.input_tokens} tokens in, {usage.output_tokens} out, {elapsed_s:.2f} s"
            return f" {index}: {error or reason}, {spent}"
        case ToolCallStarted(tool=tool):
            return f" {tool.tool_name}({_short(tool.tool_args)})"
        case ToolCallCompleted(tool=tool) | ToolCallError(tool=tool):
            return f" {tool.tool_name}: {_short(tool.result)} ({(tool.elapsed_s or 0) * 1000:.0f} ms)"
        case RunCompleted() | RunCancelled() | RunError():
            return f": {_short(event.content)}"
        case _:
            return ""


def _short(value: object) -> str:
    text = " ".join(str(value if value is not None else "").split())
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
