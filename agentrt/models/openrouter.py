"""Models at OpenRouter."""

from __future__ import annotations

from typing import ClassVar

from agentrt.models.openai.like import OpenAILike


class OpenRouter(OpenAILike):
    """A model at OpenRouter, by its id with the vendor's name. The key is OPENROUTER_API_KEY.

    `extra_body={"provider": {"require_parameters": True}}` keeps requests from providers that ignore parts of them.
    """

    environment: ClassVar[tuple[str, ...]] = ("OPENROUTER_API_KEY",)
    base_url_variable: ClassVar[str] = "OPENROUTER_BASE_URL"
    needs_key: ClassVar[bool] = True

    id: str = "openai/gpt-4.1"
    name: str = "openrouter"
    base_url: str | None = "https://openrouter.ai/api/v1"
