"""F29: braces in instructions; values that look like templates."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent
from tests.cases.kit import add_chat, add_claude, call, claude, go, openai, text_block, ways
from tests.http_server import Server

INSTRUCTIONS = 'Reply as {"name": "{user_name}", "n": 1}. Keep ${expression}, {city}, {0}, {} and {user.name!r:>10}.'
VALUE = "{admin_token} {0.__class__} C:\\new\\1 {user_name}"
FILLED = INSTRUCTIONS.replace("{user_name}", VALUE)
QUESTION = "What is {admin_token}?"


class Secret:
    secret = "s3cr3t"

    def __str__(self) -> str:
        return "an object"


STATE = {"user_name": VALUE, "admin_token": "s3cr3t", "obj": Secret()}


def system_of(server: Server) -> str:
    return server.bodies[-1]["messages"][0]["content"]


def agent_with(server: Server, **options: Any) -> Agent[Any]:
    return Agent(model=openai(server), session_state=dict(STATE), **{"add_state_in_messages": True, **options})


@ways
async def test_a_bare_known_name_is_filled_once_and_all_else_stays(server: Server, way: str) -> None:
    add_chat(server, way, "ok")
    await go(agent_with(server, instructions=INSTRUCTIONS), way, QUESTION)

    assert system_of(server) == FILLED
    assert server.bodies[0]["messages"][1] == {"role": "user", "content": QUESTION}
    assert "s3cr3t" not in str(server.bodies)


async def test_anthropics_system_text_is_the_same(server: Server) -> None:
    add_claude(server, "plain", text_block("ok"))
    await go(agent_with(server, instructions=INSTRUCTIONS).copy(model=claude(server)), "plain", QUESTION)

    assert server.bodies[0]["system"] == FILLED


@pytest.mark.parametrize(
    "text",
    [
        "Hi {obj.secret} {obj.__class__.__init__.__globals__}",
        "Hi {obj[secret]} {obj!r} {obj:>9} { obj } {obj!s:x}",
        "100% {} %s %(admin_token)s $admin_token ${admin_token_} {{",
        "{'admin_token'} {\"admin_token\"} {admin_token.upper()}",
        "}{ {{}} {a{b}c} \\g<1> \\1",
        'def f(): return {"a": {1: 2}, "b": {x for x in y}}',
    ],
)
async def test_what_is_no_bare_name_stays_as_written(server: Server, text: str) -> None:
    add_chat(server, "plain", "ok")
    await go(agent_with(server, instructions=text), "plain", QUESTION)

    assert "s3cr3t" not in str(server.bodies)
    assert system_of(server) == text.replace("{{}}", "{{}}")


@pytest.mark.parametrize("option", ["description", "instructions", "expected_output", "additional_context"])
async def test_each_text_of_the_agents_author_is_filled(server: Server, option: str) -> None:
    add_chat(server, "plain", "ok")
    await go(agent_with(server, **{option: "For {user_name}, {city}."}), "plain", QUESTION)

    assert f"For {VALUE}, {{city}}." in system_of(server)
    assert "s3cr3t" not in str(server.bodies)


async def test_a_list_and_a_function_of_instructions_are_filled_too(server: Server) -> None:
    for instructions in (["First {user_name}.", "Then {city}."], lambda: "First {user_name}. Then {city}."):
        add_chat(server, "plain", "ok")
        await go(agent_with(server, instructions=instructions), "plain", QUESTION)
        assert f"First {VALUE}." in system_of(server) and "Then {city}." in system_of(server)


@ways
async def test_with_the_feature_off_all_is_sent_verbatim(server: Server, way: str) -> None:
    add_chat(server, way, "ok")
    await go(agent_with(server, instructions=INSTRUCTIONS, add_state_in_messages=False), way, QUESTION)

    assert system_of(server) == INSTRUCTIONS


async def test_what_tools_and_users_said_is_never_filled_in_later_turns(server: Server) -> None:
    def say() -> str:
        return "the tool says {admin_token}"

    agent = agent_with(server, instructions=INSTRUCTIONS, tools=[say], session_id="s", add_history_to_messages=True)
    add_chat(server, "plain", calls=[call("c1", "say", '{"x": "{admin_token}"}')])
    add_chat(server, "plain", "{admin_token}, as you wish")
    add_chat(server, "plain", "ok")
    await go(agent, "plain", QUESTION)
    await go(agent, "plain", "again {admin_token}")

    assert "s3cr3t" not in str(server.bodies)
    assert [m["content"] for m in server.bodies[2]["messages"][1:]] == [
        QUESTION,
        None,
        "the tool says {admin_token}",
        "{admin_token}, as you wish",
        "again {admin_token}",
    ]
