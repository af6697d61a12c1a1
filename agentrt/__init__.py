"""agentrt: an async-first runtime for LLM agents, teams and workflows.

The names below are resolved at their first use, so `import agentrt` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentrt.agent import Agent
    from agentrt.media import Audio, File, Image, Video
    from agentrt.models.message import Message
    from agentrt.run.budget import Budget, Price
    from agentrt.run.context import RunContext
    from agentrt.run.limits import RunLimits
    from agentrt.run.response import RunResponse, RunStatus
    from agentrt.team import Team
    from agentrt.tools import Function, Toolkit, tool
    from agentrt.workflow import Workflow, workflow

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Audio",
    "Budget",
    "File",
    "Function",
    "Image",
    "Message",
    "Price",
    "RunContext",
    "RunLimits",
    "RunResponse",
    "RunStatus",
    "Team",
    "Toolkit",
    "Video",
    "Workflow",
    "__version__",
    "tool",
    "workflow",
]

_HOMES = {
    "Agent": "agentrt.agent",
    "Audio": "agentrt.media",
    "Budget": "agentrt.run.budget",
    "File": "agentrt.media",
    "Function": "agentrt.tools",
    "Image": "agentrt.media",
    "Message": "agentrt.models.message",
    "Price": "agentrt.run.budget",
    "RunContext": "agentrt.run.context",
    "RunLimits": "agentrt.run.limits",
    "RunResponse": "agentrt.run.response",
    "RunStatus": "agentrt.run.response",
    "Team": "agentrt.team",
    "Toolkit": "agentrt.tools",
    "Video": "agentrt.media",
    "Workflow": "agentrt.workflow",
    "tool": "agentrt.tools",
    "workflow": "agentrt.workflow",
}

if not TYPE_CHECKING:  # a type checker that saw it would take any misspelt name for granted

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__():
        return sorted(globals() | _HOMES)
