"""Models of Google: Gemini, at the Gemini API and on Vertex AI."""

from agentrt.models.google.gemini import Gemini

__all__ = ["Gemini"]
