"""Stored runs, as the commands want them: found over all sessions, and read as far as their journal goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Any

from agentrt.errors import RunNotFound
from agentrt.models.message import Message
from agentrt.run import owner
from agentrt.run.deciding import response_of
from agentrt.run.decisions import Decided, open_kinds
from agentrt.run.response import RunResponse, RunStatus, ToolExecution
from agentrt.run.tool_calls import arguments_of
from agentrt.storage.base import Storage, StoredRun, StoredSession
from agentrt.tools.results import to_text

PAGE = 100


async def newest_runs(
    storage: Storage,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    statuses: Collection[RunStatus] = (),
    limit: int,
) -> list[StoredRun]:
    """The runs begun last, newest first; children are not among them."""
    if session_id is None and statuses and set(statuses) <= {RunStatus.RUNNING, RunStatus.PAUSED}:
        unfinished = [run for status in statuses for run in await unfinished_runs(storage, status)]
        found = [run for run in unfinished if run.parent_run_id is None and user_id in (None, run.user_id)]
    else:
        found = list[StoredRun]()
        async for session in _sessions(storage, session_id, user_id):
            if len(found) >= limit and session.updated_at < found[limit - 1].created_at:
                break  # sessions come by their last use, so no later one has a newer run
            found += await _runs(storage, session.session_id, statuses, limit)
            found.sort(key=_age)
    found = sorted(found, key=_age)[:limit]
    # what was decided about a paused one stands among its steps, which a list leaves out
    return [await load_run(storage, run.run_id) if run.status is RunStatus.PAUSED else run for run in found]


async def unfinished_runs(storage: Storage, status: RunStatus) -> list[StoredRun]:
    """All that are RUNNING, or PAUSED, children among them."""
    found: list[StoredRun] = []
    while page := await storage.list_unfinished(status=status, after=found[-1].run_id if found else None):
        found += page
    return found


def _age(run: StoredRun) -> float:
    return -run.created_at.timestamp()


async def _sessions(storage: Storage, session_id: str | None, user_id: str | None) -> AsyncIterator[StoredSession]:
    if session_id is not None:
        session = await storage.load_session(session_id)
        if session is not None and user_id in (None, session.user_id):
            yield session
        return
    offset = 0
    while page := await storage.list_sessions(user_id=user_id, limit=PAGE, offset=offset):
        for session in page:
            yield session
        offset += len(page)


async def _runs(storage: Storage, session_id: str, statuses: Collection[RunStatus], limit: int) -> list[StoredRun]:
    found: list[StoredRun] = []
    before: int | None = None
    while len(found) < limit and (page := await storage.list_runs(session_id, limit=PAGE, before=before)):
        found += [run for run in page if not statuses or run.status in statuses]
        before = page[-1].number
    return found


async def load_run(storage: Storage, run_id: str) -> StoredRun:
    """Raises `RunNotFound`."""
    stored = await storage.load_run(run_id)
    if stored is None:
        raise RunNotFound(f"There is no run {run_id!r} here")
    return stored


def is_gone(stored: StoredRun) -> bool:
    """Is it stored as running, with nobody who drives it?"""
    if stored.status is not RunStatus.RUNNING:
        return False
    alive = owner.is_alive(stored.owner, stored.run_id)
    return alive is False or (alive is None and stored.lease_expired)


def tools_of(stored: StoredRun) -> list[ToolExecution]:
    """The tool calls at its last save, members' that it waits for among them, with what was decided since."""
    return response_of(stored).tools_with_members


def decided_of(stored: StoredRun) -> list[Decided]:
    """What was decided about its pauses, the first decision first."""
    steps = sorted(stored.steps, key=lambda step: -step.number)
    return [step.data["decided"] for step in steps if step.kind == "decision"]


def asks(stored: StoredRun) -> bool:
    """Does it wait to be told what became of a call that was cut?"""
    return any("unknown_outcome" in open_kinds(tool) for tool in tools_of(stored))


@dataclass(slots=True, kw_only=True)
class Told:
    """What a run has done by its last save, and by its journal since."""

    response: RunResponse[Any]
    messages: list[Message]
    tools: list[ToolExecution]
    begun: set[str] = field(default_factory=set[str])
    """Calls that were begun and have no result."""


def told(stored: StoredRun) -> Told:
    response = response_of(stored)
    tale = Told(response=response, messages=list(stored.messages), tools=list(response.tools))
    saved: int = (stored.response or {}).get("resume", {}).get("steps", 0)
    for step in stored.steps:
        if step.number <= saved:  # and below 0: evidence
            continue
        match step.kind:
            case "model":
                tale.messages.append(step.data["message"])
                response.usage.add(step.data["usage"])
            case "intent":
                tale.begun.update(step.data["calls"])
            case "tool":
                _settle(tale, step.data["execution"])
            case _:
                pass
    calls = [call for message in tale.messages for call in message.tool_calls or ()]
    tale.tools += [
        ToolExecution(tool_call_id=call.id, tool_name=call.name, tool_args=arguments_of(call).values)
        for call in calls
        if call.id in tale.begun
    ]
    return tale


def _settle(tale: Told, tool: ToolExecution) -> None:
    tale.begun.discard(tool.tool_call_id)
    tale.tools = [known for known in tale.tools if known.is_done or known.tool_call_id != tool.tool_call_id]
    tale.tools.append(tool)
    tale.messages.append(
        Message(
            role="tool",
            content=to_text(tool.result),
            tool_call_id=tool.tool_call_id,
            tool_name=tool.tool_name,
            tool_call_error=tool.tool_call_error,
        )
    )
