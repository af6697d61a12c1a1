"""The journal of a root run: what is done goes into storage first, and then into the stream.

Facts are numbered when they happen and announced in that order, each once the transaction that stores it is done. What
happens meanwhile (a tool's progress, a second tool's result) waits and goes along with the next transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from agentrt.errors import StorageError
from agentrt.models.message import Message
from agentrt.run.encoding import event_to_json
from agentrt.run.events import BaseEvent, DeltaEvent
from agentrt.run.response import RunStatus
from agentrt.storage.base import Committed, Conflict, RunChange, Step, Storage, kept

T = TypeVar("T")

DELTAS_S = 0.075
"""How long deltas are gathered before they are stored for readers in other processes."""


async def carried_out(storage: Storage, work: Coroutine[Any, Any, T]) -> T:
    """Await to the end what a cancellation must not leave half known; it goes on then, unless the work has failed.

    Storage carries out what was called, whoever is cancelled: to leave it would be not to know what is stored. One that
    does not outlive the process has nothing to wait for in the middle of a call, and needs no task for it.
    """
    if not storage.durable:
        return await work
    ended = kept(work)
    try:
        return await ended
    except asyncio.CancelledError:
        ended.result()
        raise


class Journal:
    """Writes one run and its events. `readers` take announced events.

    Steps are written where storage outlives the process; facts there, and for a run that somebody may attach to
    (`attachable`), whose deltas are stored, too, joined. Without either, facts are announced at once.
    """

    def __init__(self, storage: Storage, run_id: str, *, steps: bool = True) -> None:
        self.storage = storage
        self.run_id = run_id
        self.session_id = ""
        self.epoch: int | None = None
        self.readers: list[Callable[[BaseEvent], None]] = []
        self.attachable = False
        self.keeps = self.keeps_steps = steps and storage.durable
        self._gathered: list[DeltaEvent] = []
        self._in_flight: list[DeltaEvent] = []
        self.last_step = 0
        self.announced = 0
        """The number of the last fact that was announced: that is where deltas stand."""
        self._numbered = 0
        self._events: list[BaseEvent] = []
        self._steps: list[Step] = []
        self._writing = asyncio.Lock()
        self._soon: asyncio.Task[None] | None = None
        self._wanted = False
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._is_unsure = False

    def keep_for_readers(self) -> None:
        """Store facts and deltas, for readers that come later."""
        self.attachable = self.keeps = True

    @property
    def unstored(self) -> list[DeltaEvent]:
        """Deltas that were announced and are perhaps not stored yet, joined where they may be."""
        return [delta for delta in (*self._in_flight, *self._gathered) if delta.seq <= self.announced]

    def resume_at(self, seq: int, step: int) -> None:
        """Go on counting where an earlier driver of the run stopped."""
        self.announced = self._numbered = seq
        self.last_step = step

    def add(self, event: BaseEvent) -> None:
        """Take a fact, which the next write stores and announces. What comes after the run's last one is too late."""
        if self._ended:
            return
        self._numbered += 1
        event.seq = self._numbered
        if self.keeps:
            self._events.append(event)
        else:
            self._announce([event])

    def add_step(self, kind: str, data: Callable[[], dict[str, Any]]) -> None:
        """Take a step for the next write. `data` is asked for only where it is written."""
        if self.keeps_steps:
            self.last_step += 1
            self._steps.append(Step(number=self.last_step, kind=kind, data=data()))

    def delta(self, event: DeltaEvent) -> None:
        """Announce a delta, after the last fact; keep it for later readers if the run may be attached to.

        Behind a fact that is still being stored, as another run's may be that works for this one, it waits for that.
        """
        event.seq = self._numbered
        if self.announced < self._numbered:
            self._events.append(event)
        else:
            for read in self.readers:
                read(event)
        if self.attachable and event.content:  # what has no text of its own was made from what others have
            gathered = self._gathered
            if gathered and (joined := gathered[-1].joined(event)) is not None:
                gathered[-1] = joined
            else:
                gathered.append(event)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(DELTAS_S, self.write_soon)

    async def write(self, *, messages: Sequence[Message] | None = None) -> None:
        """Store what was taken, and the run's messages if given, in one transaction, and announce it."""
        if not self.keeps and messages is None:
            return
        writing = self._write(messages)
        # what has to wait before it commits is a task, so that a cancellation does not keep it from it
        await (carried_out(self.storage, writing) if self._writing.locked() or self._is_unsure else writing)

    async def _write(self, messages: Sequence[Message] | None = None) -> None:
        async with self._writing:
            await self._make_sure()
            if self._events or self._steps or self._gathered or messages is not None:
                events, change = self._take()
                change.events = [_stored(event) for event in events if not event.is_delta]
                change.last_seq = self._numbered
                change.messages = messages
                _, cancelled = await self._store(change, events, change.steps)
                self._announce(events)
                if cancelled is not None:
                    raise cancelled

    def write_soon(self) -> None:
        """Have what was taken written without waiting for it. What fails is in the next write again."""
        self._timer = None
        if self.keeps and not self._ended:
            self._wanted = True
            if self._soon is None or self._soon.done():
                self._soon = asyncio.get_running_loop().create_task(self._write_wanted())
                self._soon.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _write_wanted(self) -> None:
        while self._wanted:
            self._wanted = False
            await self._write()

    async def quiet(self) -> None:
        """Begin no more writes by oneself, and wait for one that is under way."""
        self._wanted = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._soon is not None and not self._soon.done():
            await asyncio.wait([self._soon])

    async def commit(
        self,
        last: BaseEvent,
        on_conflict: Callable[[Conflict], BaseEvent],
        *,
        before: Callable[[Committed], None],
        **change: Any,
    ) -> None:
        """Store a change of the run with all that was taken and its `last` event; call `before`; announce.

        A place where the state clashed with what other runs made of it becomes a fact before the last one. The change
        stands for all steps. Nothing comes after it: a cancellation meanwhile is too late.
        """
        try:
            await carried_out(self.storage, self._commit(last, on_conflict, before, change))
        except asyncio.CancelledError:
            if not self._ended:
                raise

    async def _commit(
        self,
        last: BaseEvent,
        on_conflict: Callable[[Conflict], BaseEvent],
        before: Callable[[Committed], None],
        change: dict[str, Any],
    ) -> None:
        await self.quiet()
        async with self._writing:
            await self._make_sure()
            if self._ended:
                return
            events, commit = self._take()
            first = self._numbered + 1
            ending: list[BaseEvent] = []

            def facts(conflicts: Sequence[Conflict]) -> Sequence[tuple[int, str]]:
                ending[:] = [*map(on_conflict, conflicts), last]
                for seq, event in enumerate(ending, first):
                    event.seq = seq
                commit.last_seq = last.seq
                return [_stored(event) for event in (*events, *ending) if not event.is_delta] if self.keeps else ()

            steps, commit.steps, commit.events = commit.steps, (), facts
            for name, value in change.items():
                setattr(commit, name, value)
            committed, _ = await self._store(commit, events, steps)
            self._numbered = last.seq
            self._ended = True
            before(committed)
            self._announce([*events, *ending])

    async def _store(
        self, change: RunChange, events: list[BaseEvent], steps: Sequence[Step]
    ) -> tuple[Committed, asyncio.CancelledError | None]:
        """Commit, to the end; return the cancellation that came meanwhile, too.

        What storage refuses is taken back, for the next write and the run's last one.
        """
        try:
            if not self.storage.durable:
                return await self.storage.commit(change), None
            ended = kept(self.storage.commit(change))
            try:
                return await ended, None
            except asyncio.CancelledError as error:
                return ended.result(), error
        except (StorageError, asyncio.CancelledError) as error:
            self._events[:0] = events
            self._steps[:0] = steps
            self._gathered[:0] = self._in_flight
            self._is_unsure = isinstance(error, asyncio.CancelledError)
            raise
        finally:
            self._in_flight = []

    async def _make_sure(self) -> None:
        """Of a write that the end of the loop cut short, see whether it was done: nothing may be stored twice."""
        if not self._is_unsure:
            return
        stored = await self.storage.load_run(self.run_id)
        self._is_unsure = False
        if stored is not None:
            self._ended = stored.status is not RunStatus.RUNNING
            done = [event for event in self._events if event.seq <= stored.last_seq]
            self._events = self._events[len(done) :]
            last_step = max((step.number for step in stored.steps), default=0)
            self._steps = [step for step in self._steps if step.number > last_step]
            self._announce(done)

    async def leave_evidence(self) -> None:
        """Leave the results of calls that are not stored for whoever goes on with the run; the state is not ours."""
        await self.quiet()
        steps, self._steps = self._steps, []
        for step in steps:
            # a call that was cut short, or not made, has no time
            if step.kind == "tool" and step.data["execution"].elapsed_s is not None:
                data = {"execution": step.data["execution"]}
                await carried_out(self.storage, self.storage.add_evidence(self.run_id, "evidence", data))

    def give_up(self) -> None:
        """Announce what was taken although it could not be stored: the run has failed, and its reader is told."""
        self._announce(self._take()[0])

    def _take(self) -> tuple[list[BaseEvent], RunChange]:
        """Return the facts that wait, and a change that holds the steps and deltas that do."""
        events, self._events = self._events, []
        steps, self._steps = self._steps, []
        deltas, self._in_flight, self._gathered = self._gathered, self._gathered, []
        change = RunChange(run_id=self.run_id, session_id=self.session_id, epoch=self.epoch, steps=steps)
        change.deltas = [(delta.seq, delta.offset, event_to_json(delta)) for delta in deltas]
        return events, change

    def _announce(self, events: Sequence[BaseEvent]) -> None:
        """Tell of events that are stored, and of the deltas that waited for them."""
        for event in events:
            self.announced = event.seq
            for read in self.readers:
                read(event)
        while self._events and self._events[0].is_delta and self._events[0].seq == self.announced:
            delta = self._events.pop(0)
            for read in self.readers:
                read(delta)


def _stored(event: BaseEvent) -> tuple[int, str]:
    """What is stored of a fact: a run's last one without its response, which the run's own row holds."""
    return event.seq, event_to_json(event, response=False)
