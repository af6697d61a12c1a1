"""Where the time goes, largest first: of a plain run, a chunk, a turn at 200 stored turns, and what the journal adds.

    python benchmarks/run.py parts      prints a table for each

The shares are cProfile's, which weighs Python's calls more than C's, scaled to the CPU time measured without it. The
floors are what raw asyncio needs for the same exchange: no TLS, no pool, no checks, no events. The parts of the journal
are measured without a profiler, by leaving out one after the other.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import pstats
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from claims import ASK, QUICK, Sides, add, check
from server import ANSWER, pieces, total

from agentrt.storage.base import Committed, Kept, RunChange
from agentrt.storage.sqlite import SqliteStorage

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


class CutShort(SqliteStorage):
    """Carries out only a part of each commit in the middle of a run."""

    def __init__(self, part: str, db_file: str) -> None:
        super().__init__(db_file=db_file)
        self._part = part

    def commit(self, change: RunChange) -> Kept[Committed]:
        if change.status is not None or self._part == "all":
            return super().commit(change)
        if self._part == "texts":
            jobs = self._jobs
            self._jobs: Any = NoThread()
            try:
                return super().commit(change)
            finally:
                self._jobs = jobs
        done = Kept[Committed](loop=asyncio.get_running_loop())
        if self._part == "thread":
            self._jobs.submit(lambda connection: Committed(), writes=False, to=done)
        else:
            done.set_result(Committed())
        return done


class NoThread:
    def submit(self, work: Any, *, writes: bool, to: Kept[Committed]) -> None:
        to.set_result(Committed())


async def journal(sides: Sides, folder: str) -> str:
    """What the journal of steps adds to a chain of 10 calls, by turns."""
    agents = {"run": sides.agent("chain-10", tools=[add], storage=CutShort("all", f"{folder}/run"), journal="run")}
    for part in ("facts", "texts", "thread", "all"):
        agents[part] = sides.agent("chain-10", tools=[add], storage=CutShort(part, f"{folder}/{part}"))
    found: dict[str, list[float]] = {part: [] for part in agents}
    for number in range(4 if QUICK else 16):
        for part, agent in agents.items():
            gc.collect()
            start = time.process_time()
            for _ in range(5):
                check((await agent.arun(ASK)).content, total(10))
            if number:  # the first warms up
                found[part].append((time.process_time() - start) / 5 * 1e6)
    for agent in agents.values():
        await agent.storage.aclose()
    run, facts, texts, thread, whole = (statistics.median(values) for values in found.values())
    parts = {
        "the engine: facts made, numbered, encoded, announced": facts - run,
        "the steps encoded": texts - facts,
        "to the thread of the database and back": thread - facts,
        "the transaction": whole - texts - (thread - facts),
    }
    each = (whole - run) / 21  # the first and the last are of the run's journal, too
    lines = [
        f"| the journal of steps, chain of 10 calls: {whole:,.0f} µs, {whole / run:.2f} times {run:,.0f} µs without; "
        f"{each:,.0f} µs for each of 21 transactions | µs | share |",
        "| --- | ---: | ---: |",
        *(
            f"| {part} | {cost:,.0f} | {cost / (whole - run):.0%} |"
            for part, cost in sorted(parts.items(), key=lambda item: -item[1])
        ),
    ]
    return "\n".join(lines)


async def main(port: str) -> None:
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
        print(table("a turn at 200 stored turns", cpu * 1e6, shares), end="\n\n")
        await storage.aclose()
        print(await journal(sides, folder))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
