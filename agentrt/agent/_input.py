"""What a run may be asked with, made into messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentrt.media import Audio, File, Image, Video
from agentrt.models.message import Message
from agentrt.tools.results import to_text

MEDIA = {"images": Image, "audio": Audio, "videos": Video, "files": File}


def to_messages(input: Any, media: Mapping[str, Any]) -> list[Message]:
    """Return the input as messages: a text, a message, a list of messages, or any other value, sent as JSON.

    Media given beside it go with the last user message. Raises `TypeError` or `ValueError` for a list that mixes
    messages with other things, for messages with wrong fields, and for media that are none.
    """
    if isinstance(input, str):
        messages = [Message(role="user", content=input)]
    elif _is_message(input):
        messages = [Message.of(input)]
    elif isinstance(input, (list, tuple)) and any(_is_message(item) for item in input):  # pyright: ignore[reportUnknownVariableType]
        messages = [Message.of(item) for item in input]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    else:
        messages = [Message(role="user", content=to_text(input))]
    given = {name: _media(name, items) for name, items in media.items() if items}
    if given:
        last = next((at for at in reversed(range(len(messages))) if messages[at].role == "user"), None)
        if last is None:
            raise ValueError(f"{', '.join(given)} need a user message to go with")
        messages[last] = replace(messages[last], **given)
    return messages


def _media(name: str, given: Any) -> list[Any]:
    kind = MEDIA[name]
    items = [given] if isinstance(given, kind) else list(given)
    for item in items:
        if not isinstance(item, kind):
            raise TypeError(f"{name} takes {kind.__name__}(url=…, path=… or data=…), not {type(item).__name__}")
    return items


def _is_message(item: Any) -> bool:
    return isinstance(item, Message) or (isinstance(item, Mapping) and "role" in item)
