"""`Agent`, and what comes back from a run."""

from agentrt.agent.agent import Agent
from agentrt.run.response import RunResponse, RunStatus

__all__ = ["Agent", "RunResponse", "RunStatus"]
