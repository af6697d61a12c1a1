"""Images, audio, video and files, as input of a run or as part of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(slots=True, kw_only=True)
class Media:
    """Something that is not text: exactly one of `url`, `path` and `data`; `mime_type` is guessed when not given."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"val_json_bytes": "base64", "ser_json_bytes": "base64"}

    url: str | None = None
    path: Path | str | None = None
    data: bytes | None = None
    mime_type: str | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("url", "path", "data") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{type(self).__name__} takes exactly one of url, path and data; got {', '.join(given) or 'none'}"
            )


@dataclass(slots=True, kw_only=True)
class Image(Media):
    """An image; `detail` is the provider's hint for its resolution (`"low"`, `"high"`, `"auto"`)."""

    detail: str | None = None


@dataclass(slots=True, kw_only=True)
class Audio(Media):
    """A sound."""


@dataclass(slots=True, kw_only=True)
class Video(Media):
    """A video."""


@dataclass(slots=True, kw_only=True)
class File(Media):
    """A document; `name` is what the model is told it is called."""

    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What may be read of files, and fetched of URLs where a provider does not do that itself.

    `allow_private` lets requests go to private, loopback and link-local addresses: only where nobody else, and no
    model, decides about URLs.
    """

    max_bytes: int = 20_000_000
    timeout_s: float = 30.0
    allow_private: bool = False
