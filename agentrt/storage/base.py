"""The storage port: sessions, their runs, and what each run has done so far.

Four tables in whatever a driver calls a table: sessions, runs, steps (a run's journal), events. A run is a row from
its first moment; each step is appended; the terminal write holds the run's messages and response, so that a turn
appends and its cost does not grow with the session. Every method is one transaction that is never half done: what
was called is carried out whole and in the order of the calls, also when the awaiting task is cancelled.
`agentrt.testing.contracts` has the tests that every storage passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from agentrt.models.message import Message, utc_now
from agentrt.run.response import RunStatus
from agentrt.storage.merge import Conflict

__all__ = [
    "Committed",
    "Conflict",
    "Kept",
    "LeaseNews",
    "Opening",
    "RunChange",
    "StateChange",
    "Step",
    "Storage",
    "StoredRun",
    "StoredSession",
    "kept",
]

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class StoredSession:
    """A conversation. `state` is its `session_state`; `user_id` its owner, None when nobody owns it.

    `agent_id` is the agent of its first run. `run_count` counts its own runs, not those of members and sub-agents.
    """

    session_id: str
    user_id: str | None = None
    agent_id: str | None = None
    name: str | None = None
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    run_count: int = 0
    created_at: datetime = field(default_factory=utc_now)
    updated_at: datetime = field(default_factory=utc_now)


@dataclass(slots=True, kw_only=True)
class Step:
    """One entry of a run's journal. `data` is what the codec can hold. `number` counts from 1 within the run.

    Kinds: "model" (an assistant message), "intent" (tool calls about to run), "tool" (a call's result and the state it
    changed), "pause". Evidence has numbers below 0, the first -1.
    """

    number: int
    kind: str
    data: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class StoredRun:
    """A run as stored. `input` is what it was started with, `response` the last one written, as a dict of its fields.

    `steps` are those of a run that can be gone on with; a completed or cancelled one has its messages only, and no
    `base_state`. Evidence stays.
    """

    run_id: str
    session_id: str
    user_id: str | None = None
    agent_id: str | None = None
    parent_run_id: str | None = None
    own_session: bool = False
    """Is it a turn of its session although it is a child run? Told when it begins: a member's session is its own."""
    status: RunStatus = RunStatus.RUNNING
    number: int = 0
    """Its place in the session, from 1; given by storage. 0 for a child run, which is not part of the session, unless
    it has an `own_session`."""
    input: dict[str, Any] = field(default_factory=dict[str, Any])
    messages: list[Message] = field(default_factory=list[Message])
    response: dict[str, Any] | None = None
    steps: list[Step] = field(default_factory=list[Step])
    base_state: dict[str, Any] = field(default_factory=dict[str, Any])
    """The session state that the run started from; given by storage."""
    owner: str | None = None
    """Who drives it; None when nobody does: it is paused or has ended."""
    epoch: int = 0
    """How often it was taken over. Writes of an earlier epoch are refused."""
    lease_expired: bool = True
    """Has its owner's lease run out, by storage's clock? Given by storage."""
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
class RunChange:
    """What one commit adds to a run. A field that is None (or empty) leaves what is stored as it is."""

    run_id: str
    session_id: str
    status: RunStatus | None = None
    """A status other than RUNNING ends the lease."""
    expect: RunStatus | None = None
    """Commit only if the stored status is this; else raise `AlreadyContinued`."""
    epoch: int | None = None
    """Commit only if the stored epoch is this; else raise `RunBusy`: the run was taken over."""
    steps: Sequence[Step] = ()
    events: Sequence[tuple[int, str]] | Callable[[Sequence[Conflict]], Sequence[tuple[int, str]]] = ()
    """Facts: (seq, the event's JSON); or what makes them, called once the state is merged, maybe more than once."""
    messages: Sequence[Message] | None = None
    response: dict[str, Any] | None = None
    deltas: Sequence[tuple[int, int, str]] = ()
    """Joined deltas: (seq, offset, the event's JSON). One at a place that is taken replaces what is there."""
    state: StateChange | None = None
    last_seq: int | None = None

    def facts(self, conflicts: Sequence[Conflict]) -> Sequence[tuple[int, str]]:
        """The events to store when merging the state gave these conflicts."""
        return self.events(conflicts) if callable(self.events) else self.events


@dataclass(slots=True, kw_only=True)
class LeaseNews:
    """What an owner learns about a run when it renews its lease: that it was taken over, that it is to be cancelled."""

    run_id: str
    lost: bool = False
    cancel: str | None = None


@dataclass(slots=True, kw_only=True)
class Committed:
    """What came of a commit: the merged state when one was given, and the places where it clashed."""

    state: dict[str, Any] | None = None
    conflicts: Sequence[Conflict] = ()


class Kept(asyncio.Future[T]):
    """What comes of a call that is carried out whole: who waits for it and is cancelled waits to its end."""

    def cancel(self, msg: Any = None) -> bool:
        return False


def kept(work: Awaitable[T]) -> Kept[T]:
    """Have work done to its end. A cancellation of who waits is raised then, and `result()` tells what came of it."""
    if isinstance(work, Kept):
        return work
    task, ended = asyncio.ensure_future(work), Kept[T](loop=asyncio.get_running_loop())

    def end(task: asyncio.Future[T]) -> None:
        if task.cancelled():  # by the end of the loop
            asyncio.Future[Any].cancel(ended)
        elif (error := task.exception()) is not None:
            ended.set_exception(error)
        else:
            ended.set_result(task.result())

    task.add_done_callback(end)
    return ended


class Storage(Protocol):
    """Keeps sessions and runs. Safe to share between agents, tasks, threads and event loops.

    `durable` says that what is committed outlives the process: the engine then journals each step.
    Raises `StorageError` and its subclasses only. Messages that were handed out are not to be changed. The bytes of
    media that messages and tool calls hold are kept once, whoever holds them, as long as a session that uses them.
    """

    durable: bool

    async def begin(
        self,
        run: StoredRun,
        *,
        history_runs: int | None = 0,
        initial_state: Mapping[str, Any] | None = None,
        given_state: Mapping[str, Any] | None = None,
        lease_s: float = 30.0,
        alone: bool = False,
    ) -> Opening:
        """Store a new run (and its session, if it is new) and return what it starts from.

        `history_runs` is how many ended runs of the session to return, newest ones, None for all. `given_state` goes
        over the stored state and that over `initial_state`, key by key; what comes of it is stored at once and
        returned, so that of two runs that begin together neither counts it as its own addition.

        The run is `run.owner`'s for `lease_s` seconds, in epoch 1, and its `base_state` is the state returned.

        Raises `SessionBusy` with `alone` while another run of the session is driven (RUNNING, its lease not expired).
        Raises `SessionAccessDenied` when the session has an owner other than `run.user_id`; a session without an
        owner becomes the user's. Raises `RunBusy` when `run_id` is stored already.
        """
        ...

    def commit(self, change: RunChange) -> Awaitable[Committed]:
        """Add to a stored run, in one transaction. A coroutine, or `Kept` where it needs no task to be carried out.

        Raises `CodecError` for a value that can't be stored, `RunNotFound` for a run that is not stored, `RunBusy`
        for a step or an event that somebody else has stored meanwhile and as `epoch` says.

        A terminal status also drops what was kept for readers of earlier runs and is out of date, a little at a time.
        """
        ...

    async def claim(
        self, run_id: str, *, epoch: int, owner: str, expect: Sequence[RunStatus], lease_s: float = 30.0
    ) -> int:
        """Take a stored run over: it becomes RUNNING, and `owner`'s. Returns the new epoch, one more than `epoch`.

        Raises `AlreadyContinued` when its status is none of `expect`, else `RunBusy` when its epoch is not `epoch` any
        more; `RunNotFound`.
        """
        ...

    async def renew(self, leases: Sequence[tuple[str, int]], *, lease_s: float = 30.0) -> list[LeaseNews]:
        """Renew the leases of runs, given as (run_id, epoch); return what there is to know, about these runs only.

        Works on any event loop and while others are blocked: owners call it from a thread of its own.
        """
        ...

    async def request_cancel(self, run_id: str, request: str) -> bool:
        """Leave word for the owner of a run that is RUNNING, which reads it when it renews. Returns whether it is.

        The word stays until the run ends: also with the next owner, and over a pause.
        """
        ...

    async def add_evidence(self, run_id: str, kind: str, data: dict[str, Any]) -> None:
        """Keep word of somebody who does not drive the run, as a step with a negative number: the first has -1.

        What an owner that was taken over had still to say is such, and what was decided about a pause.
        """
        ...

    async def list_unfinished(
        self, *, status: RunStatus = RunStatus.RUNNING, limit: int = 100, after: str | None = None
    ) -> list[StoredRun]:
        """Return runs that are RUNNING, or PAUSED, without messages and steps, by `run_id`; those after `after`."""
        ...

    async def load_run(self, run_id: str) -> StoredRun | None:
        """Return the run with its messages and steps, or None."""
        ...

    async def load_session(self, session_id: str) -> StoredSession | None:
        """Return the session, or None."""
        ...

    async def load_history(
        self, session_id: str, *, runs: int | None = None, before: int | None = None
    ) -> list[list[Message]]:
        """Return the messages of the session's last `runs` ended runs (None: all), oldest first, run by run.

        With `before`, of those whose number is less.
        """
        ...

    async def list_sessions(
        self, *, user_id: str | None = None, agent_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[StoredSession]:
        """Return sessions without their state, the one used last first; of one user and one agent when given.

        Left out are those whose first run stands below another (`own_session`), as the sessions of a team's members.
        """
        ...

    async def rename_session(self, session_id: str, name: str | None) -> bool:
        """Give the session a name. Returns False when there is no such session."""
        ...

    async def replace_state(self, session_id: str, state: dict[str, Any]) -> bool:
        """Put this state in place of the stored one. Returns False when there is no such session."""
        ...

    async def delete_session(self, session_id: str) -> bool:
        """Delete the session and its runs, with all that hangs on them. Returns False when there is no such session."""
        ...

    async def list_runs(self, session_id: str, *, limit: int = 50, before: int | None = None) -> list[StoredRun]:
        """Return the session's runs without messages and steps, newest first; those before number `before` if given."""
        ...

    async def load_events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> list[tuple[int, str]]:
        """Return the run's stored facts with a seq greater than `after`, as (seq, JSON), in order."""
        ...

    async def load_deltas(self, run_id: str, *, after: tuple[int, int] = (0, 0)) -> list[tuple[int, int, str]]:
        """Return the run's stored deltas that begin at or after the place (seq, offset), as (seq, offset, JSON)."""
        ...

    async def wait_for_news(self, run_id: str, *, after: tuple[int, int], timeout_s: float) -> None:
        """Return once facts of the run with a seq greater than `after`'s, or deltas at or after it, are stored.

        At the latest after `timeout_s`. What was stored before the call counts, so a reader that reads up to a place
        and then waits there misses nothing.
        """
        ...

    async def prune(self, *, older_than: timedelta) -> int:
        """Delete the facts and deltas of runs that ended so long ago; return how many. Runs stay.

        A little at a time, so that nobody waits for it: cancelled, it has done a part.
        """
        ...

    async def aclose(self) -> None:
        """Release what is held. Closing twice is fine; a later call opens again."""
        ...
