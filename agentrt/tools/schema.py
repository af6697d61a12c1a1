"""The JSON schema of a tool's parameters, and the validator that goes with it.

Loaded with the first tool that is looked at, because it loads pydantic.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from inspect import Parameter as Inspected
from typing import Annotated, Any, NotRequired, cast

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, from_json, to_jsonable_python
from typing_extensions import TypedDict

from agentrt.errors import ToolArgumentsInvalid, ToolDefinitionError
from agentrt.tools.arguments import quote, read_literal
from agentrt.tools.signature import Parameter, Unresolved, bare

log = logging.getLogger("agentrt")

_MAPS = frozenset({"properties", "$defs", "patternProperties", "dependentSchemas"})
MAX_FAULTS = 10
_VALUES = frozenset({"default", "const", "enum", "examples"})
_UNFIT = (PydanticUserError, NameError, TypeError)
"""What pydantic raises for a type that it has no schema for, or whose parts can't be found."""
_CONFIG = ConfigDict(coerce_numbers_to_str=True)


class ParameterSchema:
    """`json` is the JSON schema, shared: never edit it."""

    def __init__(self, tool: str, parameters: list[Parameter], descriptions: dict[str, str]) -> None:
        self._fields = _fields(tool, parameters)
        self._defaulted = {parameter.name for parameter in parameters if not parameter.required}
        adapter: TypeAdapter[dict[str, Any]]
        adapter, schema = _build(tool, self._fields, self._defaulted)
        self._check: Callable[[dict[str, Any]], dict[str, Any]] = adapter.validator.validate_python
        schema.pop("description", None)
        self.json: dict[str, Any] = {"type": "object", "properties": {}} | _untitled(schema)
        for parameter in parameters:
            declared = self.json["properties"].get(parameter.name)
            if declared is None:
                continue  # left out, or known by an alias
            if parameter.name in descriptions:
                declared.setdefault("description", descriptions[parameter.name])
            if not parameter.required and parameter.default is not None:
                _add_default(declared, parameter.default)

    def validate(self, tool: str, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values as the function's hints want them; members that no parameter has are left out.

        What doesn't fit is looked at again: a text may be JSON for something that is no text, and null may stand for
        "not given". Raises `ToolArgumentsInvalid`, which tells the model what is wrong.
        """
        try:
            return _checked(self._check, values, self._defaulted)
        except ValidationError as error:
            raise ToolArgumentsInvalid(self._complaint(tool, values, error)) from None

    def read(self, name: str, value: Any) -> Any:
        """Return what one parameter takes `value` for, as plain data. A text may be JSON, as a user types a list.

        Raises `ValueError` with what is wrong.
        """
        adapter, _ = _adapter({name: self._fields[name]})
        try:
            return to_jsonable_python(_checked(adapter.validator.validate_python, {name: value}, set())[name])
        except ValidationError as error:
            if isinstance(value, str):
                with suppress(ValueError):
                    return self.read(name, from_json(value))
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            raise ValueError(
                "; ".join(_where(fault["loc"][1:]) + fault["msg"] for fault in faults[:MAX_FAULTS])
            ) from None
        except PydanticSerializationError:  # JSON can't tell it: it stays as it was given
            return value

    def _complaint(self, tool: str, values: dict[str, Any], error: ValidationError) -> str:
        known: dict[str, Any] = self.json["properties"]
        faults = error.errors(include_url=False, include_context=False)
        told: list[str] = []
        unknown = ", ".join(repr(quote(name, 60)) for name in values if name not in known)
        if unknown:
            told.append(f"has no parameter {unknown}; it takes {', '.join(map(repr, known))}")
        for fault in faults[:MAX_FAULTS]:
            path = ".".join(map(str, fault["loc"]))
            if fault["type"] == "missing":
                told.append(f"{path!r} is missing")
            else:
                told.append(f"{path!r} is wrong: {fault['msg']}, not {quote(fault['input'], 80)}")
        if len(faults) > MAX_FAULTS:
            told.append(f"and {len(faults) - MAX_FAULTS} more faults")
        return f"Tool {tool!r}{' ' if unknown else ': '}" + "; ".join(told)


def field_type(hint: Any) -> type[Any]:
    """The plain type that a form asks a user for."""
    if isinstance(hint, Unresolved):
        return str
    try:
        schema = _untitled(TypeAdapter(bare(hint)).json_schema())
    except _UNFIT:
        return str
    while "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    plain: dict[Any, type[Any]] = {"integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
    return plain.get(schema.get("type"), str)


# --- building --------------------------------------------------------------------------------------------------------


def _fields(tool: str, parameters: list[Parameter]) -> dict[str, Any]:
    """What each parameter accepts, as the members of a `TypedDict`."""
    fields: dict[str, Any] = {}
    for parameter in parameters:
        hint = parameter.hint
        if isinstance(hint, Unresolved):
            log.warning(
                "tool %r: the type %s of parameter %r can't be found at run time, so the model may send anything; "
                "import it outside `if TYPE_CHECKING:`, or define it outside a function",
                tool,
                hint.text,
                parameter.name,
            )
            hint = Any
        if isinstance(parameter.default, FieldInfo):  # `x: int = Field(3, description="…")`
            given = parameter.default
            hint = Annotated[hint, given]
            parameter.required = given.is_required()
            parameter.default = Inspected.empty
        fields[parameter.name] = hint if parameter.required else NotRequired[hint]
    return fields


def _build(tool: str, fields: dict[str, Any], defaulted: set[str]) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    try:
        return _adapter(fields)
    except _UNFIT as error:
        whole = error
    for name, hint in list(fields.items()):
        try:
            _adapter({name: hint})
        except _UNFIT as error:
            if name not in defaulted:
                reason = str(error).split("\n", 1)[0]
                raise ToolDefinitionError(
                    f"Parameter {name!r} of tool {tool!r} has a type that no JSON schema can tell ({reason}); give it "
                    "another type, or a default, which the model then can't change"
                ) from error
            del fields[name]
    try:
        return _adapter(fields)
    except _UNFIT:
        raise ToolDefinitionError(f"The parameters of tool {tool!r} have no JSON schema: {whole}") from whole


def _adapter(fields: dict[str, Any]) -> tuple[TypeAdapter[Any], dict[str, Any]]:
    arguments: Any = TypedDict("Arguments", fields)  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]  made at run time
    arguments.__pydantic_config__ = _CONFIG
    adapter: TypeAdapter[Any] = TypeAdapter(arguments)
    return adapter, adapter.json_schema()


def _add_default(declared: dict[str, Any], default: Any) -> None:
    if default is Inspected.empty or "default" in declared:
        return
    try:
        declared["default"] = to_jsonable_python(default)
    except (PydanticSerializationError, ValueError, RecursionError):
        return  # JSON can't tell it; the function still has it


def _untitled(schema: Any, names: bool = False) -> Any:
    """The schema without pydantic's titles, which repeat the names. `names` says that the keys are members' names."""
    if isinstance(schema, dict):
        members = cast("dict[str, Any]", schema)
        return {
            key: value if key in _VALUES and not names else _untitled(value, not names and key in _MAPS)
            for key, value in members.items()
            if names or key != "title"
        }
    if isinstance(schema, list):
        return [_untitled(item) for item in cast("list[Any]", schema)]
    return schema


# --- checking and repairing ------------------------------------------------------------------------------------------


def _checked(
    check: Callable[[dict[str, Any]], dict[str, Any]], values: dict[str, Any], defaulted: set[str]
) -> dict[str, Any]:
    """The values as the schema has them, repaired if need be. Raises `ValidationError`."""
    try:
        return check(values)
    except ValidationError as error:
        repaired = _repaired(values, error, defaulted)
        if repaired is None:
            raise
    return check(repaired)


def _where(path: tuple[int | str, ...]) -> str:
    return f"at {'.'.join(map(str, path))}: " if path else ""


def _repaired(values: dict[str, Any], error: ValidationError, defaulted: set[str]) -> dict[str, Any] | None:
    """A copy with what failed read as JSON where it is a text, left out where it is null; None if nothing is."""
    copy: dict[str, Any] = _copied(values)
    changed = False
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        holder, key = _place(copy, fault["loc"])
        if holder is None:
            continue
        value = holder[key]
        if isinstance(value, str):
            try:
                decoded = read_literal(value)
            except ValueError:
                continue
            if decoded != value:
                holder[key] = decoded
                changed = True
        elif value is None and isinstance(holder, dict) and (holder is not copy or key in defaulted):
            del holder[key]
            changed = True
    return copy if changed else None


def _place(values: Any, path: tuple[int | str, ...]) -> tuple[Any, Any]:
    """The container and key that an error's path leads to; steps that name a union's member lead nowhere."""
    holder: Any = None
    key: Any = None
    for step in path:
        if isinstance(step, int):
            is_there = isinstance(values, list) and step < len(cast("list[Any]", values))
        else:
            is_there = isinstance(values, dict) and step in values
        if is_there:
            holder, key = cast("Any", values), step
            values = holder[key]
        elif holder is None:
            break
    return holder, key


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {key: _copied(item) for key, item in members.items()}
    if isinstance(value, list):
        return [_copied(item) for item in cast("list[Any]", value)]
    return value
