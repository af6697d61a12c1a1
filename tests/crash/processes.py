"""Processes that are killed, made by forks of one that has imported everything."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from tests.crash.program import Task, task_line

ROOT = Path(__file__).parents[2]
KILLED = -9


class Processes:
    """Makes processes, by forks of one that has imported everything, and waits for their end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.program"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def do(self, task: Task) -> tuple[int, list[str]]:
        """Returns the exit code, and what was printed."""
        out = self._folder / f"out-{next(self._numbers)}"
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(task_line(task, str(out)))
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return code, out.read_text().splitlines()

    def end(self) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()
