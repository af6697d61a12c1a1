"""A process is killed at every journal write in turn; another one goes on, and everything is as it should be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.crash.program import FINAL

ROOT = Path(__file__).parents[2]


def program(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.crash.program", *args],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=ROOT,
        check=False,
    )


def check(found: dict[str, Any], read: list[str]) -> None:
    """All that must hold whatever was done before the kill. `read` are the cursors a reader had seen by then."""
    assert found["stored"] == "COMPLETED" and found["content"] == FINAL
    # no item twice, none missing
    assert found["state"]["items"] == ["a", "b"]
    # what must not be repeated ran at most once; a payment that was to be made was made
    world: dict[str, int] = found["world"]
    assert world.get("unmarked u", 0) <= 1
    assert world["paid 5"] == world["paid 7"] == 1
    assert sum(key.startswith("note ") for key in world) == 2  # the same key each time
    # an unmarked call whose outcome is unknown is told as such, and its state is not half there
    told_unknown = any("outcome of this call is unknown" in result for result in found["results"])
    assert told_unknown or world["unmarked u"] == 1
    assert found["state"].get("unmarked", ["u"]) == ["u"]
    # no orphan call
    open_ids: list[str] = []
    for message in found["messages"]:
        if message["role"] == "tool":
            open_ids.remove(message["answers"])
        else:
            assert open_ids == []
            open_ids = message["calls"]
    assert open_ids == []
    # facts without a gap, one last event, every tool's start with its end
    seqs = [seq for seq, _ in found["facts"]]
    assert seqs == list(range(1, len(seqs) + 1))
    names = Counter(name for _, name in found["facts"])
    assert names["RunCompleted"] == 1 and names["RunError"] == names["RunCancelled"] == 0
    assert names["ToolCallStarted"] == names["ToolCallCompleted"] + names["ToolCallError"] == 6
    # what a reader had read is what is stored: it can go on from its cursor
    facts = {f"{seq}:0": name for seq, name in found["facts"]}
    for line in read:
        name, cursor = line.split()
        if cursor.endswith(":0"):
            assert facts[cursor] == name


def kill_at_every_write(url: str, folder: Path, *, first: int, step: int) -> int:
    """Returns how many writes a whole run makes."""
    write = first
    while True:
        for when in ("before", "after"):
            side = str(folder / f"side-{write}-{when}.db")
            where = url.replace("NAME", f"{write}-{when}")
            started = program("start", where, side, str(write), when)
            if started.returncode == 0:
                return write
            assert started.returncode == -9, started.stderr
            done = program("recover", where, side)
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout.splitlines()[-1])
            if write == 1 and when == "before":
                assert found["stored"] is None  # it was never said to have begun
                continue
            check(found, started.stdout.splitlines())
        write += step


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_every_write_on_sqlite(tmp_path: Path) -> None:
    assert kill_at_every_write(str(tmp_path / "data-NAME.db"), tmp_path, first=1, step=1) > 10


def test_killed_at_some_writes_on_sqlite(tmp_path: Path) -> None:
    assert kill_at_every_write(str(tmp_path / "data-NAME.db"), tmp_path, first=3, step=4) > 10
