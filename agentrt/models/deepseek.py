"""Models at DeepSeek."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from agentrt.models.message import Message
from agentrt.models.openai.like import OpenAILike


class DeepSeek(OpenAILike):
    """A model at DeepSeek. The key is DEEPSEEK_API_KEY."""

    environment: ClassVar[tuple[str, ...]] = ("DEEPSEEK_API_KEY",)
    base_url_variable: ClassVar[str] = "DEEPSEEK_BASE_URL"
    needs_key: ClassVar[bool] = True

    id: str = "deepseek-chat"
    name: str = "deepseek"
    base_url: str | None = "https://api.deepseek.com"

    def conversation(self, messages: Sequence[Message], system_role: str) -> list[dict[str, Any]]:
        wire = super().conversation(messages, system_role)
        answers = (message for message in messages if message.role == "assistant")
        for turn in wire:
            if turn["role"] == "assistant" and (answer := next(answers)).tool_calls and answer.reasoning_content:
                turn["reasoning_content"] = answer.reasoning_content  # without it, thinking models refuse the rest
        return wire
