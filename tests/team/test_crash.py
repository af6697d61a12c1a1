"""A team's process is killed at its writes in turn; another one goes on, and asks no member that had finished again."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from tests.crash.databases import KINDS, new_url
from tests.team.crash import Task, task_line

ROOT = Path(__file__).parents[2]
KILLED = -9
ENDS = ("RunCompleted", "RunError", "RunCancelled")
WORKERS = 3
MOST = 61
"""More writes than a run makes; how many those are depends on which of its steps are stored together."""


class Processes:
    """Makes processes, by forks of one that has imported everything, and waits for their end."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()
        folder.mkdir()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.team.crash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def do(self, task: Task) -> tuple[int, list[Any]]:
        """Returns the exit code, and the objects that were printed."""
        out = self._folder / f"out-{next(self._numbers)}"
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(task_line(task, str(out)))
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        text = out.read_text()
        assert code in (0, KILLED), text
        return code, [json.loads(line) for line in text.splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()


def check(found: dict[str, Any], read: list[dict[str, Any]]) -> None:
    """All that must hold whatever was done before the kill. `read` is what a reader had seen by then."""
    assert found["stored"] == "COMPLETED" and found["content"] == "team is done"
    assert set(found["statuses"].values()) == {"COMPLETED"} and found["unfinished"] == []
    assert found["results"] == ["ann is done", "inner is done", "cid is done"]
    assert found["calls"][0] == found["calls"][1] >= 10
    world = found["world"]
    # a payment was to be made; of an unmarked call that was cut it is not known whether it acts
    assert world["paid 5"] == 1 and world.get("dropped it", 0) <= 1
    assert sum(key.startswith("note ") for key in world) == 1
    assert found["state"]["items"] == ["a"] * len(found["state"]["items"])
    assert len(found["state"]["items"]) <= sum(times for key, times in world.items() if key.startswith("note "))
    # who had finished is not asked again
    done = {line["who"] for line in read if line["event"] in ENDS}
    for who in done - {"team"}:
        assert world[f"asked {who} 1"] == 1, world
    # the team's stream tells of all, without a gap, and of each once
    facts: list[tuple[int, str, str]] = [tuple(fact) for fact in found["facts"]]
    assert [seq for seq, _, _ in facts] == list(range(1, len(facts) + 1))
    by_run: dict[str, list[str]] = defaultdict(list)
    for _, name, who in facts:
        by_run[who].append(name)
    assert by_run.keys() == {"team", "ann", "inner", "bob", "cid"}
    for who, names in by_run.items():
        count = Counter(names)
        # one that was cut before its first model call is first told of as one that goes on
        assert names[0] in ("RunStarted", "RunContinued") and count["RunStarted"] <= 1, (who, names)
        assert names[-1] == "RunCompleted" and sum(count[end] for end in ENDS) == 1, (who, names)
        called = 3 if who == "team" else 1
        assert count["ToolCallStarted"] == count["ToolCallCompleted"] + count["ToolCallError"] == called, (who, names)
        assert 0 <= count["ModelCallStarted"] - count["ModelCallCompleted"] <= count["ModelCallReset"], (who, names)
    # a reader that goes on from its cursor has every fact once, and the text that each has said
    lines = [*read, *found["rest"]]
    assert [(line["event"], line["who"]) for line in lines if line["text"] is None] == [fact[1:] for fact in facts]
    for who in by_run:
        said = text_of(line for line in lines if line["who"] == who)
        assert said == f"{who} is done", (who, said)


def text_of(lines: Iterator[dict[str, Any]]) -> str:
    """What one has said for whoever drops what a cut model call had streamed."""
    done = call = ""
    for line in lines:
        if line["event"] == "RunContent":
            call += line["text"]
        elif line["event"] == "ModelCallReset":
            call = ""
        elif line["event"] == "ModelCallCompleted":
            done, call = done + call, ""
    return done


class Kill(NamedTuple):
    """The first process is killed at this write; with `second`, so is the one that goes on, at that one of its own."""

    write: int
    when: str
    second: int = 0


def happened(kill: Kill, processes: Processes, url: str, folder: Path) -> bool:
    """Kill, go on, and check. False when the first process made no such write."""
    name = "-".join(map(str, kill))
    task = Task("start", url, str(folder / f"{name}.db"), name, kill.write, kill.when)
    code, read = processes.do(task)
    if code == 0:
        return False
    going_on = replace(task, how="recover", write=0, after=read[-1]["cursor"] if read else "")
    if kill.second:
        processes.do(replace(going_on, write=kill.second))
    _, said = processes.do(going_on)
    if kill[:2] == (1, "before"):
        assert said[-1]["stored"] is None
    else:
        check(said[-1], read)
    return True


def go_through(kills: list[Kill], kind: str, folder: Path) -> int:
    """Returns how many of the kills happened. Several go on at once, each in a database of its own."""
    todo = iter(kills)

    def work(url: str, own: Path) -> int:
        with Processes(own / "out") as processes:
            return sum(happened(kill, processes, url, own) for kill in todo)

    folders = [folder / str(number) for number in range(min(WORKERS, len(kills)))]
    for own in folders:
        own.mkdir()
    urls = [new_url(kind, own) for own in folders]
    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(work, urls, folders))


BOTH = ("before", "after")


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_some_writes(kind: str, tmp_path: Path) -> None:
    assert go_through([Kill(write, when) for write in (9, 24, 39) for when in BOTH], kind, tmp_path) == 6


# the two go through all writes between them, before and after each


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_every_write(tmp_path: Path) -> None:
    kills = [Kill(write, BOTH[write % 2]) for write in range(1, MOST)]
    assert go_through(kills, "sqlite", tmp_path) > 40


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "step"), [("sqlite", 1), ("postgres", 2)])
def test_killed_again_while_going_on(kind: str, step: int, tmp_path: Path) -> None:
    kills = [Kill(write, BOTH[1 - write // step % 2], 1 + write * 7 % 30) for write in range(1, MOST, step)]
    assert go_through(kills, kind, tmp_path) > 40 // step
