"""F26: any cut of the history is a valid history."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunStatus
from agentrt.models.message import Message
from agentrt.storage.base import RunChange, Storage, StoredRun
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.kit import add_chat, add_claude, call, claude, go, only_this_task, openai, text_block, ways
from tests.cases.pairing import check_chat, check_claude, tool_messages, tool_results
from tests.http_server import Reply, Request, Server, completion

HISTORY = [
    Message.of(one)
    for one in [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": None, "tool_calls": [call("c1", "t"), call("c2", "t")]},
        {"role": "tool", "tool_call_id": "c1", "content": "r1"},
        {"role": "tool", "tool_call_id": "c2", "content": "r2"},
        {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "q2"},
        {"role": "assistant", "content": None, "tool_calls": [call("c3", "t")]},
        {"role": "tool", "tool_call_id": "c3", "content": "r3"},
        {"role": "assistant", "content": "a2"},
    ]
]
providers = pytest.mark.parametrize("provider", ["openai", "anthropic"])
INTERRUPTED = ("interrupted", "not known")


def t() -> str:
    return "r"


def model_of(server: Server, provider: str) -> Any:
    return openai(server) if provider == "openai" else claude(server)


def add(server: Server, way: str, provider: str, text: str) -> None:
    if provider == "openai":
        add_chat(server, way, text)
    else:
        add_claude(server, way, text_block(text))


def check(body: dict[str, Any], provider: str, question: str) -> None:
    """The request is valid, the system text is there, and the new question is last."""
    if provider == "openai":
        check_chat(body)
        assert body["messages"][0] == {"role": "system", "content": "Be kind."}
        assert [m["role"] for m in body["messages"]].count("system") == 1
        assert body["messages"][-1] == {"role": "user", "content": question}
    else:
        check_claude(body)
        assert body["system"] == "Be kind."
        assert body["messages"][-1]["content"][-1] == {"type": "text", "text": question}


def results(body: dict[str, Any], provider: str) -> dict[str, str]:
    if provider == "openai":
        return tool_messages(body)
    return {id: block["content"] for id, block in tool_results(body).items()}


async def store(storage: Storage, *runs: list[Message], status: RunStatus = RunStatus.COMPLETED) -> None:
    for number, messages in enumerate(runs):
        await storage.begin(StoredRun(run_id=f"old{number}", session_id="s"))
        change = RunChange(run_id=f"old{number}", session_id="s", status=status, messages=messages)
        await storage.commit(change)


def agent_on(server: Server, provider: str, storage: Storage, **options: Any) -> Agent[Any]:
    return Agent(model=model_of(server, provider), tools=[t], storage=storage, session_id="s", instructions="Be kind.",
                 add_history_to_messages=True, **options)  # fmt: skip


@providers
@pytest.mark.parametrize("limit", range(4))
async def test_every_limit_on_runs_gives_a_valid_request(server: Server, provider: str, limit: int) -> None:
    storage = InMemoryStorage()
    await store(storage, HISTORY[:5], HISTORY[5:])
    add(server, "plain", provider, "a3")
    await go(agent_on(server, provider, storage, num_history_runs=limit), "plain", "q3")

    check(server.bodies[0], provider, "q3")
    expected = {0: [], 1: ["r3"]}.get(limit, ["r1", "r2", "r3"])
    assert list(results(server.bodies[0], provider).values()) == expected


@providers
async def test_every_cut_of_the_messages_gives_a_valid_request(server: Server, provider: str) -> None:
    for start in range(len(HISTORY) + 1):
        for end in range(start, len(HISTORY) + 1):
            storage = InMemoryStorage()
            await store(storage, HISTORY[start:end])
            add(server, "plain", provider, "a3")
            await go(agent_on(server, provider, storage), "plain", "q3")
            check(server.bodies[-1], provider, "q3")


@providers
@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
@pytest.mark.parametrize("durable", [False, True])
async def test_a_session_that_a_crash_left_with_a_result_missing_goes_on(
    server: Server, tmp_path: Path, provider: str, status: RunStatus, durable: bool
) -> None:
    storage: Any = SqliteStorage(db_file=tmp_path / "a.db") if durable else InMemoryStorage()
    await store(storage, HISTORY[:3], status=status)
    add(server, "plain", provider, "fine")
    agent = agent_on(server, provider, storage)
    outcome = await go(agent, "plain", "q2")
    await storage.aclose()

    assert outcome.response.content == "fine"
    check(server.bodies[0], provider, "q2")
    told = results(server.bodies[0], provider)
    assert told["c1"] == "r1" and all(word in told["c2"] for word in INTERRUPTED)
    if provider == "anthropic":
        assert tool_results(server.bodies[0])["c2"]["is_error"] is True


@providers
@ways
async def test_a_run_cancelled_in_a_tool_keeps_what_was_done(server: Server, way: str, provider: str) -> None:
    working = asyncio.Event()

    async def quick() -> str:
        return "done"

    async def work() -> str:
        working.set()
        await asyncio.Event().wait()
        return "never"

    storage = InMemoryStorage()
    agent = agent_on(server, provider, storage).copy(tools=[quick, work])
    names = [("c1", "quick"), ("c2", "work")]
    if provider == "openai":
        add_chat(server, way, "Wait.", calls=[call(id, name) for id, name in names])
    else:
        uses = [{"type": "tool_use", "id": id, "name": name, "input": {}} for id, name in names]
        add_claude(server, way, text_block("Wait."), *uses)
    running = asyncio.create_task(go(agent, way, "q1"))
    await working.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await only_this_task()
    add(server, way, provider, "fine")
    outcome = await go(agent, way, "q2")

    assert outcome.response.content == "fine"
    check(server.bodies[1], provider, "q2")
    told = results(server.bodies[1], provider)
    assert told["c1"] == "done" and all(word in told["c2"] for word in INTERRUPTED)


@providers
@ways
async def test_a_failure_after_the_results_leaves_them_in_the_session(server: Server, way: str, provider: str) -> None:
    agent = agent_on(server, provider, InMemoryStorage())
    agent = agent.copy(model=agent.model.copy(max_retries=0))  # pyright: ignore
    if provider == "openai":
        add_chat(server, way, calls=[call("c1", "t")])
    else:
        add_claude(server, way, {"type": "tool_use", "id": "c1", "name": "t", "input": {}})
    server.add(status=500, json={"error": {"message": "boom"}})
    assert (await go(agent, way, "q1")).error is not None
    add(server, way, provider, "fine")
    outcome = await go(agent, way, "q2")

    assert outcome.response.content == "fine"
    check(server.bodies[2], provider, "q2")
    assert results(server.bodies[2], provider) == {"c1": "r"}


async def test_a_session_with_calls_without_ids_or_doubled_results_goes_on(server: Server) -> None:
    odd = [
        Message.of({"role": "user", "content": "q1"}),
        Message.of({"role": "assistant", "tool_calls": [call("c1", "t"), call("c1", "t")]}),
        Message.of({"role": "tool", "tool_call_id": "c1", "content": "r1"}),
        Message.of({"role": "tool", "tool_call_id": "c1", "content": "r1 again"}),
        Message.of({"role": "tool", "tool_call_id": None, "content": "whose?"}),
        Message.of({"role": "assistant", "content": "a1"}),
    ]
    storage = InMemoryStorage()
    await store(storage, odd[:1] + odd[2:])
    add_chat(server, "plain", "fine")
    await go(agent_on(server, "openai", storage), "plain", "q2")

    check(server.bodies[0], "openai", "q2")


async def test_a_limit_on_tool_calls_in_a_long_session_never_orphans(server: Server) -> None:
    def answer(request: Request) -> Reply:
        messages = request.json["messages"]
        if messages[-1]["role"] == "user" and len(server.requests) < 12:
            return Reply(json=completion(tool_calls=[{"id": "c", "name": "t", "arguments": "{}"}] * 1))
        return Reply(json=completion("fine"))

    server.answer = answer
    agent = agent_on(server, "openai", InMemoryStorage(), num_history_runs=2, tool_call_limit=1)
    for number in range(8):
        await go(agent, "plain", f"q{number}")
    for body in server.bodies:
        check_chat(body)
