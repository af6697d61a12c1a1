"""What a history and its tools look like on their way to Gemini."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from agentrt import tool
from agentrt.media import Audio, Image
from agentrt.models.base import ToolSpec
from agentrt.models.google._schema import gemini_schema
from agentrt.models.google._wire import conversation, declaration
from agentrt.models.message import Message, ToolCall


def call(call_id: str, name: str = "ping", arguments: str = "{}") -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=arguments)


def user(text: str = "go") -> Message:
    return Message(role="user", content=text)


def result(call_id: str, content: str | None, **fields: Any) -> Message:
    return Message(role="tool", tool_call_id=call_id, tool_name="ping", content=content, **fields)


def test_a_mixed_history_becomes_alternating_turns_without_empty_parts():
    messages = [
        Message(role="system", content="Be brief."),
        user("Hi"),
        user("Still there?"),
        Message(role="assistant", content=""),
        user("   "),
        Message(role="assistant", content="", tool_calls=[call("call_1", "ping", "")]),
        result("call_1", ""),
        Message(role="system", content="Now answer in French."),
        user("Go on"),
        Message(role="assistant", content="Cut", incomplete=True),
    ]
    before = copy.deepcopy(messages)

    system, turns = conversation(messages)

    assert system == ["Be brief.", "Now answer in French."]
    assert turns == [
        {"role": "user", "parts": [{"text": "Hi"}, {"text": "Still there?"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "ping", "args": {}}}]},
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "ping", "response": {"result": ""}}}, {"text": "Go on"}],
        },
    ]
    assert messages == before


def test_results_stand_together_in_call_order_before_what_the_user_said_meanwhile():
    messages = [
        user(),
        Message(role="assistant", content="Both.", tool_calls=[call("a"), call("b", "pong")]),
        user("and hurry"),
        Message(role="tool", tool_call_id="b", content="failed", tool_call_error=True),
        result("a", "12:00"),
    ]

    _, turns = conversation(messages)

    assert turns[2]["parts"] == [
        {"functionResponse": {"name": "ping", "response": {"result": "12:00"}}},
        {"functionResponse": {"name": "pong", "response": {"error": "failed"}}},
        {"text": "and hurry"},
    ]


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("3", 3),
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("noon", "noon"),
        ("1.10", "1.10"),
        ('{"a":1}', '{"a":1}'),
        ("NaN", "NaN"),
        (None, ""),
    ],
)
def test_a_result_is_data_when_its_text_is_exactly_how_data_is_told(content: str | None, value: Any):
    messages = [user(), Message(role="assistant", tool_calls=[call("a")]), result("a", content)]

    _, turns = conversation(messages)

    assert turns[2]["parts"] == [{"functionResponse": {"name": "ping", "response": {"result": value}}}]


@pytest.mark.parametrize("messages", [[], [Message(role="assistant", content="Hello!")]])
def test_the_first_turn_is_always_a_users(messages: list[Message]):
    _, turns = conversation(messages)

    assert turns[0] == {"role": "user", "parts": [{"text": "(no message)"}]}


SIGNED = Message(
    role="assistant",
    content="One moment.",
    provider="google",
    tool_calls=[call("call_x", "ping", '{"q": 1}')],
    parts=[{"text": "One moment."}, {"functionCall": {"name": "ping"}, "thoughtSignature": "c2ln"}],
)


def test_a_text_that_was_changed_since_is_sent_as_it_is_now_beside_the_signed_call():
    changed = copy.deepcopy(SIGNED)
    changed.content = "[redacted]"

    _, turns = conversation([user(), changed])

    assert turns[1]["parts"] == [
        {"text": "[redacted]"},
        {"functionCall": {"name": "ping", "args": {"q": 1}}, "thoughtSignature": "c2ln"},
    ]


def test_parts_whose_calls_were_changed_are_left_out():
    changed = copy.deepcopy(SIGNED)
    changed.tool_calls = None

    _, turns = conversation([user(), changed])

    assert turns[1]["parts"] == [{"text": "One moment."}]


def test_another_models_call_has_neither_its_id_nor_a_signature():
    foreign = copy.deepcopy(SIGNED)
    foreign.provider = "anthropic"

    _, turns = conversation([user(), foreign, result("call_x", "ok")])

    assert turns[1]["parts"] == [{"text": "One moment."}, {"functionCall": {"name": "ping", "args": {"q": 1}}}]
    assert turns[2]["parts"] == [{"functionResponse": {"name": "ping", "response": {"result": "ok"}}}]


def test_where_calls_must_be_signed_another_models_first_call_says_that_it_is_not():
    foreign = Message(role="assistant", tool_calls=[call("a"), call("b")])

    _, turns = conversation([user(), foreign, user(), SIGNED], signed=True)

    assert [part.get("thoughtSignature") for part in turns[1]["parts"]] == ["skip_thought_signature_validator", None]
    assert turns[3]["parts"][1]["thoughtSignature"] == "c2ln"


def test_what_a_tool_returned_to_be_seen_comes_after_all_results():
    messages = [
        user(),
        Message(role="assistant", tool_calls=[call("a"), call("b")]),
        result("a", "[image]", images=[Image(data=b"GIF89a")]),
        result("b", "ok"),
    ]

    _, turns = conversation(messages)

    assert [next(iter(part)) for part in turns[2]["parts"]] == [
        "functionResponse",
        "functionResponse",
        "text",
        "inlineData",
    ]


def test_media_given_as_a_data_url_and_videos_of_youtube():
    video = Image(url="https://www.youtube.com/watch?v=1")
    message = Message(role="user", content="see", audio=[Audio(url="data:audio/ogg;base64,T2dn")], images=[video])

    _, turns = conversation([message])

    assert turns[0]["parts"] == [
        {"fileData": {"fileUri": "https://www.youtube.com/watch?v=1", "mimeType": "video/mp4"}},
        {"inlineData": {"mimeType": "audio/ogg", "data": "T2dn"}},
        {"text": "see"},
    ]


# --- schemas (F23) ---------------------------------------------------------------------------------------------------


class Item(BaseModel):
    sku: str
    qty: int = 1
    size: Literal[1, 2] | None = None


class Node(BaseModel):
    children: list[Node] = []


def order(
    items: list[Item],
    kind: Literal["gift"] = "gift",
    note: str | None = None,
    meta: dict[str, str] = {},  # noqa: B006
) -> str:
    return f"{items} {kind} {note} {meta}"


def keys_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_in, value.values()))
    return set().union(*map(keys_in, value)) if isinstance(value, list) else set()


def test_a_tools_schema_has_no_references_and_no_constants():
    spec = tool(order).spec()
    before = copy.deepcopy(spec.parameters)

    schema = declaration(spec)["parametersJsonSchema"]

    assert keys_in(schema).isdisjoint({"$ref", "$defs", "$schema", "const", "title"})
    assert schema["required"] == ["items"]
    assert schema["properties"]["kind"]["enum"] == ["gift"]
    item = schema["properties"]["items"]["items"]
    assert item["properties"]["size"]["anyOf"] == [{"enum": [1, 2], "type": "integer"}, {"type": "null"}]
    assert schema["properties"]["meta"]["additionalProperties"] == {"type": "string"}
    assert spec.parameters == before


def test_a_choice_that_comes_back_as_text_is_the_number_it_stands_for():
    arguments = tool(order).validate({"items": [{"sku": "a", "size": "2"}]})

    assert arguments["items"][0].size == 2


def test_a_tool_without_parameters_is_declared_without_a_schema():
    spec = ToolSpec(name="now", description="", parameters={"type": "object", "properties": {}})

    assert declaration(spec) == {"name": "now", "description": "now"}


def test_a_type_that_holds_itself_keeps_its_reference():
    schema = gemini_schema(Node.model_json_schema())

    children = schema["properties"]["children"]["items"]
    assert children == {"$ref": "#/$defs/Node"}
    assert schema["$defs"]["Node"]["properties"]["children"]["items"] == children


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": "object", "properties": {}}, {"type": "object"}),
        ({"enum": ["a", None]}, {"enum": ["a"], "type": ["null", "string"]}),
        (
            {"type": "string", "pattern": "^a", "format": "uri", "description": "Where."},
            {"type": "string", "description": 'Where. (pattern: "^a"; format: uri)'},
        ),
        (
            {"type": "integer", "exclusiveMinimum": 0, "maximum": 9},
            {"type": "integer", "maximum": 9, "description": "(exclusiveMinimum: 0)"},
        ),
        (
            {"allOf": [{"$ref": "#/$defs/A"}], "description": "One.", "$defs": {"A": {"type": "string"}}},
            {"type": "string", "description": "One."},
        ),
        ({"oneOf": [{"const": 1}, {"type": "null"}]}, {"anyOf": [{"enum": [1], "type": "integer"}, {"type": "null"}]}),
    ],
)
def test_what_gemini_does_not_mind_is_told_in_the_description(schema: dict[str, Any], sent: dict[str, Any]):
    assert gemini_schema(schema) == sent
