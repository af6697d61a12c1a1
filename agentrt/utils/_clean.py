"""Takes out of a model's or tool's text what a terminal would obey: escape sequences and control characters."""

from __future__ import annotations

import re

# CSI (colours, cursor), OSC and other strings (titles, clipboard, links), two-character escapes, then lone controls
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_UNFINISHED = re.compile(
    r"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*\x1b?|\x1b[ -/]*)$"
)
HELD_CHARS = 512


def clean(text: str) -> str:
    """Return `text` with tabs and line ends as its only control characters."""
    return _SEQUENCE.sub("", text)


class Cleaner:
    """Cleans a text that comes in pieces, which may fall anywhere in an escape sequence."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        piece = self._held + piece
        unfinished = _UNFINISHED.search(piece)
        if unfinished is None or len(piece) - unfinished.start() > HELD_CHARS:
            self._held = ""
            return clean(piece)
        self._held = piece[unfinished.start() :]
        return clean(piece[: unfinished.start()])
