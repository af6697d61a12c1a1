"""The journal of a root run: what is done goes into storage first, and then into the stream.

Facts are numbered when they happen and announced in that order, each once the transaction that stores it is done. What
happens meanwhile (a tool's progress, a second tool's result) waits and goes along with the next transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from agentrt.run.encoding import event_to_json
from agentrt.run.events import BaseEvent
from agentrt.storage.base import Committed, Conflict, RunChange, Step, Storage


class Journal:
    """Writes one run and its events. `emit` is where announced events go; None when nobody reads them.

    Where storage does not outlive the process, steps are not written and facts are announced at once.
    """

    def __init__(self, storage: Storage, run_id: str) -> None:
        self.storage = storage
        self.run_id = run_id
        self.session_id = ""
        self.emit: Callable[[BaseEvent], None] | None = None
        self.last_step = 0
        self.announced = 0
        """The number of the last fact that was announced: that is where deltas stand."""
        self._numbered = 0
        self._events: list[BaseEvent] = []
        self._steps: list[Step] = []
        self._writing = asyncio.Lock()
        self._soon: asyncio.Task[None] | None = None

    def resume_at(self, seq: int, step: int) -> None:
        """Go on counting where an earlier driver of the run stopped."""
        self.announced = self._numbered = seq
        self.last_step = step

    def add(self, event: BaseEvent) -> None:
        """Take a fact, which the next write stores and announces."""
        self._numbered += 1
        event.seq = self._numbered
        if self.storage.durable:
            self._events.append(event)
        else:
            self._announce([event])

    def add_step(self, kind: str, data: Callable[[], dict[str, Any]]) -> None:
        """Take a step for the next write. `data` is asked for only where it is written."""
        if self.storage.durable:
            self.last_step += 1
            self._steps.append(Step(number=self.last_step, kind=kind, data=data()))

    async def write(self) -> None:
        """Store what was taken, in one transaction, and announce it."""
        if not self.storage.durable:
            return
        async with self._writing:
            if self._events or self._steps:
                events, steps = self._take()
                change = RunChange(
                    run_id=self.run_id,
                    session_id=self.session_id,
                    steps=steps,
                    events=[_stored(event) for event in events],
                    last_seq=self._numbered,
                )
                await self.storage.commit(change)
                self._announce(events)

    def write_soon(self) -> None:
        """Have what was taken written without waiting for it. `commit` waits, so it never outlives the run."""
        if self.storage.durable and (self._soon is None or self._soon.done()):
            self._soon = asyncio.get_running_loop().create_task(self.write())

    async def commit(
        self,
        change: RunChange,
        last: BaseEvent,
        on_conflict: Callable[[Conflict], BaseEvent],
        *,
        before: Callable[[Committed], None],
    ) -> None:
        """Store a change of the run with all that was taken and its `last` event; call `before`; announce.

        A place where the state clashed with what other runs made of it becomes a fact before the last one.
        """
        if self._soon is not None:
            await self._soon
        async with self._writing:
            events, change.steps = self._take()
            first = self._numbered + 1
            ending: list[BaseEvent] = []

            def facts(conflicts: Sequence[Conflict]) -> Sequence[tuple[int, str]]:
                ending[:] = [*map(on_conflict, conflicts), last]
                for seq, event in enumerate(ending, first):
                    event.seq = seq
                change.last_seq = last.seq
                return [_stored(event) for event in (*events, *ending)] if self.storage.durable else ()

            change.events = facts
            committed = await self.storage.commit(change)
            self._numbered = last.seq
            before(committed)
            self._announce([*events, *ending])

    def give_up(self) -> None:
        """Announce what was taken although it could not be stored: the run has failed, and its reader is told."""
        events, _ = self._take()
        self._announce(events)

    def _take(self) -> tuple[list[BaseEvent], list[Step]]:
        events, self._events = self._events, []
        steps, self._steps = self._steps, []
        return events, steps

    def _announce(self, events: Sequence[BaseEvent]) -> None:
        for event in events:
            self.announced = event.seq
            if self.emit is not None:
                self.emit(event)


def _stored(event: BaseEvent) -> tuple[int, str]:
    """What is stored of a fact: a run's last one without its response, which the run's own row holds."""
    return event.seq, event_to_json(event, response=False)
