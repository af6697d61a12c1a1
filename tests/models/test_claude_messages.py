"""What a history looks like on its way to Anthropic."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict

import pytest

from agentrt.errors import ModelBadRequest
from agentrt.media import Audio, File, Image
from agentrt.models.anthropic._wire import closed_schema, conversation, tool, tool_choice, wire_id
from agentrt.models.base import ToolSpec
from agentrt.models.message import Message, ToolCall

PNG = b"\x89PNG\r\n\x1a\n rest"


def history(*messages: dict[str, object]) -> list[Message]:
    return [Message.of(message) for message in messages]


def call(call_id: str, name: str = "ping", arguments: str = "{}") -> ToolCall:
    return ToolCall(id=call_id, name=name, arguments=arguments)


def stored(message: Message) -> Message:
    """The message after it has been through JSON storage."""
    fields = json.loads(json.dumps(asdict(message), default=str))
    return Message.of({name: value for name, value in fields.items() if name != "created_at"})


MIXED = history(
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "user", "content": "Still there?"},
    {"role": "assistant", "content": ""},
    {"role": "user", "content": "   "},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "ping", "arguments": ""}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": ""},
    {"role": "system", "content": "Now answer in French."},
    {"role": "user", "content": "Go on"},
    {"role": "assistant", "content": "Draft "},
)


def test_a_mixed_history_becomes_alternating_turns_without_empty_blocks():
    before = copy.deepcopy(MIXED)

    system, turns = conversation(MIXED)

    assert system == ["Be brief.", "Now answer in French."]
    assert turns == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "Still there?"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "ping", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "(no output)"},
                {"type": "text", "text": "Go on"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Draft"}]},
    ]
    assert before == MIXED


def test_all_results_of_a_turn_stand_first_in_one_user_turn_in_call_order():
    messages = [
        Message(role="user", content="go"),
        Message(role="assistant", content="Both.", tool_calls=[call("toolu_1"), call("toolu_2")]),
        Message(role="user", content="and hurry"),
        Message(role="tool", tool_call_id="toolu_2", content="failed", tool_call_error=True),
        Message(role="tool", tool_call_id="toolu_1", content="12:00"),
    ]

    _, turns = conversation(messages)

    assert turns[2:] == [
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "12:00"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "failed", "is_error": True},
                {"type": "text", "text": "and hurry"},
            ],
        }
    ]


def test_an_id_that_anthropic_refuses_is_mapped_alike_in_call_and_result():
    messages = [
        Message(role="user", content="go"),
        Message(role="assistant", tool_calls=[call("functions.ping:0"), call("functions_ping_0")]),
        Message(role="tool", tool_call_id="functions.ping:0", content="a"),
        Message(role="tool", tool_call_id="functions_ping_0", content="b"),
    ]

    _, turns = conversation(messages)

    ids = [block["id"] for block in turns[1]["content"]]
    assert ids == [wire_id("functions.ping:0"), "functions_ping_0"]
    assert [block["tool_use_id"] for block in turns[2]["content"]] == ids
    assert all(set(one) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for one in ids)


def test_an_id_that_comes_again_in_a_later_turn_is_told_apart():
    turn = [
        Message(role="user", content="go"),
        Message(role="assistant", tool_calls=[call("call_0")]),
        Message(role="tool", tool_call_id="call_0", content="ok"),
    ]

    _, turns = conversation([*turn, *turn])

    calls = [block["id"] for one in turns for block in one["content"] if block["type"] == "tool_use"]
    results = [block["tool_use_id"] for one in turns for block in one["content"] if block["type"] == "tool_result"]
    assert calls == results
    assert len(set(calls)) == 2


@pytest.mark.parametrize("arguments", ["", "null", "[1]", "7", '{"city": "Oslo"'])
def test_arguments_that_are_no_json_object_become_an_empty_one(arguments: str):
    messages = [Message(role="user", content="go"), Message(role="assistant", tool_calls=[call("a", "x", arguments)])]

    assert conversation(messages)[1][1]["content"][0]["input"] == {}


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_an_empty_result_is_a_short_note(content: str | None):
    messages = [
        Message(role="user", content="go"),
        Message(role="assistant", tool_calls=[call("a")]),
        Message(role="tool", tool_call_id="a", content=content, tool_call_error=True),
    ]

    assert conversation(messages)[1][2]["content"][0]["content"] == "(no output)"


PARTS = [
    {"type": "thinking", "thinking": "Look it up.", "signature": "c2lnLTE="},
    {"type": "redacted_thinking", "data": "ZW5jLTE="},
    {"type": "thinking", "thinking": "", "signature": "c2lnLTI="},
    {"type": "text", "text": "One moment."},
    {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {}},
]
THOUGHTS = Message(
    role="assistant",
    content="One moment.",
    reasoning_content="Look it up.",
    provider="anthropic",
    tool_calls=[call("toolu_1", "lookup", '{"q": "tide"}')],
    parts=PARTS,
)
NATIVE = [*PARTS[:4], {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {"q": "tide"}}]


@pytest.mark.parametrize("message", [THOUGHTS, stored(THOUGHTS)], ids=["fresh", "stored"])
def test_thinking_goes_back_byte_for_byte_and_in_order(message: Message):
    _, turns = conversation([Message(role="user", content="go"), message])

    assert json.dumps(turns[1]["content"]) == json.dumps(NATIVE)


def test_parts_of_another_provider_are_left_out():
    foreign = copy.deepcopy(THOUGHTS)
    foreign.provider = "openai"

    _, turns = conversation([Message(role="user", content="go"), foreign])

    assert turns[1]["content"] == NATIVE[3:]


def test_a_text_that_was_changed_since_is_sent_as_it_is_now():
    changed = copy.deepcopy(THOUGHTS)
    changed.content = "[redacted]"

    _, turns = conversation([Message(role="user", content="go"), changed])

    assert {"type": "text", "text": "[redacted]"} in turns[1]["content"]
    assert "One moment." not in json.dumps(turns)


def test_a_call_that_was_taken_out_of_the_message_is_not_sent():
    changed = copy.deepcopy(THOUGHTS)
    changed.tool_calls = None

    _, turns = conversation([Message(role="user", content="go"), changed])

    assert turns[1]["content"] == NATIVE[:4]


def test_an_answer_of_thinking_only_is_not_sent():
    thought = Message(role="assistant", provider="anthropic", parts=PARTS[:2])

    _, turns = conversation([Message(role="user", content="go"), thought, Message(role="user", content="well?")])

    assert [turn["role"] for turn in turns] == ["user"]


def test_an_answer_that_was_cut_off_is_not_sent():
    cut = Message(role="assistant", content="Step 1: open the", incomplete=True)

    _, turns = conversation([Message(role="user", content="go"), cut, Message(role="user", content="again")])

    assert turns == [{"role": "user", "content": [{"type": "text", "text": "go"}, {"type": "text", "text": "again"}]}]


@pytest.mark.parametrize("messages", [[], [Message(role="assistant", content="Hello!")]])
def test_the_first_turn_is_always_a_users(messages: list[Message]):
    _, turns = conversation(messages)

    assert turns[0] == {"role": "user", "content": [{"type": "text", "text": "(no message)"}]}


def test_images_and_documents_stand_before_the_text(tmp_path):
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff rest")
    message = Message(
        role="user",
        content="compare",
        images=[
            Image(url="https://example.com/a.png"),
            Image(path=tmp_path / "b.jpg"),
            Image(data=PNG),
            Image(url="data:image/gif;base64,R0lGOA=="),
        ],
        files=[File(data=b"%PDF-1.7"), File(data="héllo".encode(), mime_type="text/plain", name="notes")],
    )

    _, turns = conversation([message])

    kinds = [block["type"] for block in turns[0]["content"]]
    sources = [block["source"] for block in turns[0]["content"][:-1]]
    assert kinds == ["image"] * 4 + ["document"] * 2 + ["text"]
    assert sources[0] == {"type": "url", "url": "https://example.com/a.png"}
    assert [source["media_type"] for source in sources[1:]] == [
        "image/jpeg",
        "image/png",
        "image/gif",
        "application/pdf",
        "text/plain",
    ]
    assert sources[3]["data"] == "R0lGOA=="
    assert sources[5]["data"] == "héllo"


def test_what_claude_can_not_take_is_refused():
    with pytest.raises(ModelBadRequest, match="audio"):
        conversation([Message(role="user", content="hear", audio=[Audio(data=b"RIFF")])])


def test_a_tool_schema_has_an_object_at_its_root_and_the_given_one_stays_as_it_is():
    parameters = {"description": "anything"}

    block = tool(ToolSpec(name="ping", description="", parameters=parameters), strict=True)

    assert block == {
        "name": "ping",
        "input_schema": {"type": "object", "properties": {}, "description": "anything"},
    }
    assert parameters == {"description": "anything"}


def test_a_strict_tool_is_declared_strict_where_the_dialect_can_say_it():
    item = {"type": "object", "properties": {"sku": {"type": "string", "minLength": 2}}, "required": ["sku"]}
    strict = ToolSpec(name="order", description="Order.", parameters=item, strict=True)
    free_form = ToolSpec(
        name="order",
        description="Order.",
        parameters={"type": "object", "properties": {"meta": {"type": "object", "additionalProperties": {}}}},
        strict=True,
    )

    assert tool(strict, strict=True)["input_schema"]["additionalProperties"] is False
    assert tool(strict, strict=True)["strict"] is True
    assert tool(strict, strict=False)["input_schema"] is item
    assert "strict" not in tool(free_form, strict=True)


def test_what_the_dialect_has_no_word_for_is_said_in_descriptions():
    schema = {
        "type": "object",
        "properties": {
            "size": {"type": "integer", "minimum": 1},
            "kind": {"$ref": "#/$defs/Kind", "description": "What it is"},
        },
        "$defs": {"Kind": {"type": "string", "enum": ["a", "b"]}},
    }
    closed = closed_schema(schema)
    assert closed is not None
    assert closed["properties"] == {
        "size": {"type": "integer", "description": "{minimum: 1}"},
        "kind": {"anyOf": [{"$ref": "#/$defs/Kind"}], "description": "What it is"},
    }


def test_a_schema_that_the_dialect_can_not_say_is_told_apart():
    recursive = {
        "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
        "$ref": "#/$defs/Node",
    }
    twice = {
        "$defs": {"City": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/City"}, "b": {"$ref": "#/$defs/City"}},
    }

    assert closed_schema(recursive) is None
    assert closed_schema({"type": "object", "properties": {"any": {}}}) is None
    assert closed_schema(twice) is not None


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        ("auto", True, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("lookup", None, {"type": "tool", "name": "lookup"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_tool_choice_is_said_in_the_words_of_the_api(choice, parallel, sent):
    assert tool_choice(choice, parallel=parallel) == sent
