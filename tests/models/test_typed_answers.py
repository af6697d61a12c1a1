"""Any type of answer, from any provider, in any way: after a tool that waited for somebody, with history, streamed.

The provider answers in whatever way it was asked to: by a call of the output tool where there is one, else as text.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from agentrt import Agent, RunResponse, tool
from agentrt.models.base import Capabilities
from agentrt.models.message import ToolCall
from agentrt.run.events import OutputPartial, RunCompleted
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing.model_contracts import Answer
from tests.http_server import Reply, Request, Server
from tests.models.dialects import DIALECTS


class Film(BaseModel):
    title: str = Field(max_length=50)
    year: int | None = None
    cast: list[str] = []


@dataclass
class Point:
    x: int
    y: float = 0.0


class Movie(TypedDict):
    name: str
    shown: date


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    name: str
    below: list[Tree] = []


SCHEMA = {"title": "Size", "type": "object", "properties": {"cm": {"type": "integer"}}, "required": ["cm"]}
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "model": (Film, {"title": "Alïen 🍸", "year": None, "cast": ["S"]}, Film(title="Alïen 🍸", cast=["S"])),
    "dataclass": (Point, {"x": 1, "y": 2.5}, Point(1, 2.5)),
    "TypedDict": (Movie, {"name": "Alien", "shown": "1979-05-25"}, {"name": "Alien", "shown": date(1979, 5, 25)}),
    "list": (list[Point], {"value": [{"x": 1, "y": 0.0}]}, [Point(1)]),
    "union": (Film | Point, {"value": {"x": 1, "y": 0.0}}, Point(1)),
    "Literal": (Literal["yes", "no"], {"value": "yes"}, "yes"),
    "Enum": (Color, {"value": "blue"}, Color.BLUE),
    "int": (int, {"value": 42}, 42),
    "map": (dict[str, Point], {"value": {"a": {"x": 1, "y": 0.0}}}, {"a": Point(1)}),
    "recursion": (Tree, {"name": "a", "below": [{"name": "b", "below": []}]}, Tree(name="a", below=[Tree(name="b")])),
    "schema": (SCHEMA, {"cm": 7}, {"cm": 7}),
}

dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@pytest.fixture(autouse=True)
def few_certificates(monkeypatch: pytest.MonkeyPatch, one_certificate: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))


def serve(server: Server, dialect: Any, said: Any, *, calls: bool) -> None:
    """Have the server ask for `buy` in the first turn of each run, if it is to, and answer in the next."""

    def answer(request: Request) -> Reply:
        body = json.dumps(request.json)
        text = json.dumps(said, ensure_ascii=False)
        number = len(server.requests)
        if calls and number % 2:
            given = Answer(calls=[ToolCall(id=f"call_{number}", name="buy", arguments='{"what":"milk"}')])
        elif '"name": "final_answer"' in body:
            given = Answer(calls=[ToolCall(id=f"call_{number}", name="final_answer", arguments=text)])
        else:
            given = Answer(text=[text[:5], text[5:]])
        given = Answer(text=given.text, calls=given.calls, finish="tool_calls" if given.calls else "stop")
        if dialect.name == "gemini":
            streamed = "streamGenerateContent" in request.path
        else:
            streamed = bool(request.json.get("stream"))
        if streamed:
            return Reply(body=dialect.events(given))
        return Reply(body=dialect.body(given), headers={"content-type": "application/json"})

    server.answer = answer


async def ask(agent: Agent[Any], text: str, *, stream: bool) -> RunResponse[Any]:
    if not stream:
        return await agent.arun(text)
    run = agent.stream(text)
    return await _read(run)


async def go_on(agent: Agent[Any], paused: RunResponse[Any], *, stream: bool) -> RunResponse[Any]:
    if not stream:
        return await agent.acontinue_run(paused)
    return await _read(agent.acontinue_run(paused, stream=True))


async def _read(run: Any) -> RunResponse[Any]:
    events = [event async for event in run]
    response: RunResponse[Any] = await run.result()
    if isinstance(events[-1], RunCompleted):
        assert events[-1].content == response.content
        partials = [event for event in events if isinstance(event, OutputPartial)]
        assert partials
        paths = [part.path for event in partials for part in event.parts]
        assert len(paths) == len(set(paths))
    return response


@tool(requires_confirmation=True)
def buy(what: str) -> str:
    """Buy something."""
    return f"bought {what}"


@dialects
@ways
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_has_its_type(server: Server, dialect: Any, kind: str, stream: bool) -> None:
    type, said, meant = KINDS[kind]
    serve(server, dialect, said, calls=False)
    agent = Agent(model=dialect.model(server.url), response_model=type, add_history_to_messages=True, session_id="s")

    for _ in range(2):
        response = await ask(agent, "Tell me", stream=stream)
        assert response.content == meant
    await agent.aclose()

    assert len(server.requests) == 2


@dialects
@ways
@pytest.mark.parametrize("kind", ["model", "list", "map", "recursion"])
async def test_also_after_a_tool_that_waited_with_history(
    server: Server, tmp_path: Path, dialect: Any, kind: str, stream: bool
) -> None:
    type, said, meant = KINDS[kind]
    serve(server, dialect, said, calls=True)
    agent = Agent(
        model=dialect.model(server.url),
        response_model=type,
        tools=[buy],
        add_history_to_messages=True,
        session_id="s",
        storage=SqliteStorage(db_file=tmp_path / "data.db"),
    )

    for _ in range(2):
        paused = await ask(agent, "Buy milk", stream=stream)
        assert (paused.is_paused, paused.content) == (True, None)
        paused.requirements[0].confirm()
        response = await go_on(agent, paused, stream=stream)
        assert response.content == meant
        assert [execution.result for execution in response.tools] == ["bought milk"]
    await agent.aclose()

    assert len(server.requests) == 4


MODES: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
    "a tool": ({"output_schema": False}, lambda body: "final_answer" in body),
    "JSON mode": ({"output_schema": False, "tools": False}, lambda body: "final_answer" not in body),
    "the prompt": (
        {"output_schema": False, "tools": False, "json_mode": False},
        lambda body: "final_answer" not in body and "response_format" not in body,
    ),
}


@dialects
@ways
@pytest.mark.parametrize("mode", MODES)
async def test_in_whatever_way_it_is_asked_for(server: Server, dialect: Any, mode: str, stream: bool) -> None:
    lacking, is_asked = MODES[mode]
    serve(server, dialect, {"title": "Alien"}, calls=False)
    model = dialect.model(server.url).copy(capabilities=Capabilities(**lacking))

    response = await ask(Agent(model=model, response_model=Film), "Tell me", stream=stream)
    await model.aclose()

    assert response.content == Film(title="Alien")
    assert is_asked(json.dumps(server.bodies[0]))
