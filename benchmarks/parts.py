"""Where the time of a run goes, largest first: the parts of a plain run, of a chunk, of a turn at 200 stored turns.

    python benchmarks/parts.py PORT        prints a table for each; `benchmarks/run.py` puts them below its own

The shares are cProfile's, which weighs Python's calls more than C's, scaled to the CPU time measured without it. The
floors are what raw asyncio needs for the same exchange: no TLS, no pool, no checks, no events.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from claims import ASK, Sides, check
from server import ANSWER, pieces

PARTS = (
    ("agentrt/models/_connection", "our transport"),
    ("agentrt/models/_transport", "our transport"),
    ("agentrt/models/_tls", "our transport"),
    ("agentrt/models", "our adapter: request and answer"),
    ("agentrt/storage", "our storage"),
    ("agentrt", "our engine: run, events, journal"),
    ("httpx2", "httpx2: request and response objects"),
    ("openai", "the SDK"),
    ("json", "json"),
    ("asyncio", "asyncio"),
    ("selectors", "asyncio"),
    ("contextlib", "asyncio"),
)
BUILT_INS = (("epoll", "the kernel"), ("socket", "the kernel"), ("_asyncio", "asyncio"), ("jiter", "json"))
FLOORS_US = {"a plain run": 75.0, "a streamed chunk": 4.5, "a turn at 200 stored turns": 230.0}
Work = Callable[[], Awaitable[Any]]


def part_of(function: tuple[str, int, str]) -> str:
    file, _, name = function
    if file == "~":
        return next((part for word, part in BUILT_INS if word in name), "built-in functions")
    return next((part for word, part in PARTS if f"/{word}" in file), "other Python code")


async def cost(work: Work, repeats: int) -> tuple[float, dict[str, float]]:
    """The CPU seconds of one, and the parts' shares of them."""
    for _ in range(max(3, repeats // 4)):
        await work()
    start = time.process_time()
    for _ in range(repeats):
        await work()
    cpu = (time.process_time() - start) / repeats
    profile = cProfile.Profile(time.process_time)  # not the clock: others may have the core meanwhile
    profile.enable()
    for _ in range(repeats):
        await work()
    profile.disable()
    found: dict[str, float] = defaultdict(float)
    stats: dict[tuple[str, int, str], tuple[Any, Any, float, Any, Any]] = pstats.Stats(profile).stats  # pyright: ignore[reportAttributeAccessIssue]  not in its stubs
    for function, (_, _, own, _, _) in stats.items():
        if "poll" not in function[2]:  # which is waiting
            found[part_of(function)] += own
    total = sum(found.values())
    return cpu, {part: own / total for part, own in found.items()}


def table(what: str, cpu_us: float, shares: dict[str, float]) -> str:
    lines = [f"| {what}: {cpu_us:,.3g} µs (raw asyncio: {FLOORS_US[what]:g}) | µs | share |", "| --- | ---: | ---: |"]
    parts = sorted(shares.items(), key=lambda item: -item[1])
    lines += [f"| {part} | {cpu_us * share:,.3g} | {share:.0%} |" for part, share in parts if share >= 0.01]
    return "\n".join(lines)


async def main(port: str) -> None:
    from agentrt.storage.sqlite import SqliteStorage

    sides = Sides(port)
    plain, many, text = sides.agent("echo"), sides.agent("tokens-2000"), "".join(pieces(2000))

    async def run() -> None:
        check((await plain.arun(ASK)).content, ANSWER)

    async def stream() -> None:
        check(await Sides.stream(many), text)

    cpu, shares = await cost(run, 400)
    print(table("a plain run", cpu * 1e6, shares), end="\n\n")
    cpu, shares = await cost(stream, 6)
    print(table("a streamed chunk", cpu * 1e6 / 2000, shares), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        storage = SqliteStorage(db_file=str(Path(folder) / "agentrt.db"))
        stored = sides.agent(
            "echo", storage=storage, session_id="one", add_history_to_messages=True, num_history_runs=200
        )
        for _ in range(200):
            await stored.arun(ASK)
        cpu, shares = await cost(lambda: stored.arun(ASK), 20)
        print(table("a turn at 200 stored turns", cpu * 1e6, shares))
        await storage.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
