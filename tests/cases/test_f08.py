"""F08: framing: comments, blank data, code points that are cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from agentrt import Agent, RunStatus, errors
from tests.cases.kit import claude, go, openai
from tests.cases.pairing import check_chat, sent_calls
from tests.http_server import Piece, Server, chat_stream

BODY = """: keep-alive

event: ping
data:

data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"héllo 🍸"},"finish_reason":null}]}

: still here

data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: [DONE]

""".encode()
GLASS = BODY.index("🍸".encode())


def cut(body: bytes, *places: int) -> list[Piece]:
    edges = [0, *places, len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def with_pause(*pieces: bytes) -> list[Piece]:
    """Pieces that are sure to be read apart."""
    return [one for piece in pieces for one in (piece, 0.01)]


DELIVERIES: dict[str, dict[str, Any]] = {
    "whole": {"body": BODY},
    "bytewise": {"body": BODY, "bytewise": True},
    "inside the emoji": {"body": with_pause(*cut(BODY, GLASS + 2))},  # pyright: ignore
    "crlf": {"body": BODY.replace(b"\n", b"\r\n")},
    "crlf, bytewise": {"body": BODY.replace(b"\n", b"\r\n"), "bytewise": True},
    "cr": {"body": BODY.replace(b"\n", b"\r")},
    "crlf cut in two": {
        "body": with_pause(*cut(BODY.replace(b"\n", b"\r\n"), BODY.replace(b"\n", b"\r\n").index(b"\r\n") + 1))  # pyright: ignore
    },
    "no space after the colon": {"body": BODY.replace(b"data: ", b"data:")},
    "byte order mark": {"body": "\ufeff".encode() + BODY},
    "ids and retry": {"body": b"retry: 3000\nid: 1\n\n" + BODY.replace(b"data: {", b"id: 2\ndata: {")},
    "no length, closed at the end": {"body": BODY, "framing": "close"},
    "data in two lines": {"body": BODY.replace(b'[{"index"', b'\ndata: [{"index"')},
}


@pytest.mark.parametrize("delivery", DELIVERIES)
async def test_the_text_is_the_same_however_it_is_framed(server: Server, delivery: str) -> None:
    server.add(**DELIVERIES[delivery])
    outcome = await go(Agent(model=openai(server)), "streamed")

    assert outcome.response.content == "héllo 🍸"
    assert outcome.texts == ["héllo 🍸"]
    assert outcome.response.status is RunStatus.COMPLETED


@pytest.mark.parametrize("bytewise", [False, True])
async def test_an_escape_pair_cut_between_two_deltas_is_one_character(server: Server, bytewise: bool) -> None:
    def chunk(arguments: str, head: str = "") -> str:
        function = f'"function":{{{head}"arguments":"{arguments}"}}'
        return f'data: {{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":0,"id":"c1",{function}}}]}}}}]}}\n\n'

    # the halves as the arguments' own escapes, which reach JSON only when all is joined
    body = chunk(r"{\"drink\": \"\\ud83c", '"name":"order",') + chunk(r"\\udf78\"}")
    body += 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n'
    server.add(body=body.encode(), bytewise=bytewise)
    server.add(body=chat_stream("Cheers"))
    seen: list[str] = []

    def order(drink: str) -> str:
        seen.append(drink)
        return drink

    await go(Agent(model=openai(server), tools=[order]), "streamed")

    assert seen == ["\U0001f378"]
    check_chat(server.bodies[1])
    assert sent_calls(server.bodies[1]) == [("c1", "order", {"drink": "🍸"})]


async def test_halves_escaped_by_the_chunk_itself_are_joined_too(server: Server) -> None:
    body = (
        r'data: {"choices":[{"index":0,"delta":{"content":"to \ud83c"}}]}' + "\n\n"
        r'data: {"choices":[{"index":0,"delta":{"content":"\udf78!"}}]}' + "\n\n"
        'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    )
    server.add(body=body.encode())
    outcome = await go(Agent(model=openai(server)), "streamed")

    assert outcome.response.content == "to 🍸!" == "".join(outcome.texts)


async def test_anthropics_halves_are_joined_too(server: Server) -> None:
    delta = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"HALF"}}'
    events = [
        '{"type":"message_start","message":{"content":[],"model":"m","usage":{"input_tokens":9}}}',
        '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        delta.replace("HALF", r"to \ud83c"),
        delta.replace("HALF", r"\udf78!"),
        '{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}',
    ]
    server.add(body="".join(f"data: {event}\n\n" for event in events).encode())
    outcome = await go(Agent(model=claude(server)), "streamed")

    assert outcome.response.content == "to 🍸!" == "".join(outcome.texts)


@pytest.mark.parametrize("data", [b'{"choices":[{"index":0,"delta":{"con', b"oops", b"[1, 2]", b'{"choices": 7}'])
async def test_data_that_is_broken_is_an_error(server: Server, data: bytes) -> None:
    start = b'data: {"choices":[{"index":0,"delta":{"content":"Hm"}}]}\n\n'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    server.add(body=start + b"data: " + data + b"\n\n" + end)
    outcome = await go(Agent(model=openai(server)), "streamed")

    assert isinstance(outcome.error, errors.ModelResponseInvalid)
    assert outcome.response.content == "Hm" and outcome.names[-1] == "RunError"
    assert len(server.requests) == 1


async def test_an_anthropic_stream_with_pings_comments_and_crlf_is_read(server: Server) -> None:
    events = """: hello

event: message_start
data: {"type":"message_start","message":{"content":[],"model":"m","usage":{"input_tokens":9,"output_tokens":1}}}

event: ping
data: {"type":"ping"}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: new_event_of_2030
data: {"type":"new_event_of_2030"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"héllo 🍸"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}

event: message_stop
data: {"type":"message_stop"}

"""
    server.add(body=events.replace("\n", "\r\n").encode(), bytewise=True)
    outcome = await go(Agent(model=claude(server)), "streamed")

    assert outcome.response.content == "héllo 🍸" and outcome.response.usage.output_tokens == 5
