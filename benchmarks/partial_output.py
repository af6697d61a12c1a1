"""What `OutputPartial` costs: `python benchmarks/partial_output.py`.

The time that a typed answer of 1 to 200 KB takes while it comes in, in pieces of 4 characters, for the scanner, the
checks and the events; and how many events there are. It is the CPU's time beside that of the same pieces taken as text.
Then the same for a whole run, streamed from a scripted model, beside one without `response_model`.
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from typing import Any

from agentrt import Agent
from agentrt.run.events import OutputPartial
from agentrt.run.output_type import output_type
from agentrt.run.partial import PartialOutput
from agentrt.testing import ScriptedModel, reply

PIECE = 4
ROUNDS = 3
SIZES_KB = (1, 10, 100, 200)
WORDS = "some words of an answer "


@dataclass
class Item:
    name: str
    number: int
    tags: list[str]


@dataclass
class Text:
    text: str


def flat(size: int) -> tuple[Any, str]:
    """One object of as many members as there is room for, of which its type knows each."""
    members = {f"member_{n}": WORDS for n in range(max(1, size // 40))}
    return make_dataclass("Flat", [(name, str) for name in members]), json.dumps(members)


def items(size: int) -> tuple[Any, str]:
    made = [{"name": WORDS, "number": n, "tags": ["a", "b"]} for n in range(max(1, size // 78))]
    return list[Item], json.dumps({"value": made})


def long_text(size: int) -> tuple[Any, str]:
    return Text, json.dumps({"text": WORDS * (size // len(WORDS))})


def wide(size: int) -> tuple[Any, str]:
    """A list of objects with 200 members each."""
    each = {f"k{n}": n for n in range(200)}
    text = json.dumps(each)
    return list[dict[str, int]], json.dumps({"value": [each] * max(1, size // len(text))})


def keys(size: int) -> tuple[Any, str]:
    """A map of one level, whose keys no type knows."""
    return dict[str, int], json.dumps({"value": {f"key {n}": n for n in range(max(1, size // 18))}})


SHAPES: dict[str, Callable[[int], tuple[Any, str]]] = {
    "flat object": flat,
    "list of objects": items,
    "one long text": long_text,
    "list of wide objects": wide,
    "map of many keys": keys,
}


def pieces_of(text: str) -> list[str]:
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


def scanned(kind: Any, pieces: list[str]) -> tuple[float, int]:
    """Seconds, and events."""
    type = output_type(kind)
    start = time.process_time()
    partial = PartialOutput(type)
    events = sum(partial.feed(piece) is not None for piece in pieces)
    events += partial.end() is not None
    return time.process_time() - start, events


async def streamed(kind: Any, pieces: list[str]) -> float:
    agent = Agent(model=ScriptedModel(reply(pieces)), response_model=kind)
    start = time.process_time()
    seen = 0
    async for event in agent.arun("go", stream=True):
        seen += isinstance(event, OutputPartial)
    assert bool(seen) == (kind is not str)
    return time.process_time() - start


def row(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    print(f"{platform.machine()}, Python {platform.python_version()}, pieces of {PIECE} characters\n")
    for title, cell in (
        ("µs a piece (events), scanner and checks alone", scan_cell),
        ("µs a piece, a whole run", run_cell),
    ):
        print(row(title, [f"{size} KB" for size in SIZES_KB]))
        print(row("---", ["---"] * len(SIZES_KB)))
        for name, make in SHAPES.items():
            print(row(name, [cell(*make(size * 1000)) for size in SIZES_KB]))
            sys.stdout.flush()
        print()


def scan_cell(kind: Any, text: str) -> str:
    pieces = pieces_of(text)
    scanned(kind, pieces)  # makes what is made once for a type
    rounds = [scanned(kind, pieces) for _ in range(ROUNDS)]
    return f"{statistics.median(seconds for seconds, _ in rounds) / len(pieces) * 1e6:.1f} ({rounds[0][1]})"


def run_cell(kind: Any, text: str) -> str:
    pieces = pieces_of(text)
    asyncio.run(streamed(kind, pieces))
    typed = statistics.median(asyncio.run(streamed(kind, pieces)) for _ in range(ROUNDS))
    plain = statistics.median(asyncio.run(streamed(str, pieces)) for _ in range(ROUNDS))
    return f"{typed / len(pieces) * 1e6:.1f}, as text {plain / len(pieces) * 1e6:.1f}"


if __name__ == "__main__":
    main()
