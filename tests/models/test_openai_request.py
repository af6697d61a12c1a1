from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from agentrt.errors import ConfigurationError, ModelBadRequest
from agentrt.media import Audio, File, Image, Video
from agentrt.models.base import Capabilities, OutputSpec, ToolSpec
from agentrt.models.message import Message, ToolCall
from agentrt.models.openai import OpenAIChat
from tests.http_server import Server, chat_stream, completion
from tests.models.collect import collect

PNG = b"\x89PNG\r\n\x1a\n..."
ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "kind": {"type": "string", "const": "gift", "default": "gift", "description": "what for"},
    },
    "required": ["items"],
    "$defs": {
        "Item": {
            "type": "object",
            "properties": {"sku": {"type": "string"}, "qty": {"type": "integer", "default": 1}},
            "required": ["sku"],
        }
    },
}


@pytest.fixture
def model(server: Server) -> OpenAIChat:
    server.answer = lambda request: _answer(request.json)
    return OpenAIChat(id="gpt-4.1", api_key="test", base_url=f"{server.url}/v1")


def _answer(body: Any) -> Any:
    from tests.http_server import Reply

    return Reply(body=chat_stream("ok")) if body.get("stream") else Reply(json=completion("ok"))


async def sent(server: Server, model: OpenAIChat, **request: Any) -> Any:
    await collect(model, **request)
    return server.bodies[-1]


async def test_a_conversation_goes_out_as_chat_messages_and_stays_as_it_was(server: Server, model: OpenAIChat):
    call = ToolCall(id="call_1", name="get_time", arguments='{"tz":"UTC"}')
    messages = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="Time?", name="ann b."),
        Message(role="assistant", tool_calls=[call], reasoning_content="Hm.", provider="anthropic", parts=[{"a": 1}]),
        Message(role="tool", tool_call_id="call_1", tool_name="get_time", content="12:00"),
        Message(role="assistant", content="Noon."),
        Message(role="user", content="Thanks"),
    ]
    before = copy.deepcopy(messages)

    body = await sent(server, model, messages=messages)

    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Time?", "name": "ann_b_"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": '{"tz":"UTC"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
        {"role": "assistant", "content": "Noon."},
        {"role": "user", "content": "Thanks"},
    ]
    assert messages == before


async def test_a_stream_asks_for_usage_and_a_plain_call_does_not_mention_streams(server: Server, model: OpenAIChat):
    streamed = await sent(server, model)
    plain = await sent(server, model, stream=False)

    assert (streamed["stream"], streamed["stream_options"]) == (True, {"include_usage": True})
    assert plain == {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello"}]}


async def test_options_are_sent_under_the_names_the_model_takes(server: Server, model: OpenAIChat):
    chosen = model.copy(
        temperature=0.0, top_p=0.5, max_tokens=9, seed=7, stop=["END"], user="u", metadata={"a": "b"}, store=False
    )

    body = await sent(server, chosen, stream=False)

    assert body == {
        "model": "gpt-4.1",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 9,
        "seed": 7,
        "stop": ["END"],
        "user": "u",
        "metadata": {"a": "b"},
        "store": False,
    }


@pytest.mark.parametrize("model_id", ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-mini", "openai/gpt-5.1"])
async def test_reasoning_models_take_the_limit_under_its_newer_name(server: Server, model: OpenAIChat, model_id: str):
    body = await sent(server, model.copy(id=model_id, max_tokens=9, reasoning_effort="low"))

    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body
    assert body["reasoning_effort"] == "low"


async def test_sampling_that_a_model_does_not_take_is_refused_before_the_request(server: Server, model: OpenAIChat):
    with pytest.raises(ConfigurationError, match="o3 takes no temperature"):
        await collect(model.copy(id="o3", temperature=0.2))
    assert server.requests == []

    told = model.copy(id="o3", temperature=0.2, capabilities=Capabilities(sampling=True))
    assert (await sent(server, told))["temperature"] == 0.2


async def test_extra_body_headers_and_query_are_sent(server: Server, model: OpenAIChat):
    chosen = model.copy(
        extra_body={"top_k": 5, "stream_options": None}, extra_headers={"x-team": "blue"}, extra_query={"v": "2"}
    )

    body = await sent(server, chosen)

    assert body["top_k"] == 5
    assert "stream_options" not in body
    assert server.requests[-1].headers["x-team"] == "blue"
    assert server.requests[-1].path == "/v1/chat/completions?v=2"


async def test_organization_and_project_come_from_the_options_or_the_environment(
    server: Server, model: OpenAIChat, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "from-env")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-env")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/env")

    await collect(OpenAIChat(id="gpt-4.1", project="p1"))

    request = server.requests[-1]
    assert request.path == "/env/chat/completions"
    assert request.headers["authorization"] == "Bearer from-env"
    assert (request.headers["openai-organization"], request.headers["openai-project"]) == ("org-env", "p1")


async def test_tools_and_the_choice_of_one_are_sent(server: Server, model: OpenAIChat):
    tool = ToolSpec(name="order", description="Order things.", parameters=ORDER)

    body = await sent(server, model.copy(parallel_tool_calls=False), tools=[tool], tool_choice="order")

    function = {"name": "order", "description": "Order things.", "parameters": ORDER}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "order"}}
    assert body["parallel_tool_calls"] is False


async def test_a_strict_tool_closes_every_object_and_lets_what_was_optional_be_null(server: Server, model: OpenAIChat):
    before = copy.deepcopy(ORDER)
    tool = ToolSpec(name="order", description="", parameters=ORDER)

    body = await sent(server, model.copy(strict=True), tools=[tool])

    function = body["tools"][0]["function"]
    schema = function["parameters"]
    assert function["strict"] is True
    assert (schema["required"], schema["additionalProperties"]) == (["items", "note", "kind"], False)
    assert schema["properties"]["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert schema["properties"]["kind"] == {
        "anyOf": [{"type": "string", "const": "gift"}, {"type": "null"}],
        "description": "what for",
    }
    assert schema["$defs"]["Item"] == {
        "type": "object",
        "properties": {"sku": {"type": "string"}, "qty": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        "required": ["sku", "qty"],
        "additionalProperties": False,
    }
    assert before == ORDER


@pytest.mark.parametrize(
    "member",
    [{"type": "object", "additionalProperties": {"type": "string"}}, {}, {"type": "array"}, {"type": "object"}],
)
async def test_a_tool_that_strict_mode_cannot_express_is_sent_as_it_is(
    server: Server, model: OpenAIChat, member: dict[str, Any]
):
    schema = {"type": "object", "properties": {"meta": member}, "required": []}
    tool = ToolSpec(name="tag", description="", parameters=schema, strict=True)

    body = await sent(server, model, tools=[tool])

    assert body["tools"][0]["function"] == {"name": "tag", "description": "", "parameters": schema}


async def test_a_typed_answer_is_asked_for_by_its_schema(server: Server, model: OpenAIChat):
    schema = {"type": "object", "properties": {"text": {"type": "string", "default": ""}}, "title": "Answer"}

    by_schema = await sent(server, model, output=OutputSpec(name="My Answer", schema=schema))
    by_json = await sent(server, model, output=OutputSpec(name="Answer", schema=schema, mode="json"))

    strict = {
        "type": "object",
        "properties": {"text": {"type": "string", "description": '(default: "")'}},
        "required": ["text"],
        "additionalProperties": False,
    }
    json_schema = {"name": "My_Answer", "schema": strict, "strict": True}
    assert by_schema["response_format"] == {"type": "json_schema", "json_schema": json_schema}
    assert by_json["response_format"] == {"type": "json_object"}


async def test_what_strict_mode_has_no_word_for_is_said_in_descriptions(server: Server, model: OpenAIChat):
    number = {"type": "string", "pattern": "^(?!0)[0-9]+$", "maxLength": 5, "description": "Digits"}
    kind = {"$ref": "#/$defs/Kind", "description": "What it is", "default": "a"}
    schema = {
        "type": "object",
        "properties": {
            "number": number,
            "kind": kind,
            "sizes": {"type": "array", "items": {"type": "integer", "minimum": 1}, "uniqueItems": True, "minItems": 2},
            "link": {"type": "string", "format": "uri"},
        },
        "$defs": {"Kind": {"type": "string", "enum": ["a", "b"]}},
    }

    body = await sent(server, model, output=OutputSpec(name="Answer", schema=schema))

    said = body["response_format"]["json_schema"]
    assert said["strict"] is True
    assert said["schema"]["properties"] == {
        "number": {"type": "string", "description": 'Digits (pattern: "^(?!0)[0-9]+$", maxLength: 5)'},
        "kind": {"anyOf": [{"$ref": "#/$defs/Kind"}], "description": 'What it is (default: "a")'},
        "sizes": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 2,
            "description": "(uniqueItems: true)",
        },
        "link": {"type": "string", "description": '(format: "uri")'},
    }


async def test_media_are_sent_as_parts(server: Server, model: OpenAIChat, tmp_path: Path):
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"jpeg")
    message = Message(
        role="user",
        content="What is this?",
        images=[Image(url="https://example.org/a.png", detail="low"), Image(data=PNG), Image(path=picture)],
        audio=[Audio(data=b"RIFF....WAVE")],
        files=[File(data=b"%PDF-1", name="a.pdf")],
    )

    body = await sent(server, model, messages=[message])

    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgouLi4="}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,anBlZw=="}},
        {"type": "input_audio", "input_audio": {"data": "UklGRi4uLi5XQVZF", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0x"}},
    ]


async def test_what_tools_returned_to_be_seen_follows_their_results(server: Server, model: OpenAIChat):
    calls = [ToolCall(id="c1", name="shot"), ToolCall(id="c2", name="shot")]
    messages = [
        Message(role="user", content="Look"),
        Message(role="assistant", tool_calls=calls),
        Message(role="tool", tool_call_id="c1", tool_name="shot", content="done", images=[Image(data=PNG)]),
        Message(role="tool", tool_call_id="c2", tool_name="shot", content="done"),
    ]

    body = await sent(server, model, messages=messages)

    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "tool", "user"]
    assert [part["type"] for part in body["messages"][-1]["content"]] == ["text", "image_url"]


async def test_media_that_cannot_be_sent_are_refused(model: OpenAIChat):
    with pytest.raises(ModelBadRequest, match="no videos"):
        await collect(model, messages=[Message(role="user", videos=[Video(url="https://example.org/a.mp4")])])


async def test_half_of_a_surrogate_pair_does_not_stop_the_request(server: Server, model: OpenAIChat):
    body = await sent(server, model, messages=[Message(role="user", content="cut \ud83d off, 😀 whole")])

    assert body["messages"][0]["content"] == "cut � off, 😀 whole"
