"""The one codec for everything that storage keeps: values to JSON text and back.

Plain JSON values are written as they are. Everything else is an object `{"$": tag, ...}`; a dict that has a key `"$"`
of its own, or keys that are not strings, is written as pairs, so nothing is mistaken for a tag. What each tag holds:

    datetime date time timedelta UUID Decimal bytes Path    `v`, a text
    int (beyond 64 bits), float (NaN, infinities)           `v`, a text
    tuple set frozenset dict                                `v`, the items (sets sorted, a dict as pairs)
    Enum                                                    `c` its class, `n` its name, `v` its value
    dataclass, pydantic model                               `c` its class, `v` its fields
    class                                                   `v`, its name, for builtin types and types of this table
    message                                                 `v`, its fields that say something
    media                                                   `v`, the hash of the bytes of an `Image` or the like

The bytes of media are kept beside the text, once, where the caller has a place for them: `media`, by their SHA-256.
Where it has none, they stand in the text like any other bytes.

An instance of a subclass of a plain type is written as that plain type. Classes are named `module:qualname`. A class
that is gone, or does not take the fields any more, gives the plain data: a dict of the fields, an Enum's value. So does
one made inside a function, which has no name to be found by. What is stored can't make the program import or call just
anything: only Enums, dataclasses and pydantic models are made, from modules of packages that are in use already.

In strings, NUL and lone surrogates (which databases refuse) become U+FFFD.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, Final, cast
from uuid import UUID

import jiter

from agentrt.errors import CodecError, StorageError
from agentrt.media import Media
from agentrt.models.message import FIELDS, Message, ToolCall
from agentrt.storage.merge import at_key, is_data, is_dict, is_list, is_model

TAG: Final = "$"
_PLAIN: Final = frozenset({str, bool, NoneType})
_REFERENCE: Final = re.compile(r'\{"\$":"media","v":"([0-9a-f]{64})"\}')
"""As only this module writes it: in a text it would have escapes, and a dict with such keys is written as pairs."""


def dumps(value: Any, root: str = "session_state", *, media: dict[str, bytes] | None = None) -> str:
    """Return `value` as JSON text. Raises `CodecError`, whose `path` begins with `root`, for what can't be held."""
    try:
        return _text(_pack(value), media)
    except _Unstorable as error:
        path = root + "".join(reversed(error.steps))
        raise CodecError(
            f"{path} {error.what}, which storage can't hold. Store plain data instead: numbers, text, lists, dicts, "
            "dates, Enums, dataclasses, pydantic models",
            path=path,
        ) from None
    except RecursionError:
        raise CodecError(f"{root} contains itself, or is nested too deeply to be stored", path=root) from None


def loads(text: str, media: Mapping[str, bytes] | None = None) -> Any:
    """Return what `dumps` was given; `media` has what `media_in` says that the text refers to."""
    if _HAS_TAG in text:
        return _decode_tagged(text) if media is None else _decoder(media)(text)
    try:
        return jiter.from_json(text.encode())  # a quarter of the time
    except ValueError:  # nested deeper than it goes
        return json.loads(text)


def dump_messages(messages: Iterable[Message], *, media: dict[str, bytes] | None = None) -> str:
    """As `dumps`, for a list of nothing but messages, which needs no tags."""
    packed: list[dict[str, Any]] = []
    place = "messages"
    try:
        for message in messages:
            place = f"messages[{len(packed)}]"
            packed.append(_pack_message(message))
        place = "messages"
        return _text(packed, media)
    except _Unstorable as error:
        path = place + "".join(reversed(error.steps))
        raise CodecError(f"{path} {error.what}, which storage can't hold", path=path) from None
    except RecursionError:
        raise CodecError("The messages contain themselves, or are nested too deeply", path="messages") from None


def load_messages(text: str, media: Mapping[str, bytes] | None = None) -> list[Message]:
    """Return the list that `dump_messages` was given."""
    packed: list[dict[str, Any]] = loads(text, media)
    return [_unpack_message(message) for message in packed]


def media_in(rows: Iterable[Iterable[Any]]) -> set[str]:
    """Return the hashes of the media that the texts in rows refer to."""
    texts = [value for row in rows for value in row if isinstance(value, str) and '{"$":"media"' in value]
    return {hash for text in texts for hash in _REFERENCE.findall(text)}


def refer_to_media(text: str, media: Mapping[str, bytes]) -> str:
    """Put references in place of the base64 of media in an event's JSON: it tells what is stored beside it."""
    for hash, content in media.items():
        text = text.replace(f'"{base64.b64encode(content).decode()}"', f'{{"$":"media","v":"{hash}"}}')
    return text


def fill_in_media(text: str, media: Mapping[str, bytes]) -> str:
    """Return the event's JSON as it was before `refer_to_media`."""
    return _REFERENCE.sub(lambda found: f'"{base64.b64encode(_content(found[1], media)).decode()}"', text)


def clean_text(text: str) -> str:
    """Return the text without what databases and UTF-8 can't hold: NUL and lone surrogates become U+FFFD."""
    text = text.replace("\x00", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:  # by way of UTF-16, where two halves of a pair find each other
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


# --- to JSON ---------------------------------------------------------------------------------------------------------


class _Unstorable(Exception):
    """Gathers the path on its way up, innermost step first."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.steps: list[str] = []


def _encoder(held: Callable[[Any], Any]) -> Callable[[Any], str]:
    return json.JSONEncoder(
        ensure_ascii=False, separators=(",", ":"), check_circular=False, allow_nan=False, default=held
    ).encode


def _inline(value: Any) -> Any:
    """What is left for the end are the bytes of media."""
    if isinstance(value, bytes):
        return _pack(value)
    raise TypeError(f"{type(value).__qualname__} in place of a plain value")


def _beside(media: dict[str, bytes], value: Any) -> Any:
    if not isinstance(value, bytes):
        return _inline(value)
    hash = sha256(value).hexdigest()
    media[hash] = value
    return {TAG: "media", "v": hash}


class _HoldsMedia(Exception):
    pass


def _refuse(value: Any) -> Any:
    if isinstance(value, bytes):
        raise _HoldsMedia
    return _inline(value)


_encode = _encoder(_inline)
_encode_without_media = _encoder(_refuse)


def _text(packed: Any, media: dict[str, bytes] | None = None) -> str:
    if media is None:
        return _checked(_encode, packed)
    try:
        return _checked(_encode_without_media, packed)
    except _HoldsMedia:  # few do, and an encoder that knows where to put them serves for one text only
        return _checked(_encoder(partial(_beside, media)), packed)


def _checked(encode: Callable[[Any], str], packed: Any) -> str:
    try:
        text = encode(packed)
    except (TypeError, ValueError) as error:  # a message whose name is not a text, and the like
        raise _Unstorable(f"has a field of a wrong type ({error})") from error
    # once encoded, a NUL is an escape, as is a backslash that somebody wrote: only cleaning tells them apart
    if "\\u0000" not in text:
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text
    return encode(_clean(packed))


def _clean(packed: Any) -> Any:
    if isinstance(packed, str):
        return clean_text(packed)
    if is_dict(packed):
        return {clean_text(key): _clean(item) for key, item in packed.items()}
    return [_clean(item) for item in packed] if is_list(packed) else packed


def _pack(value: Any) -> Any:
    kind: Any = value.__class__
    if kind in _PLAIN:
        return value
    packer = _PACKERS.get(kind)
    return packer(value) if packer is not None else _pack_other(value)


def _pack_dict(value: dict[Any, Any]) -> Any:
    packed: dict[str, Any] = {}
    key: Any = None
    try:
        for key, item in value.items():
            packed[key] = item if item.__class__ in _PLAIN else _pack(item)
            if key.__class__ is not str:
                break
        else:
            if TAG not in packed:
                return packed
        pairs: list[Any] = []
        for key, item in value.items():
            pairs.append([_pack(key), _pack(item)])
    except _Unstorable as error:
        error.steps.append(at_key("", key))
        raise
    return {TAG: "dict", "v": pairs}


def _pack_list(value: Sequence[Any]) -> list[Any]:
    packed: list[Any] = []
    try:
        for item in value:
            packed.append(item if item.__class__ in _PLAIN else _pack(item))
    except _Unstorable as error:
        error.steps.append(f"[{len(packed)}]")
        raise
    return packed


def _pack_set(value: Iterable[Any]) -> list[Any]:
    try:
        # the same set is always the same text
        return sorted((_pack(item) for item in value), key=lambda packed: _encode(_clean(packed)))
    except _Unstorable as error:
        error.steps.append("{…}")
        raise


def _pack_int(value: int) -> Any:
    return value if -(2**63) <= value < 2**63 else {TAG: "int", "v": hex(value)}


def _pack_float(value: float) -> Any:
    return value if math.isfinite(value) else {TAG: "float", "v": repr(value)}


def _pack_datetime(value: datetime) -> Any:
    zone: str | None = getattr(value.tzinfo, "key", None)  # a ZoneInfo; any other time zone is kept as its offset
    packed = {TAG: "datetime", "v": value.isoformat()}
    return {**packed, "z": zone} if zone else packed


def _pack_enum(value: Enum) -> Any:
    return {TAG: "enum", "c": _class_name(type(value)), "n": value.name, "v": _pack(value.value)}


def _pack_data(value: Any) -> Any:
    class_name, known = _shape(value.__class__)
    packed: dict[str, Any] = {}
    for name, default in known:
        item = getattr(value, name, MISSING)
        if item is default or item is MISSING:
            continue
        is_media = item.__class__ is bytes and isinstance(value, Media)  # whose bytes are put somewhere at the end
        packed[name] = item if item.__class__ in _PLAIN or is_media else _pack_attribute(name, item)
    return {TAG: "data", "c": class_name, "v": packed}


@lru_cache(maxsize=1024)
def _shape(kind: Any) -> tuple[str, list[tuple[str, Any]]]:
    """The name of a dataclass, and of its fields each with the value that need not be written."""
    ours = kind.__module__.startswith("agentrt.")  # whose fields are None or False by default where they say nothing

    def unsaid(default: Any) -> Any:
        return default if ours and (default is None or default is False) else MISSING

    return _class_name(kind), [(field.name, unsaid(field.default)) for field in fields(kind)]


def _pack_model(value: Any) -> Any:
    values: dict[str, Any] = {**vars(value), **(value.__pydantic_extra__ or {})}
    packed: dict[str, Any] = {TAG: "model", "c": _class_name(value.__class__)}
    packed["v"] = {name: _pack_attribute(name, item) for name, item in values.items()}
    unset = sorted(values.keys() - value.__pydantic_fields_set__)
    return {**packed, "unset": unset} if unset else packed


def _pack_attribute(name: str, value: Any) -> Any:
    try:
        return _pack(value)
    except _Unstorable as error:
        error.steps.append(f".{name}")
        raise


def _pack_class(value: type[Any]) -> Any:
    name = _CLASS_NAMES.get(value) or (_class_name(value) if _is_ours_to_make(value) else None)
    if name is None:
        raise _Unstorable(f"is the class {value.__qualname__}")
    return {TAG: "class", "v": name}


def _pack_message(message: Message) -> dict[str, Any]:
    # spelt out, as it runs for each message of each run
    packed: dict[str, Any] = {"role": message.role}
    content: Any = message.content
    if content is not None:
        packed["content"] = content if content.__class__ is str else _pack_attribute("content", content)
    if message.name is not None:
        packed["name"] = message.name
    if message.reasoning_content is not None:
        packed["reasoning_content"] = message.reasoning_content
    if message.tool_calls is not None:
        packed["tool_calls"] = [_pack_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        packed["tool_call_id"] = message.tool_call_id
    if message.tool_name is not None:
        packed["tool_name"] = message.tool_name
    if message.tool_call_error:
        packed["tool_call_error"] = True
    if message.provider is not None:
        packed["provider"] = message.provider
    if message.refusal:
        packed["refusal"] = True
    if message.incomplete:
        packed["incomplete"] = True
    if message.cancelled:
        packed["cancelled"] = True
    if message.parts is not None:
        packed["parts"] = _pack_attribute("parts", message.parts)
    if message.citations is not None:
        packed["citations"] = _pack_attribute("citations", message.citations)
    if message.images is not None:
        packed["images"] = _pack_attribute("images", message.images)
    if message.audio is not None:
        packed["audio"] = _pack_attribute("audio", message.audio)
    if message.videos is not None:
        packed["videos"] = _pack_attribute("videos", message.videos)
    if message.files is not None:
        packed["files"] = _pack_attribute("files", message.files)
    packed["created_at"] = message.created_at.isoformat()
    return packed


def _pack_call(call: ToolCall) -> dict[str, Any]:
    packed = {"id": call.id, "name": call.name, "arguments": call.arguments}
    if call.raw_arguments is not None:
        packed["raw_arguments"] = call.raw_arguments
    return packed


def _pack_other(value: Any) -> Any:
    """Values of types that are not in the table: the user's own classes, and subclasses of what is."""
    if isinstance(value, Enum):
        return _pack_enum(value)
    if is_data(value):
        return _pack_data(value)
    if is_model(value):
        return _pack_model(value)
    if isinstance(value, type):
        return _pack_class(cast("type[Any]", value))
    for plain, convert in _PLAIN_OF_SUBCLASS:
        if isinstance(value, plain):
            return _pack(convert(value))
    for base, packer in _PACKERS.items():
        if isinstance(value, base):
            return packer(value)
    kind: Any = value.__class__
    where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    raise _Unstorable(f"is of type {where}{kind.__qualname__}")


_PLAIN_OF_SUBCLASS: Final[tuple[tuple[type[Any], Callable[[Any], Any]], ...]] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)

_PACKERS: Final[dict[type[Any], Callable[[Any], Any]]] = {
    dict: _pack_dict,
    list: _pack_list,
    int: _pack_int,
    float: _pack_float,
    Message: lambda value: {TAG: "message", "v": _pack_message(value)},
    datetime: _pack_datetime,  # before its base class, date
    date: lambda value: {TAG: "date", "v": value.isoformat()},
    time: lambda value: {TAG: "time", "v": value.isoformat()},
    timedelta: lambda value: {TAG: "timedelta", "v": f"{value.days} {value.seconds} {value.microseconds}"},
    UUID: lambda value: {TAG: "UUID", "v": str(value)},
    Decimal: lambda value: {TAG: "Decimal", "v": str(value)},
    bytes: lambda value: {TAG: "bytes", "v": base64.b64encode(value).decode()},
    tuple: lambda value: {TAG: "tuple", "v": _pack_list(value)},
    set: lambda value: {TAG: "set", "v": _pack_set(value)},
    frozenset: lambda value: {TAG: "frozenset", "v": _pack_set(value)},
    Path: lambda value: {TAG: "Path", "v": str(value)},
}


# --- from JSON -------------------------------------------------------------------------------------------------------

_HAS_TAG: Final = f'"{TAG}":'


def _unpack(media: Mapping[str, bytes], value: dict[str, Any]) -> Any:
    """Called for each JSON object, innermost first."""
    tag = value.get(TAG)
    if tag is None:
        return value
    if tag == "media":
        return _content(value["v"], media)
    unpacker = _UNPACKERS.get(tag)
    if unpacker is None:
        raise StorageError(
            f"A stored value is of kind {tag!r}, which this version of agentrt does not know; upgrade it"
        )
    return unpacker(value)


def _content(hash: str, media: Mapping[str, bytes]) -> bytes:
    if hash not in media:
        raise StorageError(f"The media {hash} is not stored any more: its session has been deleted meanwhile")
    return media[hash]


def _decoder(media: Mapping[str, bytes]) -> Callable[[str], Any]:
    return json.JSONDecoder(object_hook=partial(_unpack, media)).decode


_decode_tagged = _decoder({})


def _unpack_datetime(packed: dict[str, Any]) -> datetime:
    value = datetime.fromisoformat(packed["v"])
    if "z" not in packed:
        return value
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # only who uses time zones pays for them

    try:
        return value.astimezone(ZoneInfo(packed["z"]))
    except (
        ZoneInfoNotFoundError,
        ValueError,
    ):  # this machine does not know the zone: the instant is right all the same
        return value


def _unpack_timedelta(packed: dict[str, Any]) -> timedelta:
    days, seconds, microseconds = map(int, packed["v"].split())
    return timedelta(days, seconds, microseconds)


def _unpack_enum(packed: dict[str, Any]) -> Any:
    cls = _class(packed["c"])
    if cls is not None and issubclass(cls, Enum):
        if packed["n"] in cls.__members__:
            return cls[packed["n"]]
        try:
            return cls(packed["v"])
        except ValueError:
            pass
    return packed["v"]


def _unpack_data(packed: dict[str, Any]) -> Any:
    cls, values = _class(packed["c"]), packed["v"]
    if cls is None or not hasattr(cls, "__dataclass_fields__"):
        return values
    known = {field.name: field for field in fields(cls)}
    given = {name: value for name, value in values.items() if name in known}
    try:
        instance = cls(**{name: value for name, value in given.items() if known[name].init})
        for name, value in given.items():  # what `__post_init__` may have made of the fields was made before
            object.__setattr__(instance, name, value)
    except (TypeError, ValueError, AttributeError):  # the class has changed since
        return values
    return instance


def _unpack_model(packed: dict[str, Any]) -> Any:
    cls: Any = _class(packed["c"])
    values: dict[str, Any] = packed["v"]
    if cls is None or not hasattr(cls, "model_construct"):
        return values
    known = cls.__pydantic_fields__
    if any(field.is_required() and name not in values for name, field in known.items()):
        return values
    given = values.keys() - packed.get("unset", ())
    try:
        instance = cls.model_construct(_fields_set=given, **values)  # it was valid when it was stored
        instance.__dict__.update({name: value for name, value in values.items() if name in known})
    except (TypeError, ValueError, AttributeError):  # the class has changed since
        return values
    return instance


def _unpack_message(packed: dict[str, Any]) -> Message:
    packed["created_at"] = datetime.fromisoformat(packed["created_at"])
    if "tool_calls" in packed:
        packed["tool_calls"] = [ToolCall(**call) for call in packed["tool_calls"]]
    try:
        return Message(**packed)
    except TypeError:  # a newer version wrote fields that this one does not have
        return Message(**{name: value for name, value in packed.items() if name in FIELDS})


_UNPACKERS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "dict": lambda packed: dict(packed["v"]),
    "tuple": lambda packed: tuple(packed["v"]),
    "set": lambda packed: set(packed["v"]),
    "frozenset": lambda packed: frozenset(packed["v"]),
    "int": lambda packed: int(packed["v"], 16),
    "float": lambda packed: float(packed["v"]),
    "datetime": _unpack_datetime,
    "date": lambda packed: date.fromisoformat(packed["v"]),
    "time": lambda packed: time.fromisoformat(packed["v"]),
    "timedelta": _unpack_timedelta,
    "UUID": lambda packed: UUID(packed["v"]),
    "Decimal": lambda packed: Decimal(packed["v"]),
    "bytes": lambda packed: base64.b64decode(packed["v"]),
    "Path": lambda packed: Path(packed["v"]),
    "enum": _unpack_enum,
    "data": _unpack_data,
    "model": _unpack_model,
    "class": lambda packed: _CLASSES.get(packed["v"]) or _class(packed["v"]) or packed["v"],
    "message": lambda packed: _unpack_message(packed["v"]),
}


# --- classes ---------------------------------------------------------------------------------------------------------

_CLASSES: Final[Mapping[str, type[Any]]] = {
    cls.__name__: cls
    for cls in (
        *(str, bool, int, float, bytes, dict, list, tuple, set, frozenset),
        *(datetime, date, time, timedelta, Decimal, UUID, Path, NoneType),
    )
}
_CLASS_NAMES: Final = {cls: name for name, cls in _CLASSES.items()}


def _class_name(cls: Any) -> str:
    origin = getattr(cls, "__pydantic_generic_metadata__", {}).get("origin") or cls  # Page[int] is kept as a Page
    return f"{origin.__module__}:{origin.__qualname__}"


def _class(name: str) -> type[Any] | None:
    """The Enum, dataclass or pydantic model of that name, or None when there is none in what the program uses."""
    module_name, _, qualname = name.partition(":")
    if module_name not in sys.modules and module_name.partition(".")[0] in sys.modules:
        try:
            import_module(module_name)
        except ImportError:
            return None
    found: Any = sys.modules.get(module_name)
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) and _is_ours_to_make(cast("type[Any]", found)) else None


def _is_ours_to_make(cls: type[Any]) -> bool:
    return (
        issubclass(cls, Enum) or hasattr(cls, "__dataclass_fields__") or hasattr(cls, "__pydantic_generic_metadata__")
    )
