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
from agentrt.storage.merge import changed, copy_state

if TYPE_CHECKING:
    from agentrt.memory.memory import Memory


@dataclass(slots=True)
class Ended:
    """A run that a definition got back, and what a program makes of its state: the next run of the session is given it.

    The response's own state stays as the run left it.
    """

    response: RunResponse[Any]
    given_out: dict[str, Any] | None = None
    _known: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the session has of that."""

    def state(self) -> dict[str, Any]:
        state = self.given_out
        if state is None:
            self._known = copy_state(self.response.session_state or {})
            state = self.given_out = copy_state(self._known)
        return state

    def take_changes(self) -> dict[str, Any]:
        """The keys that were set or changed since this was asked last."""
        if self.given_out is None:
            return {}
        changes = changed(self._known, self.given_out)
        self._known = copy_state(self.given_out)
        return changes


@dataclass(slots=True)
class Here:
    """One definition in one context, and the newest run that the context got back."""

    sessions: dict[str | None, str] = field(default_factory=dict[str | None, str])
    """Its implicit sessions, one a user."""
    newest: Ended | None = None


@dataclass(slots=True)
class Record:
    """One definition: its contexts, and its newest run over all of them."""

    contexts: WeakKeyDictionary[Any, Here] = field(default_factory=WeakKeyDictionary[Any, Here])
    newest: Ended | None = None
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
                paused, self.newest = here.newest, Ended(response)
                here.newest = self.newest
                same = paused is not None and paused.response.run_id == response.run_id
                if paused is not None and same and (changes := paused.take_changes()):
                    self.newest.state().update(changes)

    def read(self, name: str) -> Ended | None:
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

    def returned(self, run_id: str) -> RunResponse[Any] | None:
        """The response of that run, if it is the newest that this context got back, or the definition's newest."""
        for newest in (self.here().newest, self.newest):
            if newest is not None and newest.response.run_id == run_id:
                return newest.response
        return None

    def set_state(self, value: dict[str, Any]) -> None:
        newest = self.here().newest or self.newest
        if newest is not None:
            newest.given_out = value

    def given_state(self, session_id: str, given: dict[str, Any] | None) -> dict[str, Any] | None:
        """What a new run of the session is given: what the program made of the newest run's state, and `given`."""
        here = self.here().newest
        newest = here if here is not None or self.active or self.overlapped else self.newest
        if newest is None or newest.response.session_id != session_id:
            return given
        return {**newest.take_changes(), **(given or {})} or given


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
