"""Server-sent events, parsed from bytes as they arrive."""

from __future__ import annotations


class SSEParser:
    """Turns the pieces of a body, cut anywhere, into `(event name, data)` pairs; the name is "" when none was sent.

    Works on bytes, so a code point split between two pieces is whole again before anybody decodes it. Comments and
    events without data are left out; lines may end in LF, CR LF or CR; several data lines are joined by LF.
    """

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: list[bytes] = []

    def feed(self, piece: bytes) -> list[tuple[str, bytes]]:
        """Return the events that `piece` completes."""
        pending = self._pending
        if not pending and piece.startswith(b"data: {") and piece.find(b"\n") == len(piece) - 2 and piece[-1] == 10:
            return [("", piece[6:-2])]  # one event in one piece, as most servers send them
        if b"\n" not in piece and b"\r" not in piece:  # a long event in small pieces must not be copied each time
            pending.append(piece)
            return []
        if pending:
            pending.append(piece)
            piece = b"".join(pending)
            pending.clear()
        if b"\r" in piece:
            piece, cut = _with_line_feeds(piece)
        else:
            cut = b""
        events: list[tuple[str, bytes]] = []
        blocks = piece.split(b"\n\n")
        rest = blocks.pop() + cut
        if rest:
            pending.append(rest)
        for block in blocks:
            if block.startswith(b"data: {") and b"\n" not in block:  # nearly all of them
                events.append(("", block[6:]))
            elif (event := _event(block)) is not None:
                events.append(event)
        return events

    def flush(self) -> list[tuple[str, bytes]]:
        """The body has ended: return the last event if only its closing blank line is missing.

        Its data may have been cut anywhere.
        """
        rest = b"".join(self._pending)
        self._pending.clear()
        event = _event(rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        return [] if event is None else [event]


def _with_line_feeds(piece: bytes) -> tuple[bytes, bytes]:
    """All line ends as LF; a CR at the very end is given back, because an LF may follow it in the next piece."""
    cut = b"\r" if piece.endswith(b"\r") else b""
    whole = piece[:-1] if cut else piece
    return whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), cut


def _event(block: bytes) -> tuple[str, bytes] | None:
    name = ""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    text = b"\n".join(data)
    return (name, text) if text.strip() else None
