"""A workflow whose process is killed at any of its writes goes on in another one, and does nothing twice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrt.run.deciding import response_of
from tests.crash.databases import KINDS, new_url, open_storage
from tests.crash.scenarios import World

ROOT = Path(__file__).parents[2]
KILLED = -9
CONTENT = {
    "a": "did a",
    "b": "did b",
    "asked": "noted inner.",
    "failed": "as it does",
    "told": "noted outer.",
    "approved": "did approved",
}
Do = Callable[..., int]


@pytest.fixture
def do() -> Iterator[Do]:
    """Does a task in a process of its own; returns its exit code."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.workflow.program"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert server.stdin is not None and server.stdout is not None

    def do(how: str, write: int = 0, when: str = "", **where: str) -> int:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps({"how": how, "write": write, "when": when, **where}) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline())

    yield do
    server.stdin.close()
    server.wait(10)
    server.stdout.close()


async def check(url: str, side: str, name: str) -> None:
    """The run is complete; its session is as after one run; its events tell of it once; nothing was done needlessly."""
    storage = open_storage(url)
    stored = await storage.load_run(name)
    assert stored is not None and stored.status == "COMPLETED", stored
    assert response_of(stored).content == CONTENT
    assert response_of(stored).total_usage.model_calls == 4
    session = await storage.load_session(name)
    assert session is not None
    assert (session.state, session.run_count) == ({"seen": 12, "asked": ["inner"]}, 1)
    facts = [(seq, json.loads(text)) for seq, text in await storage.load_events(name)]
    assert [seq for seq, _ in facts] == list(range(1, len(facts) + 1))
    names = Counter(event["event"] for _, event in facts)
    assert names["WorkflowStarted"] <= names["WorkflowCompleted"] == 1  # it may have been killed before it was told
    steps = Counter((event["event"], event["key"]) for _, event in facts if "key" in event)
    assert len(steps) == 10 and set(steps.values()) == {1}, steps
    assert names["ToolCallStarted"] == names["ToolCallCompleted"] == 2
    acts: Counter[Any] = Counter(World(side).count(name))
    assert len(acts) == 6  # each under one key, however often it was tried
    assert max(acts.values()) <= 2
    assert sum(acts.values()) <= 6 + 3  # what was under way at the kill: at most what runs together
    await storage.aclose()


@pytest.mark.parametrize("write", [3, 10, 17])
def test_killed_in_the_middle(do: Do, write: int, tmp_path: Path) -> None:
    where = {"url": new_url("sqlite", tmp_path), "side": str(tmp_path / "side.db"), "name": "job"}
    assert do("start", write, "after", **where) == KILLED
    assert do("recover", **where) == 0
    asyncio.run(check(**where))


@pytest.mark.slow
@pytest.mark.timeout(170)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["start", "recover"])
def test_killed_at_every_write(do: Do, kind: str, how: str, tmp_path: Path) -> None:
    url, side = new_url(kind, tmp_path), str(tmp_path / "side.db")
    write, killed = 0, [KILLED]
    while KILLED in killed:
        write, killed = write + 1, []
        for when in ("before", "after"):
            where = {"url": url, "side": side, "name": f"{write}-{when}"}
            if how == "recover":
                assert do("start", **where) == 0  # which pauses
            killed.append(do(how, write, when, **where))
            assert killed[-1] in (KILLED, 0)
            assert do("recover", **where) == 0
            asyncio.run(check(**where))
    assert write > 5
