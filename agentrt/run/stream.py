"""The read side of a run: a driver task owns the run, a reader holds only a buffer.

No scope, lock or span is open on the reader's side, so any task may read, leave or close it, and dropping it is enough.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Generator
from typing import Any, Generic, Self

import anyio

from agentrt.run.events import (
    INTERMEDIATE,
    BaseEvent,
    DeltaEvent,
    OutputPartial,
    RunCompleted,
    RunContent,
    RunEvent,
)
from agentrt.run.loop import drive
from agentrt.run.response import CancelMode, Out, RunResponse
from agentrt.run.run import Run
from agentrt.run.speakers import Speakers

JOIN_BEYOND = 4096
"""A reader that is this many events behind gets further deltas joined. Facts are never joined."""
CLOSE_S = 5.0
"""How long the end of a run is waited for by a task that is itself being cancelled."""


class Channel:
    """What the driver fills and the reader drains."""

    __slots__ = ("all_steps", "events", "wake")

    def __init__(self, all_steps: bool) -> None:
        self.events: deque[BaseEvent] = deque()
        self.wake = asyncio.Event()
        self.all_steps = all_steps

    def emit(self, event: BaseEvent) -> None:
        """Take an event; no await, so that a delta costs no task switch."""
        if not self.all_steps and event.event in INTERMEDIATE:
            return
        events = self.events
        if len(events) > JOIN_BEYOND and isinstance(event, DeltaEvent):
            # text and what is made of it come by turns
            for at in (-1, -2) if isinstance(events[-1], OutputPartial) or isinstance(event, OutputPartial) else (-1,):
                last = events[at]
                if isinstance(last, DeltaEvent) and (joined := last.joined(event)) is not None:
                    events[at] = joined
                    return
        events.append(event)
        self.wake.set()

    async def get(self) -> BaseEvent:
        """Wait for the next event."""
        while not self.events:
            self.wake.clear()
            await self.wake.wait()
        return self.events.popleft()


class RunStream(Generic[Out]):
    """A run being driven, and its events: `async with agent.stream(…) as run: async for event in run: …`.

    Iterating ends after the run's last event, also when the run failed (with `raises`, the error is raised then).
    Leaving the `async with`, `aclose` and dropping the last reference all cancel the run, close its connections and
    leave no task behind; so does cancelling a task in its `async for`, where there may be no `async with` (`raises`).
    """

    def __init__(self, run: Run, *, all_steps: bool = False, raises: bool = False, events: bool = True) -> None:
        self._run = run
        self._raises = raises
        self._alone = False
        """Is it read by an `async for`, and nothing else that would close it?"""
        self._channel = Channel(all_steps)
        self._driver: asyncio.Task[RunResponse[Out]] | None = None
        run.stream = events
        if events:
            run.journal.readers.append(self._channel.emit)

    @property
    def run_id(self) -> str:
        return self._run.run_id

    @property
    def session_id(self) -> str:
        return self._run.session_id

    def start(self) -> asyncio.Task[RunResponse[Out]]:
        """Let the run begin, if it has not. Iterating, `result` and `async with` do so by themselves."""
        driver = self._driver
        if driver is None:
            channel = self._channel
            work = self._run.drive() if self._run.drive is not None else drive(self._run)
            driver = self._driver = asyncio.create_task(work, name=f"agentrt run {self._run.run_id}")
            # the result is fetched so that a dropped stream's failure is not reported as never retrieved
            driver.add_done_callback(lambda task: (task.cancelled() or task.exception(), channel.wake.set()))
        return driver

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __await__(self) -> Generator[Any, None, Self]:
        """`await agent.arun(…, stream=True)` gives the stream itself."""
        yield from ()
        return self

    def __aiter__(self) -> Self:
        self._alone = self._raises
        return self

    async def __anext__(self) -> RunEvent:
        channel = self._channel
        driver = self._driver or self.start()
        while not channel.events:
            if driver.done():
                if self._raises and (error := _error_of(driver)):
                    self._raises = False  # once
                    raise error
                raise StopAsyncIteration
            channel.wake.clear()
            try:
                await channel.wake.wait()
            except asyncio.CancelledError:
                # not so when an `anext` alone is cancelled, as `wait_for` does: its reader comes again
                if self._alone:
                    await self.aclose()
                raise
        return channel.events.popleft()  # pyright: ignore[reportReturnType]  the driver emits RunEvents

    async def next_batch(self) -> list[RunEvent]:
        """Return all events that are there, at least one; an empty list is the end."""
        try:
            first = await self.__anext__()
        except StopAsyncIteration:
            return []
        events = self._channel.events
        batch: list[RunEvent] = [first, *events]  # pyright: ignore[reportAssignmentType]  the driver emits RunEvents
        events.clear()
        return batch

    async def result(self) -> RunResponse[Out]:
        """Wait for the end (or a pause) and return the response. Raises what the run raised."""
        return await asyncio.shield(self.start())

    async def text(self) -> str:
        """Wait for the end and return the answer of this run alone, as text. Raises what the run raised."""
        return (await self.result()).text()

    async def text_deltas(self) -> Any:
        """Yield the answer's pieces: of this run, and of the member whose answer is its own; none of other runs'.

        An answer that is a tool's result, and was not streamed, is the last piece.
        """
        mine, speaker, speakers = self.run_id, "", Speakers()
        async for event in self:
            speakers.hear(event)
            piece = ""
            if isinstance(event, RunContent) and mine in (event.run_id, speakers.speaks_for(event.run_id)):
                piece = event.content
            elif isinstance(event, RunCompleted) and event.run_id == mine and event.response.stop_reason == "tool":
                told = event.response.text() if speaker in ("", mine) else ""
                piece = f"\n\n{told}" if told and speaker else told
            if piece:
                yield piece if speaker in ("", event.run_id) else f"\n\n{piece}"
                speaker = event.run_id

    async def run_to_end(self) -> RunResponse[Out]:
        """Return the response; when the waiting task is cancelled, the run is, too."""
        try:
            return await asyncio.shield(self.start())
        except asyncio.CancelledError:
            await self.aclose()
            raise

    def cancel(self, reason: str = "cancelled", *, mode: CancelMode = "now") -> None:
        """Cancel the run: it ends with a cancelled response, which `result` returns."""
        self._stop(reason, mode)

    async def aclose(self) -> None:
        """End the run; wait until it is stored and its connections are closed. From any task, any number of times."""
        self._stop()
        driver = self._driver
        if driver is None or driver.done():
            return
        await wait_for_end([driver])

    def _stop(self, reason: str | None = None, mode: CancelMode = "now") -> None:
        self._run.driver = self._run.driver or self._driver  # a driver that has not begun is cancelled, too
        self._run.stop(reason, mode)

    def __del__(self) -> None:
        driver = self._driver
        if driver is not None and not driver.done() and not self._run.cancel_flag.is_set():
            loop = driver.get_loop()
            if not loop.is_closed():
                self._run.cancel_flag.set()
                loop.call_soon_threadsafe(driver.cancel)


async def wait_for_end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Wait for tasks that were cancelled; for a while also when the waiting task is being cancelled itself."""
    if not tasks:
        return
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        # in a cancelled scope of anyio every await fails at once; a run's last write is waited for all the same
        with anyio.move_on_after(CLOSE_S, shield=True):
            await asyncio.wait(tasks)
        raise


def _error_of(driver: asyncio.Task[Any]) -> BaseException | None:
    return asyncio.CancelledError() if driver.cancelled() else driver.exception()
