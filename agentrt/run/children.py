"""Runs that a call of another run consists of: begun or gone on with, told in the other's stream, waited for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any

from agentrt.run import owner
from agentrt.run.attach import stored_after, whole
from agentrt.run.context import RunContext
from agentrt.run.delegate import Delegate
from agentrt.run.events import BaseEvent, DeltaEvent, ModelCallCompleted, ModelCallReset, ModelCallStarted
from agentrt.run.limits import count_stored
from agentrt.run.response import RunResponse, RunStatus
from agentrt.run.run import Run, live
from agentrt.run.stream import RunStream, wait_for_end

LOOK_S = 0.5
"""How often it is looked whether the lease of a run whose owner can't be seen from here has run out."""


async def run_children(ctx: RunContext[Any]) -> list[RunResponse[Any]]:
    """Drive the runs of the call that is being made, together; return what has come of each, in their order.

    Those of them that have ended are not driven again. One that failed has the status FAILED, and says why.
    """
    run = live[ctx.run_id]
    call = next(e for e in reversed(run.executions) if e.tool_call_id == ctx.tool_call_id)
    function = run.tools[call.tool_name]
    assert isinstance(function, Delegate)
    children = function.open_runs(run, call)
    call.child_run_ids = [child.run_id for child in children]
    for child in children:
        child.of_call = call.tool_call_id
        run.children[child.run_id] = child
    async with asyncio.TaskGroup() as group:
        for child in children:
            group.create_task(_run_child(run, child, with_events=function.stream_events))
    return [run.members[child.run_id] for child in children]


async def _run_child(run: Run, child: Run, *, with_events: bool) -> None:
    paused = run.members.get(child.run_id)
    if paused is not None:
        child.decided = paused.tools_with_members  # as they were decided on this run
    stream = RunStream[Any](child, events=False)
    child.stream = run.stream and with_events
    if with_events and run.journal.attachable:
        child.keep_for_readers()  # what it has said must not be lost before it is stored with this run
    await follow(run, child, with_events=with_events)
    try:
        run.members[child.run_id] = await _result(stream, run)
    except asyncio.CancelledError:
        if child.stored:
            run.members[child.run_id] = child.response
        raise
    except Exception as error:
        response: RunResponse[Any] = getattr(error, "run_response", None) or child.touch()
        response.status = RunStatus.FAILED
        response.error = response.error or f"{type(error).__name__}: {error}"
        run.members[child.run_id] = response
    if not child.stored:
        count_stored(child)


async def _result(stream: RunStream[Any], run: Run) -> RunResponse[Any]:
    """What comes of a child's run; it is cancelled with the run that waits for it, and for the same reason."""
    driver = stream.start()
    try:
        return await asyncio.shield(driver)
    except asyncio.CancelledError:
        if not driver.done():
            stream.cancel(run.cancel_reason or "the run that began it ended")
            await wait_for_end([driver])
        raise


async def follow(run: Run, child: Run, *, with_events: bool = True) -> None:
    """Have the events of a child's run told in this one's stream, once its earlier driver has left it."""
    if run.epoch > 1:
        await _wait_until_left(child)
        if with_events:
            await _catch_up(run, child)
    if with_events:
        # a run that is not driven here only repeats its last event, which has been told
        child.journal.readers.append(lambda event: _forward(run, event) if child.stored else None)


# --- events ----------------------------------------------------------------------------------------------------------


def _forward(run: Run, event: BaseEvent) -> None:
    """Tell an event of a child's run in this one's stream, at this one's place: as it is, but for where it stands."""
    told = replace(event)
    if isinstance(told, DeltaEvent):
        told.offset = run.offset
        run.offset += len(told.content)
        run.journal.delta(told)
    else:
        run.journal.add(told)
        run.journal.write_soon()


async def _catch_up(run: Run, child: Run) -> None:
    """Tell what a crash kept from being told here of a child's run: it is stored there first.

    Facts are told once and in order, so how many are known here is the place. The text of a model call whose end is not
    known here is told from its beginning, for it will not come again.
    """
    if not run.journal.keeps:
        return
    events = await stored_after(run.storage, child.run_id, (0, 0))
    left, at = await _told(run, child.run_id), 0
    begun: dict[str, ModelCallStarted] = {}
    for event in events:
        if left and not event.is_delta and not isinstance(event, ModelCallReset):
            left, at = left - 1, event.seq
            if isinstance(event, ModelCallStarted):
                begun[event.run_id] = event
            elif isinstance(event, ModelCallCompleted):
                del begun[event.run_id]
    ended = {event.run_id for event in events if isinstance(event, ModelCallCompleted) and event.seq > at}
    cut = {run_id: started.seq for run_id, started in begun.items() if run_id in ended}
    for run_id in cut:
        _forward(run, _reset(begun[run_id]))
    for event in events:
        if event.seq > at or (event.is_delta and event.seq >= cut.get(event.run_id, at + 1)):
            _forward(run, await whole(run.storage, event))


def _reset(started: ModelCallStarted) -> ModelCallReset:
    who = {name: getattr(started, name) for name in ("run_id", "parent_run_id", "path", "agent_id", "session_id")}
    return ModelCallReset(index=started.index, **who)


async def _told(run: Run, child_run_id: str) -> int:
    """How many facts of a child's run, and of the runs below it, are known here."""
    parents: dict[str, str] = {}
    facts: Counter[str] = Counter()
    for _, text in await run.storage.load_events(run.run_id):
        event = json.loads(text)
        parents[event["run_id"]] = event.get("parent_run_id") or ""
        facts[event["run_id"]] += event["event"] != "ModelCallReset"  # of which there may be more here
    return sum(count for run_id, count in facts.items() if _is_below(run_id, child_run_id, parents))


def _is_below(run_id: str, top: str, parents: dict[str, str]) -> bool:
    while run_id and run_id != top:
        run_id = parents.get(run_id, "")
    return run_id == top


async def _wait_until_left(child: Run) -> None:
    """Of a child whose owner can't be seen from here, wait until its lease is over: that of its parent's run is."""
    while (stored := await child.storage.load_run(child.run_id)) is not None:
        unseen = stored.status is RunStatus.RUNNING and owner.is_alive(stored.owner, child.run_id) is None
        if not unseen or stored.lease_expired:
            return
        await asyncio.sleep(LOOK_S)
