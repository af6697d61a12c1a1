"""F27: concurrent runs of one agent object, on one session and on several."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunContext, RunStatus
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.kit import openai
from tests.cases.pairing import check_chat
from tests.http_server import Reply, Request, Server, chat_chunk, completion, sse


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    made: Any = SqliteStorage(db_file=tmp_path / "a.db") if request.param == "sqlite" else InMemoryStorage()
    yield made
    await made.aclose()


async def remember(v: str, session_state: dict[str, Any]) -> str:
    seen = list(session_state.get("seen", []))
    await asyncio.sleep(0.01)
    session_state["seen"] = [*seen, v]
    return f"remembered {v}"


async def remember_with_context(v: str, ctx: RunContext) -> str:
    async with ctx.state() as state:
        seen = list(state.get("seen", []))
        await asyncio.sleep(0.01)
        state["seen"] = [*seen, v]
    return f"remembered {v}"


def answer(request: Request) -> Reply:
    """After a little while: a call with the question's value, then its result."""
    body = request.json
    messages = body["messages"]
    last = messages[-1]
    if last["role"] == "user":
        tool = body["tools"][0]["function"]["name"]
        value = last["content"]
        if body.get("stream"):
            function = {"name": tool, "arguments": f'{{"v": "{value}"}}'}
            chunks = [chat_chunk({"tool_calls": [{"index": 0, "id": f"c-{value}", "function": function}]}),
                      chat_chunk({}, "tool_calls")]  # fmt: skip
            return Reply(body=[random.random() / 20, sse(*chunks)])
        calls = [{"id": f"c-{value}", "name": tool, "arguments": f'{{"v": "{value}"}}'}]
        return slow(completion(tool_calls=calls))
    if body.get("stream"):
        return Reply(body=[random.random() / 20, sse(chat_chunk({"content": last["content"]}), chat_chunk({}, "stop"))])
    return slow(completion(last["content"]))


def slow(body: Any) -> Reply:
    import json

    return Reply(body=[random.random() / 20, json.dumps(body).encode()], headers={"content-type": "application/json"})


@pytest.mark.parametrize("tool", [remember, remember_with_context])
async def test_twenty_runs_on_one_session_lose_nothing(server: Server, storage: Any, tool: Any) -> None:
    server.answer = answer
    agent = Agent(model=openai(server), tools=[tool], storage=storage, session_id="s")
    values = [f"v{at}" for at in range(20)]
    async with asyncio.timeout(20):
        responses = await asyncio.gather(*(agent.arun(value) for value in values))

    assert [response.content for response in responses] == [f"remembered {value}" for value in values]
    runs = await storage.list_runs("s")
    assert len(runs) == 20 and all(run.status is RunStatus.COMPLETED for run in runs)
    for value, response in zip(values, responses, strict=True):
        stored = await storage.load_run(response.run_id or "")
        assert [m.content for m in stored.messages if m.role == "user"] == [value]
        assert [m.role for m in stored.messages] == ["user", "assistant", "tool", "assistant"]
    session = await storage.load_session("s")
    assert sorted(session.state["seen"]) == sorted(values)
    assert len(await storage.load_history("s")) == 20


async def test_two_storages_on_one_database_lose_nothing(server: Server, tmp_path: Path) -> None:
    server.answer = answer
    storages = [SqliteStorage(db_file=tmp_path / "a.db") for _ in range(2)]
    agents = [Agent(model=openai(server), tools=[remember], storage=one, session_id="s") for one in storages]
    async with asyncio.timeout(20):
        await asyncio.gather(*(agents[at % 2].arun(f"v{at}") for at in range(20)))

    session = await storages[0].load_session("s")
    assert session is not None and sorted(session.state["seen"]) == sorted(f"v{at}" for at in range(20))
    assert len(await storages[1].list_runs("s")) == 20
    for one in storages:
        await one.aclose()


async def test_nothing_crosses_over_between_ten_sessions(server: Server, storage: Any) -> None:
    server.answer = answer
    agent = Agent(
        model=openai(server), tools=[remember], storage=storage, add_history_to_messages=True,
        instructions="You are of session {tag}.", add_state_in_messages=True,
    )  # fmt: skip
    events: dict[str, list[str]] = {}

    async def one(tag: str, number: int) -> None:
        seen = events.setdefault(tag, [])
        async with agent.stream(f"{tag}-v{number}", session_id=tag, user_id=tag, session_state={"tag": tag}) as run:
            seen += [event.to_json() async for event in run]

    async with asyncio.timeout(20):
        await asyncio.gather(*(one(f"tag{at}", number) for at in range(10) for number in (1, 2)))

    for tag, texts in events.items():
        assert set(re.findall(r"tag\d", "".join(texts))) == {tag}
        session = await storage.load_session(tag)
        assert sorted(session.state["seen"]) == [f"{tag}-v1", f"{tag}-v2"] and session.user_id == tag
        history = await storage.load_history(tag)
        assert set(re.findall(r"tag\d", str(history))) == {tag}
    for body in server.bodies:
        check_chat(body)
        assert len(set(re.findall(r"tag\d", str(body["messages"])))) == 1


async def test_sessions_share_no_initial_state(server: Server, storage: Any) -> None:
    server.answer = answer
    initial: dict[str, Any] = {"seen": [], "deep": {"er": []}}

    async def dig(v: str, session_state: dict[str, Any]) -> str:
        session_state["seen"].append(v)
        session_state["deep"]["er"].append(v)
        return v

    agent = Agent(model=openai(server), tools=[dig], storage=storage, session_state=initial)
    await asyncio.gather(agent.arun("a", session_id="s1"), agent.arun("b", session_id="s2"))
    await agent.arun("c", session_id="s1")

    first, second = await storage.load_session("s1"), await storage.load_session("s2")
    assert first.state == {"seen": ["a", "c"], "deep": {"er": ["a", "c"]}}
    assert second.state == {"seen": ["b"], "deep": {"er": ["b"]}}
    assert initial == {"seen": [], "deep": {"er": []}}


async def test_a_state_given_to_runs_is_not_changed(server: Server, storage: Any) -> None:
    server.answer = answer
    given: dict[str, Any] = {"seen": ["x"]}
    agent = Agent(model=openai(server), tools=[remember], storage=storage)
    await asyncio.gather(*(agent.arun(f"v{at}", session_id=f"s{at}", session_state=given) for at in range(4)))

    assert given == {"seen": ["x"]}
    assert (await storage.load_session("s2")).state["seen"] == ["x", "v2"]
