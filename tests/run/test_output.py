"""Typed answers: what may be asked for, how it is asked for, and what comes of it."""

from __future__ import annotations

import asyncio
import enum
import json
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from agentrt import Agent, Message, tool
from agentrt.errors import ConfigurationError, OutputTruncated, OutputValidationError
from agentrt.models.base import Capabilities, ToolCallDelta
from agentrt.run.limits import RunLimits
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, ScriptedModel, reply


class Answer(BaseModel):
    text: str
    tags: list[str] = []


@dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    name: str
    year: int


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: date


class Node(BaseModel):
    text: str
    children: list[Node] = []


SCHEMA: dict[str, Any] = {
    "title": "Size",
    "type": "object",
    "properties": {"cm": {"type": "integer", "minimum": 1}},
    "required": ["cm"],
}
ANSWER = '{"text": "a", "tags": ["x"]}'
BY_TOOL = Capabilities(output_schema=False)


def schema_only(**options: Any) -> Capabilities:
    return Capabilities(**{"output_schema": False, "tools": False, "json_mode": False, **options})


# --- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "said", "meant"),
    [
        (Answer, ANSWER, Answer(text="a", tags=["x"])),
        (Point, '{"x": 1}', Point(1)),
        (Movie, '{"name": "Alien", "year": 1979}', {"name": "Alien", "year": 1979}),
        (list[Point], '{"value": [{"x": 1}]}', [Point(1)]),
        (Answer | Point, '{"value": {"x": 1}}', Point(1)),
        (Answer | None, '{"value": null}', None),
        (Literal["a", "b"], '{"value": "b"}', "b"),
        (Literal["a", "b"], "b", "b"),
        (Color, '{"value": "red"}', Color.RED),
        (Color, '"blue"', Color.BLUE),
        (int, '{"value": 3}', 3),
        (bool, "true", True),
        (float, "```json\n2.5\n```", 2.5),
        (Annotated[int, Field(ge=1)], '{"value": 3}', 3),
        (tuple[int, str], '{"value": [1, "a"]}', (1, "a")),
        (set[int], '{"value": [1, 1]}', {1}),
        (Strict, '{"day": "2024-02-01"}', Strict(day=date(2024, 2, 1))),
        (Node, '{"text": "a", "children": [{"text": "b"}]}', Node(text="a", children=[Node(text="b")])),
        (SCHEMA, '{"cm": 3}', {"cm": 3}),
        ({"type": "array", "items": {"type": "integer"}}, '{"value": [1]}', [1]),
        (str, "any text", "any text"),
    ],
    ids=str,
)
async def test_an_answer_may_be_of_any_type(type: Any, said: str, meant: Any) -> None:
    response = await Agent(model=ScriptedModel(said), response_model=type).arun("hi")
    assert response.content == meant


@pytest.mark.parametrize(
    ("type", "said", "problem"),
    [
        (Answer, '{"text": 3}', "text: Input should be a valid string"),
        (Annotated[int, Field(ge=1)], '{"value": 0}', "it: Input should be greater than or equal to 1"),
        (SCHEMA, '{"cm": 0}', "cm: 0 is less than the minimum of 1"),
        (SCHEMA, '{"mm": 0}', "it: 'cm' is a required property"),
        (Literal["a", "b"], "either", "it: Input should be 'a' or 'b'"),
    ],
    ids=str,
)
async def test_what_does_not_fit_is_told(type: Any, said: str, problem: str) -> None:
    agent = Agent(model=ScriptedModel(said), response_model=type, output_retries=0)
    with pytest.raises(OutputValidationError) as caught:
        await agent.arun("hi")
    assert problem in str(caught.value)
    assert caught.value.text == said
    assert caught.value.run_response is not None
    assert caught.value.run_response.content == said


@pytest.mark.parametrize("type", [asyncio.Lock, {"type": "objekt"}])
async def test_a_type_that_no_model_can_be_asked_for_is_a_mistake_of_the_definition(type: Any) -> None:
    model = ScriptedModel("never")
    with pytest.raises(ConfigurationError, match="response_model"):
        await Agent(model=model, response_model=type).arun("hi")
    assert model.requests == []


def test_the_schema_that_is_given_stays_as_it_is() -> None:
    before = json.dumps(SCHEMA)
    Agent(model=ScriptedModel('{"cm": 3}'), response_model=SCHEMA).run("hi")
    assert json.dumps(SCHEMA) == before


async def test_one_run_may_have_another_type() -> None:
    agent = Agent(model=ScriptedModel('{"x": 1}', ANSWER), response_model=Answer)
    assert (await agent.arun("hi", response_model=Point)).content == Point(1)
    assert (await agent.arun("hi")).content == Answer(text="a", tags=["x"])


# --- modes -----------------------------------------------------------------------------------------------------------


def get_weather(city: str) -> str:
    return f"sunny in {city}"


async def test_a_schema_is_asked_for_where_the_model_takes_one() -> None:
    model = ScriptedModel(ANSWER)
    await Agent(model=model, response_model=Answer, tools=[get_weather]).arun("hi")
    request = model.last_request
    assert request.output is not None
    assert (request.output.name, request.output.mode) == ("Answer", "schema")
    assert [tool.name for tool in request.tools] == ["get_weather"]


@pytest.mark.parametrize(
    ("tools", "capable", "choice"),
    [
        ([], BY_TOOL, "final_answer"),
        ([get_weather], BY_TOOL, "required"),
        ([get_weather], Capabilities(output_schema_with_tools=False), "required"),
        ([get_weather], Capabilities(output_schema=False, tool_choice=False), None),
    ],
)
async def test_else_a_tool_takes_the_answer(tools: list[Any], capable: Capabilities, choice: str | None) -> None:
    model = ScriptedModel(reply(tool_calls=[("final_answer", json.loads(ANSWER))]), capabilities=capable)
    response = await Agent(model=model, response_model=Answer, tools=tools).arun("hi")

    assert response.content == Answer(text="a", tags=["x"])
    assert (response.tools, response.finish_reason, response.stop_reason) == ([], "stop", "end")
    request = model.last_request
    assert request.output is None
    assert request.tools[-1].parameters == Answer.model_json_schema()
    assert request.tool_choice == choice
    assert "final_answer" in (request.messages[0].content or "")


async def test_the_answer_of_that_tool_is_the_text_of_the_message_in_the_history() -> None:
    model = ScriptedModel(reply(tool_calls=[("final_answer", json.loads(ANSWER))]), ANSWER, capabilities=BY_TOOL)
    agent = Agent(model=model, response_model=Answer, session_id="s", add_history_to_messages=True)
    await agent.arun("one")
    response = await agent.arun("two")

    assert response.content == Answer(text="a", tags=["x"])  # in text, where the model does not call the tool
    sent = [(message.role, message.content) for message in model.last_request.messages[1:]]
    assert sent == [("user", "one"), ("assistant", ANSWER), ("user", "two")]


async def test_other_calls_beside_the_answer_are_made_and_the_model_answers_again() -> None:
    asked: list[str] = []

    def note(text: str) -> str:
        asked.append(text)
        return "noted"

    model = ScriptedModel(
        reply(tool_calls=[("final_answer", {"text": "too early"}), ("note", {"text": "n"})]),
        reply(tool_calls=[("final_answer", {"text": "a"})]),
        capabilities=BY_TOOL,
    )
    response = await Agent(model=model, response_model=Answer, tools=[note]).arun("hi")
    assert (response.content, asked) == (Answer(text="a"), ["n"])


async def test_a_tool_of_that_name_keeps_it() -> None:
    def final_answer(text: str) -> str:
        return "mine"

    model = ScriptedModel(reply(tool_calls=[("final_answer_", {"text": "a"})]), capabilities=BY_TOOL)
    response = await Agent(model=model, response_model=Answer, tools=[final_answer]).arun("hi")
    assert response.content == Answer(text="a")


async def test_in_the_last_turn_only_the_answer_may_be_given() -> None:
    model = ScriptedModel(
        reply(tool_calls=[("get_weather", {"city": "Rome"})]),
        reply(tool_calls=[("final_answer", {"text": "a"})]),
        capabilities=BY_TOOL,
    )
    agent = Agent(model=model, response_model=Answer, tools=[get_weather], limits=RunLimits(model_calls=2))
    response = await agent.arun("hi")
    assert (response.content, response.stop_reason) == (Answer(text="a"), "model_call_limit")
    assert model.last_request.tool_choice == "final_answer"


async def test_a_name_that_comes_late_is_still_the_answer() -> None:
    deltas = [ToolCallDelta(0, "c", "", '{"text"'), ToolCallDelta(0, "", "final_answer", ': "a"}')]
    model = ScriptedModel(deltas, capabilities=BY_TOOL)
    events = [event async for event in Agent(model=model, response_model=Answer).arun("hi", stream=True)]
    assert events[-1].content == Answer(text="a")


@pytest.mark.parametrize(
    ("capable", "options", "mode"),
    [
        (schema_only(json_mode=True), {}, "json"),
        (Capabilities(), {"use_json_mode": True}, "json"),
        (Capabilities(), {"use_json_mode": True, "tools": [get_weather]}, None),
        (schema_only(), {}, None),
    ],
)
@pytest.mark.parametrize("system", [None, "You are brief."])
async def test_else_json_mode_and_the_prompt(
    capable: Capabilities, options: dict[str, Any], mode: str | None, system: str | None
) -> None:
    model = ScriptedModel(f"Here: {ANSWER}", capabilities=capable)
    agent = Agent(model=model, response_model=Answer, system_message=system, **options)
    assert (await agent.arun("hi")).content == Answer(text="a", tags=["x"])

    request = model.last_request
    assert (request.output.mode if request.output else None) == mode
    assert json.dumps(Answer.model_json_schema()) in (request.messages[0].content or "")


# --- what comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_faulty_answer_goes_back_as_often_as_output_retries_says(stream: bool) -> None:
    model = ScriptedModel('{"tags": []}', '{"text": 1}', ANSWER)
    agent = Agent(model=model, response_model=Answer, output_retries=2)
    if stream:
        events: list[Any] = [event async for event in agent.arun("hi", stream=True)]
        response = events[-1].response
    else:
        response = await agent.arun("hi")
    assert response.content == Answer(text="a", tags=["x"])
    roles = [message.role for message in response.messages]
    assert roles == ["user", "assistant", "user", "assistant", "user", "assistant"]


async def test_a_reader_is_told_to_drop_the_faulty_answer() -> None:
    agent = Agent(model=ScriptedModel('{"tags": []}', ANSWER), response_model=Answer)
    text = ""
    async for event in agent.arun("hi", stream=True):
        if event.event == "ModelCallReset":
            text = ""
        elif event.event == "RunContent":
            text += event.content
    assert text == ANSWER


async def test_a_cut_answer_is_not_asked_for_again() -> None:
    model = ScriptedModel(reply('{"text": "a', finish_reason="length"), "never")
    with pytest.raises(OutputTruncated) as caught:
        await Agent(model=model, response_model=Answer).arun("hi")
    assert caught.value.text == '{"text": "a'
    assert model.remaining == 1


async def test_an_answer_may_be_left_as_its_text() -> None:
    model = ScriptedModel('{"no": "answer"}')
    response = await Agent(model=model, response_model=Answer, parse_response=False).arun("hi")
    assert response.content == '{"no": "answer"}'
    assert model.last_request.output is not None


async def test_a_typed_answer_comes_after_a_pause() -> None:
    @tool(requires_confirmation=True)
    def buy(what: str) -> str:
        return f"bought {what}"

    model = ScriptedModel(
        reply(tool_calls=[("buy", {"what": "milk"})]),
        reply(tool_calls=[("final_answer", {"text": "done"})]),
        capabilities=BY_TOOL,
    )
    agent = Agent(model=model, response_model=Answer, tools=[buy])
    response = await agent.arun("Buy milk")
    assert (response.is_paused, response.content) == (True, None)
    response.tools[0].confirmed = True
    assert (await agent.acontinue_run(response)).content == Answer(text="done")


async def test_a_correction_is_part_of_a_run_that_is_continued(tmp_path: Any) -> None:
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    agent = Agent(model=ScriptedModel('{"tags": []}', RuntimeError("down")), response_model=Answer, storage=storage)
    with pytest.raises(RuntimeError):
        await agent.arun("hi", run_id="r")
    model = ScriptedModel('{"tags": []}')
    with pytest.raises(OutputValidationError):  # there was one already
        await agent.copy(model=model).acontinue_run(run_id="r")
    assert "text: Field required" in (model.last_request.messages[-1].content or "")
    await storage.aclose()


# --- a parser model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_parser_model_makes_the_value_of_the_text(stream: bool) -> None:
    writer, parser = ScriptedModel("A is tagged x."), ScriptedModel('{"tags": []}', ANSWER)
    agent = Agent(model=writer, response_model=Answer, parser_model=parser, parser_model_prompt="Fill the form.")
    events: list[Any] = [event async for event in agent.arun("hi", stream=True)] if stream else []
    response = events[-1].response if stream else await agent.arun("hi")

    assert response.content == Answer(text="a", tags=["x"])
    assert [message.content for message in response.messages] == ["hi", "A is tagged x."]
    assert response.usage.model_calls == 3
    assert writer.last_request.output is None
    first = parser.requests[0]
    assert [(m.role, m.content) for m in first.messages] == [("system", "Fill the form."), ("user", "A is tagged x.")]
    assert first.output is not None
    if stream:
        texts = [event.content for event in events if event.event == "RunContent"]
        assert "".join(texts) == "A is tagged x."
        value = [event for event in events if event.event == "OutputPartial"][-1].value
        assert value == {"tags": []}  # of the attempt that did not fit; the last event has the right one


async def test_what_is_cut_is_not_given_to_the_parser() -> None:
    agent = Agent(
        model=ScriptedModel(reply("A is", finish_reason="length")),
        response_model=Answer,
        parser_model=ScriptedModel(),
    )
    with pytest.raises(OutputTruncated):
        await agent.arun("hi")


async def test_the_first_tool_choice_is_for_the_agents_own_first_call() -> None:
    def answer(request: Any) -> Any:
        return ANSWER if request.tool_choice is None else reply(tool_calls=[("get_weather", {"city": "Rome"})])

    model = FunctionModel(answer)
    agent = Agent(model=model, response_model=Answer, tools=[get_weather], tool_choice="get_weather", reasoning=True)
    model_plan = ScriptedModel('{"steps": [{"title": "t", "reasoning": "r", "next_action": "final_answer"}]}')
    await agent.copy(reasoning_model=model_plan).arun([Message(role="user", content="hi")])
    assert [request.tool_choice for request in model.requests] == ["get_weather", None]
