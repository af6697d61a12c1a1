"""A process is killed at every journal write in turn; another one goes on, and everything is as it should be."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.crash.checks import check_facts, text_read
from tests.crash.databases import KINDS, new_url
from tests.crash.processes import KILLED, Processes
from tests.crash.program import Task
from tests.crash.scenarios import FINAL


def check(scenario: str, found: dict[str, Any], read: list[str]) -> None:
    """All that must hold whatever was done before the kill. `read` is what a reader had seen by then."""
    assert found["stored"] == "COMPLETED"
    world, state = found["world"], found["state"]
    # what must not be repeated ran at most once; a payment that was to be made was made
    for what, times in world.items():
        if not what.startswith(("note ", "looked ")):
            assert times == 1, world
    # an unmarked call whose outcome is unknown is told as such, and its state is not half there
    unknown = sum("outcome of this call is unknown" in result for result in found["results"])
    if scenario == "conversation":
        assert found["content"] == {"text": FINAL, "users": 2}
        assert state["items"] == ["first", "a", "b", "c"] and state["count"] == 13
        assert unknown or (world["dropped t"] == 1 and state["dropped"] == "t")
        calls = 4
    else:
        assert found["content"] == FINAL
        assert state["items"] == ["a", "b"] and state["count"] == 2
        assert world["paid 5"] == world["paid 7"] == 1
        assert unknown or world["unmarked u" if scenario == "tools" else "act z"] == 1
        assert state.get("unmarked", ["u"]) == ["u"]
        calls = 6
    assert unknown <= 1
    assert sum(key.startswith("note ") for key in world) == (
        3 if scenario == "conversation" else 2
    )  # each with one key
    # no orphan call
    open_ids: list[str] = []
    for message in found["messages"]:
        if message["role"] == "tool":
            open_ids.remove(message["answers"])
        else:
            assert open_ids == []
            open_ids = message["calls"]
    assert open_ids == []
    # facts without a gap, one last event
    names = check_facts([(seq, name) for seq, name in found["facts"]])
    assert names["ToolCallStarted"] == calls
    assert names["RunCompleted"] == 1 and names["RunError"] == names["RunCancelled"] == 0
    # a reader that goes on from its cursor has every fact once, and the text that was said
    lines = [*read, *found["rest"]]
    facts = [f"{name} {seq}:0 null" for seq, name in found["facts"]]
    assert [line for line in lines if line.endswith(" null")] == facts
    assert text_read(lines) == found["said"]


def last_cursor(read: list[str]) -> str:
    return read[-1].split()[1] if read else ""


def kill_at_writes(
    processes: Processes, url: str, folder: Path, scenario: str, *, first: int = 1, step: int = 1, again: int = 0
) -> int:
    """Kill the first process at these writes, and with `again` also the second one, at every `again`th of its own.

    Returns how many writes a whole run makes.
    """
    for write in itertools.count(first, step):
        for when in ("before", "after"):
            for second in itertools.count(1, again) if again else (0,):
                name = f"{scenario}-{write}-{when}-{second}"
                task = Task("start", scenario, url, str(folder / f"{name}.db"), name, write, when)
                code, read = processes.do(task)
                if code == 0:
                    return write
                assert code == KILLED, read
                recover = replace(task, how="recover", write=0, after=last_cursor(read))
                if second:
                    code, said = processes.do(replace(recover, write=second))
                    if code == 0:
                        break  # it had no such write
                    assert code == KILLED, said
                code, said = processes.do(recover)
                assert code == 0, said
                found = json.loads(said[-1])
                if write == 1 and when == "before":
                    assert found["stored"] is None  # it was never said to have begun
                else:
                    check(scenario, found, read)
    raise AssertionError


SCENARIOS = ["tools", "parallel", "conversation"]


@pytest.mark.parametrize(("scenario", "first"), [("tools", 4), ("parallel", 5), ("conversation", 7)])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_some_writes(kind: str, scenario: str, first: int, processes: Processes, tmp_path: Path) -> None:
    kill_at_writes(processes, new_url(kind, tmp_path), tmp_path, scenario, first=first, step=6)


def test_killed_again_while_it_goes_on(processes: Processes, tmp_path: Path) -> None:
    kill_at_writes(processes, new_url("sqlite", tmp_path), tmp_path, "tools", first=5, step=20, again=4)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_write(kind: str, scenario: str, processes: Processes, tmp_path: Path) -> None:
    assert kill_at_writes(processes, new_url(kind, tmp_path), tmp_path, scenario) > 9


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_many_writes_and_again(kind: str, scenario: str, processes: Processes, tmp_path: Path) -> None:
    kill_at_writes(processes, new_url(kind, tmp_path), tmp_path, scenario, first=2, step=3, again=3)
