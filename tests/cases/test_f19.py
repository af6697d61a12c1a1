"""F19: all results of a turn in one user message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.kit import (
    add_chat,
    add_claude,
    all_ways,
    call,
    claude,
    go,
    is_streamed,
    openai,
    text_block,
    use_block,
    ways,
)
from tests.cases.pairing import check_chat, check_claude
from tests.http_server import Server

TWO = [text_block("Both."), use_block("toolu_1", "get_time", tz="UTC"), use_block("toolu_2", "fail")]
REFUSED = {"type": "error", "error": {"type": "invalid_request_error", "message": "not now"}}


def get_time(tz: str) -> str:
    return f"noon in {tz}"


async def fail() -> str:
    raise ValueError("no luck")


def blocks(message: dict[str, Any]) -> list[tuple[str, Any]]:
    keys = {"text": "text", "tool_result": "tool_use_id", "tool_use": "input"}
    return [(block["type"], block[keys[block["type"]]]) for block in message["content"]]


@all_ways
async def test_both_results_are_in_one_message_and_the_failure_is_marked(server: Server, way: str) -> None:
    add_claude(server, way, *TWO)
    add_claude(server, way, text_block("Noon."))
    outcome = await go(Agent(model=claude(server), tools=[get_time, fail]), way)

    assert outcome.response.content == "Noon."
    check_claude(server.bodies[1])
    assistant, results = server.bodies[1]["messages"][1:]
    assert blocks(assistant) == [("text", "Both."), ("tool_use", {"tz": "UTC"}), ("tool_use", {})]
    first, second = results["content"]
    assert (first["tool_use_id"], first["content"], first.get("is_error", False)) == ("toolu_1", "noon in UTC", False)
    assert second["tool_use_id"] == "toolu_2" and second["is_error"] is True and "no luck" in second["content"]


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@ways
async def test_a_text_that_follows_stands_behind_the_results(
    server: Server, tmp_path: Path, way: str, store: str
) -> None:
    def agent() -> Agent[Any]:
        storage = SqliteStorage(db_file=tmp_path / "a.db") if store == "sqlite" else None
        return Agent(model=claude(server), tools=[get_time, fail], storage=storage, session_id="s",
                     add_history_to_messages=True)  # fmt: skip

    add_claude(server, way, *TWO)
    server.add(status=400, json=REFUSED)
    first = agent()
    assert (await go(first, way)).error is not None
    add_claude(server, way, text_block("Here."))
    second = first if store == "memory" else agent()
    await go(second, way, "still there?")

    body = server.bodies[2]
    check_claude(body)
    assert blocks(body["messages"][2]) == [
        ("tool_result", "toolu_1"),
        ("tool_result", "toolu_2"),
        ("text", "still there?"),
    ]
    assert body["messages"][2]["content"][1]["is_error"] is True
    await first.aclose()
    await second.aclose()


async def test_messages_given_with_results_apart_and_out_of_order_are_put_together(server: Server) -> None:
    given = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "tool_calls": [call("a", "t"), call("b", "t"), call("c", "t")]},
        {"role": "tool", "tool_call_id": "c", "content": "rc"},
        {"role": "tool", "tool_call_id": "a", "content": "ra"},
        {"role": "tool", "tool_call_id": "b", "content": "rb"},
        {"role": "user", "content": "go on"},
    ]
    add_claude(server, "plain", text_block("ok"))
    await go(Agent(model=claude(server)), "plain", given)

    check_claude(server.bodies[0])
    assert [block.get("content") for block in server.bodies[0]["messages"][2]["content"]] == ["ra", "rb", "rc", None]


@ways
async def test_a_history_made_by_another_provider_is_accepted(server: Server, way: str) -> None:
    ids = ["call_0", "functions.get_time:0", "chatcmpl-tool-1|x", "ä" * 70]
    for id in ids:
        add_chat(server, way, "Let me see.", calls=[call(id, "get_time", {"tz": "UTC"})])
    add_chat(server, way, calls=[call("call_0", "get_time", {"tz": "CET"})])  # the same id again
    add_chat(server, way, "Noon.")
    agent = Agent(model=openai(server), tools=[get_time, fail], session_id="s", add_history_to_messages=True)
    await go(agent, way)
    add_claude(server, way, *TWO)
    add_claude(server, way, text_block("Still noon."))
    await go(agent, way, "and now?", model=claude(server))

    for body in server.bodies[:6]:
        check_chat(body)
    for body in server.bodies[6:]:
        check_claude(body)
    add_chat(server, way, "Fine.")
    await go(agent, way, "thanks")  # and back
    check_chat(server.bodies[8])
    assert not is_streamed(way) or server.bodies[8]["stream"] is True
