"""What waiting and stopping cost: `python benchmarks/pauses.py`.

From a pause to the end of the run in another process, the bytes of 1,000 paused runs, and how long each way of
cancelling takes. The model and the tools answer at once, so what is measured is agentrt and SQLite.
"""

import asyncio
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from agentrt import Agent, tool
from agentrt.models.base import ModelRequest
from agentrt.runtime import Runtime
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, reply


@tool(requires_confirmation=True)
def drop(x: int) -> str:
    return f"dropped {x}"


async def wait(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "waited"


def agent(storage: SqliteStorage, name: str, arguments: dict[str, object]) -> Agent:
    def answer(request: ModelRequest):
        return "done" if request.messages[-1].role == "tool" else reply("Let me see", tool_calls=[(name, arguments)])

    return Agent(agent_id="a", model=FunctionModel(answer), tools=[drop, wait], storage=storage)


async def pause(storage: SqliteStorage, runs: int) -> list[str]:
    paused = [await agent(storage, "drop", {"x": 1}).arun("go") for _ in range(runs)]
    await storage.aclose()
    return [response.run_id or "" for response in paused]


async def go_on(database: Path, run_ids: list[str]) -> list[float]:
    """Milliseconds from opening the database to the end of each run, decided and continued there."""
    times: list[float] = []
    for run_id in run_ids:
        start = time.perf_counter()
        storage = SqliteStorage(db_file=database)
        loaded = await agent(storage, "drop", {"x": 1}).sessions.aget_run(run_id)
        loaded.requirements[0].confirm()
        await agent(storage, "drop", {"x": 1}).acontinue_run(loaded)
        times.append((time.perf_counter() - start) * 1e3)
        await storage.aclose()
    return times


def in_another_process(database: Path, run_ids: list[str]) -> list[float]:
    return asyncio.run(go_on(database, run_ids))


async def stop(folder: Path, mode: str, runs: int = 20) -> list[float]:
    """Milliseconds from the cancel to the cancelled response; a tool of 50 ms is running."""
    storage = SqliteStorage(db_file=folder / f"stop-{mode}.db")
    times: list[float] = []
    for _ in range(runs):
        async with Runtime(agents=[agent(storage, "wait", {"seconds": 0.05})], storage=storage) as runtime:
            handle = await runtime.start("a", "go")
            async for event in handle.events():
                if event.event == "ToolCallStarted":
                    break
            start = time.perf_counter()
            await handle.cancel(mode=mode)  # pyright: ignore[reportArgumentType]  one of the three
            times.append((time.perf_counter() - start) * 1e3)
    return times


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_ids = await pause(SqliteStorage(db_file=folder / "continue.db"), 50)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
            times = other.submit(in_another_process, folder / "continue.db", run_ids).result()
        print(f"paused run continued in another process: {statistics.median(times):.1f} ms (min {min(times):.1f})")
        await pause(SqliteStorage(db_file=folder / "paused.db"), 1000)
        print(f"1,000 paused runs: {(folder / 'paused.db').stat().st_size / 1e6:.2f} MB on disk")
        for mode in ("now", "after_tools", "after_turn"):
            times = await stop(folder, mode)
            print(f"cancel {mode}, in a tool of 50 ms: {statistics.median(times):.1f} ms (min {min(times):.1f})")


if __name__ == "__main__":
    asyncio.run(main())
