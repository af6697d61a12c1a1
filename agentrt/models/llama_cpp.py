"""Models served by llama.cpp's server. For one that runs in this process see `agentrt.models.local`."""

from __future__ import annotations

from typing import ClassVar

from agentrt.models.openai.like import OpenAILike


class LlamaCpp(OpenAILike):
    """The model of a `llama-server`, which serves one: `id` is only a name. The key, if any, is LLAMA_API_KEY."""

    environment: ClassVar[tuple[str, ...]] = ("LLAMA_API_KEY",)
    base_url_variable: ClassVar[str] = "LLAMA_CPP_BASE_URL"

    id: str = "default"
    name: str = "llama-cpp"
    base_url: str | None = "http://localhost:8080/v1"
