"""JSON schemas for OpenAI's strict mode, which takes only closed objects whose members are all required."""

from __future__ import annotations

from typing import Any, cast

_UNKNOWN = frozenset(
    {"allOf", "not", "if", "then", "else", "patternProperties", "prefixItems", "dependentRequired", "dependentSchemas"}
)
_DROPPED = frozenset({"default", "title", "examples", "discriminator", "$schema"})


class _Inexpressible(Exception):
    pass


def strict_schema(schema: dict[str, Any], *, optional_as_null: bool) -> dict[str, Any] | None:
    """A strict copy of `schema`, or None when strict mode can't express it (a free-form map, any value at all).

    A member that was not required becomes required; `optional_as_null` lets it be null, which then stands for
    "not given". `schema` itself stays as it is.
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
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # strict mode allows nothing beside it
    copy = {key: value for key, value in schema.items() if key not in _DROPPED}
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
