"""The bytes of media, for providers that take them inline: files are read, and URLs that they don't take are fetched."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from agentrt.errors import ModelBadRequest, ModelConnectionError, ModelError
from agentrt.media import File, Media, MediaLimits
from agentrt.models._failures import Source
from agentrt.models._fetch import FetchFailed, FetchRefused, fetch
from agentrt.models._media import media_of
from agentrt.models.message import Message

RECENT_BYTES = 64_000_000
_recent: OrderedDict[tuple[str, MediaLimits], tuple[bytes, str | None]] = OrderedDict()
"""What was fetched last: each model call of a run sends its media again, and must send the same."""


async def with_content(
    messages: Sequence[Message], takes_url: Callable[[Media], bool], limits: MediaLimits, source: Source
) -> Sequence[Message]:
    """Return the messages with `data` in place of each path, and of each URL that the provider does not take.

    The messages themselves stay as they are. Raises `ModelError` for what can't be read or fetched, or is too large.
    """
    if not any(media_of(message) for message in messages):
        return messages

    async def of(media: Sequence[Any] | None) -> list[Any] | None:
        return media and [await _with_data(medium, takes_url, limits, source) for medium in media]

    return [
        replace(
            message,
            images=await of(message.images),
            audio=await of(message.audio),
            videos=await of(message.videos),
            files=await of(message.files),
        )
        if media_of(message)
        else message
        for message in messages
    ]


async def _with_data(
    medium: Media, takes_url: Callable[[Media], bool], limits: MediaLimits, source: Source
) -> Media:
    if medium.url is not None and (medium.url.startswith("data:") or takes_url(medium)):
        return medium
    kind: str | None = None
    try:
        if medium.data is not None:
            content = medium.data
        elif medium.path is not None:
            content = await anyio.to_thread.run_sync(_read, Path(medium.path), limits)
        else:
            content, kind = await _fetched(medium.url or "", limits)
        if len(content) > limits.max_bytes:
            raise FetchRefused(f"it has {len(content)} bytes, more than max_bytes={limits.max_bytes}")
    except (FetchRefused, OSError) as error:
        raise _failure(ModelBadRequest, medium, source, error) from error
    except FetchFailed as error:
        raise _failure(ModelConnectionError, medium, source, error) from error
    if medium.data is not None:
        return medium
    known: dict[str, Any] = {"mime_type": medium.mime_type or _named_type(medium) or kind}
    if isinstance(medium, File) and medium.name is None:
        known["name"] = _name(medium) or None
    return replace(medium, url=None, path=None, data=content, **known)


def _read(path: Path, limits: MediaLimits) -> bytes:
    if (size := path.stat().st_size) > limits.max_bytes:
        raise FetchRefused(f"it has {size} bytes, more than max_bytes={limits.max_bytes}")
    return path.read_bytes()


async def _fetched(url: str, limits: MediaLimits) -> tuple[bytes, str | None]:
    key = (url, limits)
    found = _recent.get(key)
    if found is None:
        found = _recent[key] = await fetch(url, limits)
        while sum(len(content) for content, _ in _recent.values()) > RECENT_BYTES and len(_recent) > 1:
            _recent.popitem(last=False)
    _recent.move_to_end(key)
    return found


def _named_type(medium: Media) -> str | None:
    import mimetypes

    return mimetypes.guess_type(_name(medium))[0]


def _name(medium: Media) -> str:
    if medium.path is not None:
        return Path(medium.path).name
    return (medium.url or "").partition("?")[0].rpartition("/")[2]


def _failure(kind: type[ModelError], medium: Media, source: Source, error: Exception) -> ModelError:
    which = medium.url or medium.path or "data"
    return source.make(kind, f"{type(medium).__name__} {which} can't be sent: {error}")
