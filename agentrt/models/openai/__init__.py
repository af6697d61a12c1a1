"""OpenAI's models, and those of servers that speak the same protocol."""

from __future__ import annotations

from agentrt.models.openai.chat import OpenAIChat

__all__ = ["OpenAIChat"]
