"""The command line, in this process: `agentrt("runs", "list", …)`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentrt import _sync
from agentrt.cli import main
from agentrt.storage.sqlite import SqliteStorage


@dataclass
class Ended:
    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def agentrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("AGENTRT_DB", raising=False)

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module `shop` to put agents into, named `shop:…` on the command line."""
    made = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", made)
    return made


@pytest.fixture
def storage(tmp_path: Path) -> Any:
    """What the programs of these tests keep their runs in: `data.db`."""
    opened = SqliteStorage(db_file=tmp_path / "data.db")
    yield opened
    _sync.call(opened.aclose)
