"""F25: Gemini: signatures, results in one turn, responses that are objects."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from agentrt import Agent, RunStatus, tool
from agentrt.models.google import Gemini
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.kit import all_ways, go, is_streamed, ways
from tests.http_server import Server

CONTENT = {
    "role": "model",
    "parts": [
        {"functionCall": {"name": "add", "args": {"a": 1, "b": 2}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "add", "args": {"a": 3, "b": 4}}},
    ],
}
DONE = {"role": "model", "parts": [{"text": "3 and 7."}]}


def gemini(server: Server) -> Gemini:
    return Gemini(id="gemini-test", api_key="test", base_url=server.url, retry_delay_s=0.001)


def add_answer(server: Server, way: str, content: dict[str, Any]) -> None:
    """Queue an answer of this content, as a body or part by part."""
    contents = [content | {"parts": [part]} for part in content["parts"]] if is_streamed(way) else [content]
    chunks: list[dict[str, Any]] = [{"candidates": [{"content": one}]} for one in contents]
    chunks[-1]["candidates"][0]["finishReason"] = "STOP"
    if is_streamed(way):
        server.add(body=b"".join(b"data: %s\r\n\r\n" % json.dumps(chunk).encode() for chunk in chunks))
    else:
        server.add(json=chunks[0])


def responses(*results: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": [{"functionResponse": {"name": "add", "response": one}} for one in results]}


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@all_ways
async def test_both_calls_go_back_as_they_came_and_their_results_together(server: Server, way: str) -> None:
    add_answer(server, way, CONTENT)
    add_answer(server, way, DONE)

    outcome = await go(Agent(model=gemini(server), tools=[add]), way)

    assert outcome.response.content == "3 and 7."
    assert server.bodies[1]["contents"][1:] == [CONTENT, responses({"result": 3}, {"result": 7})]


@ways
async def test_a_failure_of_the_first_leaves_the_second_its_own_result(server: Server, way: str) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        if a == 1:
            raise ValueError("cannot add 1")
        return a + b

    add_answer(server, way, CONTENT)
    add_answer(server, way, DONE)

    await go(Agent(model=gemini(server), tools=[add]), way)

    first, second = server.bodies[1]["contents"][2]["parts"]
    assert server.bodies[1]["contents"][1] == CONTENT
    assert list(first["functionResponse"]["response"]) == ["error"]
    assert "cannot add 1" in first["functionResponse"]["response"]["error"]
    assert second == responses({"result": 7})["parts"][0]


@ways
async def test_an_id_that_a_call_had_is_on_the_call_and_its_result(server: Server, way: str) -> None:
    first, second = CONTENT["parts"]
    content = {"role": "model", "parts": [first, {"functionCall": second["functionCall"] | {"id": "fc-2"}}]}
    add_answer(server, way, content)
    add_answer(server, way, DONE)

    await go(Agent(model=gemini(server), tools=[add]), way)

    assert server.bodies[1]["contents"][1] == content
    results = [part["functionResponse"] for part in server.bodies[1]["contents"][2]["parts"]]
    assert [one.get("id") for one in results] == [None, "fc-2"]


@ways
async def test_the_next_run_of_the_session_sends_the_same_from_storage(
    server: Server, way: str, tmp_path: Path
) -> None:
    add_answer(server, way, CONTENT)
    add_answer(server, way, DONE)
    add_answer(server, way, DONE)
    options: dict[str, Any] = {"tools": [add], "add_history_to_messages": True}

    for question in ("hi", "again"):
        storage = SqliteStorage(db_file=str(tmp_path / "runs.db"))
        await go(Agent(model=gemini(server), storage=storage, **options), way, question, session_id="s")
        await storage.aclose()

    assert server.bodies[2]["contents"][1:3] == [CONTENT, responses({"result": 3}, {"result": 7})]


async def test_confirmed_calls_go_on_in_another_process(server: Server, tmp_path: Path) -> None:
    add_answer(server, "plain", CONTENT)
    add_answer(server, "plain", DONE)
    storage = SqliteStorage(db_file=str(tmp_path / "runs.db"))
    tools = [tool(requires_confirmation=True)(add)]
    paused = await Agent(agent_id="a", model=gemini(server), tools=tools, storage=storage).arun("hi", session_id="s")
    await storage.aclose()
    assert paused.status is RunStatus.PAUSED

    script = f"""
import asyncio
from agentrt import Agent, tool
from agentrt.models.google import Gemini
from agentrt.runtime import Runtime
from agentrt.run.decisions import Confirm
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.test_f25 import add

async def main():
    model = Gemini(id="gemini-test", api_key="test", base_url={server.url!r})
    storage = SqliteStorage(db_file={str(tmp_path / "runs.db")!r})
    agent = Agent(agent_id="a", model=model, tools=[tool(requires_confirmation=True)(add)], storage=storage)
    async with Runtime(agents=[agent], storage=storage) as runtime:
        for call_id in {[one.tool_call_id for one in paused.tools_requiring_confirmation]!r}:
            await runtime.decide({paused.run_id!r}, call_id, Confirm())
        response = await runtime.continue_run({paused.run_id!r})
        print(response.content)

asyncio.run(main())
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script]
    done = await asyncio.to_thread(subprocess.run, command, cwd=root, capture_output=True, text=True, timeout=30)

    assert done.stdout.strip() == "3 and 7.", done.stderr
    assert server.bodies[1]["contents"][1:] == [CONTENT, responses({"result": 3}, {"result": 7})]
