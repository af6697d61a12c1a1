"""Many inputs, one agent: `async for index, outcome in agent.map(inputs): …`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, Self

from agentrt.errors import ConfigurationError
from agentrt.run.response import Out, RunResponse
from agentrt.run.run import Run
from agentrt.run.stream import RunStream, wait_for_end


class RunMap(Generic[Out]):
    """Runs over many inputs: yields `(index, RunResponse | Exception)` as they finish.

    At most `max_concurrency` runs are held at a time, with those that have finished and were not read yet, and inputs
    are taken one by one as there is room. An exception of the inputs themselves is raised once their runs are read.
    Leaving the `async for` cancels what runs; leaving `async with agent.map(…) as outcomes:` waits for that, too.
    """

    def __init__(
        self, open: Callable[[Any], Run], inputs: Iterable[Any] | AsyncIterable[Any], max_concurrency: int
    ) -> None:
        self._running: dict[asyncio.Task[RunResponse[Out]], int] = {}
        self._taking: asyncio.Task[tuple[Any] | None] | None = None
        """Takes the next input, where there is room for one."""
        if max_concurrency < 1:
            raise ConfigurationError(f"map(max_concurrency={max_concurrency!r}) is too small; it takes 1 or more")
        self._open = open
        self._inputs = aiter(inputs) if isinstance(inputs, AsyncIterable) else iter(inputs)
        self._room = max_concurrency
        self._started = 0
        self._end: Exception | None = None
        """What is raised when all runs are read; set when there are no more inputs."""
        self._alone = False
        """Is it read by an `async for`, and nothing else that would close it?"""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        self._alone = True
        return self

    async def __anext__(self) -> tuple[int, RunResponse[Out] | Exception]:
        while True:
            self._fill()
            ended = next((task for task in self._running if task.done()), None)
            if ended is not None:
                return self._running.pop(ended), _outcome(ended)
            if self._end is not None and not self._running:
                end, self._end = self._end, StopAsyncIteration()
                raise end
            try:
                await asyncio.wait(self._tasks(), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                # not so when an `anext` alone is cancelled, as `wait_for` does: its reader comes again
                if self._alone:
                    await self.aclose()
                raise

    async def aclose(self) -> None:
        """Cancel what runs, and wait until it has ended. From any task, any number of times."""
        self._end = StopAsyncIteration()
        tasks = self._tasks()
        self._running, self._taking = {}, None
        for task in tasks:
            task.cancel()
        await wait_for_end(tasks)

    def __del__(self) -> None:
        for task in self._tasks():
            loop = task.get_loop()
            if not task.done() and not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

    def _tasks(self) -> list[asyncio.Task[Any]]:
        return [*self._running, *([self._taking] if self._taking is not None else [])]

    def _fill(self) -> None:
        """Begin the run of the input that was taken, and take the next one if there is room."""
        if self._taking is not None and self._taking.done():
            taking, self._taking = self._taking, None
            try:
                taken = taking.result()
            except Exception as error:  # of the caller's own inputs: raised to them when the runs so far are read
                taken, self._end = None, error
            if taken is not None:
                self._running[_task(_run(self._open, taken[0]))] = self._started
                self._started += 1
            else:
                self._end = self._end or StopAsyncIteration()
        if self._taking is None and self._end is None and len(self._running) < self._room:
            self._taking = _task(_take(self._inputs))


# these hold no RunMap: one that is dropped is to be noticed


def _task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(work)
    task.add_done_callback(_seen)
    return task


def _seen(task: asyncio.Task[Any]) -> None:
    """Have a failure not reported as never retrieved when nobody comes to ask for it."""
    if not task.cancelled():
        task.exception()


async def _take(inputs: Iterator[Any] | AsyncIterator[Any]) -> tuple[Any] | None:
    if isinstance(inputs, AsyncIterator):
        async for item in inputs:
            return (item,)
        return None
    for item in inputs:
        return (item,)
    return None


async def _run(open: Callable[[Any], Run], input: Any) -> RunResponse[Any]:
    return await RunStream[Any](open(input), events=False).run_to_end()


def _outcome(task: asyncio.Task[RunResponse[Out]]) -> RunResponse[Out] | Exception:
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, Exception):
        return error
    raise error
