"""F21: the shape of a request to Anthropic: empties, roles, system, limit."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from agentrt import Agent
from agentrt.models.message import Message
from tests.cases.kit import add_claude, call, claude, go, text_block, use_block, ways
from tests.cases.pairing import check_claude
from tests.http_server import Server

HISTORY: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "user", "content": "Still there?"},
    {"role": "assistant", "content": ""},
    {"role": "user", "content": "   "},
    {"role": "assistant", "content": "", "tool_calls": [call("call_1", "ping", "")]},
    {"role": "tool", "tool_call_id": "call_1", "content": ""},
    {"role": "system", "content": "Now answer in French."},
    {"role": "user", "content": "Go on"},
    {"role": "assistant", "content": "Draft "},
]


def texts(body: dict[str, Any]) -> list[str]:
    return [block["text"] for m in body["messages"] for block in m["content"] if block["type"] == "text"]


def roles(body: dict[str, Any]) -> list[str]:
    return [m["role"] for m in body["messages"]]


@pytest.mark.parametrize("as_objects", [False, True])
@ways
async def test_the_history_of_the_case_is_a_valid_request(server: Server, way: str, as_objects: bool) -> None:
    given = [Message.of(one) for one in HISTORY] if as_objects else copy.deepcopy(HISTORY)
    before = copy.deepcopy(given)
    add_claude(server, way, text_block("Bien."))
    await go(Agent(model=claude(server)), way, given)

    body = server.bodies[0]
    check_claude(body)
    assert body["system"] == "Be brief.\n\nNow answer in French."
    assert texts(body) == ["Hi", "Still there?", "Go on", "Draft"]
    assert roles(body) == ["user", "assistant", "user", "assistant"]
    assert body["messages"][1]["content"][0]["input"] == {}
    assert given == before


async def test_the_agents_instructions_come_first_and_nothing_of_the_history_is_dropped(server: Server) -> None:
    add_claude(server, "plain", text_block("Bien."))
    await go(Agent(model=claude(server), instructions="You are kind."), "plain", HISTORY)

    assert server.bodies[0]["system"] == "You are kind.\n\nBe brief.\n\nNow answer in French."


@pytest.mark.parametrize(
    "given",
    [
        [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": " \n "}],
        [{"role": "system", "content": "Only this."}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "  "}, {"role": "user", "content": "b"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}],
        [{"role": "assistant", "content": "x "}, {"role": "assistant", "content": "y "}],
        [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call("c", "t")]}],
        [{"role": "tool", "tool_call_id": "zz", "content": "orphan"}, {"role": "user", "content": "Hi"}],
    ],
)
@ways
async def test_any_history_becomes_a_valid_request(server: Server, way: str, given: list[dict[str, Any]]) -> None:
    add_claude(server, way, text_block("Fine."))
    await go(Agent(model=claude(server)), way, given)

    check_claude(server.bodies[0])
    if roles(server.bodies[0])[-1] == "assistant":
        last = server.bodies[0]["messages"][-1]["content"][-1]
        assert last["text"] == last["text"].rstrip()


@ways
async def test_an_empty_answer_does_not_spoil_the_session(server: Server, way: str) -> None:
    def ping() -> str:
        return ""

    agent = Agent(model=claude(server), tools=[ping], session_id="s", add_history_to_messages=True)
    add_claude(server, way)  # an answer of no blocks at all
    add_claude(server, way, text_block(""), use_block("t1", "ping"))
    add_claude(server, way, text_block(" \n"))
    add_claude(server, way, text_block("Here."))
    outcome = await go(agent, way)
    assert outcome.response.content == ""
    await go(agent, way, "")
    await go(agent, way, "still?")

    for body in server.bodies:
        check_claude(body)
