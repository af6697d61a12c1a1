"""How much history is sent, and the tools that read the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentrt import Agent, Message
from agentrt.models.base import ModelRequest
from agentrt.run.history import sendable
from agentrt.run.tokens import tokens_of_message
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.testing import FunctionModel, ScriptedModel, reply
from tests.run.conftest import OpenStorage
from tests.run.test_history import calls, paired, result


def look_up(what: str) -> str:
    """Look something up."""
    return f"all about {what}"


def said(request: ModelRequest) -> list[str | None]:
    return [message.content for message in request.messages if message.role == "user"]


def answering() -> FunctionModel:
    """Looks up what is asked, and answers then."""

    def answer(request: ModelRequest) -> Any:
        last = request.messages[-1]
        if last.role == "tool":
            return f"I found {last.content}"
        return reply(tool_calls=[("look_up", {"what": last.content})])

    return FunctionModel(answer)


async def asked(tool: str, arguments: dict[str, Any], before: int = 4, **options: Any) -> Any:
    """What a tool answers after some runs of a session."""
    storage = InMemoryStorage()
    agent = Agent(model=answering(), tools=[look_up], storage=storage, session_id="s", user_id="ann")
    for n in range(before):
        await agent.arun(f"q{n}")
    model = ScriptedModel(reply(tool_calls=[(tool, arguments)]), "Done.")
    response = await agent.copy(model=model, **options).arun("And now?")
    return json.loads(response.tools[0].result)


# --- what is sent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["num_history_runs", "num_history_responses"])
async def test_the_last_runs_are_sent_by_either_name(option: str):
    model = FunctionModel(lambda request: "a")
    agent = Agent(model=model, add_history_to_messages=True, session_id="s").copy(**{option: 2})
    for n in range(5):
        await agent.arun(f"q{n}")
    assert said(model.last_request) == ["q2", "q3", "q4"]


async def test_history_takes_no_more_tokens_than_it_may():
    model = answering()
    agent = Agent(model=model, tools=[look_up], add_history_to_messages=True, history_tokens=300, session_id="s")
    for n in range(12):
        await agent.arun(f"q{n} " + "word " * 20)
    first = model.requests[-2].messages
    assert paired(first)
    assert sum(map(tokens_of_message, first[:-1])) <= 300
    assert len(first) >= 3 and (first[-1].content or "").startswith("q11")
    assert (first[-2].content or "").startswith("I found all about q10")


RUN = [Message(role="user", content="q"), calls("c"), result("c", "r" * 300), Message(role="assistant", content="a")]


@pytest.mark.parametrize("max_tokens", range(0, 400, 7))
def test_every_budget_gives_a_valid_history(max_tokens: int):
    messages = sendable([RUN, RUN], max_tokens)
    assert paired(messages)
    assert sum(map(tokens_of_message, messages)) <= max_tokens
    assert not messages or messages[0].role == "user"


def test_a_run_that_has_no_room_is_told_as_question_and_answer():
    assert [message.content for message in sendable([RUN, RUN], 40)] == ["q", "a"]
    parts = [*RUN[:-1], Message(role="assistant", content="a", provider="p", parts=[{"of": "c"}])]
    assert sendable([parts], 40)[-1].parts is None


async def test_a_continued_run_is_sent_the_same_history(open_storage: OpenStorage):
    from agentrt.tools import tool

    @tool(requires_confirmation=True)
    def pay() -> str:
        return "paid"

    model = ScriptedModel(*["a" * 30] * 3, reply(tool_calls=[("pay", {})]), "Done.")
    agent = Agent(
        model=model, tools=[pay], storage=open_storage(), session_id="s",
        add_history_to_messages=True, history_tokens=50,
    )  # fmt: skip
    for n in range(3):
        await agent.arun(f"q{n}")
    paused = await agent.arun("Pay")
    paused.tools[0].confirmed = True
    await agent.acontinue_run(paused)
    before, after = model.requests[-2:]
    assert [m.content for m in before.messages] == [m.content for m in after.messages][: len(before.messages)]
    assert 1 <= len(said(before)) < 4


# --- tools that read it ----------------------------------------------------------------------------------------------


async def test_the_chat_history_gives_the_last_chats():
    told = await asked("get_chat_history", {"num_chats": 2}, read_chat_history=True)
    assert told == [
        {"role": "user", "content": "q2"},
        {"role": "assistant", "content": "I found all about q2"},
        {"role": "user", "content": "q3"},
        {"role": "assistant", "content": "I found all about q3"},
    ]


async def test_the_chat_history_gives_all_when_it_is_not_told_how_many():
    told = await asked("get_chat_history", {}, read_chat_history=True)
    assert [each["content"] for each in told if each["role"] == "user"] == ["q0", "q1", "q2", "q3"]


async def test_the_tool_call_history_gives_the_newest_first():
    told = await asked("get_tool_call_history", {"num_calls": 2}, read_tool_call_history=True)
    assert [(each["tool"], json.loads(each["arguments"])["what"], each["result"]) for each in told] == [
        ("look_up", "q3", "all about q3"),
        ("look_up", "q2", "all about q2"),
    ]


async def test_a_long_history_leaves_out_what_is_oldest_and_says_so():
    storage = InMemoryStorage()
    agent = Agent(model=FunctionModel(lambda request: "a"), storage=storage, session_id="s")
    for n in range(30):
        await agent.arun(f"q{n} " + "word " * 500)
    model = ScriptedModel(reply(tool_calls=[("get_chat_history", {})]), "Done.")
    response = await agent.copy(model=model, read_chat_history=True).arun("And now?")
    told = response.tools[0].result
    assert "q29" in told and "q0 " not in told and "older ones are left out" in told


async def test_other_sessions_of_the_user_can_be_searched_and_nobody_elses(open_storage: OpenStorage):
    storage = open_storage()
    talking = Agent(model=FunctionModel(lambda request: "Fine."), storage=storage)
    for user_id, session_id, text in (
        ("ann", "a1", "My boat is called Ada"),
        ("ann", "a2", "I like tea"),
        ("bob", "b1", "My boat is called Bea"),
        (None, "n1", "My boat is called Nia"),
    ):
        await talking.arun(text, user_id=user_id, session_id=session_id)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("search_previous_sessions", {"query": "boat"}),
        ("search_previous_sessions", {}),
    ]
    model = ScriptedModel(reply(tool_calls=calls), "Done.")
    agent = talking.copy(model=model, search_previous_sessions_history=True)
    response = await agent.arun("What is my boat called?", user_id="ann", session_id="a3")
    found, everything = (json.loads(tool.result) for tool in response.tools)
    assert [each["conversation"] for each in found] == ["a1"]
    assert [each["conversation"] for each in everything] == ["a2", "a1"]
    assert found[0]["said"] == [{"role": "user", "content": "My boat is called Ada"}]


async def test_without_a_user_there_are_no_other_sessions_to_search():
    model = ScriptedModel("Hello")
    await Agent(model=model, search_previous_sessions_history=True).arun("Hi")
    assert not model.last_request.tools
