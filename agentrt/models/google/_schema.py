"""JSON schemas as Gemini reads them.

A tool's goes into `parametersJsonSchema`, an answer's into `responseJsonSchema`: the older fields, `parameters` and
`responseSchema`, know no references, no maps and no integers to choose from, and refuse a request for one unknown word.
The newer ones take JSON Schema, but mind a part of its words only; what the others say is put into the description.
"""

from __future__ import annotations

import json
from typing import Any, cast

_KEPT = frozenset(
    {
        "type",
        "format",
        "description",
        "enum",
        "required",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "default",
        "propertyOrdering",
    }
)
_DROPPED = frozenset({"$schema", "$id", "$defs", "definitions", "title", "examples", "discriminator"})
_TYPES: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def gemini_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a copy that Gemini minds. References are resolved, but for those of a type that holds itself."""
    return _Rewriting(schema).root()


class _Rewriting:
    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._recursive: dict[str, str] = {}
        """References of types that hold themselves, by the name that these get."""

    def root(self) -> dict[str, Any]:
        rewritten = self._schema_of(self._schema, ())
        definitions: dict[str, Any] = {}
        while missing := [name for name in self._recursive if name not in definitions]:
            for name in missing:
                reference = self._recursive[name]
                definitions[name] = self._schema_of(self._target(reference), (reference,))
        return rewritten | ({"$defs": definitions} if definitions else {})

    def _target(self, reference: str) -> Any:
        found: Any = self._schema
        for step in reference.split("/")[1:]:
            found = found[step.replace("~1", "/").replace("~0", "~")]
        return found

    def _schema_of(self, node: Any, inside: tuple[str, ...]) -> Any:
        if not isinstance(node, dict):
            return node  # true or false
        schema = cast("dict[str, Any]", node)
        if isinstance(reference := schema.get("$ref"), str):
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            if reference in inside:
                name = reference.rpartition("/")[2].replace("#", "root")
                self._recursive[name] = reference
                return {"$ref": f"#/$defs/{name}"}
            return self._schema_of(self._target(reference) | beside, (*inside, reference))
        every: list[Any] = schema.get("allOf", [])
        if len(every) == 1:  # how a description is put beside a reference
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            return self._schema_of(every[0] | rest, inside)
        return self._words(schema, inside)

    def _words(self, schema: dict[str, Any], inside: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        told: list[str] = []
        for key, value in schema.items():
            if key in ("anyOf", "oneOf"):
                found["anyOf"] = [self._schema_of(one, inside) for one in value]
            elif key == "properties":
                if value:
                    found[key] = {name: self._schema_of(one, inside) for name, one in value.items()}
            elif key in ("items", "additionalProperties"):
                found[key] = self._schema_of(value, inside)
            elif key == "prefixItems":
                found[key] = [self._schema_of(one, inside) for one in value]
            elif key == "const":
                found["enum"] = [value]
            elif key == "format" and schema.get("type") == "string" and value != "date-time":
                told.append(f"{key}: {value}")
            elif key in _KEPT:
                found[key] = value
            elif key not in _DROPPED:
                told.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
        if found.get("type") == "array" and "prefixItems" not in found:
            found.setdefault("items", {})
        if "enum" in found:
            _choose(found)
        if told:
            said = found.get("description")
            found["description"] = " ".join([*([said] if said else []), f"({'; '.join(told)})"])
        return found


def _choose(schema: dict[str, Any]) -> None:
    """Give choices the type that Gemini wants beside them, and say null by that type."""
    choices: list[Any] = schema["enum"]
    values = [value for value in choices if value is not None]
    kinds = list(dict.fromkeys(_TYPES.get(value.__class__) for value in values))
    if None in kinds or not kinds:
        return
    nullable = len(values) < len(choices)
    kind: Any = kinds[0] if len(kinds) == 1 else kinds
    if nullable:
        kind = ["null", *(found for found in kinds if found)]
        schema["enum"] = values
    schema["type"] = kind
