"""F34: JSON with things around it, and roots that are not objects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from agentrt import Agent
from agentrt.errors import OutputValidationError
from tests.cases.kit import add_chat, add_claude, claude, go, openai, use_block, ways
from tests.cases.pairing import check_claude
from tests.http_server import Server


class Answer(BaseModel):
    text: str
    tags: list[str] = []


class Other(BaseModel):
    number: int


CODE = "use\n```python\nprint('{}')\n```"
ROWS: dict[str, tuple[str, Answer]] = {
    "1 bare": ('{"text":"a","tags":["x"]}', Answer(text="a", tags=["x"])),
    "2 fenced": ('```json\n{"text":"a","tags":["x"]}\n```', Answer(text="a", tags=["x"])),
    "3 prose": ('Sure, here you go:\n{"text":"a","tags":["x"]}\nAnything else?', Answer(text="a", tags=["x"])),
    "4 fences inside": (json.dumps({"text": CODE, "tags": []}), Answer(text=CODE)),
    "4 fences inside fences": (f"```json\n{json.dumps({'text': CODE, 'tags': []})}\n```", Answer(text=CODE)),
    "5 braces": ('In {short}: {"text":"a","tags":["x"]}', Answer(text="a", tags=["x"])),
    "6 thinking": ('<think>maybe {"text":"no"}</think>{"text":"a","tags":["x"]}', Answer(text="a", tags=["x"])),
    "7 encoded twice": (r'"{\"text\":\"a\",\"tags\":[\"x\"]}"', Answer(text="a", tags=["x"])),
    "several": ('First {"text":"draft"}, then {"text":"a"} [1].', Answer(text="a")),
}


@pytest.mark.parametrize("row", ROWS)
@ways
async def test_the_answer_is_read_as_it_is_meant(server: Server, way: str, row: str) -> None:
    content, meant = ROWS[row]
    add_chat(server, way, content)
    outcome = await go(Agent(model=openai(server), response_model=Answer), way)

    assert outcome.response.content == meant
    assert len(server.requests) == 1


ROOTS: list[tuple[Any, str, Any]] = [
    (list[Answer], '{"value":[{"text":"a"}]}', [Answer(text="a")]),
    (list[Answer], '[{"text":"a"}]', [Answer(text="a")]),
    (list[Answer], r'{"value":"[{\"text\":\"a\"}]"}', [Answer(text="a")]),
    (Answer | Other, '{"value":{"number":3}}', Other(number=3)),
    (Answer | Other, '{"text":"a"}', Answer(text="a")),
    (int, '{"value":42}', 42),
    (int, "42", 42),
    (dict[str, Answer], '{"value":{"k":{"text":"a"}}}', {"k": Answer(text="a")}),
    (dict[str, Answer], '{"k":{"text":"a"}}', {"k": Answer(text="a")}),
]


@pytest.mark.parametrize(("type", "content", "meant"), ROOTS, ids=str)
@ways
async def test_a_root_that_is_no_object_is_wrapped_on_the_wire_alone(
    server: Server, way: str, type: Any, content: str, meant: Any
) -> None:
    add_chat(server, way, content)
    outcome = await go(Agent(model=openai(server), response_model=type), way)

    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["type"] == "object"
    assert outcome.response.content == meant


@pytest.mark.parametrize("content", ["I don't know.", '{"text": ', '{"txt":"a"}', '["a", "b"]', "", '{"a": 1, oops}'])
@ways
async def test_what_does_not_parse_is_an_error_with_the_text_after_one_repair(
    server: Server, way: str, content: str
) -> None:
    add_chat(server, way, content)
    add_chat(server, way, content)
    outcome = await go(Agent(model=openai(server), response_model=Answer), way)

    assert isinstance(outcome.error, OutputValidationError)
    assert outcome.error.text == content
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "content",
    [
        '{"text":"a","child":{"text":"inner"}',
        '{"text":"a","child":{"text":"inner"}, oops}',
        '[{"text":"inner"},{"text":"b"',
        '<think>{"text":"inner"}</think>I am not sure.',
    ],
)
@ways
async def test_no_part_of_a_broken_or_unfinished_value_is_taken_for_the_answer(
    server: Server, way: str, content: str
) -> None:
    add_chat(server, way, content)
    outcome = await go(Agent(model=openai(server), response_model=Answer, output_retries=0), way)
    assert isinstance(outcome.error, OutputValidationError)


@ways
async def test_a_repair_is_told_what_was_wrong(server: Server, way: str) -> None:
    add_chat(server, way, '{"tags":["x"]}')
    add_chat(server, way, '{"text":"a"}')
    outcome = await go(Agent(model=openai(server), response_model=Answer), way)

    assert outcome.response.content == Answer(text="a")
    said = server.bodies[1]["messages"]
    assert said[-2] == {"role": "assistant", "content": '{"tags":["x"]}'}
    assert "text: Field required" in said[-1]["content"]


@ways
async def test_a_model_without_schemas_gives_its_answer_by_a_tool(server: Server, way: str) -> None:
    agent = Agent(
        model=claude(server, id="claude-3-5-haiku-latest"),
        response_model=Answer,
        session_id="s",
        add_history_to_messages=True,
    )
    for text in ("a", "b"):
        add_claude(server, way, {"type": "text", "text": "Here:"}, use_block("toolu_1", "final_answer", text=text))
    first = await go(agent, way)
    second = await go(agent, way, "again")

    assert (first.response.content, second.response.content) == (Answer(text="a"), Answer(text="b"))
    body = server.bodies[1]
    assert body["tool_choice"] == {"type": "tool", "name": "final_answer"}
    assert body["tools"][0]["input_schema"]["required"] == ["text"]
    check_claude(body)
    said = [block for message in body["messages"] for block in message["content"]]
    assert said[1] == {"type": "text", "text": 'Here:{"text": "a"}'}


async def test_a_stream_delivers_the_value_once(server: Server) -> None:
    add_chat(server, "streamed", '{"text":"a"}')
    outcome = await go(Agent(model=openai(server), response_model=Answer), "streamed")
    assert [event.event for event in outcome.events if isinstance(event.content, Answer)] == ["RunCompleted"]
    assert outcome.events[-1].content == Answer(text="a")
