"""JSON schemas for OpenAI's strict mode, which takes only closed objects whose members are all required.

What else it has no word for is said in descriptions, and checked when the answer is there.
"""

from __future__ import annotations

import json
from typing import Any, cast

_UNKNOWN = frozenset(
    {"allOf", "not", "if", "then", "else", "patternProperties", "prefixItems", "dependentRequired", "dependentSchemas"}
)
_DROPPED = frozenset({"title", "discriminator", "$schema"})
_SAID = frozenset(
    {"minLength", "maxLength", "uniqueItems", "minProperties", "maxProperties", "propertyNames", "examples",
     "contains", "minContains", "maxContains", "contentEncoding", "contentMediaType"}
)  # fmt: skip
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})


class _Inexpressible(Exception):
    pass


def strict_schema(schema: dict[str, Any], *, optional_as_null: bool) -> dict[str, Any] | None:
    """A strict copy of `schema`, or None when strict mode can't express it (a free-form map, any value at all).

    A member that was not required becomes required; `optional_as_null` lets it be null, which then stands for
    "not given"; else its description says its default. `schema` itself stays as it is.
    """
    if schema.get("type", "object") != "object":
        return None
    try:
        return _strict(schema, optional_as_null)
    except _Inexpressible:
        return None


def _strict(node: Any, nullable: bool) -> dict[str, Any]:
    if not isinstance(node, dict) or not node:
        raise _Inexpressible  # `true` or `{}`: any value
    schema = cast("dict[str, Any]", node)
    if not _UNKNOWN.isdisjoint(schema):
        raise _Inexpressible
    copy = _with_words(schema, nullable)
    if "$ref" in copy:  # which may have nothing beside it
        reference = {"$ref": copy.pop("$ref")}
        return {"anyOf": [reference], "description": copy["description"]} if "description" in copy else reference
    for key in ("anyOf", "oneOf"):
        if key in copy:
            copy["anyOf"] = [_strict(choice, nullable) for choice in copy.pop(key)]
    if "$defs" in copy:
        copy["$defs"] = {name: _strict(part, nullable) for name, part in copy["$defs"].items()}
    if "items" in copy:
        copy["items"] = _strict(copy["items"], nullable)
    kind: Any = copy.get("type")
    kinds = cast("list[str]", kind) if isinstance(kind, list) else [kind]
    if "object" in kinds or "properties" in copy:
        _close(copy, nullable)
    if "array" in kinds and "items" not in copy:
        raise _Inexpressible
    if kind is None and copy.keys().isdisjoint({"anyOf", "enum", "const", "properties"}):
        raise _Inexpressible
    return copy


def _with_words(schema: dict[str, Any], nullable: bool) -> dict[str, Any]:
    """A copy in which the description says what the dialect can't."""
    copy: dict[str, Any] = {}
    words: list[str] = []
    for key, value in schema.items():
        look_around = key == "pattern" and "(?" in value
        if key in _SAID or look_around or (key == "format" and value not in _FORMATS):
            words.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
        elif key == "default":
            if not nullable and value is not None:
                words.append(f"default: {json.dumps(value, ensure_ascii=False)}")
        elif key not in _DROPPED:
            copy[key] = value
    if words:
        said: str = copy.get("description", "")
        copy["description"] = f"{said} ({', '.join(words)})".lstrip()
    return copy


def _close(schema: dict[str, Any], nullable: bool) -> None:
    if schema.get("additionalProperties", False) is not False:
        raise _Inexpressible
    members: dict[str, Any] = schema.get("properties", {})
    if not members and "properties" not in schema and "additionalProperties" not in schema:
        raise _Inexpressible  # a bare object: anything may be in it
    required = set(schema.get("required", ()))
    schema["properties"] = {
        name: _or_null(_strict(member, nullable)) if nullable and name not in required else _strict(member, nullable)
        for name, member in members.items()
    }
    schema["required"] = list(members)
    schema["additionalProperties"] = False


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices: list[Any] = schema.get("anyOf") or [schema]
    if any(choice.get("type") == "null" for choice in choices):
        return schema
    outside = {key: schema[key] for key in ("description",) if key in schema}
    inside = [{key: value for key, value in choice.items() if key not in outside} for choice in choices]
    return {"anyOf": [*inside, {"type": "null"}], **outside}
