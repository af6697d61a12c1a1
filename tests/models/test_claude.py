"""`Claude` over loopback HTTP: what it sends, and what it makes of the bytes that come back."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import pytest
from pydantic import BaseModel

from agentrt import Agent, errors
from agentrt.models.anthropic import Claude
from agentrt.models.base import (
    CitationDelta,
    FinishDelta,
    ModelDelta,
    ModelRequest,
    OutputSpec,
    PartDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
    UsageDelta,
)
from agentrt.models.message import Message, ToolCall, Usage
from tests.http_server import Server, sse_events

TOOL = ToolSpec(name="lookup", description="Look it up.", parameters={"type": "object", "properties": {}})
KEY_VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_PROFILE")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path):
    for name in KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))


@pytest.fixture
async def claude(server: Server) -> AsyncIterator[Claude]:
    model = Claude(id="claude-test", api_key="test", base_url=server.url)
    yield model
    await model.aclose()


def ask(text: str = "hello", **fields: Any) -> ModelRequest:
    return ModelRequest(messages=[Message(role="user", content=text)], **fields)


async def deltas_of(model: Claude, request: ModelRequest | None = None) -> list[ModelDelta]:
    async with asyncio.timeout(5):
        return [delta async for delta in model.stream(request or ask())]


def assembled(deltas: list[ModelDelta]) -> Message:
    """The assistant message that an engine makes of the deltas."""
    message = Message(role="assistant", content="", reasoning_content="", provider="anthropic", parts=[], tool_calls=[])
    assert message.tool_calls is not None and message.parts is not None
    for delta in deltas:
        match delta:
            case TextDelta(text) | RefusalDelta(text):
                message.content = f"{message.content}{text}"
            case ReasoningDelta(text):
                message.reasoning_content = f"{message.reasoning_content}{text}"
            case ToolCallDelta(index, call_id, name, arguments):
                if index == len(message.tool_calls):
                    message.tool_calls.append(ToolCall(id=call_id, name=name, arguments=""))
                message.tool_calls[index].arguments += arguments
            case PartDelta(part):
                message.parts.append(part)
            case _:
                pass
    for call in message.tool_calls:
        call.arguments = call.arguments or "{}"
    return message


def only(deltas: list[ModelDelta], kind: type[Any]) -> Any:
    return [delta for delta in deltas if isinstance(delta, kind)][-1]


# --- answers ---------------------------------------------------------------------------------------------------------


def answer(content: list[dict[str, Any]], stop_reason: str = "end_turn", **fields: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "content": content,
        "usage": {"input_tokens": 9, "output_tokens": 4},
    } | fields


def events(content: list[dict[str, Any]], stop_reason: str = "end_turn", **fields: Any) -> list[dict[str, Any]]:
    """The events that stream `answer(…)`."""
    whole = answer(content, stop_reason, **fields)
    start = whole | {"content": [], "stop_reason": None, "usage": whole["usage"] | {"output_tokens": 1}}
    found: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(content):
        opened, deltas = _streamed(block)
        found.append({"type": "content_block_start", "index": index, "content_block": opened})
        found += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        found.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": stop_reason, "stop_sequence": None, "stop_details": whole.get("stop_details")}
    usage = {"output_tokens": whole["usage"]["output_tokens"]}
    return [*found, {"type": "message_delta", "delta": end, "usage": usage}, {"type": "message_stop"}]


def _streamed(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    match block["type"]:
        case "text":
            opened, cited = block | {"text": ""}, block.get("citations", ())
            if cited:
                opened |= {"citations": []}
            deltas: list[dict[str, Any]] = [{"type": "citations_delta", "citation": citation} for citation in cited]
            return opened, [{"type": "text_delta", "text": piece} for piece in _halves(block["text"])] + deltas
        case "thinking":
            pieces = [{"type": "thinking_delta", "thinking": piece} for piece in _halves(block["thinking"])]
            signature = {"type": "signature_delta", "signature": block["signature"]}
            return block | {"thinking": "", "signature": ""}, [*pieces, signature]
        case "tool_use" | "server_tool_use":
            pieces = ["", *_halves(json.dumps(block["input"]))]
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        case _:
            return block, []


def _halves(text: str) -> list[str]:
    return [piece for piece in (text[: len(text) // 2], text[len(text) // 2 :]) if piece]


THOUGHTFUL = [
    {"type": "thinking", "thinking": "Look it up.", "signature": "c2lnLTE="},
    {"type": "redacted_thinking", "data": "ZW5jLTE="},
    {"type": "thinking", "thinking": "", "signature": "c2lnLTI="},
    {"type": "text", "text": "One moment."},
    {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {"q": "tide"}},
]
ANSWERS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "text": ([{"type": "text", "text": "Good mörning 🍸"}], "end_turn"),
    "calls": (
        [
            {"type": "text", "text": "Both."},
            {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {"q": "é", "n": [1, 2.5, None]}},
            {"type": "tool_use", "id": "toolu_2", "name": "ping", "input": {}},
        ],
        "tool_use",
    ),
    "thinking": (THOUGHTFUL, "tool_use"),
    "cited": (
        [
            {"type": "text", "text": "High at "},
            {
                "type": "text",
                "text": "noon 🌊",
                "citations": [
                    {
                        "type": "char_location",
                        "cited_text": "noon",
                        "document_index": 0,
                        "document_title": "Tides",
                        "start_char_index": 3,
                        "end_char_index": 7,
                        "file_id": None,
                    },
                    {
                        "type": "page_location",
                        "cited_text": "12",
                        "document_index": 1,
                        "document_title": None,
                        "start_page_number": 1,
                        "end_page_number": 2,
                        "file_id": None,
                    },
                ],
            },
        ],
        "end_turn",
    ),
    "search": (
        [
            {"type": "text", "text": "Let me search."},
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "tide"}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": [
                    {"type": "web_search_result", "title": "T", "url": "https://t.example", "encrypted_content": "x"}
                ],
            },
            {"type": "text", "text": "High at noon."},
        ],
        "end_turn",
    ),
}


def script(server: Server, content: list[dict[str, Any]], stop_reason: str, *, stream: bool, **fields: Any) -> None:
    if stream:
        server.add(body=sse_events(*events(content, stop_reason, **fields)), headers={"request-id": "req_1"})
    else:
        server.add(json=answer(content, stop_reason, **fields), headers={"request-id": "req_1"})


both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])


@both_ways
async def test_a_text_answer_gives_text_usage_and_the_reason(server: Server, claude: Claude, stream: bool):
    script(server, *ANSWERS["text"], stream=stream)

    deltas = await deltas_of(claude, ask(stream=stream))

    assert [delta.text for delta in deltas if isinstance(delta, TextDelta)] == (
        ["Good mö", "rning 🍸"] if stream else ["Good mörning 🍸"]
    )
    assert only(deltas, UsageDelta).usage == Usage(input_tokens=9, output_tokens=4)
    assert deltas[-1] == FinishDelta("stop", "end_turn", "claude-test", "req_1")
    assert not any(isinstance(delta, PartDelta) for delta in deltas)


@both_ways
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_goes_back_as_the_very_blocks_that_came(
    server: Server, claude: Claude, stream: bool, name: str
):
    content, reason = ANSWERS[name]
    script(server, content, reason, stream=stream)
    first = assembled(await deltas_of(claude, ask(stream=stream, tools=[TOOL])))
    results = [Message(role="tool", tool_call_id=call.id, content="ok") for call in first.tool_calls or ()]
    stored = json.loads(json.dumps(asdict(first), default=str))
    stored = Message.of({key: value for key, value in stored.items() if key != "created_at"})
    script(server, *ANSWERS["text"], stream=stream)

    again = [Message(role="user", content="hello"), stored, *results, Message(role="user", content="go on")]
    await deltas_of(claude, ModelRequest(messages=again, stream=stream, tools=[TOOL]))

    assert server.bodies[1]["messages"][1] == {"role": "assistant", "content": content}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_stream_adds_up_to_what_the_sdk_makes_of_it(server: Server, claude: Claude, name: str):
    import anthropic

    content, reason = ANSWERS[name]
    body = sse_events(*events(content, reason))
    server.add(body=body)
    server.add(body=body)
    async with anthropic.AsyncAnthropic(api_key="test", base_url=server.url) as client:
        request: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
        async with client.messages.stream(**request) as stream:
            theirs = await stream.get_final_message()

    deltas = await deltas_of(claude)

    ours = assembled(deltas)
    blocks: list[Any] = [block.to_dict() for block in theirs.content]
    assert ours.content == "".join(block["text"] for block in blocks if block["type"] == "text")
    assert [(call.id, call.name, json.loads(call.arguments)) for call in ours.tool_calls or ()] == [
        (block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"
    ]
    assert ours.reasoning_content == "".join(b["thinking"] for b in blocks if b["type"] == "thinking")
    if ours.parts:
        calls = {call.id: json.loads(call.arguments) for call in ours.tool_calls or ()}
        assert [
            part | ({"input": calls[part["id"]]} if part.get("id") in calls else {}) for part in ours.parts
        ] == blocks
    cited = [citation for block in blocks for citation in block.get("citations") or ()]
    assert [delta.citation for delta in deltas if isinstance(delta, CitationDelta)] == cited
    assert only(deltas, FinishDelta).raw == theirs.stop_reason
    assert only(deltas, UsageDelta).usage.output_tokens == theirs.usage.output_tokens


@pytest.mark.parametrize("way", ["bytewise", "cut in the emoji", "crlf"])
async def test_framing_does_not_matter(server: Server, claude: Claude, way: str):
    body = b": keep-alive\n\nevent: ping\ndata:\n\nevent: heartbeat\ndata: 17:03\n\n" + sse_events(
        *events([{"type": "text", "text": "héllo 🍸"}])
    )
    if way == "cut in the emoji":
        at = body.index("🍸".encode()) + 2
        server.add(body=[body[:at], body[at:]])
    elif way == "crlf":
        server.add(body=body.replace(b"\n", b"\r\n"))
    else:
        server.add(body=body, bytewise=True)

    assert assembled(await deltas_of(claude)).content == "héllo 🍸"


async def test_an_escape_split_between_two_argument_pieces_is_one_character(server: Server, claude: Claude):
    opened = {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {}}
    pieces = ['{"q": "\\ud83c', '\\udf78"}']
    whole = events([opened], "tool_use")
    whole[3:6] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
        for piece in pieces
    ]
    server.add(body=sse_events(*whole))

    calls = assembled(await deltas_of(claude)).tool_calls or []

    assert json.loads(calls[0].arguments) == {"q": "🍸"}


@both_ways
async def test_cached_tokens_count_as_input(server: Server, claude: Claude, stream: bool):
    usage = {
        "input_tokens": 9,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "output_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    script(server, *ANSWERS["text"], stream=stream, usage=usage)

    deltas = await deltas_of(claude, ask(stream=stream))

    assert only(deltas, UsageDelta).usage == Usage(
        input_tokens=129, output_tokens=4, cached_input_tokens=100, cache_write_tokens=20, reasoning_tokens=3
    )


@both_ways
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "other"),
        ("refusal", "refusal"),
    ],
)
async def test_stop_reasons_are_said_in_our_words(server: Server, claude: Claude, stream: bool, raw: str, reason: str):
    script(server, [{"type": "text", "text": "Well"}], raw, stream=stream)

    deltas = await deltas_of(claude, ask(stream=stream))

    assert (only(deltas, FinishDelta).reason, only(deltas, FinishDelta).raw) == (reason, raw)


@both_ways
async def test_a_refusal_without_text_gives_its_explanation(server: Server, claude: Claude, stream: bool):
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    script(server, [], "refusal", stream=stream, stop_details=details)

    deltas = await deltas_of(claude, ask(stream=stream))

    assert [delta for delta in deltas if isinstance(delta, RefusalDelta)] == [RefusalDelta("Not this.")]


@both_ways
async def test_a_limit_inside_a_tool_call_is_told(server: Server, claude: Claude, stream: bool):
    content = [{"type": "tool_use", "id": "toolu_1", "name": "write_page", "input": {}}]
    if stream:
        whole = events(content, "max_tokens")
        whole[3:6] = [
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": '{"html": "<p>lo'},
            }
        ]
        server.add(body=sse_events(*whole))
    else:
        server.add(json=answer(content, "max_tokens"))

    deltas = await deltas_of(claude, ask(stream=stream))

    assert only(deltas, FinishDelta).reason == "length"


async def test_thinking_that_broke_off_before_its_signature_is_not_kept(server: Server, claude: Claude):
    whole = events([{"type": "thinking", "thinking": "I should", "signature": "eA=="}], "max_tokens")
    server.add(body=sse_events(*[event for event in whole if "signature_delta" not in json.dumps(event)]))

    deltas = await deltas_of(claude)

    assert assembled(deltas).reasoning_content == "I should"
    assert not any(isinstance(delta, PartDelta) for delta in deltas)


# --- failures --------------------------------------------------------------------------------------------------------


PART = events([{"type": "text", "text": "Part"}])[:5]


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("overloaded_error", 529, errors.ModelOverloaded),
        ("rate_limit_error", 429, errors.ModelRateLimited),
        ("authentication_error", 401, errors.ModelAuthError),
        ("permission_error", 403, errors.ModelAuthError),
        ("invalid_request_error", 400, errors.ModelBadRequest),
        ("not_found_error", 404, errors.ModelNotFound),
        ("api_error", 500, errors.ModelServerError),
    ],
)
@pytest.mark.parametrize("start", [[], PART], ids=["at once", "after some text"])
async def test_an_error_event_means_its_status(server, claude, start, kind, status, error):
    failure = {"type": "error", "error": {"type": kind, "message": "No luck"}, "request_id": "req_7"}
    server.add(body=sse_events(*start, failure))
    seen: list[ModelDelta] = []

    with pytest.raises(error, match="No luck") as caught:
        async for delta in claude.stream(ask()):
            seen.append(delta)

    assert caught.value.status == status
    assert caught.value.request_id == "req_7"
    assert caught.value.provider == "anthropic"
    assert assembled(seen).content == ("Part" if start else "")


@pytest.mark.parametrize("end", ["clean", "close", "reset"])
async def test_a_stream_without_its_end_is_interrupted(server: Server, claude: Claude, end: str):
    gate = server.gate()
    server.add(body=[sse_events(*PART), gate], end=end)
    seen: list[ModelDelta] = []

    with pytest.raises(errors.ModelStreamInterrupted, match="ended early"):
        async with asyncio.timeout(5):
            async for delta in claude.stream(ask()):
                seen.append(delta)
                if isinstance(delta, TextDelta):
                    gate.open()

    assert assembled(seen).content == "Pa" or assembled(seen).content == "Part"


async def test_a_stream_cut_inside_an_event_is_interrupted(server: Server, claude: Claude):
    server.add(body=sse_events(*PART) + b'event: content_block_delta\ndata: {"type":"content_bl')

    with pytest.raises(errors.ModelStreamInterrupted):
        await deltas_of(claude)


async def test_a_stop_reason_is_end_enough(server: Server, claude: Claude):
    server.add(body=sse_events(*events(*ANSWERS["text"])[:-1]))

    assert only(await deltas_of(claude), FinishDelta).reason == "stop"


@pytest.mark.parametrize(
    "data", [b"{broken", b'{"type":"content_block_delta","index":5,"delta":{}}', b"[]", b'{"type":"message_start"}']
)
async def test_an_event_that_is_not_the_protocols_is_an_error(server: Server, claude: Claude, data: bytes):
    server.add(body=sse_events(*PART) + b"data: " + data + b"\n\n" + sse_events(*events([])))

    with pytest.raises(errors.ModelResponseInvalid):
        await deltas_of(claude)


@both_ways
@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"{}", b"[1]"])
async def test_a_body_that_is_no_message_is_an_error(server: Server, claude: Claude, stream: bool, body: bytes):
    kind = "text/html" if body.startswith(b"<") else "application/json"
    server.add(body=body, headers={"content-type": kind})

    with pytest.raises(errors.ModelResponseInvalid):
        await deltas_of(claude, ask(stream=stream))


async def test_a_whole_message_in_place_of_a_stream_is_taken(server: Server, claude: Claude):
    server.add(json=answer([{"type": "text", "text": "At once."}]))

    assert assembled(await deltas_of(claude)).content == "At once."


@both_ways
async def test_an_http_error_is_raised_at_once_with_the_providers_words(server: Server, claude: Claude, stream: bool):
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    server.add(status=529, json=body, headers={"request-id": "req_9", "retry-after": "7"})

    with pytest.raises(errors.ModelOverloaded, match="Overloaded") as caught:
        await deltas_of(claude, ask(stream=stream))

    assert (caught.value.status, caught.value.request_id, caught.value.retry_after_s) == (529, "req_9", 7.0)
    assert len(server.requests) == 1


async def test_a_prompt_that_is_too_long_is_told_apart(server: Server, claude: Claude):
    error = {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}
    server.add(status=400, json={"type": "error", "error": error})

    with pytest.raises(errors.ContextLengthExceeded):
        await deltas_of(claude)


async def test_closing_the_generator_closes_the_connection(server: Server, claude: Claude):
    server.add(body=[sse_events(*PART), server.gate()])

    async with asyncio.timeout(5):
        async with aclosing(claude.stream(ask())) as deltas:
            async for delta in deltas:
                if isinstance(delta, TextDelta):
                    break
        await server.until(lambda: server.interrupted == 1)


async def test_a_read_answer_leaves_its_connection_for_the_next(server: Server, claude: Claude):
    for stream in (True, False, True):
        script(server, *ANSWERS["text"], stream=stream)
        await deltas_of(claude, ask(stream=stream))

    assert server.connections == 1


# --- requests --------------------------------------------------------------------------------------------------------


async def sent(server: Server, request: ModelRequest | None = None, **options: Any) -> Mapping[str, Any]:
    """The body that a model with these options sends."""
    script(server, *ANSWERS["text"], stream=True)
    given: dict[str, Any] = {"id": "claude-sonnet-4-5", "api_key": "test", "base_url": server.url, **options}
    model = Claude(**given)
    try:
        await deltas_of(model, request or ask())
    finally:
        await model.aclose()
    return server.bodies[-1]


async def test_a_bare_request_says_no_more_than_it_must(server: Server):
    assert await sent(server) == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 16_384,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "stream": True,
    }
    assert server.requests[0].path == "/v1/messages"


@pytest.mark.parametrize(
    ("model_id", "max_tokens", "schema", "sampling"),
    [
        ("claude-3-opus-20240229", 4_096, False, True),
        ("claude-3-5-sonnet-20241022", 8_192, False, True),
        ("us.anthropic.claude-3-5-haiku-20241022-v1:0", 8_192, False, True),
        ("claude-sonnet-4-20250514", 16_384, False, True),
        ("claude-opus-4-1@20250805", 16_384, False, True),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", 16_384, True, True),
        ("claude-opus-4-8", 16_384, True, False),
        ("claude-sonnet-5", 16_384, True, False),
        ("claude-mythos-preview", 16_384, True, False),
        ("kimi-k2", 8_192, False, True),
    ],
)
async def test_what_a_model_takes_goes_by_its_family(server: Server, model_id, max_tokens, schema, sampling):
    body = await sent(server, id=model_id)

    assert body["max_tokens"] == max_tokens
    assert Claude(id=model_id).capable().output_schema is schema
    assert Claude(id=model_id).capable().sampling is sampling


async def test_the_options_are_sent_under_the_names_of_the_api(server: Server):
    body = await sent(
        server,
        max_tokens=99,
        temperature=0.5,
        top_k=3,
        stop="END",
        stop_sequences=["FIN"],
        metadata={"user_id": "u1"},
        effort="low",
        extra_body={"service_tier": "auto"},
        extra_headers={"x-trace": "1"},
        betas=["one", "two"],
    )

    assert body["max_tokens"] == 99
    assert (body["temperature"], body["top_k"]) == (0.5, 3)
    assert body["stop_sequences"] == ["END", "FIN"]
    assert body["metadata"] == {"user_id": "u1"}
    assert body["output_config"] == {"effort": "low"}
    assert body["service_tier"] == "auto"
    headers = server.requests[0].headers
    assert (headers["x-trace"], headers["anthropic-beta"]) == ("1", "one,two")
    assert headers["anthropic-version"] == "2023-06-01"


async def test_sampling_options_that_a_model_refuses_are_an_error_that_names_them():
    model = Claude(id="claude-opus-4-8", api_key="test", temperature=0.1)

    with pytest.raises(errors.ConfigurationError, match="temperature"):
        await deltas_of(model)


async def test_a_thinking_budget_comes_on_top_of_the_answers_tokens(server: Server):
    body = await sent(server, thinking=2_048)

    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2_048}
    assert body["max_tokens"] == 16_384 + 2_048
    assert Claude(id="claude-sonnet-4-5", thinking=2_048).capable().tool_choice is False


@pytest.mark.parametrize("kind", ["adaptive", "disabled"])
async def test_thinking_may_be_given_as_the_api_takes_it(server: Server, kind: str):
    assert (await sent(server, thinking={"type": kind}))["thinking"] == {"type": kind}
    assert Claude(id="claude-sonnet-4-5", thinking={"type": kind}).capable().tool_choice is (kind == "disabled")


async def test_system_texts_and_tools_can_be_marked_for_the_cache(server: Server):
    messages = [Message(role="system", content="Be brief."), Message(role="user", content="hello")]

    body = await sent(server, ModelRequest(messages=messages, tools=[TOOL]), cache_system_prompt=True, cache_tools=True)

    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert body["tools"] == [
        {
            "name": "lookup",
            "description": "Look it up.",
            "input_schema": {"type": "object", "properties": {}},
            "cache_control": {"type": "ephemeral"},
        }
    ]


async def test_tool_choice_and_parallel_calls_are_sent_with_tools_only(server: Server):
    with_tools = await sent(server, ask(tools=[TOOL], tool_choice="required"), parallel_tool_calls=False)
    without = await sent(server, ask(tool_choice="required"), parallel_tool_calls=False)

    assert with_tools["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert "tool_choice" not in without


async def test_calls_in_the_history_of_a_turn_without_tools_keep_their_declaration(server: Server):
    messages = [
        Message(role="user", content="go"),
        Message(role="assistant", tool_calls=[ToolCall(id="a", name="lookup"), ToolCall(id="b", name="lookup")]),
        Message(role="tool", tool_call_id="a", content="1"),
        Message(role="tool", tool_call_id="b", content="2"),
    ]

    body = await sent(server, ModelRequest(messages=messages))

    assert [tool["name"] for tool in body["tools"]] == ["lookup"]
    assert body["tool_choice"] == {"type": "none"}


async def test_a_typed_answer_is_asked_for_natively(server: Server):
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"], "title": "Answer"}

    body = await sent(server, ask(output=OutputSpec(name="Answer", schema=schema)), effort="high")

    assert body["output_config"] == {
        "effort": "high",
        "format": {"type": "json_schema", "schema": schema | {"additionalProperties": False}},
    }


class Tree(BaseModel):
    name: str
    below: list[Tree] = []


@pytest.mark.parametrize(
    ("model_id", "kind", "said", "thinking"),
    [
        ("claude-sonnet-4-5", dict[str, int], {"a": 1}, None),
        ("claude-sonnet-4-5", Tree, {"name": "a", "below": [{"name": "b"}]}, None),
        ("claude-sonnet-4-5", dict[str, int], {"a": 1}, 2000),
        ("claude-3-opus-20240229", list[int], [1], None),
    ],
    ids=["free keys", "recursion", "while it thinks", "an old model"],
)
@both_ways
async def test_a_type_that_can_not_be_said_natively_is_asked_for_by_a_tool(
    server: Server, claude: Claude, stream: bool, model_id: str, kind: Any, said: Any, thinking: int | None
):
    given = said if kind is Tree else {"value": said}
    call = {"type": "tool_use", "id": "toolu_1", "name": "final_answer", "input": given}
    script(server, [call], "tool_use", stream=stream)
    agent = Agent(model=claude.copy(id=model_id, thinking=thinking), response_model=kind)

    content = (await agent.stream("hi").result()).content if stream else (await agent.arun("hi")).content

    assert content == (Tree.model_validate(said) if kind is Tree else said)
    (body,) = server.bodies
    assert [tool["name"] for tool in body["tools"]] == ["final_answer"]
    assert "output_config" not in body
    assert body.get("tool_choice") == (None if thinking else {"type": "tool", "name": "final_answer"})


@pytest.mark.parametrize(
    ("model_id", "schema"),
    [
        ("claude-sonnet-4-5", {"type": "object", "additionalProperties": {"type": "integer"}}),
        ("claude-3-opus-20240229", {"type": "object", "properties": {"text": {"type": "string"}}}),
    ],
    ids=["free keys", "an old model"],
)
async def test_a_typed_answer_that_can_not_be_guaranteed_is_asked_for_in_words(server: Server, model_id, schema):
    body = await sent(server, ask(output=OutputSpec(name="Counts", schema=schema)), id=model_id)

    assert "output_config" not in body
    assert json.dumps(schema) in body["system"]


async def test_half_a_surrogate_pair_does_not_fail_the_request(server: Server):
    body = await sent(server, ask("a\ud83db"))

    assert body["messages"][0]["content"][0]["text"] == "a\ufffdb"


async def test_an_answer_that_may_be_long_is_streamed_though_nobody_reads_along(server: Server):
    body = await sent(server, ask(stream=False), max_tokens=64_000)

    assert body["stream"] is True


# --- clients ---------------------------------------------------------------------------------------------------------


async def test_key_and_base_url_come_from_the_sdks_environment(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from-env")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)

    await sent(server, api_key=None, base_url=None)

    assert server.requests[0].headers["authorization"] == "Bearer from-env"


async def test_an_auth_token_is_sent_as_bearer(server: Server):
    await sent(server, api_key=None, auth_token="token")

    assert server.requests[0].headers["authorization"] == "Bearer token"


async def test_without_a_key_the_error_has_the_command_that_helps():
    with pytest.raises(errors.ModelUnavailable, match="export ANTHROPIC_API_KEY="):
        await deltas_of(Claude(id="claude-sonnet-4-5"))


async def test_a_key_that_is_a_callable_is_refused():
    async def key() -> str:
        return "secret"

    with pytest.raises(errors.ConfigurationError, match="credentials"):
        await deltas_of(Claude(id="claude-sonnet-4-5", api_key=key))


async def test_a_client_of_the_callers_is_used_and_left_open(server: Server):
    import anthropic

    async with anthropic.AsyncAnthropic(api_key="mine", base_url=server.url) as client:
        await sent(server, client=client)
        assert not client.is_closed()

    assert server.requests[0].headers["authorization"] == "Bearer mine"


async def test_vertex_rewrites_the_request(server: Server):
    from anthropic.lib.vertex import AsyncAnthropicVertex

    async with AsyncAnthropicVertex(region="eu", project_id="p1", access_token="token", base_url=server.url) as client:
        body = await sent(server, client=client)

    assert (
        server.requests[0].path
        == "/projects/p1/locations/eu/publishers/anthropic/models/claude-sonnet-4-5:streamRawPredict"
    )
    assert "model" not in body


def frame(headers: dict[str, str], payload: Any) -> bytes:
    """One message of the AWS event-stream encoding."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + len(value).to_bytes(2) + value.encode()
        for name, value in headers.items()
    )
    body = json.dumps(payload).encode()
    prelude = (16 + len(head) + len(body)).to_bytes(4) + len(head).to_bytes(4)
    message = prelude + binascii.crc32(prelude).to_bytes(4) + head + body
    return message + binascii.crc32(message).to_bytes(4)


def chunk(event: Mapping[str, Any]) -> bytes:
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, {"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abc"})


AWS = {"content-type": "application/vnd.amazon.eventstream"}


@both_ways
async def test_bedrock_answers_are_read(server: Server, stream: bool):
    from anthropic.lib.bedrock import AsyncAnthropicBedrock

    if stream:
        server.add(body=b"".join(map(chunk, events(*ANSWERS["calls"]))), headers=AWS, bytewise=True)
    else:
        script(server, *ANSWERS["calls"], stream=False)
    async with AsyncAnthropicBedrock(aws_region="eu-west-1", api_key="k", base_url=server.url) as client:
        message = assembled(await deltas_of(Claude(id="claude-x", client=client), ask(stream=stream)))

    assert server.requests[0].path == f"/model/claude-x/invoke{'-with-response-stream' if stream else ''}"
    assert message.content == "Both."
    assert [json.loads(call.arguments) for call in message.tool_calls or ()] == [{"q": "é", "n": [1, 2.5, None]}, {}]


async def test_an_exception_in_a_bedrock_stream_is_the_error_that_it_means(server: Server):
    from anthropic.lib.bedrock import AsyncAnthropicBedrock

    failure = frame({":exception-type": "throttlingException", ":message-type": "exception"}, {"message": "Slow down"})
    server.add(body=b"".join(map(chunk, PART)) + failure, headers=AWS)

    async with AsyncAnthropicBedrock(aws_region="eu-west-1", api_key="k", base_url=server.url) as client:
        with pytest.raises(errors.ModelRateLimited, match="Slow down"):
            await deltas_of(Claude(id="claude-x", client=client))


def test_secrets_are_not_in_the_repr():
    shown = repr(Claude(id="claude-x", api_key="s3cr3t", auth_token="s3cr3t", max_tokens=5))

    assert shown == "Claude(id='claude-x', max_tokens=5)"


def test_the_sdk_is_not_loaded_before_the_first_request():
    code = """if True:
        import sys
        from agentrt.models.anthropic import Claude
        Claude(id="claude-x", api_key="k")
        print("anthropic" in sys.modules)"""

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
