"""The command line: `agentrt run`, `agentrt chat`, `agentrt runs …`, `agentrt db …`."""

from __future__ import annotations

from agentrt.cli.app import main

__all__ = ["main"]
