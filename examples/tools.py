"""The kinds of tools: plain functions, coroutines, generators, methods, toolkits; with options, context and hooks."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from agentrt import Agent, RunContext, Toolkit, tool
from agentrt.errors import ToolError
from agentrt.run.events import ToolCallCompleted, ToolCallError, ToolCallProgress


def current_time() -> str:
    """Tell the time."""
    return datetime.now(UTC).isoformat(timespec="seconds")


async def wait(seconds: Annotated[float, Field(gt=0, le=5)]) -> str:
    """Wait a moment.

    Args:
        seconds: How long to wait.
    """
    await asyncio.sleep(seconds)
    return f"{seconds} s later"


async def count_to(number: int) -> AsyncIterator[str]:
    """Count to a number, aloud."""
    for n in range(1, number + 1):
        yield f"{n} "  # each a ToolCallProgress event; together they are the result


@tool(effect="pure", retries=2, timeout_s=10, cache_results=True)
def read_notes(name: str, ctx: RunContext[Path]) -> str:
    """Read one of the user's notes."""  # `ctx` is filled in by the runtime; the model sees `name` alone
    path = ctx.dependencies / f"{Path(name).name}.txt"
    if not path.exists():
        raise ToolError(f"there is no note called {name!r}")  # what the model is told
    return path.read_text()


class Ledger(Toolkit):
    """Tools that belong together and share an object."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, float]] = []
        super().__init__(tools=[self.spend, self.total], prefix="ledger_")

    def spend(self, what: str, amount: float) -> str:
        """Enter an expense."""
        self.entries.append((what, amount))
        return f"{amount:.2f} for {what} entered"

    def total(self) -> float:
        """Add up all expenses."""
        return sum(amount for _, amount in self.entries)


async def audit(function_name: str, function_call: Any, arguments: dict[str, Any]) -> Any:
    """A hook around every call."""
    print(f"[audit] {function_name} {arguments}")
    return await function_call(**arguments)


agent = Agent(
    tools=[current_time, wait, count_to, read_notes, Ledger()],
    tool_hooks=[audit],
    tool_call_limit=10,
)


async def main(notes: Path) -> None:
    for question in ("What time is it?", "Count to 3", "Read the note milk", "Enter an expense: I spend 3.50 on tea"):
        print(f"\n# {question}")
        async for event in agent.arun(question, stream=True, dependencies=notes):
            match event:
                case ToolCallProgress(content=piece):
                    print(f"  … {piece}")
                case ToolCallCompleted(content=result, tool=call) | ToolCallError(content=result, tool=call):
                    print(f"  {call.tool_name}: {result}")
        print(event.content)


notes = Path("tmp/notes")
notes.mkdir(parents=True, exist_ok=True)
(notes / "milk.txt").write_text("The milk is in the fridge.")
asyncio.run(main(notes))
