"""F20: thinking blocks survive the tool loop unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunStatus, tool
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.kit import (
    add_chat,
    add_claude,
    all_ways,
    block_events,
    claude,
    go,
    openai,
    text_block,
    use_block,
    ways,
)
from tests.cases.pairing import check_chat, check_claude
from tests.http_server import Server, sse_events

BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Look it up.", "signature": "c2lnLTE="},
    {"type": "redacted_thinking", "data": "ZW5jLTE="},
    {"type": "thinking", "thinking": "", "signature": "c2lnLTI="},
    {"type": "text", "text": "One moment."},
    {"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {"q": "tide"}},
]


def lookup(q: str) -> str:
    return f"{q}: high"


def thinking(server: Server) -> Any:
    return claude(server, thinking=2000)


@all_ways
async def test_the_blocks_go_back_as_they_came(server: Server, way: str) -> None:
    add_claude(server, way, *BLOCKS)
    add_claude(server, way, text_block("High."))
    outcome = await go(Agent(model=thinking(server), tools=[lookup]), way)

    assert outcome.response.content == "High." and outcome.response.reasoning_content == "Look it up."
    check_claude(server.bodies[1])
    assert server.bodies[1]["messages"][1] == {"role": "assistant", "content": BLOCKS}
    if way == "streamed":
        assert [event.content for event in outcome.events if event.event == "ReasoningContent"] == ["Look it up."]


@ways
async def test_interleaved_blocks_of_several_turns_keep_their_places(server: Server, way: str) -> None:
    first = [BLOCKS[0], use_block("t1", "lookup", q="a"), BLOCKS[2], use_block("t2", "lookup", q="b")]
    second = [BLOCKS[1], text_block("Now"), text_block(" this."), use_block("t3", "lookup", q="c")]
    add_claude(server, way, *first)
    add_claude(server, way, *second)
    add_claude(server, way, text_block("High."))
    agent = Agent(model=thinking(server), tools=[lookup], session_id="s", add_history_to_messages=True)
    await go(agent, way)
    add_claude(server, way, text_block("Bye."))
    await go(agent, way, "thanks")

    for body in server.bodies[2:]:
        check_claude(body)
        assert body["messages"][1]["content"] == first
        assert body["messages"][3]["content"] == second


@ways
async def test_the_blocks_survive_a_pause_and_another_process(server: Server, tmp_path: Path, way: str) -> None:
    called: list[str] = []

    @tool(requires_confirmation=True)
    def lookup(q: str) -> str:
        called.append(q)
        return f"{q}: high"

    def agent() -> Agent[Any]:
        return Agent(model=thinking(server), tools=[lookup], storage=SqliteStorage(db_file=tmp_path / "a.db"),
                     session_id="s", add_history_to_messages=True)  # fmt: skip

    add_claude(server, way, *BLOCKS)
    first = agent()
    paused = (await go(first, way)).response
    assert paused.status is RunStatus.PAUSED and len(server.requests) == 1 and called == []
    assert first.storage is not None
    await first.storage.aclose()

    add_claude(server, "plain", text_block("High."))
    second = agent()
    paused.tools[0].confirmed = True
    response = await second.acontinue_run(run_id=paused.run_id, updated_tools=paused.tools)
    assert second.storage is not None

    assert response.content == "High." and called == ["tide"]
    check_claude(server.bodies[1])
    assert server.bodies[1]["messages"][1]["content"] == BLOCKS

    add_claude(server, way, text_block("Bye."))
    await go(second, way, "thanks")
    await second.storage.aclose()
    check_claude(server.bodies[2])
    assert server.bodies[2]["messages"][1]["content"] == BLOCKS


@pytest.mark.parametrize("end", ["clean", "reset"])
async def test_thinking_that_was_cut_before_its_signature_is_not_sent(server: Server, end: Any) -> None:
    events = [
        {"type": "message_start", "message": {"content": [], "model": "m", "usage": {"input_tokens": 1}}},
        *block_events(0, BLOCKS[0])[:2],
    ]
    server.add(body=[sse_events(*events)], end=end)
    agent = Agent(model=thinking(server), session_id="s", add_history_to_messages=True)
    outcome = await go(agent, "streamed")
    assert outcome.error is not None and outcome.response.messages[-1].reasoning_content == "Look it up."
    add_claude(server, "streamed", text_block("Fine."))
    await go(agent, "streamed", "again")

    check_claude(server.bodies[1])
    assert "Look it up." not in str(server.bodies[1])


@ways
async def test_another_provider_is_not_sent_the_blocks(server: Server, way: str) -> None:
    add_claude(server, way, *BLOCKS)
    add_claude(server, way, BLOCKS[0], text_block("High."))
    agent = Agent(model=thinking(server), tools=[lookup], session_id="s", add_history_to_messages=True)
    await go(agent, way)
    add_chat(server, way, "Sure.")
    await go(agent, way, "sure?", model=openai(server))

    check_chat(server.bodies[2])
    sent = str(server.bodies[2])
    assert not any(word in sent for word in ("c2ln", "ZW5jLTE=", "Look it up.", "thinking"))
    assert [m["content"] for m in server.bodies[2]["messages"]] == ["hi", "One moment.", "tide: high", "High.", "sure?"]
