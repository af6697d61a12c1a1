"""What waiting and stopping cost: `python benchmarks/pauses.py`.

From a pause to the end of the run in another process, the bytes of 1,000 paused runs, and how long each way of
cancelling takes. The model and the tools answer at once, so what is measured is agentrt and SQLite.
"""

import asyncio
import statistics
import tempfile
import time
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


async def continue_elsewhere(folder: Path, runs: int = 50) -> list[float]:
    """Milliseconds from opening the database in a second process to the end of a run that was decided there."""
    here = SqliteStorage(db_file=folder / "continue.db")
    paused = [await agent(here, "drop", {"x": 1}).arun("go") for _ in range(runs)]
    await here.aclose()
    times: list[float] = []
    for response in paused:
        storage = SqliteStorage(db_file=folder / "continue.db")
        start = time.perf_counter()
        loaded = await agent(storage, "drop", {"x": 1}).sessions.aget_run(response.run_id or "")
        loaded.requirements[0].confirm()
        await agent(storage, "drop", {"x": 1}).acontinue_run(loaded)
        times.append((time.perf_counter() - start) * 1e3)
        await storage.aclose()
    return times


async def pause(storage: SqliteStorage, runs: int = 1000) -> None:
    for _ in range(runs):
        await agent(storage, "drop", {"x": 1}).arun("go")
    await storage.aclose()


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
        times = await continue_elsewhere(folder)
        print(f"paused run continued by another storage: {statistics.median(times):.1f} ms (min {min(times):.1f})")
        await pause(SqliteStorage(db_file=folder / "paused.db"))
        print(f"1,000 paused runs: {(folder / 'paused.db').stat().st_size / 1e6:.2f} MB on disk")
        for mode in ("now", "after_tools", "after_turn"):
            times = await stop(folder, mode)
            print(f"cancel {mode}, in a tool of 50 ms: {statistics.median(times):.1f} ms (min {min(times):.1f})")


if __name__ == "__main__":
    asyncio.run(main())
