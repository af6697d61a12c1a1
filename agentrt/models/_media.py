"""Media as providers take them inline: a MIME type and base64."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path

from agentrt.media import File, Media
from agentrt.models.message import Message

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
)


def media_of(message: Message) -> list[Media]:
    """All that a message holds beside its text."""
    return [
        *(message.images or ()),
        *(message.audio or ()),
        *(message.videos or ()),
        *(message.files or ()),
    ]


def has_media(message: Message) -> bool:
    """As `media_of`, where only that matters: it is asked of each message of a history."""
    return bool(message.images or message.audio or message.videos or message.files)


def media_bytes(media: Media) -> bytes:
    """The bytes of a medium that has no URL. Reads its file, so call it where reading may take a moment."""
    if media.data is not None:
        return media.data
    assert media.path is not None
    return Path(media.path).read_bytes()


def file_name(media: Media) -> str:
    """The last part of its path or URL."""
    if media.path is not None:
        return Path(media.path).name
    url = media.url or ""
    return "" if url.startswith("data:") else url.partition("?")[0].rpartition("/")[2]


def mime_type(media: Media, content: bytes, default: str) -> str:
    """The type that was given, else the one of the file's name, else the one that its first bytes tell."""
    if media.mime_type is not None:
        return media.mime_type
    name = media.name if isinstance(media, File) and media.name else file_name(media)
    if guess := mimetypes.guess_type(name)[0]:
        return guess
    if content[:4] == b"RIFF":
        return "image/webp" if content[8:12] == b"WEBP" else "audio/wav"
    known = next((kind for signature, kind in _SIGNATURES if content.startswith(signature)), None)
    return known or ("text/plain" if isinstance(media, File) and _is_text(content) else default)


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def base64_text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def data_url(media: Media, default: str) -> str:
    """The medium's URL, or its content as a `data:` URL."""
    if media.url is not None:
        return media.url
    content = media_bytes(media)
    return f"data:{mime_type(media, content, default)};base64,{base64_text(content)}"
