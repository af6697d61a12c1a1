"""The adapters against a server that nobody here wrote: `@copilotkit/aimock`, which speaks all four protocols."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from pydantic import BaseModel

from agentrt import Agent
from agentrt.errors import ModelOverloaded, ModelRateLimited
from agentrt.models.anthropic import Claude
from agentrt.models.base import Model
from agentrt.models.google import Gemini
from agentrt.models.openai import OpenAIChat, OpenAIResponses
from agentrt.run.events import OutputPartial, ReasoningContent, RunContent, ToolCallCompleted
from agentrt.run.response import RunResponse

PACKAGE = "@copilotkit/aimock@1.43.0"
GREETING = "Grüß dich 🍸, how can I help you today?"
CITY = {"name": "Oslo", "people": 700_000, "sights": ["the fjord", "Munch 🖼"]}
FIXTURES: list[dict[str, Any]] = [
    {"match": {"userMessage": "hello"}, "response": {"content": GREETING, "reasoning": "They greet me."}},
    {
        "match": {"userMessage": "weather", "hasToolResult": False},
        "response": {
            "content": "Let me look.",
            "toolCalls": [
                {"name": "get_weather", "arguments": {"city": "Oslo"}},
                {"name": "get_weather", "arguments": {"city": "Köln 🍸"}},
            ],
        },
    },
    {"match": {"userMessage": "weather", "hasToolResult": True}, "response": {"content": "It rains in both."}},
    {"match": {"userMessage": "describe"}, "response": {"content": json.dumps(CITY, ensure_ascii=False)}},
    {
        "match": {"userMessage": "use the tool"},
        "response": {"toolCalls": [{"name": "final_answer", "arguments": CITY}]},
    },
    {
        "match": {"userMessage": "busy"},
        "response": {"error": {"message": "Too many of you", "type": "rate_limit_error"}, "status": 429},
    },
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
Ask: TypeAlias = Callable[[Agent[Any], str], Any]


class City(BaseModel):
    name: str
    people: int
    sights: list[str]


@pytest.fixture(scope="module")
def program(request: pytest.FixtureRequest) -> Path:
    """The server, installed once into pytest's cache."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("there is no npm here to install aimock with")
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("aimock-" + PACKAGE.rpartition("@")[2])
    program = folder / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
    if not program.exists():
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
        installed = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        if installed.returncode:
            pytest.skip(f"npm could not install {PACKAGE}: {installed.stderr.strip()[-200:]}")
    return program


@pytest.fixture(scope="module")
def url(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    command = ["node", str(program), "--port", "0", "--fixtures", str(fixtures), "--strict", "--chunk-size", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            said: list[str] = []
            for line in server.stdout:
                said.append(line)
                if "listening on " in line:
                    yield line.rpartition("listening on ")[2].strip()
                    break
            else:
                raise AssertionError("aimock did not start: " + "".join(said))
        finally:
            server.kill()


@pytest.fixture(params=["chat", "responses", "claude", "gemini"])
async def model(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Model]:
    options: dict[str, Any] = {"api_key": "test", "max_retries": 0}
    model: Model = {
        "chat": lambda: OpenAIChat(id="gpt-4.1", base_url=f"{url}/v1", **options),
        "responses": lambda: OpenAIResponses(id="gpt-5", base_url=f"{url}/v1", **options),
        "claude": lambda: Claude(id="claude-sonnet-4-5", base_url=url, **options),
        "gemini": lambda: Gemini(id="gemini-2.5-flash", base_url=url, api_version="v1beta", **options),
    }[request.param]()
    yield model
    await model.aclose()


async def plainly(agent: Agent[Any], text: str) -> RunResponse[Any]:
    async with asyncio.timeout(20):
        return await agent.arun(text)


async def streamed(agent: Agent[Any], text: str) -> RunResponse[Any]:
    """The response, once it is seen that the events tell the same."""
    async with asyncio.timeout(20):
        run = agent.stream(text, stream_intermediate_steps=True)
        events = [event async for event in run]
        response = await run.result()
    told = "".join(event.content for event in events if isinstance(event, RunContent))
    assert told == "".join(m.content or "" for m in response.messages if m.role == "assistant")
    reasoned = "".join(event.content for event in events if isinstance(event, ReasoningContent))
    assert reasoned == (response.reasoning_content or "")
    done = [event.tool.tool_call_id for event in events if isinstance(event, ToolCallCompleted)]
    assert sorted(done) == sorted(tool.tool_call_id for tool in response.tools)
    parts = [part.path for event in events if isinstance(event, OutputPartial) for part in event.parts]
    assert len(parts) == len(set(parts)) and (not parts or ("sights", 1) in parts)
    return response


both_ways = pytest.mark.parametrize("ask", [plainly, streamed])


def get_weather(city: str) -> str:
    """Say how the weather is in a city."""
    return f"rain in {city}"


@both_ways
async def test_a_text_is_heard(model: Model, ask: Ask) -> None:
    response = await ask(Agent(model=model), "hello")

    assert response.content == GREETING
    assert response.finish_reason == "stop"
    assert response.reasoning_content in ("They greet me.", None)


@both_ways
async def test_calls_are_made_and_their_results_go_back(model: Model, ask: Ask) -> None:
    response = await ask(Agent(model=model, tools=[get_weather]), "How is the weather?")

    assert response.content == "It rains in both."
    assert [tool.result for tool in response.tools] == ["rain in Oslo", "rain in Köln 🍸"]


@both_ways
async def test_a_typed_answer_is_a_value(model: Model, ask: Ask) -> None:
    response = await ask(Agent(model=model, response_model=City), "describe Oslo")

    assert response.content == City(**CITY)


@both_ways
async def test_a_tool_takes_the_typed_answer(model: Model, ask: Ask) -> None:
    by_tool = model.capable().__class__(output_schema=False, output_schema_with_tools=False)

    response = await ask(Agent(model=model.copy(capabilities=by_tool), response_model=City), "use the tool")

    assert response.content == City(**CITY)


@both_ways
async def test_a_conversation_goes_on(model: Model, ask: Ask) -> None:
    agent = Agent(model=model, tools=[get_weather], add_history_to_messages=True, session_id="s")

    await ask(agent, "How is the weather?")
    assert (await ask(agent, "hello")).content == GREETING
    assert (await ask(agent, "And how is the weather now?")).content == "It rains in both."


@both_ways
async def test_an_error_is_told_in_our_tree(model: Model, ask: Ask) -> None:
    with pytest.raises(ModelRateLimited, match="Too many of you"):
        await ask(Agent(model=model), "busy")
    with pytest.raises(ModelOverloaded):
        await ask(Agent(model=model), "nothing fits this")
