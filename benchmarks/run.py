"""Measure agentrt beside the bare openai SDK, print the table and write `benchmarks/RESULTS.md`.

    python benchmarks/run.py [--quick] [claim …]
    python benchmarks/run.py [--quick] storage      what durability costs (`storage.py`), which has no SDK beside it

Each claim (`claims.py`) runs in a process of its own, against a scripted server (`server.py`) in another; `--quick` is
for trying, not for numbers, and like a run of some claims only it writes nothing.
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
    if options.claims == ["storage"]:
        print(f"{setting()}\n", flush=True)
        sys.exit(subprocess.call([sys.executable, str(HERE / "storage.py"), *(["--quick"] if options.quick else [])]))
    if unknown := set(options.claims) - set(CLAIMS):
        parser.error(f"no such claim: {', '.join(sorted(unknown))}; there are {', '.join(CLAIMS)}")
    limit_files()
    head = "| | unit | agentrt | beside it | ratio |\n| --- | --- | ---: | ---: | ---: |"
    print(f"{setting()}\n\n{head}", flush=True)
    lines: list[str] = []
    with server() as port:
        for claim in options.claims or CLAIMS:
            command = [sys.executable, str(HERE / "claims.py"), claim, port, *(["--quick"] if options.quick else [])]
            rows = json.loads(subprocess.check_output(command, preexec_fn=on_core(1)))
            new = [line(title, row) for title, row in rows.items()]
            print("\n".join(new), flush=True)
            lines += new
    if not options.claims and not options.quick:
        text = f"# agentrt beside the bare openai SDK\n\nMade by `make bench`. {setting()}\n\n{NOTES}\n\n{head}\n"
        (HERE / "RESULTS.md").write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
