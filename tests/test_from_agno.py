"""`docs/from-agno.md`: the names it gives are there, those that it says are gone are, and its one line is enough."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from agentrt import Agent

PAGE = (Path(__file__).parent.parent / "docs" / "from-agno.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[tuple[str, str]]:
    """The two columns of the table under a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (?!---)(.*?) \| (.*) \|$", section, re.MULTILINE)[1:]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(agentrt(?:\.\w+)+)", PAGE))))
def test_what_it_names_is_there(path: str) -> None:
    resolve_name(path)


GONE = {option for agno, _ in rows("What is not there") for option in re.findall(r"`([a-z_]+)(?:=\w*)?`", agno)}
RENAMED = {
    "goal",
    "team_id",
    "reasoning_agent",
    "structured_outputs",
    "add_messages",
    "retries",
    "delay_between_retries",
}


@pytest.mark.parametrize("option", sorted(GONE | RENAMED))
def test_an_option_that_is_not_there_is_refused_by_its_name(option: str) -> None:
    options: dict[str, Any] = {option: False}
    with pytest.raises(TypeError, match=f"no option '{option}'"):
        Agent(**options)


@pytest.mark.skipif(shutil.which("perl") is None, reason="the line is one of perl's")
def test_the_line_that_renames_touches_the_imports_alone(tmp_path: Path) -> None:
    line = re.search(r"^perl .*$", PAGE, re.MULTILINE)
    assert line is not None
    program = tmp_path / "program.py"
    program.write_text("from agno.memory.v2.db.sqlite import SqliteMemoryDb\nmagnolia = api.v2\n", encoding="utf-8")
    subprocess.run(line[0], shell=True, check=True, cwd=tmp_path)
    assert program.read_text(encoding="utf-8") == (
        "from agentrt.memory.db.sqlite import SqliteMemoryDb\nmagnolia = api.v2\n"
    )
