"""Typed answers while they come in."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from agentrt import Agent
from agentrt.run.events import OutputPart, OutputPartial, RunContent
from agentrt.run.json_text import JsonScanner, values_in
from agentrt.run.output_type import output_type
from agentrt.run.partial import COPIED_PER_CHAR, PartialOutput
from agentrt.run.stream import JOIN_BEYOND, Channel
from agentrt.testing import ScriptedModel, reply


class Scene(BaseModel):
    place: str
    day: date | None = None


class Script(BaseModel):
    title: str
    scenes: list[Scene] = []
    rating: dict[str, int] = {}
    summary: str = Field("", alias="in short")


@dataclass
class Row:
    n: int


SCRIPT = json.dumps(
    {
        "title": "Déjà vu",
        "scenes": [{"place": "Rome", "day": "2024-02-01"}, {"place": "Oslo"}],
        "rating": {"story": 7, "acting": 9},
        "in short": 'They say "no" 🎬',
    },
    ensure_ascii=True,
)


def fed(type: Any, *pieces: str) -> list[OutputPartial]:
    partial = PartialOutput(output_type(type))
    events = [event for piece in pieces if (event := partial.feed(piece)) is not None]
    last = partial.end()
    return [*events, last] if last is not None else events


def parts(events: list[OutputPartial]) -> list[OutputPart]:
    return [part for event in events for part in event.parts]


def paths(events: list[OutputPartial]) -> list[Any]:
    return [path for event in events for path in event.complete]


# --- events ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_each_part_is_told_once_when_it_is_finished_in_its_type(size: int) -> None:
    events = fed(Script, *(SCRIPT[at : at + size] for at in range(0, len(SCRIPT), size)))
    assert parts(events) == [
        OutputPart(path=("title",), value="Déjà vu"),
        OutputPart(path=("scenes", 0), value=Scene(place="Rome", day=date(2024, 2, 1))),
        OutputPart(path=("scenes", 1), value=Scene(place="Oslo")),
        OutputPart(path=("rating", "story"), value=7),
        OutputPart(path=("rating", "acting"), value=9),
        OutputPart(path=("in short",), value='They say "no" 🎬'),
    ]
    assert paths(events) == [
        ("title",),
        ("scenes", 0, "place"),
        ("scenes", 0, "day"),
        ("scenes", 0),
        ("scenes", 1, "place"),
        ("scenes", 1),
        ("scenes",),
        ("rating", "story"),
        ("rating", "acting"),
        ("rating",),
        ("in short",),
    ]


def test_the_value_grows_and_what_was_given_stays_as_it_was() -> None:
    events = fed(Script, '{"title": "De', 'al", "scenes": [{"place": "Ro', 'me"}, {"pl', 'ace": "O', 'slo"}]}')
    assert [event.value for event in events] == [
        {"title": "De"},
        {"title": "Deal", "scenes": [{"place": "Ro"}]},
        {"title": "Deal", "scenes": [Scene(place="Rome"), {}]},
        {"title": "Deal", "scenes": [Scene(place="Rome"), {"place": "O"}]},
        {"title": "Deal", "scenes": [Scene(place="Rome"), Scene(place="Oslo")]},
    ]


def test_a_list_at_the_root_is_bare_also_when_the_model_does_not_wrap_it() -> None:
    for text in ('{"value": [{"n": 1}, {"n": 2}]}', '[{"n": 1}, {"n": 2}]'):
        events = fed(list[Row], *text)
        assert parts(events) == [OutputPart(path=(0,), value=Row(1)), OutputPart(path=(1,), value=Row(2))]
        assert events[-1].value == [Row(1), Row(2)]


def test_a_schemas_answer_has_parts_too() -> None:
    schema = {"type": "object", "properties": {"a": {}, "items": {}}}
    events = fed(schema, '{"a": {"b": 1}, "items": ["x", "y"]}')
    assert [(part.path, part.value) for part in parts(events)] == [
        (("a",), {"b": 1}),
        (("items", 0), "x"),
        (("items", 1), "y"),
    ]


def test_a_part_that_does_not_fit_is_not_told() -> None:
    events = fed(Script, '{"title": 3, "scenes": [{"place": 1}, {"place": "Oslo"}]}')
    assert [part.path for part in parts(events)] == [("scenes", 1)]
    assert ("title",) not in paths(events)


def test_thinking_and_prose_are_passed_over() -> None:
    text = '<think>{"title": "no"}</think>Here {it} is: {"title": "yes"} Fine?'
    assert [part.value for part in parts(fed(Script, *text))] == ["yes"]


def test_what_turns_out_to_be_no_json_is_told_no_further() -> None:
    events = fed(Script, '{"title": "a", ', '"scenes": oops, ', '{"title": "b"}}')
    assert [part.value for part in parts(events)] == ["a"]


async def test_a_stream_has_text_and_parts_and_the_value_last() -> None:
    pieces = [SCRIPT[at : at + 5] for at in range(0, len(SCRIPT), 5)]
    agent = Agent(model=ScriptedModel(reply(pieces)), response_model=Script)
    events = [event async for event in agent.arun("hi", stream=True)]

    assert "".join(event.content for event in events if isinstance(event, RunContent)) == SCRIPT
    partials = [event for event in events if isinstance(event, OutputPartial)]
    assert [part.path for part in parts(partials)].count(("scenes", 0)) == 1
    assert events[-1].event == "RunCompleted"
    assert events[-1].content == Script.model_validate_json(SCRIPT)


async def test_the_tools_arguments_are_told_in_the_same_way() -> None:
    from agentrt.models.base import Capabilities

    model = ScriptedModel(reply(tool_calls=[("final_answer", SCRIPT)]), capabilities=Capabilities(output_schema=False))
    agent = Agent(model=model, response_model=Script)
    events = [event async for event in agent.arun("hi", stream=True, stream_intermediate_steps=True)]
    assert "".join(event.content for event in events if isinstance(event, RunContent)) == SCRIPT
    assert len(parts([event for event in events if isinstance(event, OutputPartial)])) == 6
    assert not [event for event in events if event.event == "ToolCallArguments"]


def test_a_slow_readers_events_are_joined() -> None:
    channel = Channel(all_steps=False)
    for at in range(JOIN_BEYOND + 200):
        channel.emit(RunContent(content="x", offset=at))
        part = OutputPart(path=("items", at), value=at)
        channel.emit(OutputPartial(value={"items": at}, complete=[part.path], parts=[part]))
    assert len(channel.events) < JOIN_BEYOND + 20
    told = [event for event in channel.events if isinstance(event, OutputPartial)]
    assert [part.value for part in parts(told)] == list(range(JOIN_BEYOND + 200))
    assert sum(len(event.content) for event in channel.events if isinstance(event, RunContent)) == JOIN_BEYOND + 200


# --- cost ------------------------------------------------------------------------------------------------------------


class Copies(JsonScanner):
    """Counts what snapshots copy."""

    copied = 0

    def snapshot(self) -> Any:
        self.copied += self.size()
        return super().snapshot()


def many_rows(count: int) -> str:
    return json.dumps({"value": [{"n": n} for n in range(count)]})


@pytest.mark.parametrize(
    ("type", "make"),
    [
        (list[Row], many_rows),
        (list[int], lambda count: json.dumps({"value": [n % 10 for n in range(count)]})),
        (Script, lambda count: json.dumps({"title": "some words " * count})),
        (dict[str, Any], lambda count: json.dumps({"value": {f"k{n}": {"a": [n]} for n in range(count)}})),
        (
            list[dict[str, int]],
            lambda count: json.dumps({"value": [{f"k{n}": n for n in range(200)}] * (count // 100)}),
        ),
        (list[Any], lambda count: json.dumps({"value": ["[" * 5] * count}) + "[" * count),
        (list[Any], lambda count: "[" * 150 + ",".join("[1]" for _ in range(count)) + "]" * 150),
    ],
)
def test_the_cost_is_that_of_the_length(type: Any, make: Any) -> None:
    """Also when the answer is forty times as long: what is copied and what paths are told a character stay bounded."""
    for count in (100, 4000):
        text = make(count)
        partial = PartialOutput(output_type(type))
        scanner = partial._scanner = Copies(partial._finished)
        told = [partial.feed(text[at : at + 4]) for at in range(0, len(text), 4)]
        told.append(partial.end())
        assert scanner.copied <= len(text) * COPIED_PER_CHAR + scanner.size()
        assert sum(len(event.complete) for event in told if event is not None) <= len(text)


# --- the scanner -----------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
containers = st.lists(json_values, max_size=4) | st.dictionaries(st.text(max_size=5), json_values, max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.lists(containers, min_size=1, max_size=3), st.booleans(), st.randoms(use_true_random=False))
def test_it_finds_what_was_written_however_it_is_cut(values: list[Any], ascii: bool, chance: random.Random) -> None:
    text = "So: ".join(json.dumps(value, ensure_ascii=ascii, indent=chance.choice([None, 2])) for value in values)
    scanner, told = JsonScanner(), 0
    while text:
        cut = chance.randint(1, 6)
        scanner.feed(text[:cut])
        snapshot = scanner.snapshot()
        told += snapshot is not None
        text = text[cut:]
    assert scanner.found == values
    assert not scanner.is_open


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='{}[]":,\\ae1- \n'), st.randoms(use_true_random=False))
def test_it_reads_any_text_the_same_however_it_is_cut(text: str, chance: random.Random) -> None:
    whole, cut = JsonScanner(), JsonScanner()
    whole.feed(text)
    at = 0
    while at < len(text):
        size = chance.randint(1, 4)
        cut.feed(text[at : at + size])
        cut.snapshot()
        at += size
    assert (cut.found, cut.is_open) == (whole.found, whole.is_open)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no value", []),
        ('{"a": 1} and {"a": 2}', [{"a": 2}, {"a": 1}]),
        ("{x} [y] {}", [{}]),
        ('{"a": [1, 2,]} {"b": 1}', [{"b": 1}]),
        ('{"a": "line\nbreak"}', [{"a": "line\nbreak"}]),
        ('{"a": tru} {"b": 1}', [{"b": 1}]),
        (r'{"a": "\x"} {"b": 1}', [{"b": 1}]),
        ('{"a": 1', []),
        ("[" * 3000, []),
        ("So: " + "[" * 200 + "]" * 200 + '{"a": 1}', [{"a": 1}, nested(200)]),
        ("So: " + '{"a":' * 300 + "1" + "}" * 300 + '{"a": 1}', [{"a": 1}]),
        ("So: " + "[" * 100_000 + "]" * 100_000 + '{"a": 1}', [{"a": 1}]),
    ],
)
def test_values_in_a_text(text: str, found: list[Any]) -> None:
    assert list(values_in(text)) == found
