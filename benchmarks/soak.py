"""Run an agent a hundred thousand times in one process and watch what the process holds on to.

    python benchmarks/soak.py [--runs 100000] [--at-once 20] [--quick]

The runs are plain, streamed, left in the middle, with a tool, with a session each or one for all, with sessions in
memory (the default, which keeps the newest 1,000) and in SQLite; some by agents made for one run. The first tenth warms
up. Ends with 1 if memory, objects, file descriptors, threads or tasks grow after that.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from claims import ASK, Sides, add, check
from run import limit_files, server
from server import ANSWER, pieces, total

GROWTH = {"MiB": 8.0, "objects": 20_000, "files": 4, "threads": 2, "tasks": 2}
"""What may be added between the first tenth and the end: caches that fill up, not what a run leaves."""


def held() -> dict[str, float]:
    gc.collect()
    with Path("/proc/self/statm").open() as statm:
        pages = int(statm.read().split()[1])
    return {
        "MiB": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "objects": len(gc.get_objects()),
        "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208  names alone are counted
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
    }


def kinds(sides: Sides, storage: Any) -> list[Callable[[], Awaitable[None]]]:
    """The kinds of run, each as a function that makes and checks one."""
    plain, tokens, chain = sides.agent("echo"), sides.agent("tokens-20"), sides.agent("chain-2", tools=[add])
    stored = sides.agent("echo", storage=storage, add_history_to_messages=True, num_history_runs=3)

    async def one() -> None:
        check((await plain.arun(ASK)).content, ANSWER)

    async def streamed() -> None:
        check(await sides.stream(tokens), "".join(pieces(20)))

    async def left() -> None:
        async with tokens.stream(ASK) as run:
            async for event in run:
                if event.event == "RunContent":
                    break

    async def with_tools() -> None:
        check((await chain.arun(ASK)).content, total(2))

    async def fresh() -> None:
        check((await sides.agent("echo", tools=[add]).arun(ASK)).content, ANSWER)

    async def in_one_session() -> None:
        check((await stored.arun(ASK, session_id="one", user_id="one")).content, ANSWER)

    return [one, streamed, left, with_tools, fresh, one, streamed, one, fresh, in_one_session]


async def soak(port: str, runs: int, at_once: int) -> list[dict[str, float]]:
    from agentrt.storage.sqlite import SqliteStorage

    found: list[dict[str, float]] = []
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        storage = SqliteStorage(db_file=f"{folder}/agentrt.db")
        stack.push_async_callback(storage.aclose)
        work = cycle(kinds(Sides(port), storage))
        start = time.perf_counter()
        for tenth in range(1, 11):
            for _ in range(runs // 10 // at_once):
                await asyncio.gather(*[make() for make in islice(work, at_once)])
            found.append(held())
            values = "".join(f" {value:,.0f} |" for value in found[-1].values())
            print(f"| {tenth * runs // 10:,} | {time.perf_counter() - start:.0f} |{values}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch what a process holds on to over many runs.")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the runs: for trying")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--at-once", type=int, default=20)
    options = parser.parse_args()
    limit_files()
    print(f"| runs | seconds | {' | '.join(GROWTH)} |\n|{' ---: |' * (2 + len(GROWTH))}", flush=True)
    with server() as port:
        found = asyncio.run(soak(port, options.runs // (100 if options.quick else 1), options.at_once))
    grown = {name: found[-1][name] - found[0][name] for name in GROWTH}
    print("\nGrown since the first tenth: " + ", ".join(f"{name} {value:+,.1f}" for name, value in grown.items()) + ".")
    if leaks := [name for name, most in GROWTH.items() if grown[name] > most]:
        sys.exit(f"It holds on to more and more: {', '.join(leaks)}")


if __name__ == "__main__":
    main()
