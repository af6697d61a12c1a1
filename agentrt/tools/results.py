"""What a tool returned, as the text that a model is told."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from datetime import date, time
from enum import Enum
from typing import Any, cast

from agentrt.media import Media

HEAD_ROWS = 10
MAX_CELLS = 1000
"""A larger array inside a result is told by its shape and summary."""
MAX_DEPTH = 50

_UNFIT = re.compile("[\ud800-\udfff\x00]")


def to_text(value: Any, max_chars: int | None = None) -> str:
    """Return the value as text: a text as it is, data as JSON, a table as its shape and head.

    The text is valid UTF-8 without NUL; non-ASCII characters are kept. What is longer than `max_chars` is cut, and says
    so. Raises whatever the value's own `__str__` or serializer raises.
    """
    if type(value) is not str:
        value = _text(value)
    if not value.isascii() or "\0" in value:
        value = _fit(value)
    if max_chars is not None and len(value) > max_chars:
        value = f"{value[:max_chars]}\n[cut: the first {max_chars} of {len(value)} characters]"
    return value


def media_in(value: Any) -> list[Media]:
    """The media that a tool returned: the value itself, or items of the list that it is."""
    if isinstance(value, Media):
        return [value]
    if isinstance(value, (list, tuple)):
        return [item for item in value if isinstance(item, Media)]  # pyright: ignore[reportUnknownVariableType]
    return []


def of_kind(media: Iterable[Media], kind: type[Any]) -> list[Any] | None:
    return [item for item in media if isinstance(item, kind)] or None


def _fit(text: str) -> str:
    """Join surrogate pairs; put U+FFFD for what UTF-8 or a database can't hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _UNFIT.sub("\ufffd", text)


def _text(value: Any) -> str:
    if value is None:
        return "(no result)"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _binary(bytes(cast("bytes", value)))
    plain = _plain(value)
    if isinstance(plain, str):
        return plain
    try:
        return _ENCODER.encode(plain)
    except (TypeError, ValueError, RecursionError):  # keys that are no texts, NaN, circles: rare, so looked for late
        plain = _without_traps(plain, ())
        return plain if isinstance(plain, str) else _ENCODER.encode(plain)


def _plain(value: Any) -> Any:
    """What JSON has no word for, in its plainest form; what it has, as it is."""
    if value is None or isinstance(value, (str, int, float, bool, list, tuple, dict)):
        return value.value if isinstance(value, Enum) else value  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _binary(bytes(cast("bytes", value)))
    if isinstance(value, Media):
        return _media(value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, type):
        return value.__name__
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if callable(getattr(value, "model_dump", None)):
        return _model(value)
    if hasattr(value, "shape"):
        return _table(value)
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if callable(getattr(value, "_asdict", None)):
        return value._asdict()
    return str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)


def _without_traps(value: Any, above: tuple[int, ...]) -> Any:
    value = _plain(value)
    if isinstance(value, float) and value - value != 0:
        return str(value)
    if not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) in above or len(above) > MAX_DEPTH:  # pyright: ignore[reportUnknownArgumentType]
        return "…"
    above = (*above, id(value))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, dict):
        return {_key(key): _without_traps(item, above) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return [_without_traps(item, above) for item in value]  # pyright: ignore[reportUnknownVariableType]


def _key(key: Any) -> str:
    plain = _plain(key)
    return plain if isinstance(plain, str) else to_text(plain)


def _binary(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"{len(data)} bytes, base64: {base64.b64encode(data).decode()}"


def _model(value: Any) -> Any:
    try:
        return value.model_dump(mode="json")
    except ValueError:  # a field that has no JSON form: the encoder asks for each by itself
        return value.model_dump()


def _media(value: Media) -> str:
    kind = type(value).__name__.lower()
    if value.url is not None:
        return f"[{kind} {value.url}]"
    if value.path is not None:
        return f"[{kind} {value.path}]"
    return f"[{kind}, {len(value.data or b'')} bytes]"


def _table(value: Any) -> Any:
    """A DataFrame, a Series or an array of whatever library: shape and head. A scalar or a small array as it is."""
    kind, shape = type(value).__name__, value.shape
    if shape == () and callable(getattr(value, "item", None)):
        return value.item()
    if callable(getattr(value, "head", None)):
        head = value.head(HEAD_ROWS)
        text = head.to_string() if callable(getattr(head, "to_string", None)) else str(head)
        size = f"{shape[0]} rows" + (f" x {shape[1]} columns" if len(shape) > 1 else "")
        more = f", the first {HEAD_ROWS}" if shape[0] > HEAD_ROWS else ""
        return f"{kind}, {size}{more}:\n{text}"
    if callable(getattr(value, "tolist", None)) and getattr(value, "size", MAX_CELLS + 1) <= MAX_CELLS:
        return value.tolist()
    return f"{kind}, shape {shape}, {getattr(value, 'dtype', 'unknown')}:\n{value}"
