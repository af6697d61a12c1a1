"""Typed answers: the schema that is asked for, and the text that comes back made into a value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from agentrt.errors import OutputValidationError
from agentrt.models.base import Capabilities, OutputSpec

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_WRAPPED = "value"
"""The member that holds an answer whose type is not an object: providers want an object at the root."""


@dataclass(slots=True)
class Output:
    """How one run asks for its typed answer. `spec` goes into the request, `prompt` into the system message."""

    adapter: TypeAdapter[Any]
    wrapped: bool
    spec: OutputSpec | None
    prompt: str | None

    @classmethod
    def of(cls, type_: Any, capable: Capabilities, with_tools: bool, use_json_mode: bool) -> Output:
        """Choose the best that the model takes: its schema support, its JSON mode, or the prompt alone."""
        adapter, schema, wrapped, name = _adapter(type_)
        native = capable.output_schema and (capable.output_schema_with_tools or not with_tools)
        if native and not use_json_mode:
            return cls(adapter, wrapped, OutputSpec(name=name, schema=schema), None)
        prompt = "Answer with one JSON object that follows this JSON schema, and nothing else:\n" + json.dumps(schema)
        spec = OutputSpec(name=name, schema=schema, mode="json") if capable.json_mode and not with_tools else None
        return cls(adapter, wrapped, spec, prompt)

    def parse(self, text: str) -> Any:
        """Return the value that `text` holds. Raises `OutputValidationError` with the text."""
        from pydantic import ValidationError

        problem = "it holds no JSON"
        for value in _json_values(text):
            try:
                return self.adapter.validate_python(self._unwrapped(value))
            except ValidationError as error:
                problem = str(error)
        raise OutputValidationError(f"The answer does not fit the response model: {problem}", text=text)

    def _unwrapped(self, value: Any) -> Any:
        members = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        return members[_WRAPPED] if self.wrapped and members.keys() == {_WRAPPED} else cast("Any", value)


@lru_cache(maxsize=256)
def _adapter(type_: Any) -> tuple[TypeAdapter[Any], dict[str, Any], bool, str]:
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(type_)
    schema = adapter.json_schema()
    wrapped = schema.get("type") != "object" or "properties" not in schema
    if wrapped:
        definitions = schema.pop("$defs", None)
        schema = {"type": "object", "properties": {_WRAPPED: schema}, "required": [_WRAPPED]}
        if definitions:
            schema["$defs"] = definitions
    return adapter, schema, wrapped, getattr(type_, "__name__", "answer")


def _json_values(text: str) -> list[Any]:
    """The JSON values of a text, likeliest first: the whole text, then the objects and lists in it, last first."""
    try:
        whole = json.loads(text)
    except ValueError:
        pass
    else:
        if isinstance(whole, str):
            return [*_json_values(whole), whole]
        return [whole]
    decoder = json.JSONDecoder()
    found: list[Any] = []
    at = 0
    while at < len(text):
        if text[at] in "{[":
            try:
                value, at = decoder.raw_decode(text, at)
            except ValueError:
                at += 1
                continue
            found.append(value)
        else:
            at += 1
    return found[::-1]
