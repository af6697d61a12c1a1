"""The type of a typed answer: its JSON schema, the check of its values, and the types of its parts.

Loaded with the first typed answer, because it loads pydantic.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, cast

import pydantic
from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError
from pydantic_core import to_json
from typing_extensions import get_type_hints, is_typeddict

from agentrt.errors import ConfigurationError
from agentrt.run.json_text import Path

WRAPPED = "value"
"""The member that holds an answer whose type is not an object: providers want an object at the root."""
MAX_FAULTS = 10

Check = Callable[[Any], Any]
"""Makes plain data a value of a type. Raises `ValueError` with what is wrong, for the model to read."""


@dataclasses.dataclass(slots=True)
class Parts:
    """The parts of a type that are checked one by one while an answer comes in: members or items, and theirs."""

    of: Callable[[str | int], Parts | None]
    check: Check | None = None
    """None for a list or map of which each item is checked by itself."""


class OutputType:
    """What an answer is to be. `schema` has an object at its root, `wrapped` if need be: shared, never edit it."""

    __slots__ = ("check", "name", "parts", "plain_words", "schema", "wrapped")

    def __init__(self, name: str, schema: dict[str, Any], check: Check, parts: Parts | None) -> None:
        self.name = name
        self.wrapped = schema.get("type") != "object" or "properties" not in schema
        self.plain_words = isinstance(schema.get("const"), str) or any(
            isinstance(word, str) for word in schema.get("enum", ())
        )
        """Is it one of some given words? Then the bare word will do."""
        self.schema = _wrapped(schema) if self.wrapped else schema
        self.check = check
        self.parts = parts

    def check_of(self, path: Path, value: Any) -> Check | None:
        """How a finished part is checked; None for what is not, or only with what it is a part of."""
        parts = self.parts
        if parts is None:  # of a schema: what is at the root, and what is in lists there
            alone = len(path) == 1 and not isinstance(value, list)
            return _as_it_is if alone or (len(path) == 2 and isinstance(path[1], int)) else None
        for key in path:
            if parts is None:
                return None
            parts = parts.of(key)
        return parts.check if parts is not None else None


def output_type(given: Any) -> OutputType:
    """Return what `response_model` means. Raises `ConfigurationError` for what can't be asked for."""
    if isinstance(given, Mapping):
        return _of_schema(dict(cast("Mapping[str, Any]", given)))
    try:
        hash(given)
    except TypeError:
        return _of_type(given)
    return _known_type(given)


def _of_type(given: Any) -> OutputType:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(given)
        schema = adapter.json_schema()
    except (pydantic.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema) as error:
        raise ConfigurationError(f"response_model={given!r} can't be asked of a model: {error}") from error
    name = getattr(given, "__name__", None)
    return OutputType(name if isinstance(name, str) else "answer", schema, _checking(adapter), _parts_of(given))


_known_type = lru_cache(maxsize=256)(_of_type)


def _wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    hoisted = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    inside = {key: value for key, value in schema.items() if key not in hoisted and key != "$schema"}
    return {"type": "object", "properties": {WRAPPED: inside}, "required": [WRAPPED], **hoisted}


def _checking(adapter: TypeAdapter[Any]) -> Check:
    def check(value: Any) -> Any:
        try:
            return adapter.validate_json(to_json(value))  # as JSON: a strict model takes a date's text from there
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False)
            told = [f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}" for fault in faults[:MAX_FAULTS]]
            raise ValueError(_joined(told, len(faults))) from error

    return check


def _joined(told: list[str], count: int) -> str:
    return "; ".join([*told, f"and {count - MAX_FAULTS} more faults"] if count > MAX_FAULTS else told)


def unwrapped(value: Any) -> Any:
    """What the member holds that an answer was wrapped in; the value itself when it is not wrapped."""
    members = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    return members[WRAPPED] if members.keys() == {WRAPPED} else cast("Any", value)


# --- a JSON schema ---------------------------------------------------------------------------------------------------


def _of_schema(schema: dict[str, Any]) -> OutputType:
    name: Any = schema.get("title")
    return OutputType(name if isinstance(name, str) else "answer", schema, _checking_schema(schema), None)


def _as_it_is(value: Any) -> Any:
    return value


def _nothing(_: str | int) -> None:
    return None


def _checking_schema(schema: dict[str, Any]) -> Check:
    from importlib import import_module
    from importlib.util import find_spec

    if find_spec("jsonschema") is None:
        raise ConfigurationError("A response_model that is a JSON schema needs jsonschema: pip install jsonschema")
    jsonschema: Any = import_module("jsonschema")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigurationError(f"response_model is no JSON schema: {error.message}") from error
    validator = kind(schema)

    def check(value: Any) -> Any:
        faults = list(validator.iter_errors(value))
        if faults:
            told = [f"{'.'.join(map(str, fault.path)) or 'it'}: {fault.message}" for fault in faults[:MAX_FAULTS]]
            raise ValueError(_joined(told, len(faults)))
        return value

    return check


# --- parts -----------------------------------------------------------------------------------------------------------


def _parts_of(given: Any) -> Parts:
    """The parts of an answer: what stands at its root, and what stands in the lists and maps there."""
    item = _item_type(given)
    if item is not None:
        each = _checked_part(item)
        return Parts(lambda _: each)
    members = {name: _member(hint) for name, hint in _members(given).items()}
    return Parts(lambda name: members.get(cast("str", name)))


def _member(hint: Any) -> Parts:
    item = _item_type(hint)
    if item is None:
        return _checked_part(hint)
    each = _checked_part(item)
    return Parts(lambda _: each)


def _checked_part(hint: Any) -> Parts:
    made: list[Check] = []

    def check(value: Any) -> Any:
        if not made:
            made.append(_checking(TypeAdapter(hint)))
        return made[0](value)

    return Parts(_nothing, check)


def _bare(given: Any) -> Any:
    """A hint without what is said about it, and without None beside it."""
    hint: Any = given
    while True:
        if typing.get_origin(hint) is Annotated:
            hint = typing.get_args(hint)[0]
        elif typing.get_origin(hint) in (typing.Union, UnionType):
            others = [one for one in typing.get_args(hint) if one is not NoneType]
            if len(others) != 1:
                return hint
            hint = others[0]
        elif _is_a(hint, RootModel):
            hint = hint.model_fields["root"].annotation
        else:
            return hint


def _is_a(hint: Any, kind: type[Any]) -> bool:
    return isinstance(hint, type) and issubclass(hint, kind)


def _item_type(hint: Any) -> Any:
    """The type of the items of a list, a set, a tuple of any length, or of the values of a map; else None."""
    hint = _bare(hint)
    args = typing.get_args(hint)
    origin: Any = typing.get_origin(hint)
    if not isinstance(origin, type) or not args:
        return None
    if issubclass(origin, Mapping):
        return args[1]
    if issubclass(origin, tuple):
        return args[0] if len(args) == 2 and args[1] is Ellipsis else None
    return args[0] if issubclass(origin, Iterable) else None


def _members(given: Any) -> dict[str, Any]:
    """The hints of an object's members by their names in JSON; none for what is no object."""
    kind = _bare(given)
    if _is_a(kind, BaseModel):
        fields = kind.model_fields.items()
        return {
            _json_name(name, field): Annotated[field.annotation, *field.metadata]
            if field.metadata
            else field.annotation
            for name, field in fields
        }
    if is_typeddict(kind) or dataclasses.is_dataclass(kind):
        try:
            return get_type_hints(kind, include_extras=dataclasses.is_dataclass(kind))  # extras of others: NotRequired
        except NameError:  # hints that only their place of definition knows: the whole is checked all the same
            return {}
    return {}


def _json_name(name: str, field: Any) -> str:
    alias: Any = field.validation_alias or field.alias
    return alias if isinstance(alias, str) else name
