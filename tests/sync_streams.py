"""What the tests of the sync facade run, here and in processes of their own."""

from __future__ import annotations

import asyncio

from agentrt.testing import Signal


async def double(value: int) -> int:
    await asyncio.sleep(0)
    return value * 2


class Stream:
    """Counts to `end` in batches, or stays open when `end` is None; knows whether it was closed."""

    def __init__(self, end: int | None = 5) -> None:
        self.batches = [[0, 1], [2], [3, 4]] if end else [[0, 1]]
        self.end = end
        self.waiting = Signal()
        self.closed = Signal()

    async def open(self) -> Stream:
        return self

    async def next_batch(self) -> list[int]:
        if self.batches:
            return self.batches.pop(0)
        if self.end is None:
            self.waiting.set()
            await asyncio.Event().wait()
        return []

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed.set()
