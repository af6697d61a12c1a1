"""Results of a tool, kept in memory by arguments and user."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, cast

MAX_ENTRIES = 256


class ResultCache:
    """The newest results of one tool, shared by all runs, tasks and threads that use it."""

    def __init__(self, ttl_s: float | None, max_entries: int = MAX_ENTRIES) -> None:
        self._ttl_s = ttl_s
        self._max_entries = max_entries
        self._entries: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> tuple[Any] | None:
        """The result in a tuple of one, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            stored, value = entry
            if self._ttl_s is not None and time.monotonic() - stored > self._ttl_s:
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return (value,)

    def put(self, key: Hashable, value: Any) -> None:
        with self._lock:
            self._entries[key] = (time.monotonic(), value)
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)


def key_of(arguments: dict[str, Any], user_id: str | None) -> Hashable | None:
    """A key that is equal for equal arguments of the same types only; None when they can't be compared by value."""
    try:
        return (user_id, _frozen(arguments))
    except (TypeError, RecursionError):
        return None


def _frozen(value: Any) -> Hashable:
    """The value as something that can be hashed. Its type belongs to it: 1, 1.0 and True are different arguments."""
    cls = cast("Any", type(value))
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value)
        return (cls, frozenset((_frozen(key), _frozen(item)) for key, item in members.items()))
    if isinstance(value, (list, tuple)):
        return (cls, tuple(_frozen(item) for item in cast("list[Any]", value)))
    if isinstance(value, (set, frozenset)):
        return (cls, frozenset(_frozen(item) for item in cast("set[Any]", value)))
    if dataclasses.is_dataclass(value):
        return (cls, tuple(_frozen(getattr(value, field.name)) for field in dataclasses.fields(value)))
    if hasattr(cls, "model_fields"):
        return (cls, _frozen(vars(value)))
    hash(value)
    return (cls, value)
