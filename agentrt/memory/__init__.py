"""Memories of users and summaries of sessions. The names are resolved at their first use: most agents need none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentrt.memory.base import SessionSummary, UserMemory
    from agentrt.memory.manager import MemoryManager
    from agentrt.memory.memory import Memory
    from agentrt.memory.summarizer import SessionSummarizer

__all__ = ["Memory", "MemoryManager", "SessionSummarizer", "SessionSummary", "UserMemory"]

_HOMES = {
    "Memory": "memory",
    "MemoryManager": "manager",
    "SessionSummarizer": "summarizer",
    "SessionSummary": "base",
    "UserMemory": "base",
}

if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
