"""Events as JSON and back."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from agentrt import Agent, tool
from agentrt.run.encoding import event_from_json, event_json_schema
from agentrt.run.events import (
    BaseEvent,
    DeltaEvent,
    OutputPart,
    OutputPartial,
    RunCompleted,
    RunEvent,
    RunPaused,
    UnknownEvent,
)
from agentrt.run.response import ToolExecution
from agentrt.testing import ScriptedModel, reply

EVENTS: list[Any] = [cls for cls in get_args(RunEvent) if cls is not UnknownEvent]


def one_of(cls: Any) -> BaseEvent:
    """An event of this class with something in it."""
    call = ToolExecution(tool_call_id="1", tool_name="f", tool_args={"city": "Ålesund"}, result="ok")
    fields: dict[str, Any] = {"run_id": "r", "path": ("a", "b"), "seq": 7, "content": "text"}
    return cls(**fields, **({"tool": call} if "tool" in cls.__dataclass_fields__ else {}))


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
def test_every_event_comes_back_as_it_was(cls: Any) -> None:
    event = one_of(cls)
    assert event_from_json(event.to_json()) == event


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
def test_every_event_is_one_server_sent_event(cls: Any) -> None:
    event = one_of(cls)
    name, cursor, data, *rest = event.to_sse().split("\n")
    assert name == f"event: {cls.__name__}"
    assert cursor == ("id: 7:4" if isinstance(event, DeltaEvent) else "id: 7:0")
    assert event_from_json(data.removeprefix("data: ")) == event
    assert rest == ["", ""]


def test_a_pause_for_user_input_comes_back_with_the_types_it_asks_for() -> None:
    @tool(requires_user_input=True)
    def book(day: str, seats: int, names: list[str]) -> str:
        return "booked"

    agent = Agent(model=ScriptedModel(reply(tool_calls=[("book", {})])), tools=[book])
    *_, paused = agent.run("Book", stream=True)

    again = event_from_json(paused.to_json())
    assert isinstance(again, RunPaused)
    form = again.response.tools_requiring_user_input[0].user_input_schema or []
    assert [(field.name, field.field_type) for field in form] == [("day", str), ("seats", int), ("names", list)]


def test_a_typed_answer_comes_back_as_plain_data() -> None:
    class Weather(BaseModel):
        sunny: bool

    agent = Agent(model=ScriptedModel('{"sunny": true}'), response_model=Weather)
    *_, completed = agent.run("How is it?", stream=True)

    again = event_from_json(completed.to_json())
    assert isinstance(again, RunCompleted)
    assert again.content == again.response.content == {"sunny": True}


def test_a_partial_answer_is_sent_as_what_is_new_of_it() -> None:
    class Weather(BaseModel):
        city: str
        sunny: bool

    agent = Agent(model=ScriptedModel('{"value": [{"city": "Rome", "sunny": true}]}'), response_model=list[Weather])
    partials = [event for event in agent.run("How is it?", stream=True) if isinstance(event, OutputPartial)]
    again = [event_from_json(event.to_json()) for event in partials]
    assert all("value" not in json.loads(event.to_json()) for event in partials)
    parts = [part for event in again if isinstance(event, OutputPartial) for part in event.parts]
    assert parts == [OutputPart(path=(0,), value={"city": "Rome", "sunny": True})]


def test_an_event_of_a_newer_version_is_kept_whole() -> None:
    text = '{"event": "RunDreamed", "run_id": "r", "seq": 3, "depth": 2}'
    event = event_from_json(text)
    assert isinstance(event, UnknownEvent)
    assert (event.event, event.run_id, event.seq, event.data["depth"]) == ("RunDreamed", "r", 3, 2)
    assert json.loads(event.to_json()) == json.loads(text)


def test_the_json_schema_has_a_definition_for_every_event() -> None:
    definitions = event_json_schema()["$defs"]
    assert [cls.__name__ for cls in EVENTS if cls.__name__ not in definitions] == []


@pytest.mark.parametrize("text", ["[]", '{"run_id": "r"}', "no JSON"])
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        event_from_json(text)
