"""What a run may be asked with, made into messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentrt.models.message import Message
from agentrt.tools.results import to_text


def to_messages(input: Any, media: Mapping[str, Any]) -> list[Message]:
    """Return the input as messages: a text, a message, a list of messages, or any other value, sent as JSON.

    Media given beside it go with the last user message. Raises `TypeError` or `ValueError` for a list that mixes
    messages with other things, and for messages with wrong fields.
    """
    if isinstance(input, str):
        messages = [Message(role="user", content=input)]
    elif _is_message(input):
        messages = [Message.of(input)]
    elif isinstance(input, (list, tuple)) and any(_is_message(item) for item in input):  # pyright: ignore[reportUnknownVariableType]
        messages = [Message.of(item) for item in input]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    else:
        messages = [Message(role="user", content=to_text(input))]
    given = {name: list(items) for name, items in media.items() if items}
    if given:
        last = next((at for at in reversed(range(len(messages))) if messages[at].role == "user"), None)
        if last is None:
            raise ValueError(f"{', '.join(given)} need a user message to go with")
        messages[last] = replace(messages[last], **given)
    return messages


def _is_message(item: Any) -> bool:
    return isinstance(item, Message) or (isinstance(item, Mapping) and "role" in item)
