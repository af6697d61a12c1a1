"""`InMemoryStorage`: sessions that last as long as the object does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from agentrt.errors import AlreadyContinued, ConfigurationError, RunBusy, RunNotFound, SessionAccessDenied, SessionBusy
from agentrt.models.message import Message, utc_now
from agentrt.run.response import RunStatus, ToolExecution
from agentrt.storage.base import (
    Committed,
    LeaseNews,
    Opening,
    RunChange,
    Step,
    Storage,
    StoredRun,
    StoredSession,
)
from agentrt.storage.merge import copy_state, merge

_DELTAS_KEPT_S: Final = 60.0
_Waiter: TypeAlias = tuple[asyncio.AbstractEventLoop, asyncio.Event]


@dataclass(slots=True, eq=False)
class _Run:
    stored: StoredRun
    lease_until: float
    events: dict[int, str] = field(default_factory=dict[int, str])
    deltas: dict[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])
    cancel: str | None = None
    ended_at: float = 0.0
    last_fact: int = 0
    last_delta: tuple[int, int] = (-1, -1)

    def forget_deltas(self) -> int:
        count, self.last_delta = len(self.deltas), (-1, -1)
        self.deltas.clear()
        return count

    def forget_facts(self) -> int:
        count, self.last_fact = len(self.events), 0
        self.events.clear()
        return count


@dataclass(slots=True, eq=False)
class _Session:
    stored: StoredSession
    own_runs: list[_Run] = field(default_factory=list[_Run])
    child_runs: list[_Run] = field(default_factory=list[_Run])
    media: set[bytes] = field(default_factory=set[bytes])

    @property
    def is_below(self) -> bool:
        """Did it begin as the session of a run below another?"""
        return bool(self.own_runs) and self.own_runs[0].stored.parent_run_id is not None

    @property
    def is_idle(self) -> bool:
        """Is no run being driven? The newest ones are the likeliest to be."""
        return not any(
            run.stored.status in (RunStatus.PENDING, RunStatus.RUNNING)
            for run in (*reversed(self.child_runs), *reversed(self.own_runs))
        )


class InMemoryStorage(Storage):
    """Keeps sessions in this object. Their state may hold any object, by reference.

    With `max_sessions`, the session that was not used for longest is dropped for a new one, unless a run of it is
    under way. The facts of a run are kept for `keep_events_days` after its end. Not durable: nothing outlives the
    process, and runs are not journalled step by step.
    """

    durable = False

    def __init__(self, *, max_sessions: int | None = None, keep_events_days: float = 30.0) -> None:
        if keep_events_days < 0:
            raise ConfigurationError(f"keep_events_days is {keep_events_days!r}; it can't be negative")
        self._max_sessions = max_sessions
        self._keep_facts_s = timedelta(days=keep_events_days).total_seconds()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._runs: dict[str, _Run] = {}
        self._running: dict[str, _Run] = {}
        self._with_facts: OrderedDict[str, _Run] = OrderedDict()  # runs that have ended, in the order of their ends
        self._with_deltas: OrderedDict[str, _Run] = OrderedDict()
        self._waiting: dict[str, set[_Waiter]] = {}
        self._media: dict[bytes, tuple[bytes, set[str]]] = {}  # by content: what all share, and the sessions that do
        self._lock = threading.Lock()  # held for moments only, so it blocks no event loop

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
        with self._lock:
            session = self._enter_session(run, alone)
            stored = session.stored
            if initial_state or given_state:
                stored.state = copy_state({**(initial_state or {}), **stored.state, **(given_state or {})})
            history = self._history(session, history_runs)
            started_with = {"input": copy_state(run.input), "messages": _own(run.messages)}
            own_run = replace(run, epoch=1, base_state=copy_state(stored.state), **started_with)
            kept = _Run(own_run, time.monotonic() + lease_s)
            self._share_media(session, own_run.messages)
            if run.parent_run_id is None or run.own_session:
                stored.run_count += 1
                kept.stored.number = stored.run_count
                session.own_runs.append(kept)
            else:
                session.child_runs.append(kept)
            self._runs[run.run_id] = kept
            if run.status is RunStatus.RUNNING:
                self._running[run.run_id] = kept
            return Opening(state=copy_state(stored.state), history=history, number=kept.stored.number)

    async def commit(self, change: RunChange) -> Committed:
        with self._lock:
            kept, session = self._runs.get(change.run_id), self._sessions.get(change.session_id)
            if kept is None or session is None:
                raise RunNotFound(f"There is no run {change.run_id!r} in session {change.session_id!r}")
            run = kept.stored
            if change.epoch is not None and change.epoch != run.epoch:
                raise RunBusy(f"Run {run.run_id!r} was taken over: it is in epoch {run.epoch}, not {change.epoch}")
            if change.expect is not None and run.status is not change.expect:
                raise AlreadyContinued(f"Run {run.run_id!r} is {run.status.value.lower()} by now")
            taken = {step.number for step in run.steps} if change.steps else ()
            committed = Committed()
            if change.state is not None:
                state, conflicts = merge(change.state.base, change.state.mine, session.stored.state)
                committed = Committed(state=state, conflicts=conflicts)
            events = change.facts(committed.conflicts)
            if any(step.number in taken for step in change.steps) or any(seq in kept.events for seq, _ in events):
                raise RunBusy(f"Run {run.run_id!r} has moved on: what is to be added to it is there already")
            if committed.state is not None:
                session.stored.state = copy_state(committed.state)
            _apply(kept, change, events)
            if change.messages is not None:
                self._share_media(session, run.messages)
            if change.response is not None:
                tools = (run.response or {}).get("tools") or ()
                self._share_media(session, [tool for tool in tools if isinstance(tool, ToolExecution)])
            session.stored.updated_at = run.updated_at
            self._place(kept)
            self._wake(run.run_id)
            return committed

    async def claim(
        self, run_id: str, *, epoch: int, owner: str, expect: Sequence[RunStatus], lease_s: float = 30.0
    ) -> int:
        with self._lock:
            kept = self._runs.get(run_id)
            if kept is None:
                raise RunNotFound(f"There is no run {run_id!r}")
            run = kept.stored
            if run.status not in expect:
                raise AlreadyContinued(f"Run {run_id!r} is {run.status.value.lower()} by now")
            if run.epoch != epoch:
                raise RunBusy(f"Run {run_id!r} was taken over: it is in epoch {run.epoch}, not {epoch}")
            run.status, run.owner, run.epoch, run.updated_at = RunStatus.RUNNING, owner, epoch + 1, utc_now()
            kept.lease_until = time.monotonic() + lease_s
            self._place(kept)
            return run.epoch

    async def renew(self, leases: Sequence[tuple[str, int]], *, lease_s: float = 30.0) -> list[LeaseNews]:
        news: list[LeaseNews] = []
        with self._lock:
            for run_id, epoch in leases:
                kept = self._runs.get(run_id)
                if kept is None or kept.stored.epoch != epoch:
                    news.append(LeaseNews(run_id=run_id, lost=True))
                elif run_id in self._running:
                    kept.lease_until = time.monotonic() + lease_s
                    if kept.cancel is not None:
                        news.append(LeaseNews(run_id=run_id, cancel=kept.cancel))
        return news

    async def request_cancel(self, run_id: str, request: str) -> bool:
        with self._lock:
            kept = self._running.get(run_id)
            if kept is not None:
                kept.cancel = request
            return kept is not None

    async def add_evidence(self, run_id: str, kind: str, data: dict[str, Any]) -> None:
        with self._lock:
            kept = self._runs.get(run_id)
            if kept is None:
                raise RunNotFound(f"There is no run {run_id!r}")
            steps = kept.stored.steps  # evidence stands first, the newest before all
            number = min(0, steps[0].number if steps else 0) - 1
            steps.insert(0, Step(number=number, kind=kind, data=copy_state(data)))

    async def list_unfinished(
        self, *, status: RunStatus = RunStatus.RUNNING, limit: int = 100, after: str | None = None
    ) -> list[StoredRun]:
        with self._lock:
            runs = self._running if status is RunStatus.RUNNING else self._runs
            found = sorted(
                run_id for run_id, kept in runs.items() if kept.stored.status is status and run_id > (after or "")
            )
            return [_listed(runs[run_id]) for run_id in found[:limit]]

    async def load_run(self, run_id: str) -> StoredRun | None:
        with self._lock:
            kept = self._runs.get(run_id)
            if kept is None:
                return None
            run = kept.stored
            return replace(
                _seen(kept),
                input=copy_state(run.input),
                messages=list(run.messages),
                response=copy_state(run.response),
                steps=list(run.steps),
                base_state=copy_state(run.base_state),
            )

    async def load_session(self, session_id: str) -> StoredSession | None:
        with self._lock:
            session = self._sessions.get(session_id)
            return replace(session.stored, state=copy_state(session.stored.state)) if session is not None else None

    async def load_history(
        self, session_id: str, *, runs: int | None = None, before: int | None = None
    ) -> list[list[Message]]:
        with self._lock:
            session = self._sessions.get(session_id)
            return self._history(session, runs, before) if session is not None else []

    async def list_sessions(
        self, *, user_id: str | None = None, agent_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[StoredSession]:
        with self._lock:
            found = [
                replace(session.stored, state={})
                for session in self._sessions.values()
                if user_id in (None, session.stored.user_id)
                and agent_id in (None, session.stored.agent_id)
                and not session.is_below
            ]
        found.sort(key=_last_used, reverse=True)
        return found[offset : offset + limit]

    async def rename_session(self, session_id: str, name: str | None) -> bool:
        with self._lock:
            session = self._sessions.get(session_id)
            if session is not None:
                session.stored.name = name
            return session is not None

    async def replace_state(self, session_id: str, state: dict[str, Any]) -> bool:
        with self._lock:
            session = self._sessions.get(session_id)
            if session is not None:
                session.stored.state = copy_state(state)
                session.stored.updated_at = utc_now()
            return session is not None

    async def delete_session(self, session_id: str) -> bool:
        with self._lock:
            return self._drop(session_id)

    async def list_runs(self, session_id: str, *, limit: int = 50, before: int | None = None) -> list[StoredRun]:
        with self._lock:
            session = self._sessions.get(session_id)
            runs = session.own_runs[: None if before is None else max(before - 1, 0)] if session is not None else []
            return [_listed(run) for run in runs[::-1][:limit]]

    async def load_events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> list[tuple[int, str]]:
        with self._lock:
            kept = self._runs.get(run_id)
            events = sorted(item for item in kept.events.items() if item[0] > after) if kept is not None else []
            return events[:limit]

    async def load_deltas(self, run_id: str, *, after: tuple[int, int] = (0, 0)) -> list[tuple[int, int, str]]:
        with self._lock:
            kept = self._runs.get(run_id)
            found = sorted(item for item in kept.deltas.items() if item[0] >= after) if kept is not None else []
            return [(*place, text) for place, text in found]

    async def wait_for_news(self, run_id: str, *, after: tuple[int, int], timeout_s: float) -> None:
        waiter = asyncio.get_running_loop(), (news := asyncio.Event())
        try:
            async with asyncio.timeout(timeout_s):
                while not self._has_news(run_id, after, waiter):
                    await news.wait()
                    news.clear()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._waiting[run_id].discard(waiter)
                if not self._waiting[run_id]:
                    del self._waiting[run_id]

    async def prune(self, *, older_than: timedelta) -> int:
        with self._lock:
            return self._delete_old(older_than.total_seconds(), older_than.total_seconds())

    async def aclose(self) -> None:
        """Nothing is held but the sessions themselves, which stay."""

    def _has_news(self, run_id: str, after: tuple[int, int], waiter: _Waiter) -> bool:
        """If not, a commit wakes the waiter: looking and queueing are one, so that nothing comes in between."""
        with self._lock:
            self._waiting.setdefault(run_id, set()).add(waiter)
            kept = self._runs.get(run_id)
            return kept is not None and (kept.last_fact > after[0] or kept.last_delta >= after)

    # --- under the lock ----------------------------------------------------------------------------------------------

    def _wake(self, run_id: str) -> None:
        for loop, news in self._waiting.get(run_id, ()):
            with contextlib.suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(news.set)

    def _place(self, kept: _Run) -> None:
        """Put a run where its status says, and delete what is out of date by then."""
        run = kept.stored
        self._forget(run.run_id)
        if run.status is RunStatus.RUNNING:
            self._running[run.run_id] = kept
        elif run.status.is_terminal:
            self._delete_old(self._keep_facts_s, _DELTAS_KEPT_S)
            kept.ended_at = time.monotonic()
            for place, what in ((self._with_facts, kept.events), (self._with_deltas, kept.deltas)):
                if what:
                    place[run.run_id] = kept

    def _forget(self, run_id: str) -> None:
        for place in (self._running, self._with_facts, self._with_deltas):
            place.pop(run_id, None)

    def _delete_old(self, facts_age_s: float, deltas_age_s: float) -> int:
        now = time.monotonic()
        count = sum(kept.forget_deltas() for kept in _due(self._with_deltas, now - deltas_age_s))
        return count + sum(
            kept.forget_facts() + kept.forget_deltas() for kept in _due(self._with_facts, now - facts_age_s)
        )

    def _enter_session(self, run: StoredRun, alone: bool) -> _Session:
        session = self._sessions.get(run.session_id)
        if session is None:
            stored = StoredSession(session_id=run.session_id, agent_id=run.agent_id, created_at=run.created_at)
            session = _Session(stored)
        stored = session.stored
        if stored.user_id is not None and stored.user_id != run.user_id:
            raise SessionAccessDenied(f"Session {run.session_id!r} belongs to another user")
        if run.run_id in self._runs:
            raise RunBusy(f"There is a run {run.run_id!r} already")
        if alone and (driven := self._driven(run.session_id)) is not None:
            raise SessionBusy(f"Run {driven!r} of session {run.session_id!r} is under way")
        stored.user_id = run.user_id
        stored.updated_at = run.created_at
        self._sessions[run.session_id] = session
        self._sessions.move_to_end(run.session_id)
        if self._max_sessions is not None and len(self._sessions) > self._max_sessions:
            idle = next((id for id, other in self._sessions.items() if other is not session and other.is_idle), None)
            if idle is not None:
                self._drop(idle)
        return session

    def _driven(self, session_id: str) -> str | None:
        for run_id, kept in self._running.items():
            if kept.stored.session_id == session_id and not _is_expired(kept):
                return run_id
        return None

    def _drop(self, session_id: str) -> bool:
        session = self._sessions.pop(session_id, None)
        for run in (*session.own_runs, *session.child_runs) if session is not None else ():
            del self._runs[run.stored.run_id]
            self._forget(run.stored.run_id)
        for content in session.media if session is not None else ():
            _, users = self._media[content]
            users.discard(session_id)
            if not users:
                del self._media[content]
        return session is not None

    def _share_media(self, session: _Session, holders: Iterable[Any]) -> None:
        """Have messages and tool calls hold the bytes that others hold already, where they are equal."""
        for holder in holders:
            for media in (holder.images, holder.audio, holder.videos, holder.files):
                for medium in media or ():
                    if medium.data is not None:
                        medium.data, users = self._media.setdefault(medium.data, (medium.data, set()))
                        users.add(session.stored.session_id)
                        session.media.add(medium.data)

    def _history(self, session: _Session, runs: int | None, before: int | None = None) -> list[list[Message]]:
        history: list[list[Message]] = []
        for run in reversed(session.own_runs):
            if runs is not None and len(history) >= runs:
                break
            if run.stored.status.is_terminal and (before is None or run.stored.number < before):
                history.append(list(run.stored.messages))
        return history[::-1]


def _apply(kept: _Run, change: RunChange, events: Sequence[tuple[int, str]]) -> None:
    run = kept.stored
    run.status = change.status or run.status
    if change.messages is not None:
        run.messages = _own(change.messages)
    if change.response is not None:
        run.response = copy_state(change.response)
    if change.last_seq is not None:
        run.last_seq = change.last_seq
    run.steps.extend(replace(step, data=copy_state(step.data)) for step in change.steps)
    if run.status in (RunStatus.COMPLETED, RunStatus.CANCELLED):
        run.steps = [step for step in run.steps if step.number < 0]
        run.base_state = {}
    if run.status.is_terminal:
        kept.cancel = None
    for seq, text in events:
        kept.events[seq] = text
        kept.last_fact = max(kept.last_fact, seq)
    for seq, offset, text in change.deltas:
        kept.deltas[seq, offset] = text
        kept.last_delta = max(kept.last_delta, (seq, offset))
    if run.status is not RunStatus.RUNNING:
        run.owner, kept.lease_until = None, 0.0
    run.updated_at = utc_now()


def _due(runs: OrderedDict[str, _Run], before: float) -> Iterator[_Run]:
    """Take out the runs that ended by then."""
    while runs and (kept := next(iter(runs.values()))).ended_at <= before:
        yield runs.pop(kept.stored.run_id)


def _is_expired(kept: _Run) -> bool:
    return kept.stored.status is not RunStatus.RUNNING or kept.lease_until <= time.monotonic()


def _seen(kept: _Run) -> StoredRun:
    return replace(kept.stored, lease_expired=_is_expired(kept))


def _listed(kept: _Run) -> StoredRun:
    return replace(_seen(kept), messages=[], steps=[], base_state={})


def _own(messages: Any) -> list[Message]:
    """Copies of the messages: the caller goes on with its own."""
    return copy_state(list(messages))


def _last_used(session: StoredSession) -> datetime:
    return session.updated_at
