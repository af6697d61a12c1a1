"""How far a run may go, and how far it and its child runs have come.

A run's limits hold for all that happens in it: what its child runs use counts for it, too, so that none of them can
take more than what is left.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from agentrt.errors import ConfigurationError, LimitReached
from agentrt.models.message import Usage

if TYPE_CHECKING:
    from agentrt.run.response import RunResponse, StopReason
    from agentrt.run.run import Run

TokenLimit = Literal["input_tokens", "output_tokens", "total_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """Limits of one run, its child runs included. Reaching one gives the model a last turn without tools.

    None means no limit. A child run has limits of its own, and can't take more than what is left of its parent's.
    `seconds` is driven time: pauses are not counted. `depth` is how deep runs may nest. Token limits are looked at
    before each model call, so the call that reaches one, and the last turn, go beyond it; a `Budget` does not.
    """

    model_calls: int | None = 50
    tool_calls: int | None = 200
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    seconds: float | None = 1800.0
    depth: int | None = 5
    parallel_tools: int = 10

    def __post_init__(self) -> None:
        for limit in fields(self):
            least = 0 if limit.name in ("tool_calls", "seconds") else 1
            value = getattr(self, limit.name)
            if value is not None and value < least:
                raise ConfigurationError(f"RunLimits({limit.name}={value!r}) is too small; it takes {least} or more")


@dataclass(slots=True, kw_only=True)
class Spent:
    """What the child runs of a run have used, and theirs."""

    model_calls: int = 0
    tool_calls: int = 0
    usage: Usage = field(default_factory=Usage)


_lock = threading.Lock()


def count(run: Run, *, model_calls: int = 0, tool_calls: int = 0, usage: Usage | None = None) -> None:
    """Count what a run has used, once: as its own, and as spent below each run that it is a child of."""
    run.model_calls += model_calls
    run.tool_calls += tool_calls
    if usage is not None:
        run.usage.add(usage)
    with _lock:  # its parent may be driven by another thread's loop
        while (parent := run.parent) is not None:
            parent.below.model_calls += model_calls
            parent.below.tool_calls += tool_calls
            if usage is not None:
                parent.below.usage.add(usage)
            run = parent


def used_by(run: Run) -> Spent:
    """What a run and its child runs have used."""
    usage = replace(run.usage)
    usage.add(run.below.usage)
    return Spent(
        model_calls=run.model_calls + run.below.model_calls,
        tool_calls=run.tool_calls + run.below.tool_calls,
        usage=usage,
    )


def count_again(run: Run, sign: Literal[1, -1] = 1) -> None:
    """Count for the runs above a run what it has used before, when it is gone on with; or take that back (-1)."""
    spent = used_by(run)
    with _lock:
        above = run.parent
        while above is not None:
            above.below = _sum(above.below, spent, sign)
            above = above.parent


def count_stored(run: Run) -> None:
    """Count what a run has used that is not driven here, for it had ended before, or waits still."""
    take_stored(run, run.response)
    count_again(run)


def take_stored(run: Run, response: RunResponse[Any]) -> None:
    """Have a run that is not driven here say what it has used, by its response."""
    run.response = response
    own, total = Spent(usage=run.usage), Spent(usage=response.total_usage)
    run.below = _sum(total, own, -1)
    run.below.model_calls, run.below.tool_calls = total.usage.model_calls, len(response.tools)


def settled(run: Run) -> Spent:
    """What child runs have used, but for those that are gone on with when this run is: they bring theirs along."""
    with _lock:
        spent = run.below
        for child in run.children.values():
            spent = _sum(spent, used_by(child), -1)
        return spent


def _sum(first: Spent, second: Spent, sign: int = 1) -> Spent:
    usage = {part.name: getattr(first.usage, part.name) + sign * getattr(second.usage, part.name) for part in _USAGE}
    return Spent(
        model_calls=first.model_calls + sign * second.model_calls,
        tool_calls=first.tool_calls + sign * second.tool_calls,
        usage=Usage(**usage),
    )


_USAGE = fields(Usage)


def check_depth(run: Run) -> None:
    """Raise `LimitReached` for a run that is nested too deep."""
    for above, holder in _lineage(run):
        depth = holder.limits.depth
        if depth is not None and above >= depth:
            raise _error(run, holder, "depth", depth)


def last_turn(run: Run) -> LimitReached | None:
    """The limit for which the run's next model call must be its last, if there is one: no tools may be called in it.

    Raises `LimitReached` when nothing is left for even that one: each run between this one and the run whose limit it
    is keeps a model call for its own last turn.
    """
    for above, holder in _lineage(run):
        calls = holder.limits.model_calls
        if calls is not None:
            left = calls - above - holder.model_calls - holder.below.model_calls
            if left <= 0:
                raise _stop(run, "model_call_limit", holder, "model_calls", calls)
            if left == 1 and run.tools:
                _stop(run, "model_call_limit", holder, "model_calls", calls)
        for name, reason in _TOKENS.items():
            limit: int | None = getattr(holder.limits, name)
            if limit is not None and getattr(holder.usage, name) + getattr(holder.below.usage, name) >= limit:
                error = _stop(run, reason, holder, name, limit)
                if not run.model_calls:
                    raise error
    return run.limit_reached


_TOKENS: dict[TokenLimit, StopReason] = {
    "input_tokens": "input_token_limit",
    "output_tokens": "output_token_limit",
    "total_tokens": "total_token_limit",
}


def no_more_tools(run: Run) -> int | None:
    """The limit of tool calls that leaves none for this run, which then gets its last turn; else None."""
    for _, holder in _lineage(run):
        limit = holder.limits.tool_calls
        if limit is not None and holder.tool_calls + holder.below.tool_calls >= limit:
            _stop(run, "tool_call_limit", holder, "tool_calls", limit)
            return limit
    return None


def deadline_of(run: Run) -> float | None:
    """When the run's time is up, or that of a run above it, by its event loop's clock."""
    return min((holder.deadline for _, holder in _lineage(run) if holder.deadline is not None), default=None)


def out_of_time(run: Run) -> LimitReached:
    """Have the run stop because its time is up, whatever else it stops for. Returns the error that says so."""
    first = deadline_of(run)
    holder = next((holder for _, holder in _lineage(run) if holder.deadline == first), run)
    run.limit_reached = None
    return _stop(run, "time_limit", holder, "seconds", holder.limits.seconds or 0)


def _lineage(run: Run) -> Iterator[tuple[int, Run]]:
    """The run and the runs above it, each with how many levels it stands above."""
    above, holder = 0, run
    while True:
        yield above, holder
        if holder.parent is None:
            return
        above, holder = above + 1, holder.parent


def _stop(run: Run, reason: StopReason, holder: Run, name: str, value: float) -> LimitReached:
    """Have the run stop for this reason, unless it already does for another; return the error that says for which."""
    if run.limit_reached is None:
        run.stop_reason = reason
        run.limit_reached = _error(run, holder, name, value)
    return run.limit_reached


def _error(run: Run, holder: Run, name: str, value: float) -> LimitReached:
    setting = f"limits=RunLimits({name}=…)"
    if name == "tool_calls":
        setting = f"tool_call_limit=… or {setting}"
    if holder is not run:
        setting += f" of {holder.path[-1]!r}"
    return LimitReached("levels of nested runs" if name == "depth" else name.replace("_", " "), value, setting)
