"""F06: the connection ends without a terminal event."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent, RunStatus, errors
from tests.cases.kit import claude, go, openai
from tests.cases.pairing import check_chat
from tests.http_server import Server, chat_chunk, chat_stream, sse, sse_events

ends = pytest.mark.parametrize("end", ["clean", "close", "reset"])


@ends
async def test_a_cut_text_is_an_error_and_no_answer_of_the_session(server: Server, end: Any) -> None:
    server.add(body=[sse(chat_chunk({"role": "assistant", "content": "Step 1: open the"}), done=False)], end=end)
    server.add(body=chat_stream("Once more"))
    agent = Agent(model=openai(server), session_id="s", add_history_to_messages=True)
    outcome = await go(agent, "streamed")

    assert isinstance(outcome.error, errors.ModelStreamInterrupted)
    assert "ended early" in str(outcome.error) and "limit" not in str(outcome.error)
    assert outcome.response.status is RunStatus.FAILED
    assert outcome.response.content == "Step 1: open the"
    assert len(server.requests) == 1

    again = await go(agent, "streamed", "again")
    assert again.response.content == "Once more"
    assert [(m["role"], m["content"]) for m in server.bodies[1]["messages"]] == [("user", "hi"), ("user", "again")]


@ends
@pytest.mark.parametrize("retries", [0, 2])
async def test_a_call_that_looks_complete_is_not_made(server: Server, end: Any, retries: int) -> None:
    deleted: list[int] = []

    def delete_row(id: int) -> str:
        deleted.append(id)
        return "gone"

    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "delete_row", "arguments": '{"id": 7}'},
    }
    server.add(body=[sse(chat_chunk({"role": "assistant", "tool_calls": [call]}), done=False)], end=end)
    server.add(body=chat_stream("Never mind"))
    agent = Agent(
        model=openai(server, max_retries=retries), tools=[delete_row], session_id="s", add_history_to_messages=True
    )
    outcome = await go(agent, "streamed")

    assert isinstance(outcome.error, errors.ModelStreamInterrupted)
    assert deleted == [] and len(server.requests) == 1
    assert outcome.response.tools == []
    assert (await go(agent, "streamed", "again")).response.content == "Never mind"
    check_chat(server.bodies[1])


@ends
async def test_a_finish_reason_without_done_is_a_normal_end(server: Server, end: Any) -> None:
    server.add(body=[sse(chat_chunk({"content": "Done."}), chat_chunk({}, "stop"), done=False)], end=end)
    outcome = await go(Agent(model=openai(server)), "streamed")

    assert outcome.error is None and outcome.response.content == "Done."
    assert outcome.response.status is RunStatus.COMPLETED


async def test_a_call_with_its_finish_reason_but_without_done_is_made(server: Server) -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "ping", "arguments": "{}"}}
    server.add(body=sse(chat_chunk({"tool_calls": [call]}), chat_chunk({}, "tool_calls"), done=False))
    server.add(body=chat_stream("Done."))

    def ping() -> str:
        return "pong"

    outcome = await go(Agent(model=openai(server), tools=[ping]), "streamed")
    assert outcome.response.content == "Done." and outcome.response.tools[0].result == "pong"


@ends
async def test_an_anthropic_call_without_stop_reason_is_not_made(server: Server, end: Any) -> None:
    deleted: list[int] = []

    def delete_row(id: int) -> None:
        deleted.append(id)

    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"content": [], "model": "m", "usage": {"input_tokens": 1}}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "toolu_1", "name": "delete_row", "input": {}},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"id": 7}'}},
        {"type": "content_block_stop", "index": 0},
    ]
    server.add(body=[sse_events(*events)], end=end)
    outcome = await go(Agent(model=claude(server), tools=[delete_row]), "streamed")

    assert isinstance(outcome.error, errors.ModelStreamInterrupted)
    assert deleted == [] and len(server.requests) == 1


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_whole_answer_that_breaks_off_is_an_error(server: Server, end: Any) -> None:
    server.add(body=[b'{"choices":[{"index":0,"message":{"role":"assi'], headers={"content-type": "application/json"},
               end=end)  # fmt: skip
    outcome = await go(Agent(model=openai(server, max_retries=0)), "plain")

    assert isinstance(outcome.error, errors.ModelConnectionError)
