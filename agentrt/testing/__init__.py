"""What tests of agents need: models that say what they are told to, and a switch that forbids real ones."""

from __future__ import annotations

from agentrt.testing.models import (
    FunctionModel,
    Gate,
    Reply,
    ScriptedModel,
    ScriptError,
    Signal,
    allow_model_requests,
    forbid_model_requests,
    reply,
)

__all__ = [
    "FunctionModel",
    "Gate",
    "Reply",
    "ScriptError",
    "ScriptedModel",
    "Signal",
    "allow_model_requests",
    "forbid_model_requests",
    "reply",
]
