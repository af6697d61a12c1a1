"""F01: chunks whose `choices` are empty, before, between and after the answer."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent, RunStatus
from tests.cases.kit import go, openai
from tests.http_server import Server, chat_chunk, sse

FILTER = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
USAGE: dict[str, Any] = {"usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}}


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"id": None, "created": None, "model": None, "object": ""},
        {"choices": None},
    ],
    ids=["bare", "azure", "null"],
)
async def test_the_answer_is_two_pieces_and_the_late_usage_counts(server: Server, extra: dict[str, Any]) -> None:
    empty = {"choices": []} | extra
    server.add(
        body=sse(
            empty | FILTER,
            chat_chunk({"role": "assistant", "content": "Good "}),
            empty,
            chat_chunk({"content": "morning"}),
            chat_chunk({}, "stop"),
            empty | USAGE,
        )
    )
    outcome = await go(Agent(model=openai(server)), "streamed")

    assert outcome.response.content == "Good morning"
    assert outcome.texts == ["Good ", "morning"]
    assert (outcome.response.usage.input_tokens, outcome.response.usage.output_tokens) == (12, 3)
    assert outcome.response.status is RunStatus.COMPLETED and outcome.names[-1] == "RunCompleted"
    assert len(server.requests) == 1


async def test_usage_beside_the_finish_reason_and_again_alone_is_counted_once(server: Server) -> None:
    server.add(body=sse(chat_chunk({"content": "x"}), chat_chunk({}, "stop", **USAGE), chat_chunk(None, **USAGE)))
    outcome = await go(Agent(model=openai(server)), "streamed")

    assert outcome.response.usage.total_tokens == 15
    assert outcome.response.usage.model_calls == 1


async def test_usage_after_the_finish_reason_counts_when_done_is_missing(server: Server) -> None:
    server.add(body=sse(chat_chunk({"content": "x"}), chat_chunk({}, "stop"), chat_chunk(None, **USAGE), done=False))
    outcome = await go(Agent(model=openai(server)), "streamed")

    assert outcome.response.usage.total_tokens == 15


async def test_usage_of_all_calls_of_a_run_adds_up(server: Server) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "ping", "arguments": "{}"}}
    server.add(body=sse(chat_chunk({"tool_calls": [call]}), chat_chunk({}, "tool_calls"), chat_chunk(None, **USAGE)))
    server.add(body=sse(chat_chunk({"content": "x"}), chat_chunk({}, "stop"), chat_chunk(None, **USAGE)))

    def ping() -> str:
        return "pong"

    outcome = await go(Agent(model=openai(server), tools=[ping]), "streamed")

    assert (outcome.response.usage.input_tokens, outcome.response.usage.output_tokens) == (24, 6)
    assert outcome.response.usage.model_calls == 2
