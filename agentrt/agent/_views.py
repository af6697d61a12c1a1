"""What "the newest run" and "the session I am in" mean for one definition object, per task and thread.

Kept beside the definitions, in weak maps: a definition, a task or a thread that is gone leaves nothing here. The engine
never reads any of it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from agentrt.errors import AgentRTError, AmbiguousRun
from agentrt.run.response import RunResponse
from agentrt.run.run import new_id
from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage

if TYPE_CHECKING:
    from agentrt.memory.memory import Memory


@dataclass(slots=True)
class Here:
    """One definition in one context, and the newest run that the context got back."""

    sessions: dict[str | None, str] = field(default_factory=dict[str | None, str])
    """Its implicit sessions, one a user."""
    newest: RunResponse[Any] | None = None


@dataclass(slots=True)
class Record:
    """One definition: its contexts, and its newest run over all of them."""

    contexts: WeakKeyDictionary[Any, Here] = field(default_factory=WeakKeyDictionary[Any, Here])
    newest: RunResponse[Any] | None = None
    active: int = 0
    overlapped: bool = False
    storage: Storage | None = None
    memory: Memory | None = None

    def here(self) -> Here:
        context = context_key()
        here = self.contexts.get(context)
        if here is None:
            here = self.contexts[context] = Here()
        return here

    def started(self) -> None:
        with _lock:
            self.overlapped = self.active > 0
            self.active += 1

    def ended(self, here: Here, response: RunResponse[Any] | None) -> None:
        with _lock:
            self.active -= 1
            self.overlapped = self.overlapped or self.active > 0
            if response is not None:
                self.newest = here.newest = response

    def read(self, name: str) -> RunResponse[Any] | None:
        """The newest run that this context got back, else the definition's newest, else None."""
        here = self.contexts.get(context_key())
        if here is not None and here.newest is not None:
            return here.newest
        if self.active > 1 or (self.overlapped and self.newest is not None):
            raise AmbiguousRun(
                f"Runs of this object overlap, so {name} has no one value here; "
                "use the RunResponse that each call returns"
            )
        return self.newest


_lock = threading.Lock()
_records: WeakKeyDictionary[Any, Record] = WeakKeyDictionary()


def record_of(definition: Any) -> Record:
    record = _records.get(definition)
    if record is None:
        with _lock:
            record = _records.setdefault(definition, Record())
    return record


def own_storage(record: Record) -> Storage:
    """Where a definition without storage keeps its sessions: in memory, as long as it lives."""
    if record.storage is None:
        record.storage = InMemoryStorage(max_sessions=1000)
    return record.storage


def own_memory(record: Record) -> Memory:
    """What a definition without a memory remembers by: in memory, as long as it lives."""
    if record.memory is None:
        from agentrt.memory.memory import Memory  # which most agents don't need

        record.memory = Memory()
    return record.memory


def implicit_session(here: Here, user_id: str | None) -> str:
    session_id = here.sessions.get(user_id)
    return here.sessions.setdefault(user_id, new_id()) if session_id is None else session_id


def no_run_yet(name: str) -> AgentRTError:
    return AgentRTError(f"There is no {name} yet: this object has not been run")


class _Notebook:
    """The one context that all cells of a notebook are."""


_notebook = _Notebook()


def context_key() -> Any:
    """The running task, else the thread; a notebook counts as one."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    if shell is not None and getattr(shell, "kernel", None) is not None:
        return _notebook
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task if task is not None else threading.current_thread()
