"""F02: tool-call deltas whose `index` is missing, reused or gapped."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent
from tests.cases.kit import go, openai
from tests.cases.pairing import check_chat, sent_calls, tool_messages
from tests.http_server import Server, chat_chunk, chat_stream, sse

WEATHER = {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
TIME = {"name": "get_time", "arguments": '{"tz":"UTC"}'}


def part(index: Any = None, id: Any = None, **function: str) -> dict[str, Any]:
    fragment: dict[str, Any] = {"function": function}
    if index is not None:
        fragment["index"] = index
    if id is not None:
        fragment |= {"id": id, "type": "function"}
    return fragment


TWO: dict[str, list[list[dict[str, Any]]]] = {
    "no index": [
        [part(None, "call_a", name="get_weather", arguments="")],
        [part(arguments='{"city":"Oslo"}')],
        [part(None, "call_b", name="get_time", arguments='{"tz":')],
        [part(arguments='"UTC"}')],
    ],
    "all 0": [[part(0, "call_a", **WEATHER)], [part(0, "call_b", **TIME)]],
    "all 0, in pieces": [
        [part(0, "call_a", name="get_weather", arguments='{"city"')],
        [part(0, arguments=':"Oslo"}')],
        [part(0, "call_b", name="get_time", arguments="")],
        [part(0, arguments='{"tz":"UTC"}')],
    ],
    "tail differs": [
        [part(0, "call_a", **WEATHER)],
        [part(0, "call_b", name="get_time", arguments="")],
        [part(1, arguments='{"tz":"UTC"}')],
    ],
    "gap": [
        [part(1, "call_a", name="get_weather", arguments='{"city":')],
        [part(3, "call_b", name="get_time", arguments='{"tz":')],
        [part(1, arguments='"Oslo"}')],
        [part(3, arguments='"UTC"}')],
    ],
    "known ids interleave without index": [
        [part(None, "call_a", name="get_weather", arguments='{"city":'), part(None, "call_b", name="get_time")],
        [part(None, "call_b", arguments='{"tz":')],
        [part(None, "call_a", arguments='"Oslo"}')],
        [part(None, "call_b", arguments='"UTC"}')],
    ],
    "both in one delta, tails without index": [
        [part(0, "call_a", **WEATHER), part(1, "call_b", name="get_time", arguments='{"tz":')],
        [part(arguments='"UTC"}')],
    ],
    "descending": [
        [part(1, "call_a", name="get_weather", arguments='{"city":')],
        [part(0, "call_b", name="get_time", arguments='{"tz":"UTC"')],
        [part(1, arguments='"Oslo"}')],
        [part(0, arguments="}")],
    ],
    "index as text": [
        [part("0", "call_a", name="get_weather", arguments="")],
        [part("1", "call_b", name="get_time", arguments="")],
        [part("0", arguments='{"city":"Oslo"}')],
        [part("1", arguments='{"tz":"UTC"}')],
    ],
}


class Tools:
    def __init__(self) -> None:
        self.called: list[tuple[str, str]] = []

    def get_weather(self, city: str) -> str:
        self.called.append(("get_weather", city))
        return f"{city}: rain"

    def get_time(self, tz: str) -> str:
        self.called.append(("get_time", tz))
        return f"{tz}: noon"


async def run_with(server: Server, turns: list[list[dict[str, Any]]]) -> tuple[Tools, Any]:
    server.add(body=sse(*(chat_chunk({"tool_calls": turn}) for turn in turns), chat_chunk({}, "tool_calls")))
    server.add(body=chat_stream("Rain at noon"))
    tools = Tools()
    agent = Agent(model=openai(server), tools=[tools.get_weather, tools.get_time])
    outcome = await go(agent, "streamed")
    check_chat(server.bodies[1])
    return tools, outcome


@pytest.mark.parametrize("shape", TWO)
async def test_each_call_gets_its_own_arguments_and_runs_once(server: Server, shape: str) -> None:
    tools, outcome = await run_with(server, TWO[shape])

    assert sorted(tools.called) == [("get_time", "UTC"), ("get_weather", "Oslo")]
    assert sent_calls(server.bodies[1]) == [
        ("call_a", "get_weather", {"city": "Oslo"}),
        ("call_b", "get_time", {"tz": "UTC"}),
    ]
    assert tool_messages(server.bodies[1]) == {"call_a": "Oslo: rain", "call_b": "UTC: noon"}
    assert outcome.response.content == "Rain at noon"
    assert len(server.requests) == 2


async def test_the_argument_events_of_each_call_add_up_to_its_arguments(server: Server) -> None:
    _, outcome = await run_with(server, TWO["gap"])

    written: dict[str, str] = {}
    for event in outcome.events:
        if event.event == "ToolCallArguments":
            written[event.tool_call_id] = written.get(event.tool_call_id, "") + event.content
    assert written == {"call_a": '{"city":"Oslo"}', "call_b": '{"tz":"UTC"}'}


async def test_three_calls_under_one_index_stay_three(server: Server) -> None:
    turns: list[Any] = []
    for at, zone in enumerate(["UTC", "CET", "PST"]):
        turns += [[part(0, f"c{at}", name="get_time", arguments='{"tz":')], [part(0, arguments=f'"{zone}"}}')]]
    await run_with(server, turns)

    assert [arguments["tz"] for _, _, arguments in sent_calls(server.bodies[1])] == ["UTC", "CET", "PST"]
