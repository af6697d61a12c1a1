"""History: any cut of it is a conversation that a provider accepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentrt.models.message import Message
from agentrt.run.tokens import tokens_of_message

if TYPE_CHECKING:
    from agentrt.run.definition import RunDefinition

CUT_OFF = "\n\n[This answer was cut off here.]"
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
    """Return the messages of earlier runs as one valid history, without their system messages.

    The text of an answer whose run was cancelled is kept and marked as such: the user read it, and may refer to it.
    """
    return valid_messages(
        [
            _marked(message, message.content) if message.cancelled and message.content else message
            for run in runs
            for message in run
            if message.role != "system"
        ]
    )


def _marked(message: Message, text: str) -> Message:
    return replace(message, content=text + CUT_OFF, incomplete=False, provider=None, parts=None)


# --- how much of it is sent ------------------------------------------------------------------------------------------

MOST_RUNS = 100
"""How many runs are looked at where tokens are the only bound."""


def runs_to_send(definition: RunDefinition[Any]) -> int:
    """How many earlier runs of the session are to be loaded, for `sendable` to choose from."""
    if not definition.add_history_to_messages:
        return 0
    if definition.num_history_responses is not None:
        return definition.num_history_responses
    if definition.history_tokens is not None and definition.given("num_history_runs") is None:
        return MOST_RUNS
    return definition.num_history_runs


def sendable(runs: Sequence[Sequence[Message]], max_tokens: int | None) -> list[Message]:
    """Return the messages of these runs, oldest first; with `max_tokens`, of as many of the newest as have room.

    It is cut between runs. The first that has no room is told as question and answer, where that has.
    """
    if max_tokens is None:
        return flatten(runs)
    kept: list[list[Message]] = []
    for run in reversed(runs):
        messages = flatten([run])
        whole = sum(map(tokens_of_message, messages))
        if whole > max_tokens:
            short = _in_short(messages)
            if sum(map(tokens_of_message, short)) <= max_tokens:
                kept.append(short)
            break
        max_tokens -= whole
        kept.append(messages)
    return [message for messages in reversed(kept) for message in messages]


def _in_short(messages: Sequence[Message]) -> list[Message]:
    """What was asked, and the answer, without all that led to it. Nothing where there was none."""
    if not messages or messages[-1].role != "assistant" or messages[-1].tool_calls:
        return []
    # a provider's own parts may refer to what is left out
    answer = replace(messages[-1], parts=None, provider=None)
    return [*(message for message in messages if message.role == "user"), answer]
