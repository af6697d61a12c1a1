"""History: any cut of it is a conversation that a provider accepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentrt.models.message import Message

NO_RESULT = "No result: the call was interrupted, and what it did is not known."


def valid_messages(messages: Iterable[Message]) -> list[Message]:
    """Return the messages as they may be sent: each call answered once and at once, no orphan results, nothing cut.

    Messages are shared, not copied. A call without a result gets one that says so; a result without its call, an
    assistant message that was cut off, and system messages of earlier runs are left out.
    """
    valid: list[Message] = []
    open_calls: dict[str, str] = {}
    for message in messages:
        if message.role == "tool":
            if open_calls.pop(message.tool_call_id or "", None) is not None:
                valid.append(message)
            continue
        if open_calls:
            valid.extend(missing_results(open_calls))
            open_calls = {}
        if message.incomplete:
            continue
        valid.append(message)
        if message.tool_calls:
            open_calls = {call.id: call.name for call in message.tool_calls}
    valid.extend(missing_results(open_calls))
    return valid


def missing_results(open_calls: dict[str, str]) -> list[Message]:
    return [
        Message(role="tool", tool_call_id=id, tool_name=name, content=NO_RESULT, tool_call_error=True)
        for id, name in open_calls.items()
    ]


def flatten(runs: Sequence[Sequence[Message]]) -> list[Message]:
    """Return the messages of earlier runs as one valid history, without their system messages."""
    return valid_messages(message for run in runs for message in run if message.role != "system")
