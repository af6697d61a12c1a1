"""Who drives a run: this process, named so that another one can tell whether it is still there."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

_driven: set[str] = set()
"""The runs that this process drives. A run of ours that is not among them has lost its driver."""


def this_process() -> str:
    """The owner's name of this process, as stored with the runs it drives."""
    return _name(os.getpid())


@lru_cache(maxsize=1)
def _name(pid: int) -> str:
    return json.dumps(
        {"host": socket.gethostname(), "boot": _read("/proc/sys/kernel/random/boot_id"), "space": _pid_space(),
         "pid": pid, "start": _start_of(pid)}
    )  # fmt: skip


def drives(run_id: str) -> None:
    _driven.add(run_id)


def has_left(run_id: str) -> None:
    _driven.discard(run_id)


def is_alive(owner: str | None, run_id: str) -> bool | None:
    """Is a run's owner still there? None when that can't be told from here: then its lease decides."""
    if owner is None:
        return False
    if owner == this_process():
        return run_id in _driven
    told: dict[str, Any] = json.loads(owner)
    here: dict[str, Any] = json.loads(this_process())
    if told["host"] != here["host"] or told["space"] != here["space"] or not here["start"]:
        return None
    if told["boot"] != here["boot"]:
        return False
    return _start_of(told["pid"]) == told["start"]


def _start_of(pid: int) -> str | None:
    """When a process started, in ticks since boot; None when there is no such process, or no /proc."""
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def _pid_space() -> str:
    """Process numbers are told apart by this: containers on one machine each have their own."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text().strip()
    return ""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_driven.clear)
