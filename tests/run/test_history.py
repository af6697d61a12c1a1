"""Any cut of the history is a valid history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from agentrt import Agent, Message
from agentrt.errors import ModelServerError
from agentrt.models.message import ToolCall
from agentrt.run.history import NO_RESULT, valid_messages
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.testing import FunctionModel, ScriptedModel, reply


def paired(messages: Sequence[Message]) -> bool:
    """Is each assistant's call answered directly after it, exactly once, and is there no other tool message?"""
    open_ids: list[str | None] = []
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id not in open_ids:
                return False
            open_ids.remove(message.tool_call_id)
        elif open_ids:
            return False
        elif message.tool_calls:
            open_ids = [call.id for call in message.tool_calls]
    return not open_ids


def calls(*ids: str) -> Message:
    return Message(role="assistant", tool_calls=[ToolCall(id=id, name="t") for id in ids])


def result(id: str, text: str) -> Message:
    return Message(role="tool", tool_call_id=id, tool_name="t", content=text)


SESSION = [
    Message(role="user", content="q1"), calls("c1", "c2"), result("c1", "r1"), result("c2", "r2"),
    Message(role="assistant", content="a1"), Message(role="user", content="q2"), calls("c3"), result("c3", "r3"),
    Message(role="assistant", content="a2"),
]  # fmt: skip


@pytest.mark.parametrize("start", range(len(SESSION)))
@pytest.mark.parametrize("end", range(len(SESSION) + 1))
def test_every_cut_is_paired(start: int, end: int) -> None:
    assert paired(valid_messages(SESSION[start:end]))


def test_a_missing_result_is_stated_as_such_and_a_finished_one_kept() -> None:
    messages = valid_messages([calls("c1", "c2"), result("c1", "r1"), Message(role="user", content="q")])
    assert [m.content for m in messages] == [None, "r1", NO_RESULT, "q"]


async def test_a_run_cancelled_in_a_tool_leaves_a_session_that_goes_on() -> None:
    working = asyncio.Event()

    async def hang() -> str:
        working.set()
        await asyncio.Event().wait()
        return "never"

    async def quick() -> str:
        return "finished"

    model = ScriptedModel(reply(tool_calls=[("quick", {}), ("hang", {})]), "fine")
    agent = Agent(model=model, tools=[hang, quick], add_history_to_messages=True, session_id="s")
    run = asyncio.create_task(agent.arun("go"))
    async with asyncio.timeout(5):
        await working.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    response = await agent.arun("and now?")
    sent = model.last_request.messages
    assert response.content == "fine"
    assert paired(sent) and sent[-1].content == "and now?"
    assert "finished" in [m.content for m in sent]


async def test_a_run_that_failed_after_its_tools_leaves_a_session_that_goes_on() -> None:
    def t() -> str:
        return "r"

    model = ScriptedModel(reply(tool_calls=[("t", {})]), ModelServerError("down", status=500), "fine", max_retries=0)
    agent = Agent(model=model, tools=[t], add_history_to_messages=True, session_id="s")
    with pytest.raises(ModelServerError):
        await agent.arun("one")
    await agent.arun("two")
    sent = model.last_request.messages
    assert paired(sent)
    assert [m.content for m in sent if m.role != "assistant"] == ["one", "r", "two"]


@pytest.mark.parametrize("limit", range(5))
async def test_every_limit_on_runs_gives_a_valid_request_with_the_new_message_last(limit: int) -> None:
    def t() -> str:
        return "r"

    storage = InMemoryStorage()
    model = FunctionModel(lambda r: "a" if r.messages[-1].role == "tool" else reply(tool_calls=[("t", {}), ("t", {})]))
    agent = Agent(
        model=model, tools=[t], storage=storage, session_id="s", instructions="sys",
        add_history_to_messages=True, num_history_runs=limit,
    )  # fmt: skip
    for n in range(3):
        await agent.arun(f"q{n}")
    first = model.requests[-2].messages
    assert first[0].role == "system" and first[-1].content == "q2"
    assert paired(first)
    assert sum(m.role == "user" for m in first) == min(limit, 2) + 1
