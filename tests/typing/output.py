"""What a type checker is to find: `make type` fails when an answer is typed otherwise. Nothing here is run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Literal, assert_type

from pydantic import BaseModel
from typing_extensions import TypedDict

from agentrt import Agent, RunResponse
from agentrt.run.events import OutputPartial, RunCompleted, RunEvent
from agentrt.run.stream import RunStream


class MovieScript(BaseModel):
    name: str


@dataclass
class Point:
    x: int


class Movie(TypedDict):
    name: str


async def a_text() -> None:
    agent = Agent(model="openai:gpt-4.1")
    assert_type(agent, Agent[str])
    assert_type(agent.run("hi").content, str | None)


async def a_model() -> None:
    agent = Agent(model="openai:gpt-4.1", response_model=MovieScript)
    assert_type(agent, Agent[MovieScript])
    assert_type(await agent.arun("New York"), RunResponse[MovieScript])
    assert_type(agent.run("New York").content, MovieScript | None)
    assert_type(agent.copy(output_retries=2), Agent[MovieScript])
    stream = agent.stream("New York")
    assert_type(stream, RunStream[MovieScript])
    assert_type((await stream.result()).content, MovieScript | None)
    async with agent.stream("New York") as run:
        assert_type(await run.result(), RunResponse[MovieScript])
    assert_type(await agent.acontinue_run(run_id="r"), RunResponse[MovieScript])


async def given_to_one_run() -> None:
    agent = Agent(model="openai:gpt-4.1", user_id="ada")
    assert_type(await agent.arun("hi", response_model=MovieScript), RunResponse[MovieScript])
    assert_type(await agent.arun("hi", response_model=list[Point], session_id="s"), RunResponse[list[Point]])
    assert_type(agent.run("hi", response_model=MovieScript | Point).content, MovieScript | Point | None)
    assert_type(agent.arun("hi", response_model=Movie, stream=True), RunStream[Movie])
    assert_type(agent.stream("hi", response_model=int), RunStream[int])
    assert_type((await (await agent.start("hi", response_model=Point)).result()).content, Point | None)
    assert_type(await agent.arun("hi", run_id="r"), RunResponse[str])
    typed = Agent(response_model=MovieScript)
    assert_type(await typed.arun("hi", response_model=Point), RunResponse[Point])
    assert_type(agent.run("hi", stream=True, response_model=Point), Iterator[RunEvent])


def other_types() -> None:
    assert_type(Agent(response_model=Point).run("hi").content, Point | None)
    assert_type(Agent(response_model=Movie).run("hi").content, Movie | None)
    assert_type(Agent(response_model=list[Point]).run("hi").content, list[Point] | None)
    assert_type(Agent(response_model=dict[str, int]).run("hi").content, dict[str, int] | None)
    assert_type(Agent(response_model=int).run("hi").content, int | None)
    assert_type(Agent(response_model=MovieScript | Point).run("hi").content, MovieScript | Point | None)
    assert_type(Agent(response_model=Literal["a", "b"]).run("hi").content, Literal["a", "b"] | None)


def said_by_the_author() -> None:
    """What a schema asks for is known only to who wrote it."""
    schema: dict[str, Any] = {"type": "object"}
    assert_type(Agent[dict[str, Any]](response_model=schema).run("hi").content, dict[str, Any] | None)


async def events(stream: AsyncIterator[RunEvent]) -> None:
    async for event in stream:
        if isinstance(event, OutputPartial):
            assert_type(event.complete, list[tuple[str | int, ...]])
        if isinstance(event, RunCompleted):
            print(event.response.content)
