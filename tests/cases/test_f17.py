"""F17: tool results that are not strings."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from agentrt import Agent
from agentrt.run.events import CustomEvent
from tests.cases.kit import add_chat, add_claude, call, claude, go, label, openai, text_block, use_block, ways
from tests.cases.pairing import check_chat, check_claude, tool_messages, tool_results
from tests.http_server import Server


class Search(BaseModel):
    query: str


class Color(Enum):
    RED = 1


@dataclasses.dataclass
class Spot:
    name: str
    at: date


class Wordless:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@dataclasses.dataclass(kw_only=True, slots=True)
class Progress(CustomEvent):
    percent: int = 0


def returning(value: Any) -> Callable[[], Any]:
    def tool() -> Any:
        return value

    return tool


async def told(server: Server, way: str, tool: Any) -> tuple[str, Any]:
    """What a chat model is told of the tool's result, and the outcome of that run."""
    name = getattr(tool, "__name__", "tool")
    add_chat(server, way, calls=[call("c1", name)])
    add_chat(server, way, "done")
    outcome = await go(Agent(model=openai(server), tools=[tool]), way)
    check_chat(server.bodies[1])
    assert outcome.response.content == "done"
    return tool_messages(server.bodies[1])["c1"], outcome


DATA: list[tuple[Any, Any]] = [
    ({"t": 21.5, "ok": True, "n": None, "å": "é"}, {"t": 21.5, "ok": True, "n": None, "å": "é"}),
    (Search(query="tidé"), {"query": "tidé"}),
    ([Search(query="é"), date(2025, 3, 4), Decimal("1.10")], [{"query": "é"}, "2025-03-04", "1.10"]),
    (Spot("Oslo", date(2025, 3, 4)), {"name": "Oslo", "at": "2025-03-04"}),
    ({2: {2, 3}, Color.RED: b"ab"}, {"2": [2, 3], "1": "ab"}),
    ([datetime(2025, 3, 4, tzinfo=UTC), UUID(int=7)], ["2025-03-04T00:00:00+00:00", str(UUID(int=7))]),
    ((1, (2, [3])), [1, [2, [3]]]),
    (21.5, 21.5),
    (True, True),
    (Color.RED, 1),
    ([{"deep": {"er": [Search(query="x")] * 2}}], [{"deep": {"er": [{"query": "x"}] * 2}}]),
    (float("nan"), None),
]


@pytest.mark.parametrize(("value", "read"), DATA, ids=lambda value: type(value).__name__)
@ways
async def test_data_is_json_with_its_letters(server: Server, way: str, value: Any, read: Any) -> None:
    text, _ = await told(server, way, returning(value))

    assert "\\u" not in text
    if value != value:
        assert text.lower() == "nan"
    else:
        assert json.loads(text) == read


@pytest.mark.parametrize(
    "value", [None, "", b"\xff\xfe", b"caf\xc3\xa9", Path("/x"), object(), 10**400, "\x00a"], ids=label
)
@ways
async def test_whatever_it_is_it_is_a_text(server: Server, way: str, value: Any) -> None:
    text, outcome = await told(server, way, returning(value))

    assert isinstance(text, str) and "\x00" not in text
    text.encode()
    assert not outcome.response.tools[0].tool_call_error


@pytest.mark.parametrize("value", [None, "", " \n", b"", [], {}], ids=label)
async def test_nothing_is_no_empty_block_for_anthropic(server: Server, value: Any) -> None:
    add_claude(server, "plain", use_block("t1", "tool"))
    add_claude(server, "plain", text_block("done"))
    await go(Agent(model=claude(server), tools=[returning(value)]), "plain")

    check_claude(server.bodies[1])
    content = tool_results(server.bodies[1])["t1"]["content"]
    assert isinstance(content, str) and content.strip()


def two() -> Any:
    yield "a"
    yield "b"


async def two_async() -> Any:
    yield "a"
    yield "b"


def breaks() -> Any:
    yield "a"
    raise ValueError("halfway")


async def breaks_async() -> Any:
    yield "a"
    raise ValueError("halfway")


@pytest.mark.parametrize("tool", [two, two_async])
@pytest.mark.parametrize("way", ["plain", "streamed", "sync"])
async def test_texts_of_a_generator_are_joined(server: Server, way: str, tool: Any) -> None:
    text, outcome = await told(server, way, tool)

    assert text == "ab"
    if way == "streamed":
        assert [e.content for e in outcome.events if e.event == "ToolCallProgress"] == ["a", "b"]


@pytest.mark.parametrize("tool", [breaks, breaks_async])
@ways
async def test_a_generator_that_fails_is_a_failure(server: Server, way: str, tool: Any) -> None:
    text, outcome = await told(server, way, tool)

    assert "halfway" in text and outcome.response.tools[0].tool_call_error


@pytest.mark.parametrize("is_async", [False, True])
async def test_progress_events_reach_the_caller_and_not_the_model(server: Server, is_async: bool) -> None:
    def tool() -> Any:
        yield Progress(percent=50)
        yield "done"

    async def tool_async() -> Any:
        yield Progress(percent=50)
        yield "done"

    text, outcome = await told(server, "streamed", tool_async if is_async else tool)

    assert text == "done"
    forwarded = [event for event in outcome.events if isinstance(event, Progress)]
    assert [event.percent for event in forwarded] == [50]
    assert forwarded[0].run_id == outcome.response.run_id


async def base(value: str = "awaited") -> str:
    return value


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def bare(function: Any) -> Any:
    async def wrapper(value: str = "awaited") -> Any:
        return await function(value)

    return wrapper


class Called:
    __name__ = "called"

    async def __call__(self) -> str:
        return "awaited"


@pytest.mark.parametrize(
    "tool",
    [base, functools.partial(base), functools.partial(base, value="awaited"), logged(base), bare(base),
     functools.partial(logged(base)), Called()],
)  # fmt: skip
@ways
async def test_what_is_awaitable_is_awaited_wherever_it_hides(server: Server, way: str, tool: Any) -> None:
    if isinstance(tool, functools.partial):
        add_chat(server, way, calls=[call("c1", "base")])
        add_chat(server, way, "done")
        await go(Agent(model=openai(server), tools=[tool]), way)
        assert tool_messages(server.bodies[1]) == {"c1": "awaited"}
    else:
        assert (await told(server, way, tool))[0] == "awaited"


@ways
async def test_a_value_without_words_is_a_failure(server: Server, way: str) -> None:
    text, outcome = await told(server, way, returning(Wordless()))

    assert "no words" in text and outcome.response.tools[0].tool_call_error
