"""F35: a typed answer that is cut, refused or filtered."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from agentrt import Agent
from agentrt.errors import ContentFiltered, ModelRefused, OutputTruncated, OutputValidationError
from tests.cases.kit import add_chat, claude, go, openai, ways
from tests.cases.kit import add_claude as add_claude_answer
from tests.http_server import Server, chat_chunk, chat_usage, sse

REFUSAL = "I can't help with that."


class Answer(BaseModel):
    text: str
    tags: list[str] = []


@pytest.mark.parametrize("content", ['{"text":"abc","tags":["x"', '{"text":"abc"} and then', ""])
@ways
async def test_a_cut_answer_is_an_error_that_says_so(server: Server, way: str, content: str) -> None:
    add_chat(server, way, content, finish="length")
    outcome = await go(Agent(model=openai(server), response_model=Answer), way)

    assert isinstance(outcome.error, OutputTruncated)
    assert "truncated" in str(outcome.error)
    assert outcome.error.text == content
    assert outcome.response.content == content
    assert outcome.response.stop_reason == "output_limit"
    assert len(server.requests) == 1


@ways
async def test_an_answer_that_ended_just_at_the_limit_is_whole(server: Server, way: str) -> None:
    add_chat(server, way, '{"text":"abc"}\n\n\n', finish="length")
    outcome = await go(Agent(model=openai(server), response_model=Answer), way)
    assert outcome.response.content == Answer(text="abc")


@pytest.mark.parametrize("content", [None, ""])
@ways
async def test_a_refusal_is_told_from_a_failure(server: Server, way: str, content: str | None) -> None:
    add_chat(server, way, content, refusal=REFUSAL)
    outcome = await go(Agent(model=openai(server), response_model=Answer), way)

    assert isinstance(outcome.error, ModelRefused)
    assert outcome.error.text == REFUSAL
    assert outcome.response.is_refusal
    assert outcome.response.stop_reason == "refusal"
    assert len(server.requests) == 1


async def test_a_refusal_in_pieces_adds_up(server: Server) -> None:
    chunks: list[Any] = [chat_chunk({"refusal": piece}) for piece in ("I can't ", "help with ", "that.")]
    server.add(body=sse(*chunks, chat_chunk({}, "stop"), chat_chunk(None, usage=chat_usage())))
    outcome = await go(Agent(model=openai(server), response_model=Answer), "streamed")
    assert isinstance(outcome.error, ModelRefused)
    assert outcome.error.text == REFUSAL


@ways
async def test_claude_refuses_in_its_own_way(server: Server, way: str) -> None:
    add_claude_answer(server, way, {"type": "text", "text": REFUSAL}, stop="refusal")
    outcome = await go(Agent(model=claude(server, id="claude-sonnet-4-5"), response_model=Answer), way)
    assert isinstance(outcome.error, ModelRefused)
    assert len(server.requests) == 1


@ways
async def test_a_filtered_answer_is_reported_as_such(server: Server, way: str) -> None:
    add_chat(server, way, "", finish="content_filter")
    outcome = await go(Agent(model=openai(server), response_model=Answer), way)
    assert isinstance(outcome.error, ContentFiltered)
    assert len(server.requests) == 1


@ways
async def test_an_answer_in_prose_is_an_error_with_the_text_after_one_repair(server: Server, way: str) -> None:
    for _ in range(2):
        add_chat(server, way, "I'd rather not.")
    outcome = await go(Agent(model=openai(server), response_model=Answer), way)
    assert isinstance(outcome.error, OutputValidationError)
    assert outcome.error.text == "I'd rather not."
    assert len(server.requests) == 2


@pytest.mark.parametrize("content", [None, ""])
@ways
async def test_without_a_type_the_refusal_is_the_answer_and_flagged(
    server: Server, way: str, content: str | None
) -> None:
    add_chat(server, way, content, refusal=REFUSAL)
    outcome = await go(Agent(model=openai(server)), way)
    assert outcome.error is None
    assert (outcome.response.content, outcome.response.is_refusal) == (REFUSAL, True)
    assert outcome.response.stop_reason == "refusal"
