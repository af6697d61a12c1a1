"""`InMemoryStorage`: sessions that last as long as the object does."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from agentrt.errors import AlreadyContinued, RunBusy, RunNotFound, SessionAccessDenied
from agentrt.models.message import Message, utc_now
from agentrt.run.response import RunStatus
from agentrt.storage.base import Committed, Opening, RunChange, Storage, StoredRun, StoredSession
from agentrt.storage.merge import copy_state, merge


@dataclass(slots=True, eq=False)
class _Run:
    stored: StoredRun
    events: dict[int, str] = field(default_factory=dict[int, str])


@dataclass(slots=True, eq=False)
class _Session:
    stored: StoredSession
    own_runs: list[_Run] = field(default_factory=list[_Run])
    child_runs: list[_Run] = field(default_factory=list[_Run])

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
    under way. Not durable: nothing outlives the process, and runs are not journalled step by step.
    """

    durable = False

    def __init__(self, *, max_sessions: int | None = None) -> None:
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()  # held for moments only, so it blocks no event loop

    async def begin(
        self,
        run: StoredRun,
        *,
        history_runs: int | None = 0,
        initial_state: Mapping[str, Any] | None = None,
        given_state: Mapping[str, Any] | None = None,
    ) -> Opening:
        with self._lock:
            if run.run_id in self._runs:
                raise RunBusy(f"There is a run {run.run_id!r} already")
            session = self._enter_session(run)
            stored = session.stored
            if initial_state or given_state:
                stored.state = copy_state({**(initial_state or {}), **stored.state, **(given_state or {})})
            history = self._history(session, history_runs)
            kept = _Run(replace(run, messages=_own(run.messages), input=copy_state(run.input)))
            if run.parent_run_id is None:
                stored.run_count += 1
                kept.stored.number = stored.run_count
                session.own_runs.append(kept)
            else:
                session.child_runs.append(kept)
            self._runs[run.run_id] = kept
            return Opening(state=copy_state(stored.state), history=history, number=kept.stored.number)

    async def commit(self, change: RunChange) -> Committed:
        with self._lock:
            kept, session = self._runs.get(change.run_id), self._sessions.get(change.session_id)
            if kept is None or session is None:
                raise RunNotFound(f"There is no run {change.run_id!r} in session {change.session_id!r}")
            run = kept.stored
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
            session.stored.updated_at = run.updated_at
            return committed

    async def load_run(self, run_id: str) -> StoredRun | None:
        with self._lock:
            kept = self._runs.get(run_id)
            if kept is None:
                return None
            run = kept.stored
            return replace(
                run,
                input=copy_state(run.input),
                messages=list(run.messages),
                response=copy_state(run.response),
                steps=list(run.steps),
            )

    async def load_session(self, session_id: str) -> StoredSession | None:
        with self._lock:
            session = self._sessions.get(session_id)
            return replace(session.stored, state=copy_state(session.stored.state)) if session is not None else None

    async def load_history(self, session_id: str, *, runs: int | None = None) -> list[list[Message]]:
        with self._lock:
            session = self._sessions.get(session_id)
            return self._history(session, runs) if session is not None else []

    async def list_sessions(
        self, *, user_id: str | None = None, agent_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[StoredSession]:
        with self._lock:
            found = [
                replace(session.stored, state={})
                for session in self._sessions.values()
                if user_id in (None, session.stored.user_id) and agent_id in (None, session.stored.agent_id)
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
            return [replace(run.stored, messages=[], steps=[]) for run in runs[::-1][:limit]]

    async def load_events(self, run_id: str, *, after: int = 0, limit: int | None = None) -> list[tuple[int, str]]:
        with self._lock:
            kept = self._runs.get(run_id)
            events = sorted(item for item in kept.events.items() if item[0] > after) if kept is not None else []
            return events[:limit]

    async def aclose(self) -> None:
        """Nothing is held but the sessions themselves, which stay."""

    # --- under the lock ----------------------------------------------------------------------------------------------

    def _enter_session(self, run: StoredRun) -> _Session:
        session = self._sessions.get(run.session_id)
        if session is None:
            stored = StoredSession(session_id=run.session_id, agent_id=run.agent_id, created_at=run.created_at)
            session = _Session(stored)
        stored = session.stored
        if stored.user_id is not None and stored.user_id != run.user_id:
            raise SessionAccessDenied(f"Session {run.session_id!r} belongs to another user")
        stored.user_id = run.user_id
        stored.updated_at = run.created_at
        self._sessions[run.session_id] = session
        self._sessions.move_to_end(run.session_id)
        if self._max_sessions is not None and len(self._sessions) > self._max_sessions:
            idle = next((id for id, other in self._sessions.items() if other is not session and other.is_idle), None)
            if idle is not None:
                self._drop(idle)
        return session

    def _drop(self, session_id: str) -> bool:
        session = self._sessions.pop(session_id, None)
        for run in (*session.own_runs, *session.child_runs) if session is not None else ():
            del self._runs[run.stored.run_id]
        return session is not None

    def _history(self, session: _Session, runs: int | None) -> list[list[Message]]:
        history: list[list[Message]] = []
        for run in reversed(session.own_runs):
            if runs is not None and len(history) >= runs:
                break
            if run.stored.status.is_terminal:
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
        run.steps.clear()
    kept.events.update(events)
    run.updated_at = utc_now()


def _own(messages: Any) -> list[Message]:
    """Copies of the messages: the caller goes on with its own."""
    return copy_state(list(messages))


def _last_used(session: StoredSession) -> datetime:
    return session.updated_at
