"""F10: argument strings that are not a JSON object."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentrt import Agent
from agentrt.models.message import Message, ToolCall
from agentrt.run.response import RunStatus
from agentrt.storage.base import RunChange, StoredRun
from agentrt.storage.in_memory import InMemoryStorage
from tests.cases.kit import add_chat, add_claude, all_ways, call, claude, go, label, openai, text_block
from tests.cases.pairing import check_chat, check_claude, sent_calls, tool_messages
from tests.http_server import Server

ABSENT = object()
NOTHING = ["", None, "null", ABSENT, {}, "  \n", "{}", "{ }"]
CITY = {"city": "L'Aquila", "days": 3, "live": True}


class Tools:
    def __init__(self) -> None:
        self.called: list[Any] = []

    def ping(self) -> str:
        self.called.append("ping")
        return "pong"

    def forecast(self, city: str, days: int = 1, live: bool = False) -> str:
        self.called.append({"city": city, "days": days, "live": live})
        return "sun"


def raw_call(name: str, arguments: Any) -> dict[str, Any]:
    function = {"name": name} if arguments is ABSENT else {"name": name, "arguments": arguments}
    return {"id": "c1", "type": "function", "function": function}


async def run_with(server: Server, way: str, name: str, arguments: Any) -> tuple[Tools, str]:
    """Run with one call of these arguments; return what was called and what was sent back of the arguments."""
    tools = Tools()
    add_chat(server, way, calls=[raw_call(name, arguments)])
    add_chat(server, way, "done")
    outcome = await go(Agent(model=openai(server), tools=[tools.ping, tools.forecast]), way)

    assert outcome.response.content == "done"
    check_chat(server.bodies[1])
    return tools, server.bodies[1]["messages"][1]["tool_calls"][0]["function"]["arguments"]


@pytest.mark.parametrize("arguments", NOTHING, ids=label)
@all_ways
async def test_nothing_is_an_empty_object(server: Server, way: str, arguments: Any) -> None:
    tools, sent = await run_with(server, way, "ping", arguments)

    assert tools.called == ["ping"]
    assert json.loads(sent) == {}
    assert tool_messages(server.bodies[1]) == {"c1": "pong"}


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ("{'city': \"L'Aquila\", 'days': 3, 'live': True}", CITY),
        ('{"city": "L\'Aquila", "days": 3, "live": True}', CITY),
        ('{"city": "it\'s Oslo"}', {"city": "it's Oslo"}),
        ({"city": "L'Aquila", "days": 3, "live": True}, CITY),
        (json.dumps(json.dumps(CITY)), CITY),
        ("  " + json.dumps(CITY) + "\n", CITY),
        ('{"city": "Ål", "city": "Bø"}', {"city": "Bø"}),
    ],
)
@all_ways
async def test_what_can_be_read_is_sent_back_as_json(server: Server, way: str, arguments: Any, values: Any) -> None:
    tools, sent = await run_with(server, way, "forecast", arguments)

    assert tools.called == [{"days": 1, "live": False, **values}]
    assert json.loads(sent) == values


@pytest.mark.parametrize(
    "arguments",
    [
        '{"city": "Oslo"',
        "[1, 2]",
        "Oslo",
        "42",
        "true",
        '{"city": NaN}',
        "{'city': open('x')}",
        "{" * 3000,
        '{"city": "Oslo"}}',
    ],
    ids=lambda text: text[:20],
)
@all_ways
async def test_what_cannot_be_read_is_quoted_to_the_model(server: Server, way: str, arguments: str) -> None:
    tools, sent = await run_with(server, way, "forecast", arguments)

    assert tools.called == []
    assert isinstance(json.loads(sent), dict)
    told = tool_messages(server.bodies[1])["c1"]
    assert arguments[:20] in told and len(told) < 1000


async def test_after_a_mistake_a_correct_call_works(server: Server) -> None:
    tools = Tools()
    add_chat(server, "plain", calls=[raw_call("forecast", '{"city": "Oslo"')])
    add_chat(server, "plain", calls=[call("c2", "forecast", {"city": "Oslo"})])
    add_chat(server, "plain", "done")
    outcome = await go(Agent(model=openai(server), tools=[tools.forecast]), "plain")

    assert tools.called == [{"city": "Oslo", "days": 1, "live": False}]
    assert [tool.tool_call_error for tool in outcome.response.tools] == [True, False]
    assert outcome.response.messages[1].tool_calls[0].raw_arguments == '{"city": "Oslo"'  # pyright: ignore


STORED = [
    ("", {}),
    (None, {}),
    ("null", {}),
    ({}, {}),
    ({"city": "Oslo"}, {"city": "Oslo"}),
    ("{'city': \"L'Aquila\", 'days': 3, 'live': True}", CITY),
    ('{"city": "it\'s Oslo"}', {"city": "it's Oslo"}),
    ('{"city": "Oslo"', {}),
]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize(("arguments", "values"), STORED)
async def test_a_stored_message_with_such_arguments_can_be_sent(
    server: Server, provider: str, arguments: Any, values: dict[str, Any]
) -> None:
    storage = InMemoryStorage()
    old = [
        Message(role="user", content="q"),
        Message(role="assistant", tool_calls=[ToolCall(id="c1", name="forecast", arguments=arguments)]),
        Message(role="tool", tool_call_id="c1", content="sun"),
        Message(role="assistant", content="a"),
    ]
    await storage.begin(StoredRun(run_id="old", session_id="s"))
    await storage.commit(RunChange(run_id="old", session_id="s", status=RunStatus.COMPLETED, messages=old))
    await check_sent(server, provider, values, storage=storage, session_id="s", add_history_to_messages=True)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize(("arguments", "values"), STORED)
async def test_such_messages_can_be_given_to_a_run(
    server: Server, provider: str, arguments: Any, values: dict[str, Any]
) -> None:
    given = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function",
                                              "function": {"name": "forecast", "arguments": arguments}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "user", "content": "and now?"},
    ]  # fmt: skip
    await check_sent(server, provider, values, input=given)


async def check_sent(server: Server, provider: str, values: Any, *, input: Any = "hi", **options: Any) -> None:
    if provider == "openai":
        add_chat(server, "plain", "done")
        await go(Agent(model=openai(server), **options), "plain", input)
        check_chat(server.bodies[0])
        assert sent_calls(server.bodies[0]) == [("c1", "forecast", values)]
        return
    add_claude(server, "plain", text_block("done"))
    await go(Agent(model=claude(server), **options), "plain", input)
    check_claude(server.bodies[0])
    blocks = [block for message in server.bodies[0]["messages"] for block in message["content"]]
    assert [block["input"] for block in blocks if block["type"] == "tool_use"] == [values]
