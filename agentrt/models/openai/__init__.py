"""OpenAI's models, and those of servers that speak the same protocol."""

from __future__ import annotations

from agentrt.models.openai.chat import OpenAIChat
from agentrt.models.openai.like import OpenAILike
from agentrt.models.openai.responses import OpenAIResponses

__all__ = ["OpenAIChat", "OpenAILike", "OpenAIResponses"]
