"""F03: who a call is: its name repeated, late or in every delta; its id absent, empty, repeated or a number."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent
from tests.cases.kit import add_chat, call, go, openai, ways
from tests.cases.pairing import check_chat, sent_calls, tool_messages
from tests.http_server import Server, chat_chunk, chat_stream, sse


def get_time(tz: str) -> str:
    return f"noon in {tz}"


def read_file(path: str) -> str:
    return f"text of {path}"


def add_turns(server: Server, *turns: Any) -> None:
    server.add(body=sse(*(chat_chunk({"tool_calls": turn}) for turn in turns), chat_chunk({}, "tool_calls")))


def agent_on(server: Server, **options: Any) -> Agent[Any]:
    return Agent(model=openai(server), tools=[get_time, read_file], add_history_to_messages=True, **options)


async def test_a_name_in_each_delta_is_one_name(server: Server) -> None:
    head = {"index": 0, "id": "call_1", "type": "function"}
    add_turns(
        server,
        [head | {"function": {"name": "read_file", "arguments": '{"path"'}}],
        [head | {"function": {"name": "read_file", "arguments": ':"a.txt"}'}}],
    )
    server.add(body=chat_stream("done"))
    await go(agent_on(server), "streamed")

    assert sent_calls(server.bodies[1]) == [("call_1", "read_file", {"path": "a.txt"})]
    assert tool_messages(server.bodies[1]) == {"call_1": "text of a.txt"}


@pytest.mark.parametrize("no_id", [{}, {"id": ""}, {"id": None}], ids=["absent", "empty", "null"])
@ways
async def test_calls_without_ids_get_their_own_in_every_turn(server: Server, way: str, no_id: dict[str, Any]) -> None:
    def calls(*zones: str) -> list[dict[str, Any]]:
        made = [call(None, "get_time", {"tz": zone}) for zone in zones]
        return [{key: value for key, value in one.items() if key != "id"} | no_id for one in made]

    add_chat(server, way, calls=calls("UTC", "CET", "PST"))
    add_chat(server, way, calls=calls("UTC"))
    add_chat(server, way, "first")
    add_chat(server, way, calls=calls("UTC"))
    add_chat(server, way, "second")
    agent = agent_on(server, session_id="s")
    await go(agent, way)
    await go(agent, way)

    for body in server.bodies:
        check_chat(body)
    sent = sent_calls(server.bodies[-1])
    assert [arguments["tz"] for _, _, arguments in sent] == ["UTC", "CET", "PST", "UTC", "UTC"]
    assert len({id for id, _, _ in sent}) == 5
    assert list(tool_messages(server.bodies[-1])) == [id for id, _, _ in sent]


async def test_later_empty_ids_and_names_overwrite_nothing(server: Server) -> None:
    add_turns(
        server,
        [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": ""}}],
        [{"index": 0, "id": "", "function": {"name": "", "arguments": '{"tz":'}}],
        [{"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": '"UTC"}'}}],
    )
    server.add(body=chat_stream("done"))
    await go(agent_on(server), "streamed")

    assert sent_calls(server.bodies[1]) == [("call_1", "get_time", {"tz": "UTC"})]


async def test_a_name_that_comes_with_the_second_delta_is_the_calls(server: Server) -> None:
    add_turns(
        server,
        [{"index": 0, "id": "call_1", "type": "function", "function": {"arguments": ""}}],
        [{"index": 0, "function": {"name": "get_time", "arguments": '{"tz":'}}],
        [{"index": 0, "function": {"arguments": '"UTC"}'}}],
    )
    server.add(body=chat_stream("done"))
    outcome = await go(agent_on(server), "streamed")

    assert sent_calls(server.bodies[1]) == [("call_1", "get_time", {"tz": "UTC"})]
    assert outcome.response.tools[0].result == "noon in UTC"


async def test_an_id_that_comes_with_the_second_delta_opens_no_second_call(server: Server) -> None:
    add_turns(
        server,
        [{"index": 0, "type": "function", "function": {"name": "get_time", "arguments": ""}}],
        [{"index": 0, "id": "call_1", "function": {"arguments": '{"tz":"UTC"}'}}],
    )
    server.add(body=chat_stream("done"))
    await go(agent_on(server), "streamed")

    check_chat(server.bodies[1])
    assert [(name, arguments) for _, name, arguments in sent_calls(server.bodies[1])] == [("get_time", {"tz": "UTC"})]


@ways
async def test_ids_that_are_numbers_are_texts_from_then_on(server: Server, way: str) -> None:
    add_chat(server, way, calls=[call(0, "get_time", {"tz": "UTC"}), call(1, "get_time", {"tz": "CET"})])
    add_chat(server, way, "done")
    outcome = await go(agent_on(server), way)

    check_chat(server.bodies[1])
    assert [arguments["tz"] for _, _, arguments in sent_calls(server.bodies[1])] == ["UTC", "CET"]
    assert all(isinstance(tool.tool_call_id, str) for tool in outcome.response.tools)


async def test_an_id_given_to_two_calls_of_a_whole_answer_is_made_two(server: Server) -> None:
    add_chat(server, "plain", calls=[call("c", "get_time", {"tz": "UTC"}), call("c", "get_time", {"tz": "CET"})])
    add_chat(server, "plain", "done")
    await go(agent_on(server), "plain")

    check_chat(server.bodies[1])
    assert list(tool_messages(server.bodies[1]).values()) == ["noon in UTC", "noon in CET"]


@ways
async def test_ids_counted_anew_in_each_answer_keep_their_results(server: Server, way: str) -> None:
    for zone in ("UTC", "CET"):
        add_chat(server, way, calls=[call("call_0", "get_time", {"tz": zone})])
    add_chat(server, way, "done")
    await go(agent_on(server), way)

    check_chat(server.bodies[2])
    assert [m["content"] for m in server.bodies[2]["messages"] if m["role"] == "tool"] == ["noon in UTC", "noon in CET"]
