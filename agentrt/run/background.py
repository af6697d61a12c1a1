"""Runs in the background: driven whether anybody reads or not, and read by any number of readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Generic, Self

from agentrt.run.attach import attach
from agentrt.run.events import RunEvent
from agentrt.run.response import CancelMode, Out, RunResponse
from agentrt.run.resume import load
from agentrt.run.run import Run
from agentrt.run.stream import RunStream

_driven: set[asyncio.Task[Any]] = set()
"""What runs in the background; the event loop itself keeps no task alive."""


class RunHandle(Generic[Out]):
    """A run in the background. Dropping the handle, or a reader that goes away, does not stop it; `cancel` does."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._stream: RunStream[Out] = RunStream(run, events=False)
        run.keep_for_readers()
        self.driver = self._stream.start()
        _driven.add(self.driver)
        self.driver.add_done_callback(_driven.discard)

    @classmethod
    async def start(cls, run: Run) -> Self:
        """Begin the run and return once it is stored. Raises what keeps it from beginning."""
        handle = cls(run)
        entered = asyncio.ensure_future(run.entered.wait())
        try:
            await asyncio.wait([handle.driver, entered], return_when=asyncio.FIRST_COMPLETED)
        finally:
            entered.cancel()
        if not run.entered.is_set():
            await handle.result()
        return handle

    @property
    def run_id(self) -> str:
        return self._run.run_id

    @property
    def session_id(self) -> str:
        return self._run.session_id

    @property
    def done(self) -> bool:
        """Has the run ended, or paused?"""
        return self.driver.done()

    async def result(self) -> RunResponse[Out]:
        """Wait for the end (or a pause) and return the response. Raises what the run raised."""
        return await self._stream.result()

    async def events(self, *, after: str | None = None, through_pauses: bool = False) -> AsyncGenerator[RunEvent, None]:
        """Yield the run's events after a cursor, those that have been and those to come. Any number of times."""
        run = self._run
        reading = attach(
            run.storage, await load(run), after=after, through_pauses=through_pauses, definition=run.definition
        )
        async for event in reading:
            yield event

    async def cancel(self, reason: str = "cancelled", *, mode: CancelMode = "now") -> None:
        """Cancel the run and wait until it is stored: it ends with a cancelled response."""
        self._stream.cancel(reason, mode=mode)
        await asyncio.wait([self.driver])

    async def let_go(self) -> None:
        """Stop driving the run and leave it as it is stored, for another process to recover."""
        self._run.let_go = True
        self._run.stop(None)
        await asyncio.wait([self.driver])
