"""Characters that a provider's JSON cut in two: each half, a lone surrogate, is no text that can be sent or stored."""

from __future__ import annotations

import json
from typing import Any

import jiter

from agentrt.models.base import ModelDelta, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta


class Halves:
    """Decodes the events of one answer, and joins what they cut; costs nothing until an event holds half of a pair."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[str, str] | None = None
        """First halves, by where they belong, once an event has held one alone."""

    def decode(self, data: bytes) -> Any:
        """The value of some JSON. Raises `ValueError`."""
        try:
            return jiter.from_json(data)
        except ValueError:
            value = json.loads(data)  # lets half of a pair through: the other may be in the next event
        if self._waiting is None:
            self._waiting = {}
        return value

    def mend(self, deltas: list[ModelDelta]) -> list[ModelDelta]:
        """The deltas with whole characters only; a first half waits for the second, which comes with a later delta."""
        return deltas if self._waiting is None else [delta for delta in deltas if self._mend(delta)]

    def whole(self, text: str) -> str:
        """A text of which all has come."""
        return text if self._waiting is None else _joined(text)

    def _mend(self, delta: ModelDelta) -> bool:
        if isinstance(delta, ToolCallDelta):
            delta.arguments = self._complete(f"call {delta.index}", delta.arguments)
            return bool(delta.arguments or delta.id or delta.name)
        if isinstance(delta, (TextDelta, ReasoningDelta, RefusalDelta)):
            delta.text = self._complete(type(delta).__name__, delta.text)
            return bool(delta.text)
        return True

    def _complete(self, place: str, text: str) -> str:
        assert self._waiting is not None
        text = self._waiting.pop(place, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._waiting[place] = text[-1]
            text = text[:-1]
        return _joined(text)


def _joined(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
