"""A tool call's arguments as a model wrote them, made into a JSON object."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

MAX_QUOTE = 200
"""How much of a faulty text is quoted to the model, in characters."""
MAX_LITERAL = 100_000
"""A longer text is not tried as a Python literal."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Arguments:
    """`text` is the text of a JSON object whatever came in, `values` what it says.

    `problem` says, for the model, why the arguments can't be read; `text` is then "{}".
    """

    text: str = "{}"
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    problem: str | None = None


def normalize_arguments(raw: Any) -> Arguments:
    """Read arguments as they come from a model or from storage: a text, an object, or nothing.

    Nothing (absent, null, "", "null") is `{}`. A text that is no JSON is tried as a Python literal (never evaluated).
    Never raises.
    """
    if raw is None or raw == "":
        return Arguments()
    if isinstance(raw, str):
        try:
            values = _parse(raw)
        except (ValueError, RecursionError) as error:
            return _from_literal(raw, error)
        if type(values) is dict and "\\u" not in raw:
            return Arguments(raw, values)  # pyright: ignore[reportUnknownArgumentType]  JSON's keys are texts
        if isinstance(values, str) and values != raw:
            return normalize_arguments(values)  # the object was encoded twice
    else:
        values = raw
    return _from_value(values, raw)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_parse = json.JSONDecoder(parse_constant=_refuse_constant).decode


def read_literal(text: str) -> Any:
    """Return what the text says as JSON or, failing that, as a Python literal. Raises `ValueError`."""
    try:
        return _parse(text)
    except (ValueError, RecursionError) as error:
        if len(text) > MAX_LITERAL:
            raise ValueError(str(error)) from None
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(str(error)) from None


def _from_literal(raw: str, error: Exception) -> Arguments:
    if not raw.strip():
        return Arguments()
    try:
        return _from_value(read_literal(raw), raw)
    except ValueError:
        reason = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
        return Arguments(problem=f"The arguments are not a JSON object ({reason}): {quote(raw)}")


def _from_value(values: Any, raw: Any) -> Arguments:
    """Write the values as JSON and read them back, so that both say the same and the caller's object is not shared."""
    if values is None:
        return Arguments()
    if not isinstance(values, dict):
        return Arguments(problem=f"The arguments are not a JSON object but a {_kind(values)}: {quote(raw)}")
    try:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False)
        text = _LONE_SURROGATE.sub("\ufffd", text)
        return Arguments(text, _parse(text))
    except (TypeError, ValueError, RecursionError) as error:
        return Arguments(problem=f"The arguments are not a JSON object ({error}): {quote(raw)}")


def _kind(value: Any) -> str:
    names: dict[Any, str] = {list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), type(value).__name__)


def quote(value: Any, limit: int = MAX_QUOTE) -> str:
    """The value's text, shortened, without what UTF-8 can't hold."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:  # a user's __repr__
        text = f"<{type(value).__name__}, whose text can't be had: {type(error).__name__}>"
    if len(text) > limit:
        text = f"{text[: limit // 2]} … {text[-limit // 2 :]}"
    return _LONE_SURROGATE.sub("\ufffd", text)
