"""Measure agentrt beside the bare openai SDK, print the table and write `benchmarks/RESULTS.md`.

    python benchmarks/run.py [--quick] [claim …]
    python benchmarks/run.py [--quick] parts        where the time goes (`parts.py`)
    python benchmarks/run.py [--quick] storage      what durability costs (`storage.py`), which has no SDK beside it
    python benchmarks/run.py [--quick] soak         what 100,000 runs leave behind (`soak.py`)

Each claim (`claims.py`) runs in a process of its own, against a scripted server (`server.py`) in another; `--quick` is
for trying, not for numbers, and like a run of some claims only it writes nothing. Without a name all is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CLAIMS = ["imports", "construction", "plain", "chunks", "tools", "concurrency", "history", "delay", "claude", "sync"]
PACKAGES = ["agentrt", "openai", "anthropic", "httpx2", "pydantic"]
NOTES = """\
Each cell is the median of the rounds, with the minimum in brackets; both sides take turns, round by round, in one
process. Times are CPU (user and system) of the client's process unless a row says wall. Every answer, tool result and
length of history was checked on both sides. Stored turns are in SQLite and read anew for each turn. The server is on
loopback and answers at once, so these figures are what a call adds to a busy process, and not what a user waits for.

Beside it stands, where a row names nothing else, the openai SDK: `AsyncOpenAI` with a hand-written tool loop and a
table of turns; beside the construction of an agent that of an `AsyncOpenAI` over a shared HTTP client, and beside the
import that of `AsyncOpenAI`."""

PARTS = """\
## Where the time goes

Made by `parts.py`: first what separates agentrt from raw asyncio, then what the journal of steps adds. What it would
cost to take the largest parts away:

- A plain run is many small parts. The largest that can go as a whole are `httpx2`'s objects for request and answer,
  which the SDK's hooks and errors hand to users: without them a client of the SDK is no longer one.
- A chunk: a typed event for each costs more than its JSON. Below that are only chunks without events.
- A turn at 200 stored turns: messages are read as objects, as hooks and `get_messages` give them out; raw asyncio
  splices the stored text into the request. To do so would need a history that is a text until somebody looks at it.
- The journal: each turn with a call makes two transactions, one before the tool acts and one when its result is there,
  so that a crash neither repeats a call nor loses its result. Committed by the event loop itself, they would save the
  way to the thread and back, and a slow disk would stop the loop, with all its other runs; 50 runs at once, which now
  share transactions, became slower. A result that waits some milliseconds for the next transaction would save one of
  the two where models answer within them (real ones don't) and lengthen the time in which a crash leaves a call's
  outcome unknown. One row for each transaction in place of one for each step and fact would save a part of the
  transaction, for tables that no longer tell steps and facts apart."""
DURABILITY = """\
## What durability costs

Made by `storage.py`, which says what is measured; the models answer at once, so each ratio is the worst there is."""

SOAK = """\
## What many runs leave behind

Made by `soak.py`: runs of ten kinds, some with sessions in memory, some in SQLite."""


def limit_files() -> None:
    """Room for the connections of 500 streams, here and in the processes started from here."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096 if hard == resource.RLIM_INFINITY else min(4096, hard), hard))


def on_core(number: int) -> Any:
    """Keeps server and client on a core each, where there are two and a way to say so: for `preexec_fn`."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return partial(os.sched_setaffinity, 0, {cores[number]}) if len(cores) > 1 else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    command = [sys.executable, str(HERE / "server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=on_core(0)) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


def cell(values: list[float]) -> str:
    def short(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    middle, least = short(statistics.median(values)), short(min(values))
    return middle if len(values) == 1 else f"{middle} ({least})"


def line(title: str, row: dict[str, Any]) -> str:
    ours, theirs = row["agentrt"], row["sdk"]
    ratio = f"{statistics.median(ours) / statistics.median(theirs):.2f}"
    if len(ours) > 1:
        ratio += f" ({min(ours) / min(theirs):.2f})"
    return f"| {title} | {row['unit']} | {cell(ours)} | {cell(theirs)} | {ratio} |"


def git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def setting() -> str:
    changed = " with changes not committed" if git("status", "--porcelain", "--", "../agentrt") else ""
    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    now = datetime.datetime.now(datetime.UTC)
    return (
        f"{now:%Y-%m-%d %H:%M} UTC, commit {commit}{changed}.\n"
        f"{processor}, {os.cpu_count()} cores, {platform.system()}; "
        f"Python {platform.python_version()}, {versions}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure agentrt beside the bare openai SDK.")
    parser.add_argument("claims", nargs="*", metavar="claim", help=f"only these: {', '.join(CLAIMS)}")
    parser.add_argument("--quick", action="store_true", help="few repeats: for trying, not for numbers")
    options = parser.parse_args()
    scripts = {"parts": PARTS, "storage": DURABILITY, "soak": SOAK}
    claims = [name for name in options.claims if name not in scripts] if options.claims else CLAIMS
    if unknown := set(claims) - set(CLAIMS):
        parser.error(f"no such claim: {', '.join(sorted(unknown))}; there are {', '.join([*CLAIMS, *scripts])}")
    limit_files()
    lines = [setting(), "", NOTES, "", "| | unit | agentrt | beside it | ratio |", "| --- | --- | ---: | ---: | ---: |"]
    print("\n".join(lines), flush=True)

    def measured(script: str, *arguments: str) -> str:
        command = [sys.executable, str(HERE / script), *arguments, *(["--quick"] if options.quick else [])]
        return subprocess.check_output(command, text=True, preexec_fn=on_core(1) if script != "storage.py" else None)

    def show(new: list[str]) -> None:
        print("\n".join(new), flush=True)
        lines.extend(new)

    with server() as port:
        for claim in claims:
            show([line(title, row) for title, row in json.loads(measured("claims.py", claim, port)).items()])
        for name, text in scripts.items():
            if not options.claims or name in options.claims:
                show(["", text, "", measured(f"{name}.py", *([port] if name == "parts" else [])).strip()])
    if not options.claims and not options.quick:
        title = "# agentrt beside the bare openai SDK\n\nMade by `make bench`. "
        (HERE / "RESULTS.md").write_text(title + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
