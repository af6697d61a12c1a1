"""Models at Groq."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from agentrt.models.message import Message
from agentrt.models.openai.like import OpenAILike


class Groq(OpenAILike):
    """A model at Groq. The key is GROQ_API_KEY."""

    environment: ClassVar[tuple[str, ...]] = ("GROQ_API_KEY",)
    base_url_variable: ClassVar[str] = "GROQ_BASE_URL"
    needs_key: ClassVar[bool] = True

    id: str = "llama-3.3-70b-versatile"
    name: str = "groq"
    base_url: str | None = "https://api.groq.com/openai/v1"

    def conversation(self, messages: Sequence[Message], system_role: str) -> list[dict[str, Any]]:
        wire = super().conversation(messages, system_role)
        for message in wire:
            message.pop("name", None)  # refused
        return wire
