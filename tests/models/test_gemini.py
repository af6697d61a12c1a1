"""`Gemini` over loopback HTTP: what it sends, and what it makes of the bytes that come back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from agentrt import errors
from agentrt.media import File, Image, MediaLimits
from agentrt.models import _registry
from agentrt.models.base import ModelRequest, OutputSpec, PartDelta, TextDelta, ToolSpec
from agentrt.models.google import Gemini
from agentrt.models.message import Message, Usage
from tests.http_server import Server
from tests.models.collect import Collected, collect

TOOL = ToolSpec(name="lookup", description="Look it up.", parameters={"type": "object", "properties": {}})
VARIABLES = (*Gemini.environment, "GOOGLE_CLOUD_QUOTA_PROJECT")
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, one_certificate: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def gemini(server: Server) -> AsyncIterator[Gemini]:
    model = Gemini(id="gemini-test", api_key="test", base_url=server.url)
    yield model
    await model.aclose()


# --- answers ---------------------------------------------------------------------------------------------------------

USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}


def chunk(parts: list[dict[str, Any]] | None, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """A response, or one chunk of a stream; `parts=None` is a candidate without content."""
    candidate: dict[str, Any] = {"index": 0}
    if parts is not None:
        candidate["content"] = {"role": "model", "parts": parts}
    if reason is not None:
        candidate["finishReason"] = reason
    facts = {"usageMetadata": USAGE, "modelVersion": "gemini-test-001", "responseId": "r1"}
    return {"candidates": [candidate]} | facts | fields


def sse(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(one, ensure_ascii=False).encode() + b"\r\n\r\n" for one in chunks)


def script(server: Server, parts: list[dict[str, Any]], reason: str = "STOP", *, stream: bool, **fields: Any) -> None:
    """Queue an answer: at once, or a part a chunk (texts in halves), and the reason with the last of them."""
    if not stream:
        server.add(json=chunk(parts, reason, **fields))
        return
    pieces: list[dict[str, Any]] = []
    for part in parts:
        if part.get("text") and "thoughtSignature" not in part:
            half = len(part["text"]) // 2
            pieces += [part | {"text": text} for text in (part["text"][:half], part["text"][half:]) if text]
        else:
            pieces.append(part)
    chunks = [chunk([piece]) for piece in pieces[:-1]]
    server.add(body=sse(*chunks, chunk(pieces[-1:], reason, **fields)))


ANSWERS: dict[str, list[dict[str, Any]]] = {
    "text": [{"text": "Good mörning 🍸"}],
    "calls": [
        {"text": "Both."},
        {"functionCall": {"id": "f1", "name": "lookup", "args": {"q": "é", "n": [1, 2.5, None]}}},
        {"functionCall": {"name": "ping"}},
    ],
    "signed": [
        {"text": "Look it up.", "thought": True},
        {"text": "One moment."},
        {"functionCall": {"name": "lookup", "args": {"q": "tide"}}, "thoughtSignature": "c2lnLTE="},
        {"functionCall": {"name": "lookup", "args": {"q": "moon"}}},
    ],
    "signed text": [{"text": "High at noon."}, {"text": "", "thoughtSignature": "c2lnLTI="}],
    "code": [
        {"text": "I compute."},
        {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
        {"text": "It is 1."},
    ],
}


def assembled(found: Collected) -> Message:
    """The assistant message that an engine makes of the deltas."""
    parts = [delta.part for delta in found.of(PartDelta)]
    calls = [
        {"id": call_id or f"call_{at}", "name": name, "arguments": arguments}
        for at, (call_id, name, arguments) in enumerate(found.calls)
    ]
    return Message.of(
        {
            "role": "assistant",
            "content": found.text or None,
            "tool_calls": calls or None,
            "parts": parts or None,
            "provider": "google" if parts else None,
        }
    )


@both_ways
async def test_a_text_answer_gives_text_usage_and_the_reason(server: Server, gemini: Gemini, stream: bool):
    script(server, ANSWERS["text"], stream=stream)

    found = await collect(gemini, stream=stream)

    assert [delta.text for delta in found.of(TextDelta)] == (["Good mö", "rning 🍸"] if stream else ["Good mörning 🍸"])
    assert found.usage == Usage(input_tokens=9, output_tokens=4)
    assert (found.finish.reason, found.finish.raw) == ("stop", "STOP")
    assert (found.finish.model_id, found.finish.request_id) == ("gemini-test-001", "r1")
    assert not found.of(PartDelta)


@both_ways
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_goes_back_as_the_very_parts_that_came(server: Server, gemini: Gemini, stream: bool, name: str):
    script(server, ANSWERS[name], stream=stream)
    first = assembled(await collect(gemini, stream=stream, tools=[TOOL]))
    results = [
        Message(role="tool", tool_call_id=call.id, tool_name=call.name, content="ok") for call in first.tool_calls or ()
    ]
    script(server, ANSWERS["text"], stream=stream)

    again = [Message(role="user", content="hello"), first, *results, Message(role="user", content="go on")]
    await collect(gemini, stream=stream, messages=again, tools=[TOOL])

    expected = [
        part | {"functionCall": {"args": {}} | part["functionCall"]} if "functionCall" in part else part
        for part in ANSWERS[name]
    ]
    assert server.bodies[1]["contents"][1] == {"role": "model", "parts": expected}
    ids = [part["functionResponse"].get("id") for part in server.bodies[1]["contents"][2]["parts"][: len(results)]]
    assert ids == [part["functionCall"].get("id") for part in ANSWERS[name] if "functionCall" in part]


@both_ways
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_what_the_sdk_makes_of_the_same_bytes(
    server: Server, gemini: Gemini, stream: bool, name: str
):
    from google import genai

    for _ in range(2):
        script(server, ANSWERS[name], stream=stream)
    theirs: list[Any] = []
    async with genai.Client(api_key="test", http_options=genai.types.HttpOptions(base_url=server.url)).aio as client:
        if stream:
            async for one in await client.models.generate_content_stream(model="gemini-test", contents="hello"):
                theirs.append(one)
        else:
            theirs.append(await client.models.generate_content(model="gemini-test", contents="hello"))

    found = await collect(gemini, stream=stream)

    parts: list[Any] = [part for one in theirs for part in one.candidates[0].content.parts]
    assert found.text == "".join(part.text or "" for part in parts if not part.thought)
    assert found.reasoning == "".join(part.text or "" for part in parts if part.thought)
    calls = [part.function_call for part in parts if part.function_call]
    assert [(call_id, called, json.loads(text)) for call_id, called, text in found.calls] == [
        (call.id or "", call.name, call.args or {}) for call in calls
    ]
    signatures = [part.thought_signature for part in parts if part.thought_signature]
    ours = [delta.part["thoughtSignature"] for delta in found.of(PartDelta) if "thoughtSignature" in delta.part]
    assert [genai.types.Part.model_validate({"thoughtSignature": one}).thought_signature for one in ours] == signatures
    assert found.finish.raw == theirs[-1].candidates[0].finish_reason.value
    assert found.finish.model_id == theirs[-1].model_version
    assert found.usage is not None
    assert found.usage.output_tokens == theirs[-1].usage_metadata.candidates_token_count


@both_ways
async def test_the_request_goes_where_the_sdk_sends_it_with_the_same_headers(
    server: Server, gemini: Gemini, stream: bool
):
    from google import genai

    for _ in range(2):
        script(server, ANSWERS["text"], stream=stream)
    async with genai.Client(api_key="test", http_options=genai.types.HttpOptions(base_url=server.url)).aio as client:
        if stream:
            async for _ in await client.models.generate_content_stream(model="gemini-test", contents="hello"):
                pass
        else:
            await client.models.generate_content(model="gemini-test", contents="hello")

    await collect(gemini, stream=stream)

    theirs, ours = server.requests
    unlike = {"content-length"}
    assert ours.path == theirs.path
    assert {name: value for name, value in ours.headers.items() if name not in unlike} == {
        name: value for name, value in theirs.headers.items() if name not in unlike
    }
    assert ours.json["contents"] == theirs.json["contents"]


@pytest.mark.parametrize("way", ["bytewise", "cut in the emoji", "lf", "comments"])
async def test_framing_does_not_matter(server: Server, gemini: Gemini, way: str):
    body = sse(chunk([{"text": "héllo 🍸"}], "STOP"))
    if way == "cut in the emoji":
        at = body.index("🍸".encode()) + 2
        server.add(body=[body[:at], body[at:]])
    elif way == "comments":
        server.add(body=b": keep-alive\n\nevent: ping\ndata:\n\nevent: beat\ndata: 17:03\n\n" + body)
    else:
        server.add(body=body if way == "bytewise" else body.replace(b"\r\n", b"\n"), bytewise=way == "bytewise")

    assert (await collect(gemini)).text == "héllo 🍸"


async def test_a_stream_that_comes_as_one_list_is_read_as_well(server: Server, gemini: Gemini):
    server.add(json=[chunk([{"text": "a"}]), chunk([{"text": "b"}], "STOP")])

    assert (await collect(gemini)).text == "ab"


@both_ways
async def test_a_candidate_without_parts_is_an_empty_answer(server: Server, gemini: Gemini, stream: bool):
    candidate = chunk(None, "STOP")
    server.add(body=sse(candidate)) if stream else server.add(json=candidate)

    found = await collect(gemini, stream=stream)

    assert (found.text, found.calls, found.finish.reason) == ("", [], "stop")


@both_ways
async def test_thoughts_and_cached_tokens_are_counted_in(server: Server, gemini: Gemini, stream: bool):
    usage = {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 20,
        "cachedContentTokenCount": 80,
        "candidatesTokenCount": 4,
        "thoughtsTokenCount": 30,
    }
    script(server, [{"text": "Hm.", "thought": True}, {"text": "Yes"}], stream=stream, usageMetadata=usage)

    found = await collect(gemini, stream=stream)

    assert (found.reasoning, found.text) == ("Hm.", "Yes")
    assert found.usage == Usage(input_tokens=120, output_tokens=34, cached_input_tokens=80, reasoning_tokens=30)


@both_ways
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("OTHER", "other"),
        ("SOMETHING_NEW", "other"),
    ],
)
async def test_finish_reasons_are_said_in_our_words(
    server: Server, gemini: Gemini, stream: bool, raw: str, reason: str
):
    script(server, [{"text": "Well"}], raw, stream=stream)

    finish = (await collect(gemini, stream=stream)).finish

    assert (finish.reason, finish.raw) == (reason, raw)


PIECES: list[dict[str, Any]] = [
    {"functionCall": {"id": "f1", "name": "order", "willContinue": True}, "thoughtSignature": "c2ln"},
    {"functionCall": {"partialArgs": [{"jsonPath": "$.kind", "stringValue": "fi", "willContinue": True}],
                      "willContinue": True}},
    {"functionCall": {"partialArgs": [{"jsonPath": "$.kind", "stringValue": "sh 🐟"},
                                      {"jsonPath": "$.items[0].qty", "numberValue": 2.0},
                                      {"jsonPath": "$.items[0].price", "numberValue": 2.5},
                                      {"jsonPath": "$.items[1]['a \\'b\\'']", "boolValue": False},
                                      {"jsonPath": "$.note", "nullValue": "NULL_VALUE"}],
                      "willContinue": True}},
    {"functionCall": {}},
    {"functionCall": {"name": "ping", "args": {}}},
]  # fmt: skip


async def test_arguments_that_come_one_by_one_are_one_call(server: Server, gemini: Gemini):
    server.add(body=sse(*(chunk([part]) for part in PIECES), chunk([], "STOP")))
    server.add(body=sse(chunk([{"text": "Done."}], "STOP")))

    found = await collect(gemini)

    assert [(id, name, json.loads(arguments)) for id, name, arguments in found.calls] == [
        ("f1", "order", {"kind": "fish 🐟", "items": [{"qty": 2, "price": 2.5}, {"a 'b'": False}], "note": None}),
        ("", "ping", {}),
    ]
    said = assembled(found)
    results = [Message(role="tool", tool_call_id=call.id, content="ok") for call in said.tool_calls or ()]
    await collect(gemini, messages=[Message(role="user", content="hello"), said, *results])
    sent = server.bodies[-1]["contents"][1]["parts"]
    assert sent[0] == {
        "functionCall": {"id": "f1", "name": "order", "args": json.loads(found.calls[0][2])},
        "thoughtSignature": "c2ln",
    }


async def test_a_call_that_is_not_ended_is_not_a_call(server: Server, gemini: Gemini):
    server.add(body=sse(*(chunk([part]) for part in PIECES[:3]), chunk([], "STOP")))
    with pytest.raises(errors.ToolUseFailed):
        await collect(gemini)


@pytest.mark.parametrize("path", ["kind", "$", "$.items[-1]", "$..kind", "$.items[99999999999]"])
async def test_a_piece_of_a_call_without_a_place_is_an_invalid_response(server: Server, gemini: Gemini, path: str):
    piece = {"functionCall": {"name": "order", "partialArgs": [{"jsonPath": path, "stringValue": "x"}]}}
    server.add(body=sse(chunk([piece], "STOP")))
    with pytest.raises(errors.ModelResponseInvalid):
        await collect(gemini)


async def test_a_half_of_a_character_in_the_stream_is_joined_with_the_other(server: Server, gemini: Gemini):
    one, two = (
        b'data: {"candidates":[{"content":{"parts":[{"text":"%s"}]}%s}]}\n\n' % (half, end)
        for half, end in ((rb"\ud83c", b""), (rb"\udf78", b',"finishReason":"STOP"'))
    )
    server.add(body=one + two)

    assert (await collect(gemini)).text == "🍸"


# --- failures --------------------------------------------------------------------------------------------------------


@both_ways
async def test_a_blocked_prompt_is_filtered_and_says_why(server: Server, gemini: Gemini, stream: bool):
    body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 5}}
    server.add(body=sse(body)) if stream else server.add(json=body)

    with pytest.raises(errors.ContentFiltered, match="PROHIBITED_CONTENT"):
        await collect(gemini, stream=stream)


@both_ways
async def test_a_malformed_call_is_told_so_that_the_model_can_try_again(server: Server, gemini: Gemini, stream: bool):
    body = chunk(None, "MALFORMED_FUNCTION_CALL")
    body["candidates"][0]["finishMessage"] = "Malformed function call: print(default_api.lookup(q='tide)"
    server.add(body=sse(body)) if stream else server.add(json=body)

    with pytest.raises(errors.ToolUseFailed, match="Malformed") as caught:
        await collect(gemini, stream=stream)

    assert "default_api.lookup" in (caught.value.failed_generation or "")
    assert caught.value.request_id == "r1"


def failure(code: int, status: str, message: str = "No luck", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
DAILY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}
FAILURES = [
    (failure(429, "RESOURCE_EXHAUSTED", "Slow down", RETRY), errors.ModelRateLimited),
    (failure(429, "RESOURCE_EXHAUSTED", "Quota", RETRY, DAILY), errors.ModelQuotaExceeded),
    (failure(503, "UNAVAILABLE"), errors.ModelOverloaded),
    (failure(500, "INTERNAL"), errors.ModelServerError),
    (failure(400, "INVALID_ARGUMENT"), errors.ModelBadRequest),
    (failure(400, "INVALID_ARGUMENT", "API key not valid", BAD_KEY), errors.ModelAuthError),
    (
        failure(400, "INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens allowed (9)."),
        errors.ContextLengthExceeded,
    ),
    (failure(403, "PERMISSION_DENIED"), errors.ModelAuthError),
    (failure(404, "NOT_FOUND"), errors.ModelNotFound),
]


@both_ways
@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize(("body", "error"), FAILURES)
async def test_an_error_status_is_told_in_our_tree(server: Server, gemini: Gemini, body, error, stream, as_list):
    server.add(status=body["error"]["code"], json=[body] if as_list else body)

    with pytest.raises(errors.ModelError) as caught:
        await collect(gemini, stream=stream)

    assert type(caught.value) is error
    assert caught.value.status == body["error"]["code"]
    assert caught.value.code == body["error"]["status"]
    assert body["error"]["message"] in str(caught.value)
    assert len(server.requests) == 1


async def test_the_wait_that_google_asks_for_is_known(server: Server, gemini: Gemini):
    server.add(status=429, json=FAILURES[0][0])

    with pytest.raises(errors.ModelRateLimited) as caught:
        await collect(gemini)

    assert caught.value.retry_after_s == 34.5


@pytest.mark.parametrize("start", [[], [chunk([{"text": "Part"}])]], ids=["at once", "after some text"])
@pytest.mark.parametrize(("body", "error"), FAILURES)
async def test_an_error_inside_a_stream_means_its_status(server: Server, gemini: Gemini, start, body, error):
    server.add(body=sse(*start, body))
    found = Collected()

    with pytest.raises(errors.ModelError) as caught:
        await collect(gemini, into=found)

    assert type(caught.value) is error
    assert caught.value.status == body["error"]["code"]
    assert found.text == ("Part" if start else "")


@pytest.mark.parametrize("end", ["clean", "close", "reset"])
async def test_a_stream_without_a_finish_reason_is_interrupted(server: Server, gemini: Gemini, end: str):
    gate = server.gate()
    server.add(body=[sse(chunk([{"text": "Part"}])), gate], end=end)
    found = Collected()

    with pytest.raises(errors.ModelStreamInterrupted, match="ended early"):
        async with asyncio.timeout(5):
            async for delta in gemini.stream(ModelRequest(messages=[Message(role="user", content="hello")])):
                found.deltas.append(delta)
                if isinstance(delta, TextDelta):
                    gate.open()

    assert found.text == "Part"


async def test_a_finish_reason_is_end_enough_when_the_connection_breaks(server: Server, gemini: Gemini):
    server.add(body=[sse(chunk([{"text": "Done."}], "STOP")), 0.01], end="close")

    assert (await collect(gemini)).finish.reason == "stop"


@both_ways
@pytest.mark.parametrize("body", [b"<html>Sorry</html>", b'{"candidates": [7]}', b"{}", b"[]"])
async def test_a_body_of_another_kind_is_an_invalid_response(server: Server, gemini: Gemini, stream: bool, body: bytes):
    server.add(body=body, headers={"content-type": "text/html" if body[:1] == b"<" else "application/json"})

    with pytest.raises(errors.ModelResponseInvalid):
        await collect(gemini, stream=stream)


async def test_broken_json_in_the_stream_is_an_error(server: Server, gemini: Gemini):
    server.add(body=b'data: {"candidates": [\n\n' + sse(chunk([{"text": "x"}], "STOP")))

    with pytest.raises(errors.ModelResponseInvalid):
        await collect(gemini)


async def test_no_server_is_a_connection_error(server: Server):
    model = Gemini(id="gemini-test", api_key="test", base_url="http://127.0.0.1:1")

    with pytest.raises(errors.ModelConnectionError):
        await collect(model)
    await model.aclose()


async def test_closing_the_stream_closes_the_connection(server: Server, gemini: Gemini):
    gate = server.gate()
    server.add(body=[sse(chunk([{"text": "one"}])), gate])

    async with aclosing(gemini.stream(ModelRequest(messages=[Message(role="user", content="hi")]))) as deltas:
        async for delta in deltas:
            if isinstance(delta, TextDelta):
                break

    await server.until(lambda: server.interrupted == 1)


# --- requests --------------------------------------------------------------------------------------------------------


async def sent(server: Server, model: Gemini, **fields: Any) -> dict[str, Any]:
    server.add(json=chunk([{"text": "ok"}], "STOP"))
    await collect(model, stream=False, **fields)
    await model.aclose()
    return server.bodies[-1]


def model_for(server: Server, **options: Any) -> Gemini:
    return Gemini(**{"id": "gemini-test", "api_key": "test", "base_url": server.url, **options})


async def test_a_bare_request_holds_the_conversation_and_nothing_else(server: Server):
    body = await sent(server, model_for(server))

    assert body == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


async def test_options_are_sent_under_the_names_of_the_api(server: Server):
    model = model_for(
        server,
        temperature=0,
        top_p=0.9,
        top_k=3,
        max_tokens=50,
        stop="END",
        stop_sequences=["FIN"],
        seed=7,
        thinking_budget=0,
        include_thoughts=True,
        safety_settings={"HARM_CATEGORY_HARASSMENT": "BLOCK_NONE"},
        search=True,
        generation_config={"mediaResolution": "MEDIA_RESOLUTION_LOW"},
        extra_body={"labels": {"a": "b"}},
    )

    body = await sent(server, model)

    assert body["generationConfig"] == {
        "temperature": 0,
        "topP": 0.9,
        "topK": 3,
        "maxOutputTokens": 50,
        "stopSequences": ["END", "FIN"],
        "seed": 7,
        "thinkingConfig": {"thinkingBudget": 0, "includeThoughts": True},
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
    }
    assert body["safetySettings"] == [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    assert body["tools"] == [{"googleSearch": {}}]
    assert body["labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ("lookup", {"mode": "ANY", "allowedFunctionNames": ["lookup"]}),
    ],
)
async def test_tool_choice_is_said_in_the_words_of_the_api(server: Server, choice: str, config: dict[str, Any]):
    body = await sent(server, model_for(server), tools=[TOOL], tool_choice=choice)

    assert body["tools"] == [{"functionDeclarations": [{"name": "lookup", "description": "Look it up."}]}]
    assert body["toolConfig"] == {"functionCallingConfig": config}


async def test_a_typed_answer_is_asked_for_by_its_schema(server: Server):
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"x": {"const": "y"}}}}}

    body = await sent(server, model_for(server), output=OutputSpec(name="a", schema=schema))

    assert body["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object", "properties": {"x": {"enum": ["y"], "type": "string"}}},
    }


async def test_json_mode_asks_for_json_without_a_schema(server: Server):
    body = await sent(server, model_for(server), output=OutputSpec(name="a", schema={}, mode="json"))

    assert body["generationConfig"] == {"responseMimeType": "application/json"}


async def test_before_gemini_3_tools_and_a_schema_exclude_each_other(server: Server):
    assert not Gemini(id="gemini-2.5-pro").capable().output_schema_with_tools
    assert Gemini(id="models/gemini-3-pro-preview").capable().output_schema_with_tools
    assert not Gemini(id="gemma-3-27b-it").capable().tools


async def test_half_of_a_character_does_not_fail_the_request(server: Server):
    body = await sent(server, model_for(server), messages=[Message(role="user", content="a\ud83cb")])

    assert body["contents"][0]["parts"] == [{"text": "a\ufffdb"}]


async def test_media_is_sent_inline_or_by_the_uri_that_google_reads(server: Server, tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")
    server.add(body=b"GIF89a", headers={"content-type": "image/gif"})
    message = Message(
        role="user",
        content="compare",
        images=[
            Image(url=f"{server.url}/a"),
            Image(url="gs://bucket/b.jpg"),
            Image(data=b"\x89PNG\r\n\x1a\n"),
        ],
        files=[File(path=tmp_path / "a.pdf")],
    )
    model = model_for(server, media_limits=MediaLimits(allow_private=True))

    body = await sent(server, model, messages=[message])

    assert body["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/gif", "data": "R0lGODlh"}},
        {"fileData": {"fileUri": "gs://bucket/b.jpg", "mimeType": "image/jpeg"}},
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0xLjc="}},
        {"text": "compare"},
    ]


async def test_headers_and_query_of_the_callers_are_sent(server: Server):
    model = model_for(server, extra_headers={"x-mine": "1"}, extra_query={"k": "v"}, api_version="v1alpha")

    await sent(server, model)

    assert server.requests[0].path == "/v1alpha/models/gemini-test:generateContent?k=v"
    assert server.requests[0].headers["x-mine"] == "1"


# --- keys and clients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["GEMINI_API_KEY", "GOOGLE_API_KEY"])
async def test_the_sdks_variables_are_read(server: Server, monkeypatch: pytest.MonkeyPatch, variable: str):
    monkeypatch.setenv(variable, "from-env")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)

    await sent(server, Gemini(id="gemini-test"))

    assert server.requests[0].headers["x-goog-api-key"] == "from-env"


async def test_vertex_ai_is_asked_with_the_credentials_token(server: Server):
    from google.oauth2.credentials import Credentials

    credentials = Credentials("token-1", quota_project_id="billed")
    model = Gemini(
        id="gemini-test",
        vertexai=True,
        project="p1",
        location="eu",
        credentials=credentials,
        base_url=server.url,
    )

    await sent(server, model)

    request = server.requests[0]
    assert request.path == "/v1beta1/projects/p1/locations/eu/publishers/google/models/gemini-test:generateContent"
    assert request.headers["authorization"] == "Bearer token-1"
    assert request.headers["x-goog-user-project"] == "billed"


async def test_a_token_that_can_not_be_renewed_is_an_authentication_error(server: Server):
    from google.oauth2.credentials import Credentials

    model = Gemini(vertexai=True, project="p1", location="eu", credentials=Credentials(None), base_url=server.url)

    with pytest.raises(errors.ModelAuthError, match="Vertex AI"):
        await collect(model)
    await model.aclose()


async def test_a_client_of_the_callers_is_used_as_it_is(server: Server):
    from google import genai

    options = genai.types.HttpOptions(base_url=server.url, headers={"x-mine": "1"})
    async with genai.Client(api_key="theirs", http_options=options).aio as client:
        await sent(server, Gemini(id="gemini-test", client=client))

    assert server.requests[0].headers["x-goog-api-key"] == "theirs"
    assert server.requests[0].headers["x-mine"] == "1"


async def test_without_a_key_the_error_says_what_to_do():
    with pytest.raises(errors.ModelUnavailable, match="export GEMINI_API_KEY="):
        await collect(Gemini())


async def test_without_the_sdk_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "google.genai", None)

    with pytest.raises(errors.ModelUnavailable, match=r"pip install 'agentrt\[google\]'"):
        await collect(Gemini(api_key="k"))


async def test_a_client_of_another_kind_is_refused():
    with pytest.raises(errors.ConfigurationError, match=r"google\.genai\.Client, not object"):
        await collect(Gemini(client=object()))


@pytest.mark.parametrize("name", ["google:gemini-2.5-pro", "gemini:gemini-2.5-pro"])
def test_the_registry_knows_gemini(name: str):
    model = _registry.resolve_model(name)

    assert isinstance(model, Gemini)
    assert model.id == "gemini-2.5-pro"


def test_three_event_loops_in_a_row_leave_nothing_behind(server: Server):
    model = model_for(server)
    for _ in range(3):
        server.add(body=sse(chunk([{"text": "ok"}], "STOP")))
        assert asyncio.run(collect(model)).text == "ok"

    server.wait_until(lambda: server.open_connections == 0)


def test_the_sdk_is_not_loaded_before_the_first_request():
    code = """if True:
        import sys
        from agentrt.models.google import Gemini
        Gemini(id="gemini-x", api_key="k")
        print("google.genai" in sys.modules, "httpx2" in sys.modules)"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
