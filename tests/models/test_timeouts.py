from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import openai as _  # noqa: F401  loaded before any clock runs
import pytest

from agentrt import Agent
from agentrt.errors import ModelTimeout
from agentrt.models._attempt import attempt
from agentrt.models.base import ModelRequest, TextDelta
from agentrt.models.message import Message
from agentrt.testing import Gate, ScriptedModel, reply
from tests.cases.kit import add_chat, go, only_this_task, openai
from tests.http_server import Reply, Server, chat_chunk, chat_stream, completion, sse

HALF = sse(chat_chunk({"content": "Half"}), done=False)


@pytest.mark.parametrize("option", ["timeout_s", "first_token_timeout_s"])
async def test_an_answer_that_does_not_begin_is_asked_for_again(server: Server, option: str) -> None:
    server.add(body=[server.gate()])
    add_chat(server, "streamed", "Fine")
    outcome = await go(Agent(model=openai(server, max_retries=1, **{option: 0.2})), "streamed")

    assert outcome.response.content == "Fine"
    await server.until(lambda: server.interrupted == 1)


@pytest.mark.parametrize("option", ["timeout_s", "between_tokens_timeout_s"])
async def test_an_answer_that_stops_is_a_timeout_and_keeps_what_came(server: Server, option: str) -> None:
    server.add(body=[HALF, server.gate()])
    outcome = await go(Agent(model=openai(server, **{option: 0.3})), "streamed")

    assert isinstance(outcome.error, ModelTimeout) and option in str(outcome.error)
    assert outcome.response.messages[-1].content == "Half" and outcome.response.messages[-1].incomplete
    assert len(server.requests) == 1
    await server.until(lambda: server.interrupted == 1)


async def test_one_piece_has_no_first_token(server: Server) -> None:
    """A plain run waits for the whole answer: only the limit of the whole counts."""
    server.add(
        Reply(body=[0.15, json.dumps(completion("Fine")).encode()], headers={"content-type": "application/json"})
    )
    model = openai(server, first_token_timeout_s=0.01, between_tokens_timeout_s=0.01)

    assert (await Agent(model=model).arun("hi")).content == "Fine"


async def test_the_time_that_the_reader_takes_is_not_the_models(server: Server) -> None:
    server.add(body=[chat_stream("a", "b")])
    model = openai(server, between_tokens_timeout_s=0.2, first_token_timeout_s=5)
    texts: list[str] = []
    async with aclosing(attempt(model, ModelRequest(messages=[Message.of("hi")]))) as deltas:
        async for delta in deltas:
            if isinstance(delta, TextDelta):
                texts.append(delta.text)
                await asyncio.sleep(0.3)

    assert texts == ["a", "b"]


async def test_any_model_has_these_limits() -> None:
    gate = Gate()
    model = ScriptedModel(reply("Half of it", gate=gate, gate_after=1), max_retries=0, timeout_s=0.05)

    with pytest.raises(ModelTimeout, match=r"timeout_s=0\.05"):
        await Agent(model=model).arun("hi")


@pytest.mark.parametrize("way", ["break", "other task"])
async def test_leaving_a_limited_answer_leaves_nothing_behind(server: Server, way: str) -> None:
    server.add(body=[HALF, server.gate()])
    model = openai(server, timeout_s=30, first_token_timeout_s=30, between_tokens_timeout_s=30)
    deltas: Any = attempt(model, ModelRequest(messages=[Message.of("hi")]))
    async with asyncio.timeout(5):
        assert await anext(deltas) == TextDelta("Half")
        if way == "break":
            await deltas.aclose()
        else:  # as servers do that close a generator from where it was not read
            await asyncio.create_task(deltas.aclose())

        await server.until(lambda: server.interrupted == 1)
        await only_this_task()
