from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentrt.errors import (
    ConfigurationError,
    ContentFiltered,
    ModelBadRequest,
    ModelQuotaExceeded,
    ModelRateLimited,
    ModelResponseInvalid,
    ModelServerError,
)
from agentrt.media import Audio, File, Image
from agentrt.models.base import OutputSpec, PartDelta, ReasoningDelta, TextDelta, ToolCallDelta, ToolSpec
from agentrt.models.message import Message, ToolCall, Usage
from agentrt.models.openai import OpenAIChat, OpenAIResponses
from tests.http_server import Server, completion, sse_events
from tests.models.collect import collect

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "lookup", "arguments": '{"q":"tide"}',
        "status": "completed"}  # fmt: skip
LOOKUP = ToolSpec(name="lookup", description="Look it up.", parameters={
    "type": "object", "properties": {"q": {"type": "string"}, "limit": {"type": "integer"}}, "required": ["q"],
})  # fmt: skip


@pytest.fixture
def model(server: Server) -> OpenAIResponses:
    return OpenAIResponses(id="gpt-5", api_key="test", base_url=server.url)


def said(text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content, **fields}


def response(*output: dict[str, Any], status: str = "completed", **fields: Any) -> dict[str, Any]:
    used = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
    return {"id": "resp_1", "model": "gpt-5-1", "status": status, "output": list(output), "usage": used, **fields}


async def kept(server: Server, model: OpenAIResponses, *output: dict[str, Any]) -> Message:
    """The assistant message that an answer of these items leaves."""
    server.add(json=response(*output))
    heard = await collect(model, stream=False)
    calls = [ToolCall(id=id, name=name, arguments=arguments) for id, name, arguments in heard.calls]
    parts = [delta.part for delta in heard.of(PartDelta)]
    return Message(
        role="assistant",
        content=heard.text if heard.text or not calls else None,
        tool_calls=calls or None,
        provider="openai" if parts else None,
        parts=parts or None,
    )


async def sent(server: Server, model: OpenAIResponses, *messages: Message, **fields: Any) -> dict[str, Any]:
    """The body of the request for these messages."""
    server.add(json=response(said("Fine")))
    await collect(model, stream=False, messages=list(messages), **fields)
    return server.bodies[-1]


USER = Message(role="user", content="When is high tide?")
RESULT = Message(role="tool", tool_call_id="call_1", tool_name="lookup", content="at noon")
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "at noon"}


# --- the conversation, stateless -------------------------------------------------------------------------------------


async def test_nothing_is_stored_and_reasoning_is_asked_for_encrypted(server: Server, model: OpenAIResponses):
    body = await sent(server, model, Message(role="system", content="Be brief."), USER)

    assert body == {
        "model": "gpt-5",
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "When is high tide?"}],
    }


async def test_a_model_that_never_reasons_is_not_asked_for_reasoning(server: Server, model: OpenAIResponses):
    assert "include" not in await sent(server, model.copy(id="gpt-4.1-mini"), USER)


async def test_reasoning_then_its_call_then_the_result_go_back(server: Server, model: OpenAIResponses):
    message = await kept(server, model, REASONING, CALL)
    body = await sent(server, model, USER, message, RESULT)

    assert message.tool_calls == [ToolCall(id="call_1", name="lookup", arguments='{"q":"tide"}')]
    assert body["input"][1:] == [REASONING, CALL, OUTPUT]
    assert "previous_response_id" not in body


async def test_items_of_the_api_go_back_in_their_order(server: Server, model: OpenAIResponses):
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
    items = [REASONING, search, said("Wait.", phase="commentary"), CALL]
    message = await kept(server, model, *items)

    assert (await sent(server, model, USER, message, RESULT))["input"][1:-1] == items


async def test_nulls_of_the_api_are_not_sent_back(server: Server, model: OpenAIResponses):
    message = await kept(server, model, {**REASONING, "content": None, "status": None}, CALL)

    assert (await sent(server, model, message, RESULT))["input"][0] == REASONING


async def test_text_and_calls_without_reasoning_need_no_parts(server: Server, model: OpenAIResponses):
    message = await kept(server, model, said("One moment."), CALL)
    plain = {name: value for name, value in CALL.items() if name not in ("id", "status")}

    assert message.parts is None
    assert (await sent(server, model, message, RESULT))["input"] == [
        {"role": "assistant", "content": "One moment."}, plain, OUTPUT
    ]  # fmt: skip


async def test_without_a_call_its_reasoning_is_left_out(server: Server, model: OpenAIResponses):
    second = {**CALL, "id": "fc_2", "call_id": "call_2"}
    message = await kept(server, model, REASONING, CALL, second)
    assert message.tool_calls is not None
    message.tool_calls.pop()
    body = await sent(server, model, message, RESULT)

    assert [item["type"] for item in body["input"]] == ["function_call", "function_call_output"]
    assert "id" not in body["input"][0]


async def test_without_its_reasoning_a_call_has_no_id(server: Server, model: OpenAIResponses):
    message = await kept(server, model, REASONING, CALL)
    message.parts = None

    assert "id" not in (await sent(server, model, message, RESULT))["input"][0]


async def test_a_text_that_was_changed_is_sent_as_it_is_now(server: Server, model: OpenAIResponses):
    message = await kept(server, model, REASONING, said("At noon."))
    message.content = "At [redacted]."

    assert (await sent(server, model, message, USER))["input"][0] == {"role": "assistant", "content": "At [redacted]."}


async def test_reasoning_that_led_to_nothing_is_left_out(server: Server, model: OpenAIResponses):
    message = await kept(server, model, said("Hm", phase="commentary"), REASONING)

    assert [item["type"] for item in (await sent(server, model, message))["input"]] == ["message"]


async def test_an_id_that_the_engine_replaced_is_used_throughout(server: Server, model: OpenAIResponses):
    message = await kept(server, model, REASONING, CALL)
    assert message.tool_calls is not None
    message.tool_calls[0].id = "call_new"
    result = Message(role="tool", tool_call_id="call_new", content="at noon")
    body = await sent(server, model, message, result)

    assert [item.get("call_id") for item in body["input"]] == [None, "call_new", "call_new"]
    assert body["input"][1]["id"] == "fc_1"


async def test_another_providers_parts_are_left_out(server: Server, model: OpenAIResponses):
    thinking = {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}
    message = Message(role="assistant", content="Noon.", provider="anthropic", parts=[thinking])

    assert (await sent(server, model, message))["input"] == [{"role": "assistant", "content": "Noon."}]


async def test_chat_completions_leave_our_parts_out(server: Server, model: OpenAIResponses):
    message = await kept(server, model, REASONING, CALL)
    server.add(json=completion("Fine"))
    chat = OpenAIChat(id="gpt-4.1", api_key="test", base_url=server.url)
    await collect(chat, stream=False, messages=[USER, message, RESULT])

    assert "gAAAA" not in str(server.bodies[-1]) and "fc_1" not in str(server.bodies[-1])


# --- the conversation, stored ----------------------------------------------------------------------------------------


async def test_with_a_stored_response_only_what_is_new_is_sent(server: Server, model: OpenAIResponses):
    model = model.copy(store=True)
    message = await kept(server, model, {**REASONING, "encrypted_content": None}, CALL)
    body = await sent(server, model, Message(role="system", content="Be brief."), USER, message, RESULT)

    assert body["previous_response_id"] == "resp_1" and body["store"] is True
    assert body["input"] == [OUTPUT]
    assert body["instructions"] == "Be brief."  # a stored response keeps none
    assert "include" not in body


async def test_a_stored_call_is_answered_by_the_id_it_was_stored_with(server: Server, model: OpenAIResponses):
    model = model.copy(store=True)
    message = await kept(server, model, CALL)
    assert message.tool_calls is not None
    message.tool_calls[0].id = "call_new"
    body = await sent(server, model, message, Message(role="tool", tool_call_id="call_new", content="at noon"))

    assert body["input"] == [OUTPUT]


async def test_an_answer_that_was_changed_is_not_referred_to(server: Server, model: OpenAIResponses):
    model = model.copy(store=True)
    message = await kept(server, model, said("At noon."))
    message.content = "Never."
    body = await sent(server, model, USER, message, USER)

    assert "previous_response_id" not in body
    assert body["input"][1] == {"role": "assistant", "content": "Never."}


async def test_a_response_that_is_gone_is_replaced_by_the_conversation(server: Server, model: OpenAIResponses):
    model = model.copy(store=True)
    message = await kept(server, model, {**REASONING, "encrypted_content": None}, CALL)
    gone = {"message": "Previous response with id 'resp_1' not found.", "code": "previous_response_not_found"}
    server.add(json={"error": gone}, status=400)
    body = await sent(server, model, USER, message, RESULT)

    assert "previous_response_id" not in body
    plain = {name: value for name, value in CALL.items() if name not in ("id", "status")}
    assert body["input"] == [{"role": "user", "content": "When is high tide?"}, plain, OUTPUT]


# --- the rest of a request -------------------------------------------------------------------------------------------


async def test_options_have_the_names_of_this_api(server: Server, model: OpenAIResponses):
    model = model.copy(
        max_tokens=99, reasoning_effort="low", reasoning_summary="auto", verbosity="low", parallel_tool_calls=False,
        extra_tools=[{"type": "web_search"}], include=["web_search_call.action.sources"], metadata={"a": "b"},
    )  # fmt: skip
    body = await sent(server, model, USER, tools=[LOOKUP], tool_choice="lookup")

    assert body["max_output_tokens"] == 99
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert body["text"] == {"verbosity": "low"}
    assert body["include"] == ["web_search_call.action.sources", "reasoning.encrypted_content"]
    assert body["tool_choice"] == {"type": "function", "name": "lookup"}
    assert body["parallel_tool_calls"] is False and body["metadata"] == {"a": "b"}
    assert body["tools"] == [
        {"type": "function", "name": "lookup", "description": "Look it up.", "parameters": LOOKUP.parameters,
         "strict": False},
        {"type": "web_search"},
    ]  # fmt: skip


async def test_a_strict_tool_lists_all_its_parameters(server: Server, model: OpenAIResponses):
    (tool,) = (await sent(server, model.copy(strict=True), USER, tools=[LOOKUP]))["tools"]

    assert tool["strict"] is True
    assert tool["parameters"]["required"] == ["q", "limit"]
    assert LOOKUP.parameters["required"] == ["q"]


async def test_a_schema_for_the_answer_is_its_text_format(server: Server, model: OpenAIResponses):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    body = await sent(server, model, USER, output=OutputSpec(name="Answer", schema=schema))

    assert body["text"]["format"] == {
        "type": "json_schema", "name": "Answer", "strict": True, "schema": {**schema, "additionalProperties": False}
    }  # fmt: skip


async def test_in_json_mode_the_system_message_is_part_of_the_input(server: Server, model: OpenAIResponses):
    output = OutputSpec(name="Answer", schema={}, mode="json")
    body = await sent(server, model, Message(role="system", content="Answer in JSON."), USER, output=output)

    assert body["text"]["format"] == {"type": "json_object"}
    assert body["input"][0] == {"role": "system", "content": "Answer in JSON."} and "instructions" not in body


async def test_images_and_files_are_input(server: Server, model: OpenAIResponses, tmp_path: Path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")
    message = Message(
        role="user",
        content="Look",
        images=[Image(url="https://example.com/a.png", detail="low"), Image(data=b"\x89PNG\r\n\x1a\n")],
        files=[File(path=tmp_path / "a.pdf"), File(url="https://example.com/b.pdf")],
    )
    (turn,) = (await sent(server, model, message))["input"]

    assert turn["content"] == [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjc="},
        {"type": "input_file", "file_url": "https://example.com/b.pdf"},
    ]


async def test_a_tool_may_return_an_image(server: Server, model: OpenAIResponses):
    result = Message(role="tool", tool_call_id="call_1", content="a map", images=[Image(url="https://example.com/m")])
    (item,) = (await sent(server, model, result))["input"]

    assert [part["type"] for part in item["output"]] == ["input_text", "input_image"]


async def test_sound_is_refused_before_anything_is_sent(server: Server, model: OpenAIResponses):
    with pytest.raises(ModelBadRequest, match="no audio"):
        await sent(server, model, Message(role="user", audio=[Audio(data=b"RIFF")]))
    assert not server.requests


async def test_a_model_that_reasons_takes_no_temperature_unless_it_is_told_not_to(
    server: Server, model: OpenAIResponses
):
    with pytest.raises(ConfigurationError, match="temperature"):
        await sent(server, model.copy(temperature=0), USER)
    body = await sent(server, model.copy(temperature=0, reasoning_effort="none"), USER)
    assert body["temperature"] == 0


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_each_part_of_a_summary_is_a_paragraph(server: Server, model: OpenAIResponses):
    summary = [{"type": "summary_text", "text": text} for text in ("First.", "Second.")]
    server.add(
        body=sse_events(
            {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 0},
            {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "First."},
            {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 1},
            {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "Second."},
            {"type": "response.completed", "response": response({**REASONING, "summary": summary}, said("4"))},
        )
    )
    server.add(json=response({**REASONING, "summary": summary}, said("4")))

    for stream in (True, False):
        heard = await collect(model, stream=stream)
        assert "".join(delta.text for delta in heard.of(ReasoningDelta)) == "First.\n\nSecond."


async def test_a_server_that_sends_only_finished_items_is_understood(server: Server, model: OpenAIResponses):
    server.add(
        body=sse_events(
            {"type": "response.output_item.done", "output_index": 0, "item": said("Look")},
            {"type": "response.output_item.done", "output_index": 1, "item": CALL},
            {"type": "response.completed", "response": response()},
        )
        + b"data: [DONE]\n\n"
    )
    heard = await collect(model)

    assert heard.text == "Look" and heard.calls == [("call_1", "lookup", '{"q":"tide"}')]
    assert heard.finish.reason == "tool_calls"


async def test_items_may_be_told_apart_by_their_ids_alone(server: Server, model: OpenAIResponses):
    """As llama.cpp's server does it."""
    server.add(
        body=sse_events(
            {"type": "response.output_item.added", "item": {**REASONING, "encrypted_content": ""}},
            {"type": "response.reasoning_text.delta", "item_id": "rs_1", "delta": "Hm"},
            {"type": "response.output_item.added", "item": {**said(""), "content": []}},
            {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Look"},
            {"type": "response.output_item.done", "item": said("Look")},
            {"type": "response.output_item.added", "item": {**CALL, "arguments": ""}},
            {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": '{"q":"tide"}'},
            {"type": "response.output_item.done", "item": CALL},
            {"type": "response.completed", "response": response(REASONING, said("Look"), CALL)},
        )
    )
    heard = await collect(model)

    assert (heard.reasoning, heard.text) == ("Hm", "Look")
    assert heard.calls == [("call_1", "lookup", '{"q":"tide"}')]


async def test_the_arguments_of_tools_that_the_provider_runs_are_nobodys_calls(server: Server, model: OpenAIResponses):
    item = {"type": "mcp_call", "id": "mcp_1", "name": "search", "arguments": "{}", "output": "found"}
    server.add(
        body=sse_events(
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.mcp_call_arguments.delta", "output_index": 0, "delta": "{}"},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": response(item, said("Found."))},
        )
    )
    heard = await collect(model)

    assert not heard.of(ToolCallDelta)
    assert [delta.part["type"] for delta in heard.of(PartDelta)] == ["mcp_call", "message"]


async def test_usage_and_the_model_that_answered_are_told(server: Server, model: OpenAIResponses):
    used = {
        "input_tokens": 120, "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 5},
        "output_tokens": 30, "output_tokens_details": {"reasoning_tokens": 10}, "total_tokens": 150,
    }  # fmt: skip
    server.add(json=response(said("So")) | {"usage": used}, headers={"x-request-id": "req_1"})
    heard = await collect(model, stream=False)

    assert heard.usage == Usage(
        input_tokens=120, cached_input_tokens=100, cache_write_tokens=5, output_tokens=30, reasoning_tokens=10
    )
    assert (heard.finish.model_id, heard.finish.request_id) == ("gpt-5-1", "req_1")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "server_error", "message": "as it happens"}, ModelServerError),
        ({"code": "rate_limit_exceeded", "message": "as it happens"}, ModelRateLimited),
        ({"code": "insufficient_quota", "message": "as it happens"}, ModelQuotaExceeded),
        ({"code": "invalid_prompt", "message": "as it happens"}, ModelBadRequest),
        ({"code": "image_content_policy_violation", "message": "as it happens"}, ContentFiltered),
    ],
)
async def test_a_failed_response_is_the_error_that_it_names(
    server: Server, model: OpenAIResponses, error: dict[str, Any], kind: type[Exception]
):
    failed = response(status="failed", error=error)
    server.add(json=failed)
    server.add(body=sse_events({"type": "response.failed", "response": failed}))
    server.add(body=sse_events({"type": "error", **error}))
    server.add(body=sse_events({"type": "error", "error": error}))

    for stream in (False, True, True, True):
        with pytest.raises(kind, match="as it happens") as caught:
            await collect(model, stream=stream)
        assert type(caught.value) is kind


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"id": "resp_1"}', b'{"status": "queued", "output": []}', b'"hi"'])
async def test_something_else_is_no_response(server: Server, model: OpenAIResponses, body: bytes):
    server.add(body=body, headers={"content-type": "application/json"})

    with pytest.raises(ModelResponseInvalid, match="not a response"):
        await collect(model, stream=False)


async def test_a_refusal_is_told_from_an_answer(server: Server, model: OpenAIResponses):
    no = {"type": "refusal", "refusal": "I can't help with that."}
    server.add(json=response({**said(""), "content": [no]}))
    heard = await collect(model, stream=False)

    assert (heard.refusal, heard.finish.reason, heard.of(TextDelta)) == ("I can't help with that.", "refusal", [])


async def test_half_a_surrogate_pair_is_joined_over_events(server: Server, model: OpenAIResponses):
    delta = json.dumps({"type": "response.output_text.delta", "output_index": 0, "delta": "HALF"})
    halves = [f"data: {delta}\n\n".replace("HALF", half) for half in ("a \\ud83c", "\\udf78 b")]
    end = sse_events({"type": "response.completed", "response": response(said("a 🍸 b"))})
    server.add(body="".join(halves).encode() + end)

    assert (await collect(model)).text == "a 🍸 b"
