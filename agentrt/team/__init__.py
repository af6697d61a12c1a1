"""`Team`: an agent whose tools are its members."""

from agentrt.team.team import Team

__all__ = ["Team"]
