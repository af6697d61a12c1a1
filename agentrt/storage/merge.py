"""Three-way merge of session states, and structural copies of them.

A run begins with a state (`base`) and ends with another (`mine`); meanwhile other runs may have stored theirs. What
only one side changed is taken from that side. Where both did: dicts are merged key by key; a list or set keeps the
additions and the removals of both (what `mine` added to a list goes to its end); anything else is a clash, in which
`mine` stands and a `Conflict` tells of it. A place that `base` does not have counts as empty.
"""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from types import NoneType
from typing import Any, Final, TypeGuard

from agentrt.errors import CodecError

ATOMS: Final = frozenset({str, int, float, bool, NoneType, bytes, datetime})
_MISSING: Final[Any] = object()


@dataclass(slots=True, kw_only=True)
class Conflict:
    """One place of the state that two runs changed; the later writer's value (`mine`) stands. None means deleted."""

    path: str
    mine: Any
    theirs: Any


def merge(
    base: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any], *, root: str = "session_state"
) -> tuple[dict[str, Any], list[Conflict]]:
    """Return what `mine` and `theirs` make of `base` together, and where they clashed.

    The arguments stay as they are and share no container with the result. Raises `CodecError` for a state that
    contains itself.
    """
    conflicts: list[Conflict] = []
    try:
        return _merge_dicts(root, base, mine, theirs, conflicts), conflicts
    except RecursionError:
        raise CodecError(f"{root} contains itself, or is nested too deeply", path=root) from None


def changed(base: Mapping[str, Any], mine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of `mine` that `base` does not have, or has with another value."""
    return {key: copy_state(value) for key, value in mine.items() if _frozen(value) != _frozen(base.get(key, _MISSING))}


def at_key(path: str, key: object) -> str:
    """The path of a key in the container at `path`, as it would be written in Python."""
    return f"{path}[{json.dumps(key, ensure_ascii=False) if isinstance(key, str) else repr(key)}]"


def _merge_dicts(
    path: str,
    base: Mapping[Any, Any],
    mine: Mapping[Any, Any],
    theirs: Mapping[Any, Any],
    conflicts: list[Conflict],
) -> dict[Any, Any]:
    merged: dict[Any, Any] = {}
    for key in [*theirs, *(key for key in mine if key not in theirs)]:
        value = _merge_values(
            at_key(path, key),
            base.get(key, _MISSING),
            mine.get(key, _MISSING),
            theirs.get(key, _MISSING),
            conflicts,
        )
        if value is not _MISSING:
            merged[key] = value
    return merged


def _merge_values(path: str, base: Any, mine: Any, theirs: Any, conflicts: list[Conflict]) -> Any:
    was = _frozen(base)
    if _frozen(mine) == was:
        return copy_state(theirs)
    if _frozen(theirs) == was:
        return copy_state(mine)
    if is_dict(mine) and is_dict(theirs):
        return _merge_dicts(path, base if is_dict(base) else {}, mine, theirs, conflicts)
    if is_list(mine) and is_list(theirs):
        return _merge_lists(path, base if is_list(base) else [], mine, theirs, conflicts)
    if is_set(mine) and is_set(theirs):
        old = base if is_set(base) else frozenset[Any]()
        return type(mine)((theirs | (mine - old)) - (old - mine))
    if _frozen(mine) != _frozen(theirs):
        conflicts.append(
            Conflict(
                path=path,
                mine=None if mine is _MISSING else copy_state(mine),
                theirs=None if theirs is _MISSING else copy_state(theirs),
            )
        )
    return copy_state(mine)


def _merge_lists(
    path: str, base: list[Any], mine: list[Any], theirs: list[Any], conflicts: list[Conflict]
) -> list[Any]:
    """Items count by occurrence: what `mine` has more of than `base` is added, what it has fewer of is removed."""
    base_keys, mine_keys = [_frozen(item) for item in base], [_frozen(item) for item in mine]
    before, after = Counter(base_keys), Counter(mine_keys)
    if before == after:  # only put in another order: keep that, and take in what they added and removed
        theirs_keys = [_frozen(item) for item in theirs]
        if Counter(theirs_keys) == before and theirs_keys != mine_keys:
            conflicts.append(Conflict(path=path, mine=copy_state(mine), theirs=copy_state(theirs)))
        return _apply(before, Counter(theirs_keys), theirs, theirs_keys, mine, mine_keys)
    return _apply(before, after, mine, mine_keys, theirs, [_frozen(item) for item in theirs])


def _apply(
    before: Counter[Hashable],
    after: Counter[Hashable],
    changed: list[Any],
    changed_keys: list[Hashable],
    target: list[Any],
    target_keys: list[Hashable],
) -> list[Any]:
    """Return `target` without what `changed` removed and with what it added, last things last."""
    removed, added = before - after, after - before
    kept: list[Any] = []
    for item, key in zip(target, target_keys, strict=True):
        if removed[key] > 0:
            removed[key] -= 1
        else:
            kept.append(copy_state(item))
    new: list[Any] = []
    for item, key in zip(reversed(changed), reversed(changed_keys), strict=True):
        if added[key] > 0:
            added[key] -= 1
            new.append(copy_state(item))
    return kept + new[::-1]


def _frozen(value: Any) -> Hashable:
    """A hashable stand-in that is equal for equal values of equal types: 1, 1.0 and True differ, NaN equals NaN."""
    kind: Any = value.__class__
    if kind is str or value is None:
        return value
    if kind is float and math.isnan(value):
        return (kind, "nan")
    if is_dict(value):
        return (dict, frozenset((_frozen(key), _frozen(item)) for key, item in value.items()))
    if is_list(value) or is_tuple(value):
        return (kind, tuple(_frozen(item) for item in value))
    if is_set(value):
        return (kind, frozenset(_frozen(item) for item in value))
    if is_data(value):
        return (kind, tuple(_frozen(getattr(value, field.name, _MISSING)) for field in fields(value)))
    if is_model(value):
        return (kind, _frozen(vars(value)), _frozen(value.__pydantic_extra__))
    try:
        hash(value)
    except TypeError:
        return (kind, id(value))
    return (kind, value)


def is_dict(value: Any) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


def is_set(value: Any) -> TypeGuard[set[Any] | frozenset[Any]]:
    return isinstance(value, (set, frozenset))


def is_data(value: Any) -> TypeGuard[Any]:
    """Is it an instance of a dataclass?"""
    kind: Any = value.__class__
    return hasattr(kind, "__dataclass_fields__")


def is_model(value: Any) -> TypeGuard[Any]:
    """Is it an instance of a pydantic model? Asked without importing pydantic."""
    kind: Any = value.__class__
    return hasattr(kind, "__pydantic_fields__") and not is_data(value)


def copy_state(value: Any) -> Any:
    """Return a copy with dicts, lists, sets and tuples of its own, at any depth.

    Dataclass and pydantic instances are copied likewise where they can be; any other object is kept by reference.
    Never fails, also not on values that contain themselves.
    """
    return value if type(value) in ATOMS else _copy(value, {})


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    how = _copier(value.__class__)
    return value if how is None else how(value, memo)


@lru_cache(maxsize=1024)
def _copier(kind: type[Any]) -> Callable[[Any, dict[int, Any]], Any] | None:
    """What copies instances of a class; None for what is kept by reference."""
    if issubclass(kind, (dict, list)):
        return _copy_container
    if kind is tuple:
        return _copy_tuple
    if issubclass(kind, (set, frozenset)):
        return _copy_set
    if hasattr(kind, "__dataclass_fields__"):
        return _copy_data
    return _copy_model if hasattr(kind, "__pydantic_fields__") else None


def _copy_container(value: Any, memo: dict[int, Any]) -> Any:
    if id(value) not in memo:
        memo[id(value)] = twin = _duplicate(value, copy.copy)
        if twin and twin is not value:
            pairs: Iterable[tuple[Any, Any]] = enumerate(twin) if is_list(twin) else twin.items()
            for key, item in pairs:
                if type(item) not in ATOMS:
                    twin[key] = _copy(item, memo)
    return memo[id(value)]


def _copy_tuple(value: Any, memo: dict[int, Any]) -> Any:
    return tuple([item if type(item) in ATOMS else _copy(item, memo) for item in value])


def _copy_set(value: Any, memo: dict[int, Any]) -> Any:
    return _duplicate(value, copy.copy)


def _copy_model(value: Any, memo: dict[int, Any]) -> Any:
    return _duplicate(value, copy.deepcopy)


def _copy_data(value: Any, memo: dict[int, Any]) -> Any:
    if id(value) in memo:
        return memo[id(value)]
    try:
        memo[id(value)] = twin = object.__new__(value.__class__)
        names: Iterable[str] = _field_names(value.__class__)
        if attributes := getattr(value, "__dict__", None):  # also holds what is not a field
            names = dict.fromkeys([*names, *attributes])
        for name in names:
            item = getattr(value, name, _MISSING)
            if item is not _MISSING:
                _set(twin, name, item if type(item) in ATOMS else _copy(item, memo))
    except Exception:  # as in `_duplicate`
        return value
    return twin


@lru_cache(maxsize=1024)
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


_set = object.__setattr__  # a frozen instance's own refuses


def _duplicate(value: Any, how: Callable[[Any], Any]) -> Any:
    try:
        # a plain container is copied in one go, so that a thread that adds to it meanwhile does no harm
        return value.copy() if type(value) in (dict, list, set) else how(value)
    except Exception:  # a user's object that can't be copied (it holds a lock, a client): keep the object itself
        return value
