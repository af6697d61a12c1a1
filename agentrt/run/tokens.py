"""How many tokens something has, estimated from its length: rather more than it turns out to be."""

from __future__ import annotations

from agentrt.models.message import Message

BYTES_PER_TOKEN = 3
"""What a text is estimated by: more tokens than English has, about as many as Chinese has."""
MESSAGE_TOKENS = 8
"""What a message costs besides its text."""
MEDIA_TOKENS = 1_600
"""What an image, a sound, a video or a file is taken for."""


def tokens_of(*texts: str | None) -> int:
    """The tokens of these texts together."""
    return -(-sum(map(_size, texts)) // BYTES_PER_TOKEN)


def tokens_of_message(message: Message) -> int:
    media = (message.images, message.audio, message.videos, message.files)
    parts = tokens_of(str(message.parts)) if message.parts else 0  # which say what the message says
    return (
        MESSAGE_TOKENS + MEDIA_TOKENS * sum(len(items) for items in media if items) + max(tokens_said(message), parts)
    )


def tokens_said(message: Message) -> int:
    """The tokens of its text, its reasoning and its calls."""
    calls = [text for call in message.tool_calls or () for text in (call.name, call.arguments)]
    return tokens_of(message.content, message.reasoning_content, *calls)


def _size(text: str | None) -> int:
    if text is None or text.isascii():
        return len(text or "")
    return len(text.encode("utf-8", "surrogatepass"))
