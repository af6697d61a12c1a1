"""Models served by vLLM."""

from __future__ import annotations

from typing import ClassVar

from agentrt.models.openai.like import OpenAILike


class VLLM(OpenAILike):
    """A model at a vLLM server; `id` is its `--served-model-name`. The key is VLLM_API_KEY, if the server wants one."""

    environment: ClassVar[tuple[str, ...]] = ("VLLM_API_KEY",)
    base_url_variable: ClassVar[str] = "VLLM_BASE_URL"

    name: str = "vllm"
    base_url: str | None = "http://localhost:8000/v1"
