"""Events as JSON, and back: what streams to browsers and other clients."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Any, get_args

from agentrt.run import events as _events
from agentrt.run.events import BaseEvent, OutputPartial, RunEvent, UnknownEvent
from agentrt.run.response import RunResponse


def event_to_json(event: BaseEvent, *, response: bool = True) -> str:
    """Return the event as a JSON object. Fields without a value are left out; a typed answer is its plain data.

    With `response=False` the `response` of a run's last event is left out, too.
    """
    if isinstance(event, UnknownEvent):
        return json.dumps(event.data, ensure_ascii=False)
    fields = _values(event)
    if not response:
        fields.pop("response", None)
    if isinstance(event, OutputPartial):
        fields.pop("value", None)
    return _encode(fields)


def event_from_json(text: str | bytes) -> RunEvent:
    """Return the event that `event_to_json` wrote; one of a newer version as an `UnknownEvent`.

    What was a typed answer comes back as plain data. Raises `ValueError` when the text is no event.
    """
    data = json.loads(text)
    if not isinstance(data, dict) or "event" not in data:
        raise ValueError("An event is a JSON object with the member 'event'")
    cls = _classes().get(typing.cast("str", data["event"]))
    if cls is None:
        names = {f.name for f in dataclasses.fields(BaseEvent)}
        known = {k: v for k, v in data.items() if k in names and k not in ("created_at", "path")}  # pyright: ignore[reportUnknownVariableType]
        return UnknownEvent(**known, path=tuple(data.get("path", ())), data=data)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
    return _adapter(cls).validate_json(text)


def event_json_schema() -> dict[str, Any]:
    """Return the JSON schema of all events, one definition an event, told apart by `event`."""
    from pydantic import TypeAdapter

    events: Any = typing.Union[tuple(_classes().values())]  # noqa: UP007  # pyright: ignore  made at run time
    return TypeAdapter(events).json_schema(mode="serialization")


def response_from_json(text: str | bytes) -> RunResponse[Any]:
    """Return the response that `RunResponse.to_json` wrote. Raises `ValueError` when the text is none."""
    return _adapter(RunResponse).validate_json(text)


def plain_json(value: Any) -> str:
    """Return any value as JSON, in its plainest form: dataclasses and models as objects, times as ISO texts."""
    return _encode(value)


@lru_cache(maxsize=1)
def _classes() -> dict[str, type[BaseEvent]]:
    return {
        cls.__dataclass_fields__["event"].default: cls for cls in get_args(_events.RunEvent) if cls is not UnknownEvent
    }


@lru_cache(maxsize=64)
def _adapter(cls: type[Any]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


@lru_cache(maxsize=1024)
def _names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


def _values(value: Any) -> dict[str, Any]:
    """The fields of a dataclass instance that have a value."""
    return {name: item for name in _names(value.__class__) if (item := getattr(value, name)) is not None}


def _plain(value: Any) -> Any:
    """What JSON has no word for, in its plainest form."""
    if hasattr(value.__class__, "__dataclass_fields__"):
        return _values(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset, types.GeneratorType)):
        return list(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)


_encode = json.JSONEncoder(default=_plain, ensure_ascii=False).encode
