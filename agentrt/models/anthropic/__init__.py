"""Models of Anthropic, and of servers that speak its Messages API."""

from agentrt.models.anthropic.claude import Claude

__all__ = ["Claude"]
