from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from agentrt.errors import (
    ModelQuotaExceeded,
    ModelResponseInvalid,
    ModelServerError,
    ModelStreamInterrupted,
    ModelTimeout,
)
from agentrt.models.base import ModelRequest, TextDelta
from agentrt.models.message import Message, Usage
from agentrt.models.openai import OpenAIChat
from tests.http_server import Server, chat_chunk, chat_stream, chat_usage, completion, sse
from tests.models.collect import Collected, collect


@pytest.fixture
def model(server: Server) -> OpenAIChat:
    return OpenAIChat(id="gpt-4.1", api_key="test", base_url=f"{server.url}/v1")


def calls_stream(*fragments: list[dict[str, Any]], finish_reason: str | None = "tool_calls") -> bytes:
    chunks = [chat_chunk({"tool_calls": calls}) for calls in fragments]
    return sse(*chunks, *([chat_chunk({}, finish_reason)] if finish_reason else []))


def fragment(arguments: Any = None, name: str | None = None, **fields: Any) -> list[dict[str, Any]]:
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    return [{**fields, "function": function}]


# --- F01, F06: where a stream ends -----------------------------------------------------------------------------------


async def test_chunks_without_choices_are_read_and_usage_after_the_finish_reason_counts(
    server: Server, model: OpenAIChat
):
    server.add(
        body=sse(
            chat_chunk(None, prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}]),
            chat_chunk({"role": "assistant", "content": "Good "}),
            chat_chunk({"content": "morning"}),
            chat_chunk({}, "stop"),
            chat_chunk(None, usage=chat_usage(12, 3)),
        )
    )

    answer = await collect(model)

    assert answer.of(TextDelta) == [TextDelta("Good "), TextDelta("morning")]
    assert answer.usage == Usage(input_tokens=12, output_tokens=3)
    assert answer.finish.reason == "stop"


@pytest.mark.parametrize("end", ["clean", "close", "reset"])
async def test_text_without_a_finish_reason_is_an_interrupted_stream(server: Server, model: OpenAIChat, end: str):
    gate = server.gate()
    server.add(body=[sse(chat_chunk({"content": "Step 1: open the"}), done=False), gate], end=end)
    async with asyncio.timeout(5), aclosing(model.stream(ModelRequest(messages=[Message.of("hi")]))) as deltas:
        assert await anext(deltas) == TextDelta("Step 1: open the")
        gate.open()
        with pytest.raises(ModelStreamInterrupted, match="ended early") as caught:
            await anext(deltas)

    assert "limit" not in str(caught.value)


@pytest.mark.parametrize("end", ["clean", "close"])
async def test_a_call_with_complete_arguments_but_no_finish_reason_is_interrupted(
    server: Server, model: OpenAIChat, end: str
):
    call = fragment('{"id": 7}', "delete_row", index=0, id="call_1")
    server.add(body=[sse(chat_chunk({"tool_calls": call}), done=False)], end=end)

    with pytest.raises(ModelStreamInterrupted):
        await collect(model)


@pytest.mark.parametrize("end", ["clean", "close"])
async def test_a_finish_reason_without_done_is_a_normal_end(server: Server, model: OpenAIChat, end: str):
    server.add(body=[sse(chat_chunk({"content": "Done."}), chat_chunk({}, "stop"), done=False)], end=end)

    answer = await collect(model)

    assert (answer.text, answer.finish.reason) == ("Done.", "stop")


async def test_a_last_event_without_its_blank_line_is_read(server: Server, model: OpenAIChat):
    server.add(body=sse(chat_chunk({"content": "Done."}), chat_chunk({}, "stop"), done=False).rstrip(b"\n"))

    assert (await collect(model)).finish.reason == "stop"


async def test_an_event_that_was_cut_is_an_interruption_and_not_broken_json(server: Server, model: OpenAIChat):
    server.add(body=sse(chat_chunk({"content": "Step"}), done=False) + b'data: {"choices":[{"ind')

    with pytest.raises(ModelStreamInterrupted):
        await collect(model)


async def test_silence_in_a_stream_is_a_timeout(server: Server, model: OpenAIChat):
    server.add(body=[sse(chat_chunk({"content": "Hm"}), done=False), server.gate()])

    with pytest.raises(ModelTimeout):
        await collect(model.copy(timeout_s=0.05))


async def test_the_connection_is_used_again_after_a_stream(server: Server, model: OpenAIChat):
    for _ in range(3):
        server.add(body=[chat_stream("a")])
        await collect(model)

    assert server.connections == 1


async def test_done_ends_the_answer_though_the_server_keeps_the_body_open(
    server: Server, model: OpenAIChat, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("agentrt.models._http.DRAIN_S", 0.01)
    server.add(body=[chat_stream("a"), server.gate()])

    assert (await collect(model)).text == "a"
    await server.until(lambda: server.closed_by_client == 1)


async def test_closing_the_generator_closes_the_connection(server: Server, model: OpenAIChat):
    server.add(body=[sse(chat_chunk({"content": "one"}), done=False), server.gate()])

    async with asyncio.timeout(5), aclosing(model.stream(ModelRequest(messages=[Message.of("hi")]))) as deltas:
        assert await anext(deltas) == TextDelta("one")
    left = asyncio.all_tasks() - {asyncio.current_task()}

    await server.until(lambda: server.interrupted == 1)
    assert not left


async def test_cancelling_the_reader_closes_the_connection(server: Server, model: OpenAIChat):
    gate = server.gate()
    server.add(body=[gate])
    reading = asyncio.ensure_future(collect(model))
    await server.until(lambda: gate.reached)

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    await server.until(lambda: server.interrupted == 1)


# --- F02, F03, F04, F10: tool calls ----------------------------------------------------------------------------------

OSLO, UTC = '{"city":"Oslo"}', '{"tz":"UTC"}'
TWO_CALLS = [("call_a", "get_weather", OSLO), ("call_b", "get_time", UTC)]


@pytest.mark.parametrize(
    "fragments",
    [
        pytest.param(
            [
                fragment("", "get_weather", id="call_a"),
                fragment(OSLO),
                fragment('{"tz":', "get_time", id="call_b"),
                fragment('"UTC"}'),
            ],
            id="no index",
        ),
        pytest.param(
            [fragment(OSLO, "get_weather", index=0, id="call_a"), fragment(UTC, "get_time", index=0, id="call_b")],
            id="every index 0",
        ),
        pytest.param(
            [
                fragment(OSLO, "get_weather", index=0, id="call_a"),
                fragment("", "get_time", index=0, id="call_b"),
                fragment(UTC, index=1),
            ],
            id="head and tail disagree",
        ),
        pytest.param(
            [
                fragment('{"city":', "get_weather", index=1, id="call_a"),
                fragment('{"tz":', "get_time", index=3, id="call_b"),
                fragment('"Oslo"}', index=1),
                fragment('"UTC"}', index=3),
            ],
            id="gap, interleaved",
        ),
        pytest.param(
            [
                fragment('{"city":', "get_weather", index=0, id="call_a")
                + fragment('{"tz":', "get_time", index=1, id="call_b"),
                fragment('"UTC"}', index=1) + fragment('"Oslo"}', index=0),
            ],
            id="two in a chunk",
        ),
    ],
)
async def test_fragments_come_to_the_call_they_belong_to(server: Server, model: OpenAIChat, fragments: Any):
    server.add(body=calls_stream(*fragments))

    answer = await collect(model)

    assert answer.calls == TWO_CALLS
    assert answer.finish.reason == "tool_calls"


async def test_a_name_repeated_in_each_delta_is_one_name(server: Server, model: OpenAIChat):
    first = fragment('{"path"', "read_file", index=0, id="call_1")
    server.add(body=calls_stream(first, fragment(':"a.txt"}', "read_file", index=0, id="call_1")))

    assert (await collect(model)).calls == [("call_1", "read_file", '{"path":"a.txt"}')]


@pytest.mark.parametrize("no_id", [{}, {"id": ""}, {"id": None}])
async def test_calls_without_ids_stay_apart(server: Server, model: OpenAIChat, no_id: dict[str, Any]):
    calls = [fragment(UTC, "get_time", index=0, **no_id), fragment('{"tz":"CET"}', "get_time", index=1, **no_id)]
    server.add(body=calls_stream(*calls))

    assert (await collect(model)).calls == [("", "get_time", UTC), ("", "get_time", '{"tz":"CET"}')]


async def test_later_empty_ids_and_names_do_not_overwrite(server: Server, model: OpenAIChat):
    calls = [fragment("", "get_time", index=0, id="call_1"), fragment(UTC, "", index=0, id="")]
    server.add(body=calls_stream(*calls))

    assert (await collect(model)).calls == [("call_1", "get_time", UTC)]


@pytest.mark.parametrize("reason", ["stop", "other", None, "absent"])
@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_count_whatever_the_finish_reason_says(
    server: Server, model: OpenAIChat, reason: str | None, stream: bool
):
    call = {"id": "call_1", "name": "get_time", "arguments": UTC}
    body = completion("Let me check.", tool_calls=[call])
    body["choices"][0]["finish_reason"] = reason
    if reason == "absent":
        del body["choices"][0]["finish_reason"]
    if stream:
        body["choices"][0]["delta"] = body["choices"][0].pop("message")
        server.add(body=sse(body))
    else:
        server.add(json=body)

    answer = await collect(model, stream=stream)

    assert (answer.text, answer.calls) == ("Let me check.", [("call_1", "get_time", UTC)])
    assert answer.finish.reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("arguments", "text"),
    [("", ""), (None, ""), ("null", "null"), ("absent", ""), ({}, "{}"), ({"a": "é"}, '{"a": "é"}')],
)
async def test_arguments_of_any_type_come_as_text(
    server: Server, model: OpenAIChat, arguments: Any, text: str, stream: bool
):
    function = {"name": "ping"} | ({} if arguments == "absent" else {"arguments": arguments})
    calls = [{"index": 0, "id": "call_1", "type": "function", "function": function}]
    if stream:
        server.add(body=calls_stream(calls))
    else:
        body = completion()
        body["choices"][0]["message"]["tool_calls"] = calls
        server.add(json=body)

    assert (await collect(model, stream=stream)).calls == [("call_1", "ping", text)]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_output_limit_inside_a_call_is_reported_as_length(server: Server, model: OpenAIChat, stream: bool):
    cut = '{"html": "<p>lo'
    if stream:
        server.add(body=calls_stream(fragment(cut, "write_page", index=0, id="c"), finish_reason="length"))
    else:
        call = {"id": "c", "name": "write_page", "arguments": cut}
        server.add(json=completion(tool_calls=[call], finish_reason="length"))

    answer = await collect(model, stream=stream)

    assert answer.calls == [("c", "write_page", cut)]
    assert (answer.finish.reason, answer.finish.raw) == ("length", "length")


# --- F05: errors inside a 200 ----------------------------------------------------------------------------------------

UPSTREAM = {"code": 502, "message": "upstream worker limit reached", "metadata": {"provider_name": "acme"}}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_beside_empty_choices_is_raised_with_the_status_it_means(
    server: Server, model: OpenAIChat, stream: bool
):
    body = {"choices": [], "error": UPSTREAM}
    server.add(body=sse(body)) if stream else server.add(json=body)

    with pytest.raises(ModelServerError, match="upstream worker limit reached") as caught:
        await collect(model, stream=stream)

    assert (caught.value.status, caught.value.retryable) == (502, True)


async def test_an_error_after_text_is_raised_with_its_class(server: Server, model: OpenAIChat):
    error = {"message": "quota exceeded", "type": "insufficient_quota", "code": "insufficient_quota"}
    server.add(body=sse(chat_chunk({"content": "The answer"}), {"error": error}, done=False))
    answer = Collected()

    with pytest.raises(ModelQuotaExceeded, match="quota exceeded") as caught:
        await collect(model, into=answer)

    assert answer.text == "The answer"
    assert not caught.value.retryable


async def test_a_finish_reason_error_is_an_error(server: Server, model: OpenAIChat):
    server.add(body=sse(chat_chunk({"content": ""}, "error")))

    with pytest.raises(ModelServerError):
        await collect(model)


# --- F07, F08, F35: text of several kinds ----------------------------------------------------------------------------


async def test_reasoning_is_read_under_both_names_and_once(server: Server, model: OpenAIChat):
    server.add(
        body=sse(
            chat_chunk({"role": "assistant", "content": "", "reasoning": "Two plus "}),
            chat_chunk({"content": "", "reasoning_content": "two.", "reasoning": "two."}),
            chat_chunk({"content": "4", "reasoning": None}),
            chat_chunk({}, "stop"),
        )
    )

    answer = await collect(model)

    assert (answer.reasoning, answer.of(TextDelta)) == ("Two plus two.", [TextDelta("4")])


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_of_a_plain_answer_is_read_under_both_names(server: Server, model: OpenAIChat, name: str):
    body = completion("4")
    body["choices"][0]["message"][name] = "Two plus two."
    server.add(json=body)

    answer = await collect(model, stream=False)

    assert (answer.reasoning, answer.text) == ("Two plus two.", "4")


@pytest.mark.parametrize("delivery", ["whole", "bytewise", "split"])
async def test_framing_never_changes_the_text(server: Server, model: OpenAIChat, delivery: str):
    body = (
        b": keep-alive\n\nevent: ping\ndata:\n\n"
        + sse(chat_chunk({"content": "héllo 🍸"}), done=False)
        + b": still here\n\nevent: tick\ndata: not json\n\n"
        + sse(chat_chunk({}, "stop"))
    )
    cut = body.index("🍸".encode()) + 2
    server.add(body=[body[:cut], body[cut:]] if delivery == "split" else [body], bytewise=delivery == "bytewise")

    assert (await collect(model)).text == "héllo 🍸"


@pytest.mark.parametrize("escaped_in", ["the arguments", "the event"])
async def test_an_escape_pair_split_between_two_deltas_is_one_character(
    server: Server, model: OpenAIChat, escaped_in: str
):
    halves = ['{"drink": "\\ud83c', '\\udf78"}']
    first, second = fragment(halves[0], "mix", index=0, id="c"), fragment(halves[1], index=0)
    body = calls_stream(first, second)
    if escaped_in == "the event":
        body = body.replace(b"\\\\ud", b"\\ud")
    server.add(body=body)

    ((_, _, arguments),) = (await collect(model)).calls

    assert json.loads(arguments) == {"drink": "\U0001f378"}


@pytest.mark.parametrize("data", [b"{broken", b"[1]", b"7", b'{"choices": 3}', b'{"choices": [{"delta": "x"}]}'])
async def test_an_event_that_is_no_chunk_is_an_error(server: Server, model: OpenAIChat, data: bytes):
    server.add(body=b"data: " + data + b"\n\n" + chat_stream("a"))

    with pytest.raises(ModelResponseInvalid):
        await collect(model)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_told_from_an_answer(server: Server, model: OpenAIChat, stream: bool):
    if stream:
        pieces = [chat_chunk({"refusal": "I can't "}), chat_chunk({"refusal": "help."}), chat_chunk({}, "stop")]
        server.add(body=sse(*pieces))
    else:
        server.add(json=completion(None, refusal="I can't help."))

    answer = await collect(model, stream=stream)

    assert (answer.refusal, answer.text, answer.finish.reason) == ("I can't help.", "", "refusal")


@pytest.mark.parametrize("stream", [False, True])
async def test_content_given_as_parts_is_text_and_reasoning(server: Server, model: OpenAIChat, stream: bool):
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Yes"},
        {"type": "text", "text": "."},
    ]
    if stream:
        server.add(body=sse(chat_chunk({"content": content}), chat_chunk({}, "stop")))
    else:
        body = completion()
        body["choices"][0]["message"]["content"] = content
        server.add(json=body)

    answer = await collect(model, stream=stream)

    assert (answer.reasoning, answer.text) == ("Hm.", "Yes.")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [("stop", "stop"), ("eos", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("odd", "other")],
)
async def test_finish_reasons_are_normalised(server: Server, model: OpenAIChat, raw: str, reason: str):
    server.add(body=chat_stream("a", finish_reason=raw))

    finish = (await collect(model)).finish

    assert (finish.reason, finish.raw) == (reason, raw)


async def test_the_end_tells_the_model_that_answered_and_the_request_id(server: Server, model: OpenAIChat):
    server.add(body=chat_stream("a"), headers={"x-request-id": "req_1"})

    finish = (await collect(model)).finish

    assert (finish.model_id, finish.request_id) == ("test-model", "req_1")


async def test_usage_details_are_read(server: Server, model: OpenAIChat):
    usage = chat_usage(100, 20) | {
        "prompt_tokens_details": {"cached_tokens": 80},
        "completion_tokens_details": {"reasoning_tokens": 15},
    }
    server.add(json=completion("a") | {"usage": usage})

    answer = await collect(model, stream=False)

    assert answer.usage == Usage(input_tokens=100, output_tokens=20, cached_input_tokens=80, reasoning_tokens=15)


async def test_a_json_answer_to_a_request_for_a_stream_is_read(server: Server, model: OpenAIChat):
    server.add(json=completion("whole"))

    answer = await collect(model)

    assert (answer.text, answer.finish.reason) == ("whole", "stop")
