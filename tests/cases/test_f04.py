"""F04: tool calls whose finish reason says something else."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent
from tests.cases.kit import all_ways, call, go, is_streamed, label, openai
from tests.cases.pairing import check_chat, tool_messages
from tests.http_server import Reply, Server, chat_chunk, chat_stream, completion, sse

ABSENT = object()


def get_time(tz: str) -> str:
    return f"noon in {tz}"


def answer(way: str, finish: Any) -> Reply:
    calls = [call("call_1", "get_time", {"tz": "UTC"})]
    if is_streamed(way):
        last = chat_chunk({}, finish)
        chunks = [
            chat_chunk({"content": "Let me check."}),
            chat_chunk({"tool_calls": [{"index": 0, **calls[0]}]}),
            last,
        ]
        if finish is ABSENT:
            for chunk in chunks:
                del chunk["choices"][0]["finish_reason"]
        return Reply(body=sse(*chunks))
    body = completion("Let me check.")
    body["choices"][0]["message"]["tool_calls"] = calls
    body["choices"][0]["finish_reason"] = finish
    if finish is ABSENT:
        del body["choices"][0]["finish_reason"]
    return Reply(json=body)


@pytest.mark.parametrize("finish", ["stop", "other", None, ABSENT, "function_call", "end_turn", "STOP", ""], ids=label)
@all_ways
async def test_the_tool_runs_and_the_preamble_is_kept(server: Server, way: str, finish: Any) -> None:
    server.add(answer(way, finish))
    server.add(Reply(body=chat_stream("Noon.")) if is_streamed(way) else Reply(json=completion("Noon.")))
    outcome = await go(Agent(model=openai(server), tools=[get_time]), way)

    assert outcome.response.content == "Noon."
    assert len(server.requests) == 2
    check_chat(server.bodies[1])
    assistant = next(m for m in server.bodies[1]["messages"] if m["role"] == "assistant")
    assert assistant["content"] == "Let me check."
    assert tool_messages(server.bodies[1]) == {"call_1": "noon in UTC"}


@all_ways
async def test_a_finish_reason_that_promises_calls_and_brings_none_ends_the_run(server: Server, way: str) -> None:
    if is_streamed(way):
        server.add(body=sse(chat_chunk({"content": "Hello"}), chat_chunk({}, "tool_calls")))
    else:
        server.add(json=completion("Hello", finish_reason="tool_calls", tool_calls=None))
    outcome = await go(Agent(model=openai(server), tools=[get_time]), way)

    assert outcome.response.content == "Hello"
    assert len(server.requests) == 1
