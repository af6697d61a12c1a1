"""F24: the Responses API: two ids, and reasoning before its call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunStatus, tool
from agentrt.errors import ContentFiltered, OutputTruncated
from agentrt.models.openai import OpenAIResponses
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.kit import all_ways, go, is_streamed, ways
from tests.http_server import Server, sse_events

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "lookup", "arguments": '{"q":"tide"}',
        "status": "completed"}  # fmt: skip
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "at noon"}
TEXT = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "At noon.", "annotations": []}]}  # fmt: skip


def responses(server: Server, **options: Any) -> OpenAIResponses:
    return OpenAIResponses(**{"id": "gpt-5", "api_key": "test", "base_url": server.url, **options})


def add(server: Server, way: str, *output: dict[str, Any], number: int = 1) -> None:
    """Queue an answer of these output items, as a body or as a stream of events."""
    response = {"id": f"resp_{number}", "model": "gpt-5", "status": "completed", "output": output}
    if not is_streamed(way):
        server.add(json=response)
        return
    events: list[dict[str, Any]] = []
    for index, item in enumerate(output):
        at = {"output_index": index}
        events.append({"type": "response.output_item.added", "item": {**item, "arguments": "", "content": []}, **at})
        if item["type"] == "function_call":
            events.append({"type": "response.function_call_arguments.delta", "delta": item["arguments"], **at})
        elif item["type"] == "message":
            text = item["content"][0]["text"]
            events.append({"type": "response.output_text.delta", "delta": text, "content_index": 0, **at})
        events.append({"type": "response.output_item.done", "item": item, **at})
    server.add(body=sse_events(*events, {"type": "response.completed", "response": response}))


def lookup(q: str) -> str:
    """Look something up."""
    assert q == "tide"
    return "at noon"


@all_ways
async def test_without_a_stored_response_the_reasoning_its_call_and_the_result_are_repeated(
    server: Server, way: str
) -> None:
    add(server, way, REASONING, CALL)
    add(server, way, TEXT)
    outcome = await go(Agent(model=responses(server), tools=[lookup]), way)

    assert outcome.response.content == "At noon."
    assert [one.tool_call_id for one in outcome.response.tools] == ["call_1"]
    assert server.bodies[1]["input"] == [{"role": "user", "content": "hi"}, REASONING, CALL, OUTPUT]
    assert server.bodies[0]["store"] is False and "previous_response_id" not in server.bodies[1]


@all_ways
async def test_with_a_stored_response_only_the_result_is_sent(server: Server, way: str) -> None:
    add(server, way, REASONING, CALL)
    add(server, way, TEXT, number=2)
    agent = Agent(model=responses(server, store=True), tools=[lookup], instructions="Be brief.")
    outcome = await go(agent, way)

    assert outcome.response.content == "At noon."
    assert server.bodies[1]["input"] == [OUTPUT] and server.bodies[1]["previous_response_id"] == "resp_1"
    assert "Be brief." in server.bodies[1]["instructions"]


@ways
async def test_the_next_question_refers_to_the_last_stored_answer(server: Server, way: str) -> None:
    add(server, way, TEXT)
    add(server, way, TEXT, number=2)
    agent = Agent(model=responses(server, store=True), session_id="s", add_history_to_messages=True)
    await go(agent, way, "first")
    await go(agent, way, "second")

    assert server.bodies[1]["input"] == [{"role": "user", "content": "second"}]
    assert server.bodies[1]["previous_response_id"] == "resp_1"


@ways
async def test_a_turn_that_history_cut_off_leaves_no_half_of_it(server: Server, way: str) -> None:
    add(server, way, REASONING, CALL)
    add(server, way, TEXT)
    add(server, way, TEXT)
    add(server, way, TEXT)
    agent = Agent(
        model=responses(server), tools=[lookup], session_id="s", add_history_to_messages=True, num_history_runs=1
    )
    for question in ("first", "second", "third"):
        await go(agent, way, question)

    kinds = [[item.get("type", item.get("role")) for item in body["input"]] for body in server.bodies[2:]]
    assert kinds[0] == ["user", "reasoning", "function_call", "function_call_output", "assistant", "user"]
    assert kinds[1] == ["user", "assistant", "user"]


@pytest.mark.parametrize("store", [False, True])
async def test_a_confirmed_call_goes_on_in_another_process(server: Server, tmp_path: Path, store: bool) -> None:
    add(server, "plain", REASONING, CALL)
    add(server, "plain", TEXT, number=2)
    storage = SqliteStorage(db_file=str(tmp_path / "runs.db"))
    agent = Agent(
        agent_id="a",
        model=responses(server, store=store),
        tools=[tool(requires_confirmation=True)(lookup)],
        storage=storage,
    )
    paused = await agent.arun("hi", session_id="s")
    await storage.aclose()

    assert paused.status is RunStatus.PAUSED
    assert [one.tool_call_id for one in paused.tools_requiring_confirmation] == ["call_1"]

    script = f"""
import asyncio
from agentrt import Agent, tool
from agentrt.models.openai import OpenAIResponses
from agentrt.runtime import Runtime
from agentrt.run.decisions import Confirm
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.test_f24 import lookup

async def main():
    model = OpenAIResponses(id="gpt-5", api_key="test", base_url={server.url!r}, store={store})
    storage = SqliteStorage(db_file={str(tmp_path / "runs.db")!r})
    agent = Agent(agent_id="a", model=model, tools=[tool(requires_confirmation=True)(lookup)], storage=storage)
    async with Runtime(agents=[agent], storage=storage) as runtime:
        await runtime.decide({paused.run_id!r}, "call_1", Confirm())
        response = await runtime.continue_run({paused.run_id!r})
        print(response.content)

asyncio.run(main())
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script]
    done = await asyncio.to_thread(subprocess.run, command, cwd=root, capture_output=True, text=True, timeout=30)

    assert done.stdout.strip() == "At noon.", done.stderr
    assert server.bodies[1]["input"][-1] == OUTPUT
    if store:
        assert server.bodies[1]["previous_response_id"] == "resp_1" and len(server.bodies[1]["input"]) == 1
    else:
        assert server.bodies[1]["input"][1:3] == [REASONING, CALL]


# --- F35 in this protocol ---------------------------------------------------------------------------------------------


def ended(server: Server, way: str, content: dict[str, Any], reason: str | None) -> None:
    """Queue an answer that ended early, or with a refusal."""
    item = {**TEXT, "content": [content]}
    response = {
        "id": "resp_1", "model": "gpt-5", "status": "incomplete" if reason else "completed", "output": [item],
        "incomplete_details": {"reason": reason} if reason else None,
    }  # fmt: skip
    if is_streamed(way):
        done = {"type": "response.output_item.done", "output_index": 0, "item": item}
        server.add(body=sse_events(done, {"type": f"response.{response['status']}", "response": response}))
    else:
        server.add(json=response)


@ways
async def test_a_cut_answer_says_so(server: Server, way: str) -> None:
    ended(server, way, {"type": "output_text", "text": "At no", "annotations": []}, "max_output_tokens")
    outcome = await go(Agent(model=responses(server)), way)

    assert outcome.response.content == "At no" and outcome.response.stop_reason == "output_limit"


@ways
async def test_a_refusal_is_the_answer_and_flagged(server: Server, way: str) -> None:
    ended(server, way, {"type": "refusal", "refusal": "I can't help with that."}, None)
    outcome = await go(Agent(model=responses(server)), way)

    assert outcome.response.content == "I can't help with that." and outcome.response.stop_reason == "refusal"
    assert outcome.response.messages[-1].refusal and len(server.requests) == 1


@ways
async def test_what_the_filter_withheld_is_an_error(server: Server, way: str) -> None:
    ended(server, way, {"type": "output_text", "text": "", "annotations": []}, "content_filter")
    outcome = await go(Agent(model=responses(server)), way)

    assert isinstance(outcome.error, ContentFiltered)


@ways
async def test_a_call_that_was_cut_is_not_made(server: Server, way: str) -> None:
    cut = {**CALL, "arguments": '{"q":"ti', "status": "incomplete"}
    response = {"id": "resp_1", "model": "gpt-5", "status": "incomplete", "output": [REASONING, cut],
                "incomplete_details": {"reason": "max_output_tokens"}}  # fmt: skip
    if is_streamed(way):
        server.add(body=sse_events({"type": "response.incomplete", "response": response}))
    else:
        server.add(json=response)
    outcome = await go(Agent(model=responses(server), tools=[lookup]), way)

    assert isinstance(outcome.error, OutputTruncated) and len(server.requests) == 1
