from __future__ import annotations

import pytest

from agentrt.models._sse import SSEParser

BODY = (
    ": keep-alive\n\n"
    "event: ping\ndata:\n\n"
    'data: {"text": "héllo 🍸"}\n\n'
    ": still here\n\n"
    "event: named\ndata: one\ndata:two\nid: 7\n\n"
    "\n\n"
    "data: [DONE]\n\n"
).encode()
EVENTS = [("", '{"text": "héllo 🍸"}'.encode()), ("named", b"one\ntwo"), ("", b"[DONE]")]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_events_are_the_same_wherever_the_body_is_cut(line_end: bytes, size: int):
    body = BODY.replace(b"\n", line_end)
    parser = SSEParser()

    events = [event for i in range(0, len(body), size) for event in parser.feed(body[i : i + size])]

    assert events + parser.flush() == EVENTS


def test_an_event_without_its_last_blank_line_comes_with_the_end():
    parser = SSEParser()

    assert parser.feed(b"data: {}\n") == []
    assert parser.flush() == [("", b"{}")]
    assert parser.flush() == []
