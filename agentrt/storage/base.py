"""The storage port: sessions, their runs, and what each run has done so far.

Four tables in whatever a driver calls a table: sessions, runs, steps (a run's journal), events. A run is a row from
its first moment; each step is appended; the terminal write holds the run's messages and response, so that a turn
appends and its cost does not grow with the session. Every method is one transaction that is never half done, also
when the awaiting task is cancelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from agentrt.models.message import Message, utc_now
from agentrt.run.response import RunStatus


@dataclass(slots=True, kw_only=True)
class StoredSession:
    """A conversation. `state` is its `session_state`; `user_id` its owner, None when nobody owns it."""

    session_id: str
    user_id: str | None = None
    name: str | None = None
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    run_count: int = 0
    created_at: datetime = field(default_factory=utc_now)
    updated_at: datetime = field(default_factory=utc_now)


@dataclass(slots=True, kw_only=True)
class Step:
    """One entry of a run's journal. `data` is what the codec can hold.

    Kinds: "model" (an assistant message), "intent" (tool calls about to run), "tool" (a call's result and the state it
    changed), "pause". `number` counts from 1 within the run.
    """

    number: int
    kind: str
    data: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class StoredRun:
    """A run as stored. `input` is what it was started with, `response` the last one written (a dict of plain fields)."""

    run_id: str
    session_id: str
    user_id: str | None = None
    agent_id: str | None = None
    parent_run_id: str | None = None
    status: RunStatus = RunStatus.RUNNING
    number: int = 0
    """Its place in the session, from 1; given by storage."""
    input: dict[str, Any] = field(default_factory=dict[str, Any])
    messages: list[Message] = field(default_factory=list[Message])
    response: dict[str, Any] | None = None
    steps: list[Step] = field(default_factory=list[Step])
    last_seq: int = 0
    created_at: datetime = field(default_factory=utc_now)
    updated_at: datetime = field(default_factory=utc_now)


@dataclass(slots=True, kw_only=True)
class Opening:
    """What storage knew when a run was entered: the session's state, and the runs of its history, oldest first.

    `history` holds the messages of each earlier run that has ended (completed, cancelled or failed), run by run.
    """

    state: dict[str, Any] | None
    history: list[list[Message]]
    number: int


@dataclass(slots=True, kw_only=True)
class StateChange:
    """A session state to merge: `mine` is what the run made of `base`. Storage merges with what is stored by then."""

    base: dict[str, Any]
    mine: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Conflict:
    """One place of the state that two runs changed; the later writer's value (`mine`) stands."""

    path: str
    mine: Any
    theirs: Any


@dataclass(slots=True, kw_only=True)
class RunChange:
    """What one commit adds to a run. A field that is None (or empty) leaves what is stored as it is."""

    run_id: str
    session_id: str
    status: RunStatus | None = None
    expect: RunStatus | None = None
    """Commit only if the stored status is this; else raise `AlreadyContinued`."""
    steps: Sequence[Step] = ()
    events: Sequence[tuple[int, str]] = ()
    """Facts: (seq, the event's JSON)."""
    messages: Sequence[Message] | None = None
    response: dict[str, Any] | None = None
    state: StateChange | None = None
    last_seq: int | None = None


@dataclass(slots=True, kw_only=True)
class Committed:
    """What came of a commit: the merged state when one was given, and the places where it clashed."""

    state: dict[str, Any] | None = None
    conflicts: Sequence[Conflict] = ()


class Storage(Protocol):
    """Keeps sessions and runs. Safe to share between agents, tasks, threads and event loops.

    `durable` says that what is committed outlives the process: the engine then journals each step.
    Raises `StorageError` and its subclasses only.
    """

    durable: bool

    async def begin(self, run: StoredRun, *, history_runs: int | None = 0) -> Opening:
        """Store a new run (and its session, if it is new) and return what it starts from.

        `history_runs` is how many ended runs of the session to return, newest ones, None for all. Raises
        `SessionAccessDenied` when the session has an owner other than `run.user_id`; a session without an owner
        becomes the user's. Raises `RunBusy` when `run_id` is stored already.
        """
        ...

    async def commit(self, change: RunChange) -> Committed:
        """Add to a stored run, in one transaction. Raises `CodecError` for a value that can't be stored."""
        ...

    async def load_run(self, run_id: str) -> StoredRun | None:
        """Return the run with its messages and steps, or None."""
        ...

    async def load_session(self, session_id: str) -> StoredSession | None:
        """Return the session, or None."""
        ...

    async def load_history(self, session_id: str, *, runs: int | None = None) -> list[list[Message]]:
        """Return the messages of the session's last `runs` ended runs (None: all), oldest first, run by run."""
        ...

    async def aclose(self) -> None:
        """Release what is held. Closing twice is fine; a later call opens again."""
        ...
