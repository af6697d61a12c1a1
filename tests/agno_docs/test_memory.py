"""The page "Memory"."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from rich.pretty import pprint

from agentrt.agent import Agent
from agentrt.memory.db.sqlite import SqliteMemoryDb
from agentrt.memory.memory import Memory
from agentrt.models.base import Model
from agentrt.models.google.gemini import Gemini
from agentrt.models.openai import OpenAIChat
from agentrt.storage.sqlite import SqliteStorage
from tests.agno_docs.provider import Asked, Provider, Said, Think

Speaks = Callable[[Think], Provider]
FACTS = {"Noor": "The user is called Noor", "sail": "The user sails", "Bergen": "The user lives in Bergen"}


def keeper(asked: Asked) -> Said:
    """Keeps notes where it has the tools of a memory, and has them kept where it can only ask for that."""
    if "add_memory" in asked.tools:
        return notes(asked)
    if "update_user_memory" in asked.tools and not asked.results and "?" not in asked.question:
        return [("update_user_memory", {"task": asked.question})]
    known = re.findall(r"The user [^\n<]*", asked.system)
    return f"I know: {'; '.join(known) or 'nothing'}"


def notes(asked: Asked) -> Said:
    if asked.results:
        return "Done."
    told = asked.question
    if "everything" in told:
        return [("clear_memory", {})]
    if "forget" in told.lower():
        ids = re.findall(r"\[(\w+)\] The user is called", asked.system)
        (parameter,) = asked.tools["delete_memory"]["properties"]
        return [("delete_memory", {parameter: one}) for one in ids] or "There is none."
    new = [fact for word, fact in FACTS.items() if word in told and fact not in asked.system]
    return [("add_memory", {"memory": fact}) for fact in new] or "Nothing to note."


def known(memory: Memory, user_id: str) -> set[str]:
    return {found.memory for found in memory.get_user_memories(user_id=user_id)}


async def aknown(memory: Memory, user_id: str) -> set[str]:
    return {found.memory for found in await memory.aget_user_memories(user_id=user_id)}


@pytest.mark.parametrize("stream", [True, False])
def test_an_agent_with_memory_and_storage_knows_its_user_and_what_was_said(provider: Speaks, stream: bool) -> None:
    asked = provider(keeper).asked
    memory = Memory(
        model=OpenAIChat(id="gpt-4.1"), db=SqliteMemoryDb(table_name="user_memories", db_file="tmp/agent.db")
    )
    agent = Agent(
        model=OpenAIChat(id="gpt-4.1"),
        memory=memory,
        enable_agentic_memory=True,
        enable_user_memories=True,
        storage=SqliteStorage(table_name="agent_sessions", db_file="tmp/agent.db"),
        add_history_to_messages=True,
        num_history_runs=3,
        markdown=True,
    )
    memory.clear()
    shown: Any = {"stream": stream, "stream_intermediate_steps": True}
    agent.print_response("I am Noor and I sail.", user_id="noor", **shown)
    assert known(memory, "noor") == {FACTS["Noor"], FACTS["sail"]}
    agent.print_response("I live in Bergen, where do I go at weekends?", user_id="noor", **shown)
    assert known(memory, "noor") == set(FACTS.values())
    assert known(memory, "somebody else") == set()
    last = [one for one in asked if "add_memory" not in one.tools][-1]
    assert last.earlier == ["I am Noor and I sail."]
    assert FACTS["sail"] in last.system


def test_the_default_memory_holds_the_messages_of_the_session(provider: Speaks) -> None:
    asked = provider(lambda asked: f"You first said: {(asked.earlier or ['nothing'])[0]}").asked
    agent = Agent(
        model=Gemini(id="gemini-2.0-flash-exp"),
        add_history_to_messages=True,
        num_history_responses=3,
        description="You answer in a friendly way.",
    )
    agent.print_response("Tell me a story", stream=True)
    agent.print_response("What did I say first?", stream=True)
    dumps = [message.model_dump(include={"role", "content"}) for message in agent.get_messages_for_session()]
    assert dumps == [
        {"role": "user", "content": "Tell me a story"},
        {"role": "assistant", "content": "You first said: nothing"},
        {"role": "user", "content": "What did I say first?"},
        {"role": "assistant", "content": "You first said: Tell me a story"},
    ]
    assert {one.dialect for one in asked} == {"gemini"}
    assert "You answer in a friendly way." in asked[0].system


def test_the_number_of_history_responses_bounds_what_is_sent(provider: Speaks) -> None:
    asked = provider(lambda asked: "Fine.").asked
    agent = Agent(model=Gemini(id="gemini-2.0-flash-exp"), add_history_to_messages=True, num_history_responses=2)
    for number in range(4):
        agent.run(f"Message {number}")
    assert asked[-1].earlier == ["Message 1", "Message 2"]


def test_tools_read_the_chat_and_the_tool_calls_that_the_history_leaves_out(provider: Speaks) -> None:
    def think(asked: Asked) -> Said:
        if asked.question == "Ring":
            return "It rang." if asked.results else [("ring", {})]
        if asked.question.startswith("What"):
            tool = "get_tool_call_history" if "ring" in asked.question else "get_chat_history"
            return asked.results[0].text if asked.results else [(tool, {})]
        return "Fine."

    provider(think)

    def ring() -> str:
        """Ring a bell."""
        return "ding"

    agent = Agent(model=OpenAIChat(id="gpt-4o"), tools=[ring], read_chat_history=True, read_tool_call_history=True)
    for message in ("My colour is teal", "Ring"):
        agent.run(message)
    assert "My colour is teal" in str(agent.run("What did I say?").content)
    assert "ding" in str(agent.run("What did the bell of ring say?").content)


def test_messages_are_printed_with_what_they_hold(provider: Speaks, capsys: pytest.CaptureFixture[str]) -> None:
    provider(lambda asked: "Hello.")
    agent = Agent(model=OpenAIChat(id="gpt-4o-mini"))
    agent.run("Hi")
    pprint(agent.get_messages_for_session())
    shown = capsys.readouterr().out
    assert "role='assistant'" in shown
    assert "content='Hello.'" in shown
    assert "None" not in shown


def test_a_stored_session_goes_on_when_the_program_is_run_again(provider: Speaks) -> None:
    provider(lambda asked: f"Your last question: {(asked.earlier or ['not known'])[-1]}")

    def program() -> list[str | None]:
        agent = Agent(
            model=OpenAIChat(id="gpt-4o-mini"),
            session_id="fixed",
            storage=SqliteStorage(table_name="agent_sessions", db_file="tmp/data.db"),
            add_history_to_messages=True,
            num_history_runs=3,
        )
        agent.print_response("What was my last question?")
        agent.print_response("What is the capital of Norway?")
        agent.print_response("What was my last question?")
        return [message.content for message in agent.get_messages_for_session() if message.role == "assistant"]

    first = program()
    assert first[0] == "Your last question: not known"
    assert first[2] == "Your last question: What is the capital of Norway?"
    second = program()
    assert second[:3] == first
    assert second[3] == "Your last question: What was my last question?"


def test_an_agent_adds_and_removes_memories_and_clears_those_of_its_user_only(provider: Speaks) -> None:
    asked = provider(keeper).asked
    memory = Memory(db=SqliteMemoryDb(table_name="memory", db_file="tmp/memory.db"))
    agent = Agent(model=Gemini(id="gemini-2.0-flash-exp"), memory=memory, enable_agentic_memory=True)
    agent.print_response("I am Noor and I sail.", stream=True, user_id="noor")
    agent.print_response("I live in Bergen.", stream=True, user_id="ole")
    assert agent.run("What do I like?", user_id="noor").content == f"I know: {FACTS['sail']}; {FACTS['Noor']}"
    agent.print_response("Delete everything that you know of me.", stream=True, user_id="noor")
    assert (known(memory, "noor"), known(memory, "ole")) == (set(), {FACTS["Bergen"]})
    agent.print_response("I am Noor and I sail.", stream=True, user_id="noor")
    agent.print_response("Forget my name.", stream=True, user_id="noor")
    assert known(memory, "noor") == {FACTS["sail"]}
    assert {one.dialect for one in asked} == {"gemini"}  # the memory asks the agent's model when it has none


def test_memories_are_in_the_database_for_other_sessions_and_programs(provider: Speaks) -> None:
    provider(keeper)

    def agent() -> Agent:
        memory = Memory(db=SqliteMemoryDb(table_name="memory", db_file="tmp/memory.db"))
        return Agent(model=Gemini(id="gemini-2.0-flash-exp"), memory=memory, enable_agentic_memory=True)

    agent().run("I am Noor.", user_id="noor", session_id="1")
    assert agent().run("Who am I?", user_id="noor", session_id="2").content == f"I know: {FACTS['Noor']}"
    with sqlite3.connect("tmp/memory.db") as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    database.close()
    assert "memory" in tables


def test_a_session_is_summarised_from_the_last_summary_and_what_is_new(provider: Speaks) -> None:
    def think(asked: Asked) -> Said:
        if "new_messages" not in asked.question:
            return "I will tell you."
        topics = re.findall(r"about (\w+)", asked.question)
        return f"They talked about {' and about '.join(dict.fromkeys(topics))}"

    asked = provider(think).asked
    memory = Memory(db=SqliteMemoryDb(table_name="memory", db_file="tmp/memory.db"))
    agent = Agent(model=Gemini(id="gemini-2.0-flash-exp"), memory=memory, enable_session_summaries=True)
    agent.print_response("Tell me about fjords", stream=True, user_id="noor", session_id="1001")
    agent.print_response("And about trolls", stream=True, user_id="noor", session_id="1001")
    summary = memory.get_session_summary(user_id="noor", session_id="1001")
    assert summary is not None
    assert summary.summary == "They talked about fjords and about trolls"
    (last,) = [one for one in asked if "new_messages" in one.question and "trolls" in one.question]
    assert "They talked about fjords" in last.question
    assert "Tell me about fjords" not in last.question
    agent.run("Go on", user_id="noor", session_id="1001")
    assert agent.get_session_summary(session_id="1001", user_id="noor") is not None  # waits for it
    (going_on,) = [one for one in asked if one.question == "Go on"]
    assert "They talked about fjords and about trolls" in going_on.system


def test_the_history_holds_the_newest_runs_and_a_tool_all_of_them(provider: Speaks) -> None:
    def think(asked: Asked) -> Said:
        if "first" not in asked.question:
            return "Fine."
        return asked.results[0].text if asked.results else [("get_chat_history", {})]

    asked = provider(think).asked
    agent = Agent(
        model=OpenAIChat(id="gpt-4o"), add_history_to_messages=True, num_history_runs=3, read_chat_history=True
    )
    for number in range(5):
        agent.run(f"Message {number}")
    told = str(agent.run("What did I say first?").content)
    assert asked[-1].earlier == ["Message 2", "Message 3", "Message 4"]
    assert "Message 0" in told


def test_tool_calls_are_read_newest_first(provider: Speaks) -> None:
    def think(asked: Asked) -> Said:
        if asked.results:
            return asked.results[0].text
        return [("get_tool_call_history", {}) if "?" in asked.question else ("ring", {"bell": asked.question})]

    provider(think)

    def ring(bell: str) -> str:
        """Ring a bell."""
        return f"{bell} rang"

    agent = Agent(model=OpenAIChat(id="gpt-4o"), tools=[ring], read_tool_call_history=True)
    for bell in ("big", "small"):
        agent.run(bell)
    told = str(agent.run("Which bells were rung?").content)
    assert 0 < told.index("small rang") < told.index("big rang")


def test_the_default_memory_ends_with_the_program(provider: Speaks) -> None:
    asked = provider(lambda asked: "Fine.").asked
    for _ in range(2):
        agent = Agent(model=OpenAIChat(id="gpt-4o"), session_id="fixed", add_history_to_messages=True)
        agent.run("Hello")
    assert asked[-1].earlier == []
    assert len(agent.get_messages_for_session()) == 2


@pytest.mark.parametrize("by", ["enable_agentic_memory", "enable_user_memories"])
async def test_either_way_of_remembering_works_with_each_provider(provider: Speaks, model: Model, by: str) -> None:
    provider(keeper)
    options: dict[str, Any] = {by: True}
    memory = Memory(db=SqliteMemoryDb(table_name="memory", db_file="tmp/memory.db"))
    agent = Agent(model=model, memory=memory, **options)
    await agent.arun("I am Noor.", user_id="noor")
    assert await aknown(memory, "noor") == {FACTS["Noor"]}
    async for _ in agent.arun("I sail.", user_id="noor", stream=True):
        pass
    assert await aknown(memory, "noor") == {FACTS["Noor"], FACTS["sail"]}
    response = await agent.arun("What do I like?", user_id="noor", session_id="another")
    assert FACTS["sail"] in str(response.content)
    assert await aknown(memory, "noor") == {FACTS["Noor"], FACTS["sail"]}
    assert await aknown(memory, "ole") == set()


def test_a_memory_is_cleared_by_the_program(provider: Speaks) -> None:
    provider(keeper)
    memory = Memory(model=OpenAIChat(id="gpt-4.1"), db=SqliteMemoryDb(table_name="memory", db_file="tmp/memory.db"))
    agent = Agent(model=OpenAIChat(id="gpt-4.1"), memory=memory, enable_user_memories=True)
    for user_id in ("noor", "ole"):
        agent.run("I sail.", user_id=user_id)
        assert known(memory, user_id) == {FACTS["sail"]}
    memory.clear()
    assert known(memory, "noor") | known(memory, "ole") == set()


def test_a_memory_of_ones_own_is_given_as_context(provider: Speaks) -> None:
    provider(lambda asked: asked.system)

    def recall() -> list[str]:
        return ["sails", "lives in Bergen"]

    agent = Agent(model=OpenAIChat(id="gpt-4o"), context={"user": "Noor", "memories": recall}, add_context=True)
    told = str(agent.run("Who am I?").content)
    assert "Noor" in told
    assert "lives in Bergen" in told


async def test_sessions_are_read_and_summarised_by_awaiting(provider: Speaks, model: Model) -> None:
    provider(lambda asked: "A talk." if "new_messages" in asked.question else "I will tell you.")
    memory = Memory(db=SqliteMemoryDb(table_name="memory", db_file="tmp/memory.db"))
    agent = Agent(model=model, memory=memory, enable_session_summaries=True)
    await agent.aprint_response("Tell me about fjords", user_id="noor", session_id="1001", stream=True)
    summary = await memory.aget_session_summary(user_id="noor", session_id="1001")
    assert summary is not None
    assert summary.summary == "A talk."
    told = [message.content for message in await agent.aget_messages_for_session()]
    assert told == ["Tell me about fjords", "I will tell you."]
