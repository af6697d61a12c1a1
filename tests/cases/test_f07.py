"""F07: reasoning under two spellings."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent
from tests.cases.kit import all_ways, go, is_streamed, openai
from tests.http_server import Server, chat_chunk, chat_stream, completion, sse


async def test_both_spellings_are_read_once_and_streamed_apart(server: Server) -> None:
    server.add(
        body=sse(
            chat_chunk({"role": "assistant", "content": "", "reasoning": "Two plus "}),
            chat_chunk({"content": "", "reasoning_content": "two.", "reasoning": "two."}),
            chat_chunk({"content": "4", "reasoning": None}),
            chat_chunk({}, "stop"),
        )
    )
    outcome = await go(Agent(model=openai(server)), "streamed")

    assert outcome.response.content == "4"
    assert outcome.response.reasoning_content == "Two plus two."
    assert outcome.texts == ["4"]
    assert [e.content for e in outcome.events if e.event == "ReasoningContent"] == ["Two plus ", "two."]


SPELLINGS: list[dict[str, Any]] = [
    {"reasoning": "Two plus two."},
    {"reasoning_content": "Two plus two."},
    {"reasoning": "Two plus two.", "reasoning_content": "Two plus two."},
    {"reasoning": None, "reasoning_content": "Two plus two."},
    {"reasoning": "Two plus two.", "reasoning_content": ""},
    {"reasoning": "Two plus two.", "reasoning_details": [{"type": "reasoning.text", "text": "Two plus two."}]},
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@all_ways
async def test_each_spelling_is_the_reasoning(server: Server, way: str, spelling: dict[str, Any]) -> None:
    if is_streamed(way):
        server.add(
            body=sse(chat_chunk(spelling | {"content": ""}), chat_chunk({"content": "4"}), chat_chunk({}, "stop"))
        )
    else:
        server.add(json=completion("4", **spelling))
    outcome = await go(Agent(model=openai(server)), way)

    assert (outcome.response.content, outcome.response.reasoning_content) == ("4", "Two plus two.")


async def test_reasoning_is_not_sent_back_as_an_answer(server: Server) -> None:
    server.add(
        body=sse(chat_chunk({"reasoning": "Two plus two."}), chat_chunk({"content": "4"}), chat_chunk({}, "stop"))
    )
    server.add(body=chat_stream("5"))
    agent = Agent(model=openai(server), session_id="s", add_history_to_messages=True)
    await go(agent, "streamed")
    await go(agent, "streamed", "plus one")

    assert [(m["role"], m["content"]) for m in server.bodies[1]["messages"]] == [
        ("user", "hi"),
        ("assistant", "4"),
        ("user", "plus one"),
    ]
