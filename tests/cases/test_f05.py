"""F05: an error inside an HTTP 200."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent, RunStatus, errors
from agentrt.storage.in_memory import InMemoryStorage
from tests.cases.kit import Outcome, add_chat, add_claude, all_ways, claude, go, is_streamed, openai, text_block, ways
from tests.http_server import Reply, Server, chat_chunk, sse, sse_events

AT_ONCE = {"choices": [], "error": {"code": 502, "message": "upstream worker limit reached", "metadata": {}}}
START = {
    "type": "message_start",
    "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude-test",
                "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": 1}},
}  # fmt: skip
PART = [
    START,
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Part"}},
]
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def failed(outcome: Outcome, kind: type[errors.ModelError], message: str) -> errors.ModelError:
    assert isinstance(outcome.error, kind)
    assert message in str(outcome.error) and "200" not in str(outcome.error)
    assert outcome.response.status is RunStatus.FAILED and message in (outcome.response.error or "")
    assert "RunCompleted" not in outcome.names
    if outcome.events:
        assert outcome.names[-1] == "RunError"
    return outcome.error


@all_ways
async def test_an_error_at_once_is_the_servers_and_carries_its_words(server: Server, way: str) -> None:
    server.add(Reply(body=sse(AT_ONCE)) if is_streamed(way) else Reply(json=AT_ONCE))
    outcome = await go(Agent(model=openai(server, max_retries=0)), way)

    assert failed(outcome, errors.ModelServerError, "upstream worker limit reached").status == 502
    assert len(server.requests) == 1


@all_ways
async def test_before_anything_was_delivered_it_is_tried_again(server: Server, way: str) -> None:
    server.add(Reply(body=sse(AT_ONCE)) if is_streamed(way) else Reply(json=AT_ONCE))
    add_chat(server, way, "Fine")
    outcome = await go(Agent(model=openai(server, max_retries=1)), way)

    assert outcome.response.content == "Fine" and outcome.error is None
    assert len(server.requests) == 2


async def test_an_error_after_text_is_not_tried_again_and_the_text_stays_marked(server: Server) -> None:
    quota = {"error": {"message": "quota exceeded", "type": "insufficient_quota", "code": "insufficient_quota"}}
    server.add(body=sse(chat_chunk({"content": "The answer"}), quota, done=False))
    outcome = await go(Agent(model=openai(server)), "streamed")

    assert not failed(outcome, errors.ModelQuotaExceeded, "quota exceeded").retryable
    assert outcome.texts == ["The answer"]
    assert outcome.response.content == "The answer" and outcome.response.messages[-1].incomplete
    assert len(server.requests) == 1


async def test_an_anthropic_error_event_is_overload_and_the_text_is_not_given_twice(server: Server) -> None:
    storage = InMemoryStorage()
    server.add(body=sse_events(*PART, OVERLOADED))
    server.add(json={"type": "error", "error": {"type": "invalid_request_error", "message": "stop here"}}, status=400)
    agent = Agent(model=claude(server), storage=storage, session_id="s", add_history_to_messages=True)
    outcome = await go(agent, "streamed")

    assert failed(outcome, errors.ModelOverloaded, "Overloaded").status == 529
    assert outcome.texts == ["Part"] and len(server.requests) == 1
    stored = await storage.load_run(outcome.response.run_id or "")
    assert stored is not None and stored.status is RunStatus.FAILED
    assert stored.messages[-1].content == "Part" and stored.messages[-1].incomplete

    await go(agent, "streamed", "again")  # the cut answer is not replayed as one
    assert [m["role"] for m in server.bodies[1]["messages"]] == ["user"]
    assert "Part" not in str(server.bodies[1])


@ways
async def test_an_anthropic_error_before_any_text_is_tried_again(server: Server, way: str) -> None:
    server.add(Reply(body=sse_events(START, OVERLOADED)) if is_streamed(way) else Reply(json=OVERLOADED))
    add_claude(server, way, text_block("Fine"))
    outcome = await go(Agent(model=claude(server)), way)

    assert outcome.response.content == "Fine" and len(server.requests) == 2


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ({"error": "the worker went away"}, errors.ModelServerError, "the worker went away"),
        ({"error": {"message": "slow down", "code": "429"}}, errors.ModelRateLimited, "slow down"),
        ({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}, errors.ModelOverloaded, "busy"),
        ({"object": "error", "message": "engine dead", "type": "InternalServerError", "code": 500},
         errors.ModelServerError, "engine dead"),
        ({"error": {"message": "bad key", "type": "authentication_error"}}, errors.ModelAuthError, "bad key"),
        ({"error": {"message": "no", "code": "context_length_exceeded"}}, errors.ContextLengthExceeded, "no"),
        ({"error": {"message": "blocked", "code": "content_filter"}}, errors.ContentFiltered, "blocked"),
        ({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error",
                       "error": {"code": 502, "message": "lost"}}]}, errors.ModelServerError, "lost"),
        ({"detail": "worker limit", "error": True}, errors.ModelServerError, "worker limit"),
    ],
)  # fmt: skip
async def test_errors_of_other_servers_in_a_stream_end_the_run(
    server: Server, error: dict[str, Any], kind: type[errors.ModelError], message: str
) -> None:
    server.add(body=sse(chat_chunk({"role": "assistant", "content": "Hm"}), error))
    outcome = await go(Agent(model=openai(server)), "streamed")

    failed(outcome, kind, message)
    assert len(server.requests) == 1


async def test_an_error_event_by_name_ends_the_run(server: Server) -> None:
    server.add(body=b'event: error\ndata: {"message": "too hot", "code": 500}\n\ndata: [DONE]\n\n')
    outcome = await go(Agent(model=openai(server, max_retries=0)), "streamed")

    failed(outcome, errors.ModelServerError, "too hot")
