"""The bytes of media, for providers that take them inline: files are read, URLs that they don't take are fetched."""

from __future__ import annotations

import base64
import mimetypes
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import anyio

from agentrt.errors import ModelBadRequest, ModelConnectionError, ModelError
from agentrt.media import File, Media, MediaLimits
from agentrt.models._failures import Source
from agentrt.models._fetch import FetchFailed, FetchRefused, fetch
from agentrt.models._media import file_name, has_media
from agentrt.models.message import Message

RECENT_BYTES = 64_000_000
RECENT_S = 300.0
_recent: OrderedDict[tuple[str, MediaLimits], tuple[float, bytes, str | None]] = OrderedDict()
"""What was fetched last, and when: each model call of a run sends its media again, and should send the same."""


async def with_content(
    messages: Sequence[Message], takes_url: Callable[[Media], bool], limits: MediaLimits, source: Source
) -> Sequence[Message]:
    """Return the messages with `data` in place of each path, and of each URL that the provider does not take.

    The messages themselves stay as they are. Raises `ModelError` for what can't be read or fetched, or is too large.
    """
    if not any(map(has_media, messages)):
        return messages

    async def of(media: Sequence[Any] | None) -> list[Any] | None:
        return None if media is None else [await _with_data(medium, takes_url, limits, source) for medium in media]

    return [
        replace(
            message,
            images=await of(message.images),
            audio=await of(message.audio),
            videos=await of(message.videos),
            files=await of(message.files),
        )
        if has_media(message)
        else message
        for message in messages
    ]


async def _with_data(medium: Media, takes_url: Callable[[Media], bool], limits: MediaLimits, source: Source) -> Media:
    if medium.url is not None and takes_url(medium):
        return medium
    kind: str | None = None
    try:
        if medium.data is not None:
            content = medium.data
        elif medium.path is not None:
            content = await anyio.to_thread.run_sync(_read, Path(medium.path), limits)
        elif medium.url is not None and medium.url.startswith("data:"):
            content, kind = _of_data_url(medium.url)
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
    known: dict[str, Any] = {"mime_type": medium.mime_type or mimetypes.guess_type(file_name(medium))[0] or kind}
    if isinstance(medium, File):
        known["name"] = medium.name or file_name(medium) or None
    return replace(medium, url=None, path=None, data=content, **known)


def _of_data_url(url: str) -> tuple[bytes, str | None]:
    head, _, data = url[len("data:") :].partition(",")
    kind, *options = head.split(";")
    try:
        content = base64.b64decode(data, validate=True) if "base64" in options else unquote_to_bytes(data)
    except ValueError as error:
        raise FetchRefused(f"its data: URL is broken: {error}") from error
    return content, kind or None


def _read(path: Path, limits: MediaLimits) -> bytes:
    if (size := path.stat().st_size) > limits.max_bytes:
        raise FetchRefused(f"it has {size} bytes, more than max_bytes={limits.max_bytes}")
    return path.read_bytes()


async def _fetched(url: str, limits: MediaLimits) -> tuple[bytes, str | None]:
    key = (url, limits)
    found = _recent.get(key)
    if found is None or time.monotonic() - found[0] > RECENT_S:
        content, kind = await fetch(url, limits)
        found = _recent[key] = (time.monotonic(), content, kind)
        while sum(len(content) for _, content, _ in _recent.values()) > RECENT_BYTES and len(_recent) > 1:
            _recent.popitem(last=False)
    return found[1:]


def _failure(kind: type[ModelError], medium: Media, source: Source, error: Exception) -> ModelError:
    which = (medium.url or str(medium.path or "data"))[:200]
    return source.make(kind, f"{type(medium).__name__} {which} can't be sent: {error}")
