"""Reading a run that somebody else drives: what is stored after the reader's place, then what comes, without a gap.

In the process that drives the run, events come directly; in another one, storage is asked as soon as it has news.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from agentrt.run.deciding import response_of
from agentrt.run.encoding import event_from_json, event_to_json
from agentrt.run.events import (
    BaseEvent,
    DeltaEvent,
    OutputPartial,
    RunCancelled,
    RunCompleted,
    RunError,
    RunEvent,
    RunPaused,
)
from agentrt.run.owner import this_process
from agentrt.run.response import CancelMode, RunResponse, RunStatus
from agentrt.run.run import Run, live
from agentrt.run.stream import Channel
from agentrt.storage.base import LeaseNews, RunChange, Storage, StoredRun

if TYPE_CHECKING:
    from agentrt.run.definition import RunDefinition
    from agentrt.run.partial import RereadOutput

E = TypeVar("E", bound=BaseEvent)
Place = tuple[int, int]

NEWS_S = 1.0
"""How long storage is given to have news before it is asked all the same."""
LAST = (RunCompleted, RunCancelled, RunError)


def parse_cursor(cursor: str | None) -> Place:
    """Return the place that a cursor names. Raises `ValueError` for one that no event gave."""
    if not cursor:
        return 0, 0
    seq, colon, offset = cursor.partition(":")
    if not (colon and seq.isdigit() and offset.isdigit()):
        raise ValueError(f"{cursor!r} is no cursor: they read 'seq:offset', as event.cursor gives them")
    return int(seq), int(offset)


async def cancel_run(storage: Storage, run_id: str, reason: str, mode: CancelMode) -> bool:
    """Cancel a run that is being driven, in whatever process, or that is paused. Returns False when it is neither."""
    request = f"{mode}:{reason}"
    run = live.get(run_id)
    if run is not None and run.storage is storage:
        run.hear(LeaseNews(run_id=run_id, cancel=request))
        return True
    return await storage.request_cancel(run_id, request) or await _cancel_paused(storage, run_id, reason)


async def _cancel_paused(storage: Storage, run_id: str, reason: str) -> bool:
    """End a run that waits for somebody. Its open calls were not made, and history says so."""
    stored = await storage.load_run(run_id)
    if stored is None or stored.status is not RunStatus.PAUSED:
        return False
    for member in response_of(stored).waiting_members:
        await _cancel_paused(storage, member.run_id or "", reason)
    epoch = await storage.claim(run_id, epoch=stored.epoch, owner=this_process(), expect=[RunStatus.PAUSED])
    stored.status = RunStatus.CANCELLED
    event = _last_event(stored, run_id)
    event.content, event.seq = reason, stored.last_seq + 1
    change = RunChange(run_id=run_id, session_id=stored.session_id, epoch=epoch, status=RunStatus.CANCELLED)
    change.events = [(event.seq, event_to_json(event, response=False))]
    await storage.commit(change)
    return True


async def attach(
    storage: Storage,
    stored: StoredRun,
    *,
    after: str | None = None,
    through_pauses: bool = False,
    definition: RunDefinition[Any] | None = None,
) -> AsyncGenerator[RunEvent, None]:
    """Yield the run's events after the cursor: each fact once, each character of a delta once, in order.

    Ends with the run's last event, and at `RunPaused` unless `through_pauses`. Leaving does not stop the run. A place
    whose events are not kept any more is answered by the run's last event alone, which holds the whole response.
    `definition` tells the type of the answer, for `OutputPartial`, where the run is driven elsewhere.
    """
    place, run_id = parse_cursor(after), stored.run_id
    output = await _reread(storage, run_id, definition, place)
    while True:
        run = live.get(run_id)
        if run is not None and run.journal.attachable and run.loop_is_here():
            source = _live(storage, run, place)
        else:
            source = _polled(storage, run_id, place, through_pauses)
        async with aclosing(source) as events:
            async for event in events:
                place = _after(event)
                if output is not None and isinstance(event, OutputPartial) and event.run_id == run_id:
                    continue
                yield await whole(storage, event)
                if output is not None and (partial := output.read(event)) is not None:
                    yield partial
                if event.run_id != run_id:
                    continue  # a member's, whose end is not the run's
                if isinstance(event, RunPaused) and through_pauses:
                    if run is not None and run.driver is not None:
                        await asyncio.wait([run.driver])  # it leaves now; whoever goes on may be in another process
                    break
                if isinstance(event, LAST) or (isinstance(event, RunPaused) and await _is_paused(storage, event)):
                    return


async def _reread(
    storage: Storage, run_id: str, definition: RunDefinition[Any] | None, place: Place
) -> RereadOutput | None:
    """What makes `OutputPartial` events from the text of a typed answer, as far as it was read already."""
    run = live.get(run_id)
    if run is not None:
        definition = run.definition
    if definition is None or definition.response_model in (None, str) or definition.parser_model is not None:
        return None
    from agentrt.run.output_type import output_type  # which loads pydantic
    from agentrt.run.partial import RereadOutput

    output = RereadOutput(output_type(definition.response_model), run_id)
    if place[1]:
        stored = [event_from_json(text) for _, _, text in await storage.load_deltas(run_id)]
        deltas = [*stored, *(run.journal.unstored if run is not None else ())]
        texts = [text for delta in deltas if delta.run_id == run_id and (text := _before(delta, place))]
        first = max((number for number, text in enumerate(texts) if not text.offset), default=0)  # of its model call
        for text in texts[first:]:
            output.read(text)
    return output


def _before(delta: BaseEvent, place: Place) -> DeltaEvent | None:
    """As much of a delta as lies before a place; None when nothing does."""
    if not isinstance(delta, DeltaEvent) or (delta.seq, delta.offset) >= place:
        return None
    return delta if delta.seq < place[0] else replace(delta, content=delta.content[: place[1] - delta.offset])


async def _is_paused(storage: Storage, event: RunPaused) -> bool:
    """Does the run still wait where this event says so? It may have gone on since."""
    stored = await storage.load_run(event.run_id)
    return stored is None or stored.last_seq <= event.seq


async def _live(storage: Storage, run: Run, place: Place) -> AsyncGenerator[RunEvent, None]:
    """The events of a run that this loop drives: stored ones, then those that come."""
    channel = Channel(all_steps=True)
    for delta in run.journal.unstored:
        channel.emit(delta)
    run.journal.readers.append(channel.emit)
    try:
        for event in await stored_after(storage, run.run_id, place):
            place = _after(event)
            yield event
        while True:
            event = _rest(await channel.get(), place)
            if event is not None:
                place = _after(event)
                yield cast("RunEvent", event)
    finally:
        run.journal.readers.remove(channel.emit)


async def _polled(storage: Storage, run_id: str, place: Place, through_pauses: bool) -> AsyncGenerator[RunEvent, None]:
    """The events of a run that somebody else drives, as they come to be stored."""
    while True:
        stored = await storage.load_run(run_id)
        events = await stored_after(storage, run_id, place)
        for event in events:
            place = _after(event)
            yield event
        if not events:
            paused = stored is not None and stored.status is RunStatus.PAUSED and not through_pauses
            if stored is None or stored.status.is_terminal or paused:
                yield _last_event(stored, run_id)
            else:
                await storage.wait_for_news(run_id, after=place, timeout_s=NEWS_S)


async def stored_after(storage: Storage, run_id: str, place: Place) -> list[RunEvent]:
    """What is stored after a place. Facts are read first: a delta is stored with or after the fact it stands behind."""
    facts = await storage.load_events(run_id, after=place[0])
    known = facts[-1][0] if facts else place[0]
    deltas = await storage.load_deltas(run_id, after=(place[0], 0))
    rows = [((seq, -1), text) for seq, text in facts] + [((seq, at), text) for seq, at, text in deltas if seq <= known]
    rows.sort(key=lambda row: row[0])
    found: list[RunEvent] = []
    for _, text in rows:
        event = _rest(event_from_json(text), place)
        if event is not None:
            found.append(event)
            place = _after(event)
    return found


def _rest(event: E, place: Place) -> E | None:
    """The event, or as much of a delta as lies after a place; None when all of it was read."""
    if not isinstance(event, DeltaEvent):
        return event if event.seq > place[0] else None
    if (event.seq, event.offset) >= place:
        return event
    read = place[1] - event.offset
    if event.seq < place[0] or read >= len(event.content):
        return None
    return event.cut(read)


def _after(event: BaseEvent) -> Place:
    return parse_cursor(event.cursor)


async def whole(storage: Storage, event: RunEvent) -> RunEvent:
    """A run's last event is stored without the response, which the run's row holds."""
    if isinstance(event, (*LAST, RunPaused)) and (stored := await storage.load_run(event.run_id)) is not None:
        event.response = response_of(stored)
        if isinstance(event, RunCompleted):
            event.content = event.response.content
    return event


def _last_event(stored: StoredRun | None, run_id: str) -> RunEvent:
    """The last event of a run whose events are not kept any more, made from what its row holds."""
    response: RunResponse[object] = response_of(stored) if stored is not None else RunResponse(run_id=run_id)
    kinds = {RunStatus.COMPLETED: RunCompleted, RunStatus.FAILED: RunError, RunStatus.PAUSED: RunPaused}
    event = kinds.get(response.status, RunCancelled)(content=response.content, response=response, run_id=run_id)
    event.session_id = response.session_id
    event.seq = stored.last_seq if stored is not None else 0
    return event
