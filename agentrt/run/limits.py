"""How far a run may go."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """Limits of one run. Reaching one gives the model a last turn without tools; None means no limit.

    `seconds` is driven time: pauses are not counted. `depth` is how deep runs may nest.
    """

    model_calls: int | None = 50
    tool_calls: int | None = 200
    seconds: float | None = 1800.0
    depth: int | None = 5
    parallel_tools: int = 10
