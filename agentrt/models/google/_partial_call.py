"""A call whose arguments come one by one (`streamFunctionCallArguments`, on Vertex AI), put together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")
GAP = 1_000
"""How many items of a list may be left out: more are a mistake, and not to be made room for."""
_VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")


class PartialCall:
    """Takes the pieces of one call. A piece is a value, or a part of a text, and the JSON path to where it stands."""

    def __init__(self, index: int, part: dict[str, Any]) -> None:
        self.index = index
        self.part = part
        """The part that is kept of the answer: what the first piece said, and a signature wherever it came."""
        self.arguments: dict[str, Any] = {}

    def add(self, part: Mapping[str, Any]) -> None:
        """Take a piece. Raises `ValueError` for a path that is none."""
        self.part |= {key: value for key, value in part.items() if key != "functionCall"}
        call: Mapping[str, Any] = part["functionCall"]
        self.arguments |= call.get("args") or {}
        for piece in call.get("partialArgs") or ():
            name = next((name for name in _VALUES if name in piece), None)
            if name is not None:
                self._put(piece["jsonPath"], None if name == "nullValue" else piece[name])

    def _put(self, path: str, value: Any) -> None:
        steps = _steps(path)
        holder: Any = self.arguments
        for step, following in pairwise(steps):
            holder = _opened(holder, step, [] if isinstance(following, int) else {})
        last = steps[-1]
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # the API has no other numbers than these
        before = _opened(holder, last, None)
        holder[last] = before + value if isinstance(before, str) and isinstance(value, str) else value


def _steps(path: str) -> list[str | int]:
    found = list(_STEP.finditer(path))
    if not found or "$" + "".join(step[0] for step in found) != path:
        raise ValueError(f"{path!r} is no path to an argument")
    return [int(step[2]) if step[2] else re.sub(r"\\(.)", r"\1", step[1] or step[3] or step[4] or "") for step in found]


def _opened(holder: Any, step: str | int, empty: Any) -> Any:
    """What stands there, which is `empty` if nothing did."""
    if isinstance(step, int):
        if step > len(holder) + GAP:
            raise ValueError(f"item {step} comes after item {len(holder) - 1}")
        holder.extend([None] * (step + 1 - len(holder)))
        if holder[step] is None:
            holder[step] = empty
        return holder[step]
    return holder.setdefault(step, empty)
