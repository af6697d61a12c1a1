"""`Sessions`: what is stored, to list, read, rename, export and delete.

Each method stands twice: `alist` and the like are awaited, `list` and the like are the same for code that is not async.
With a `user_id`, a session or run of another user is `SessionAccessDenied`; without one, only what nobody owns is
shown, unless the `Sessions` was made with `any_user=True`.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from agentrt import _sync
from agentrt.errors import RunNotFound, SessionAccessDenied, SessionNotFound
from agentrt.models.message import Message
from agentrt.run.deciding import response_of
from agentrt.run.encoding import event_from_json, plain_json
from agentrt.run.events import RunEvent
from agentrt.run.history import flatten
from agentrt.run.response import RunResponse
from agentrt.storage.base import Storage, StoredRun, StoredSession

T = TypeVar("T")


class Sessions:
    """The sessions of a storage, as one user may see them."""

    def __init__(self, storage: Storage, *, user_id: str | None = None, any_user: bool = False) -> None:
        self._storage = storage
        self._user_id = user_id
        self._any_user = any_user

    def of_user(self, user_id: str) -> Sessions:
        """Return the same storage's sessions as this user sees them."""
        return Sessions(self._storage, user_id=user_id)

    async def alist(
        self, *, agent_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> builtins.list[StoredSession]:
        """Return sessions without their state, the one used last first."""
        if self._any_user or self._user_id is not None:
            return await self._storage.list_sessions(
                user_id=self._user_id, agent_id=agent_id, limit=limit, offset=offset
            )
        raise SessionAccessDenied("Listing sessions needs a user: sessions.of_user(user_id).list()")

    async def aget(self, session_id: str) -> StoredSession:
        """Return the session with its state. Raises `SessionNotFound`, `SessionAccessDenied`."""
        session = await self._storage.load_session(session_id)
        if session is None:
            raise SessionNotFound(f"There is no session {session_id!r}")
        self._check(session.user_id, f"Session {session_id!r}")
        return session

    async def arename(self, session_id: str, name: str | None) -> None:
        """Give the session a name."""
        await self.aget(session_id)
        await self._storage.rename_session(session_id, name)

    async def areplace_state(self, session_id: str, state: dict[str, Any]) -> None:
        """Put this state in place of the stored one."""
        await self.aget(session_id)
        await self._storage.replace_state(session_id, state)

    async def adelete(self, session_id: str) -> None:
        """Delete the session with its runs, their steps and events; with it the sessions of a team's members."""
        await self.aget(session_id)
        for below in await self._sessions_below(session_id):
            await self._storage.delete_session(below)
        await self._storage.delete_session(session_id)

    async def _sessions_below(self, session_id: str) -> set[str]:
        below: set[str] = set()
        before: int | None = None
        while runs := await self._storage.list_runs(session_id, before=before):
            responses = [response_of(run) for run in runs]
            while responses:
                members = responses.pop().member_responses
                below.update(member.session_id for member in members if member.session_id is not None)
                responses += members
            before = runs[-1].number
        return below - {session_id}

    async def amessages(self, session_id: str, *, runs: int | None = None) -> builtins.list[Message]:
        """Return the messages of the session's last `runs` ended runs (None: all), oldest first."""
        await self.aget(session_id)
        return flatten(await self._storage.load_history(session_id, runs=runs))

    async def aruns(
        self, session_id: str, *, limit: int = 50, before: int | None = None
    ) -> builtins.list[RunResponse[Any]]:
        """Return the session's runs without messages, newest first; those before number `before` if given."""
        await self.aget(session_id)
        return [response_of(run) for run in await self._storage.list_runs(session_id, limit=limit, before=before)]

    async def aget_run(self, run_id: str) -> RunResponse[Any]:
        """Return a run as far as it had come at its last save. Raises `RunNotFound`, `SessionAccessDenied`."""
        return response_of(await self._run(run_id))

    async def aevents(self, run_id: str, *, after: int = 0) -> builtins.list[RunEvent]:
        """Return a run's stored facts with a `seq` greater than `after`."""
        await self._run(run_id)
        return [event_from_json(text) for _, text in await self._storage.load_events(run_id, after=after)]

    async def aexport(self, session_id: str) -> str:
        """Return all that is stored of the session as one JSON object: itself, its state, its runs and messages."""
        session = await self.aget(session_id)
        runs: builtins.list[StoredRun] = []
        while page := await self._storage.list_runs(session_id, before=runs[-1].number if runs else None):
            runs += page
        whole = [await self._storage.load_run(run.run_id) for run in reversed(runs)]
        return plain_json({"session": session, "runs": [response_of(run) for run in whole if run is not None]})

    def list(self, *, agent_id: str | None = None, limit: int = 50, offset: int = 0) -> builtins.list[StoredSession]:
        return _wait(self.alist, agent_id=agent_id, limit=limit, offset=offset)

    def get(self, session_id: str) -> StoredSession:
        return _wait(self.aget, session_id)

    def rename(self, session_id: str, name: str | None) -> None:
        _wait(self.arename, session_id, name)

    def replace_state(self, session_id: str, state: dict[str, Any]) -> None:
        _wait(self.areplace_state, session_id, state)

    def delete(self, session_id: str) -> None:
        _wait(self.adelete, session_id)

    def messages(self, session_id: str, *, runs: int | None = None) -> builtins.list[Message]:
        return _wait(self.amessages, session_id, runs=runs)

    def runs(self, session_id: str, *, limit: int = 50, before: int | None = None) -> builtins.list[RunResponse[Any]]:
        return _wait(self.aruns, session_id, limit=limit, before=before)

    def get_run(self, run_id: str) -> RunResponse[Any]:
        return _wait(self.aget_run, run_id)

    def events(self, run_id: str, *, after: int = 0) -> builtins.list[RunEvent]:
        return _wait(self.aevents, run_id, after=after)

    def export(self, session_id: str) -> str:
        return _wait(self.aexport, session_id)

    async def _run(self, run_id: str) -> StoredRun:
        run = await self._storage.load_run(run_id)
        if run is None:
            raise RunNotFound(f"There is no run {run_id!r}")
        self._check(run.user_id, f"Run {run_id!r}")
        return run

    def _check(self, owner: str | None, what: str) -> None:
        if owner is not None and owner != self._user_id and not self._any_user:
            raise SessionAccessDenied(f"{what} belongs to another user")


def _wait(method: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
    return _sync.call(method, *args, instead=getattr(method, "__name__", ""), **options)
