"""The page "Agent State"."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from agentrt.agent import Agent
from agentrt.models.base import Model
from agentrt.models.openai import OpenAIChat
from agentrt.storage.sqlite import SqliteStorage
from tests.agno_docs.provider import Asked, Provider, Said, Think

Speaks = Callable[[Think], Provider]


def pack(agent: Agent, thing: str) -> str:
    """Put a thing into the suitcase."""
    case = agent.session_state["suitcase"]
    if thing.lower() in [packed.lower() for packed in case]:
        return f"{thing} is packed already"
    case.append(thing)
    return f"packed: {case}"


def unpack(agent: Agent, thing: str) -> str:
    """Take a thing out of the suitcase."""
    for place, packed in enumerate(agent.session_state["suitcase"]):
        if packed.lower() == thing.lower():
            agent.session_state["suitcase"].pop(place)
            return f"{packed} is out"
    return f"there is no {thing}"


def look(agent: Agent) -> str:
    """Say what is in the suitcase."""
    return ", ".join(agent.session_state["suitcase"]) or "nothing"


def packer(asked: Asked) -> Said:
    """Packs and unpacks what the user names, and says what it was told."""
    if asked.results:
        return " / ".join(turn.text for turn in asked.results)
    question = asked.question.lower()
    things = re.findall(r"socks|shirt|book|tea", question)
    if "only" in question:
        out = [thing for thing in re.findall(r"'(\w+)'", asked.system) if thing not in things]
        return [*(("unpack", {"thing": thing}) for thing in out), *(("pack", {"thing": thing}) for thing in things)]
    if things:
        return [("unpack" if "without" in question else "pack", {"thing": thing}) for thing in things]
    if "look" in asked.tools:
        return [("look", {})]
    return asked.system


@pytest.mark.parametrize("stream", [True, False])
def test_tools_change_the_state_and_the_program_reads_it_afterwards(
    provider: Speaks, capsys: pytest.CaptureFixture[str], stream: bool
) -> None:
    asked = provider(packer).asked
    agent = Agent(
        model=OpenAIChat(id="gpt-4o-mini"),
        session_state={"suitcase": []},
        tools=[pack],
        instructions="In the suitcase: {suitcase}",
        add_state_in_messages=True,
        markdown=True,
    )
    agent.print_response("Pack socks, a shirt and a book", stream=stream)
    assert agent.session_state == {"suitcase": ["socks", "shirt", "book"]}
    assert "In the suitcase: []" in asked[0].system
    assert "packed: ['socks', 'shirt', 'book']" in capsys.readouterr().out


@pytest.mark.parametrize("stream", [True, False])
def test_state_lasts_over_runs_and_each_prompt_has_it_as_it_is(provider: Speaks, stream: bool) -> None:
    asked = provider(packer).asked
    agent = Agent(
        model=OpenAIChat(id="gpt-4o-mini"),
        session_state={"suitcase": []},
        tools=[pack, unpack, look],
        instructions="You pack a suitcase.\n\nIn it by now: {suitcase}",
        show_tool_calls=True,
        add_state_in_messages=True,
    )
    seen: list[list[str]] = []
    for message in ("Socks and tea please", "Without tea", "A book, too", "What is in it?", "Only a shirt and tea"):
        agent.print_response(message, stream=stream)
        seen.append(list(agent.session_state["suitcase"]))
    assert seen == [["socks", "tea"], ["socks"], ["socks", "book"], ["socks", "book"], ["shirt", "tea"]]
    assert "In it by now: ['socks', 'book']" in asked[-1].system
    assert [turn.text for turn in asked[7].results] == ["socks, book"]


def test_a_key_of_the_state_stands_in_the_instructions(provider: Speaks, capsys: pytest.CaptureFixture[str]) -> None:
    provider(lambda asked: asked.system)
    agent = Agent(
        model=OpenAIChat(id="gpt-4o-mini"),
        session_state={"pet": "Momo"},
        instructions="The user has a cat called {pet}",
        add_state_in_messages=True,
    )
    agent.print_response("How is my cat?", stream=True)
    assert "a cat called Momo" in capsys.readouterr().out


def test_a_session_is_switched_to_with_the_state_that_was_set_there(
    provider: Speaks, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = provider(lambda asked: asked.system).asked
    agent = Agent(
        model=OpenAIChat(id="gpt-4o-mini"), add_state_in_messages=True, instructions="{pet} is {years} years old"
    )
    for user, pet, years in (("ann", "Momo", 3), ("bob", "Rex", 8)):
        state: dict[str, Any] = {"pet": pet, "years": years}
        agent.print_response("Hello", session_id=f"{user}-1", user_id=user, session_state=state)
        agent.print_response("How old?", session_id=f"{user}-1", user_id=user)
    assert [one.system for one in asked] == ["Momo is 3 years old"] * 2 + ["Rex is 8 years old"] * 2
    assert capsys.readouterr().out.count("Rex is 8 years old") == 2


def test_state_in_a_database_is_there_when_the_program_is_run_again(provider: Speaks) -> None:
    asked = provider(packer).asked

    def program() -> list[str]:
        agent = Agent(
            model=OpenAIChat(id="gpt-4o-mini"),
            session_id="trip",
            session_state={"suitcase": []},
            tools=[pack],
            storage=SqliteStorage(table_name="agent_sessions", db_file="tmp/trip.db"),
            instructions="In the suitcase: {suitcase}",
            add_state_in_messages=True,
        )
        agent.print_response("What is in it?", stream=True)
        agent.print_response("Pack socks and tea", stream=True)
        return agent.session_state["suitcase"]

    assert program() == ["socks", "tea"]
    assert program() == ["socks", "tea"]
    assert "In the suitcase: []" in asked[0].system
    assert "In the suitcase: ['socks', 'tea']" in asked[3].system


def test_a_state_given_to_a_run_wins_over_the_agents_own(provider: Speaks) -> None:
    asked = provider(lambda asked: "Fine.").asked
    agent = Agent(
        model=OpenAIChat(id="gpt-4o-mini"),
        session_state={"pet": "Momo"},
        instructions="A cat called {pet}",
        add_state_in_messages=True,
    )
    agent.run("Hello", session_state={"pet": "Rex"})
    assert asked[0].system == "A cat called Rex"


def test_keys_of_the_state_are_filled_in_only_where_the_agent_says_so(provider: Speaks) -> None:
    asked = provider(lambda asked: "Fine.").asked
    for filled in (True, False):
        agent = Agent(
            model=OpenAIChat(id="gpt-4o-mini"),
            session_state={"pet": "Momo"},
            description="You know {pet}.",
            instructions="Talk of {pet}.",
            add_state_in_messages=filled,
        )
        agent.run("Hello")
    assert ["Momo" in one.system for one in asked] == [True, False]
    assert "You know Momo." in asked[0].system
    assert "Talk of Momo." in asked[0].system
    assert "You know {pet}." in asked[1].system


def test_other_functions_of_the_program_change_the_state_too(provider: Speaks) -> None:
    asked = provider(packer).asked
    storage = SqliteStorage(table_name="agent_sessions", db_file="tmp/trip.db")
    agent = Agent(
        model=OpenAIChat(id="gpt-4o-mini"),
        session_id="trip",
        session_state={"suitcase": []},
        tools=[pack],
        storage=storage,
        instructions="In the suitcase: {suitcase}",
        add_state_in_messages=True,
    )

    def empty() -> None:
        agent.session_state["suitcase"].clear()

    agent.run("Pack socks")
    empty()
    agent.session_state["suitcase"].append("hat")
    agent.run("What is in it?")
    assert asked[-1].system == "In the suitcase: ['hat']"
    again = Agent(model=OpenAIChat(id="gpt-4o-mini"), session_id="trip", storage=storage)
    assert again.run("Hello").session_state == {"suitcase": ["hat"]}


def test_a_tool_may_use_the_agent_of_its_program(provider: Speaks) -> None:
    provider(packer)

    def pack(thing: str) -> str:
        """Put a thing into the suitcase."""
        agent.session_state["suitcase"].append(thing)
        return f"packed: {agent.session_state['suitcase']}"

    agent = Agent(model=OpenAIChat(id="gpt-4o-mini"), session_state={"suitcase": []}, tools=[pack])
    assert agent.run("Pack socks").content == "packed: ['socks']"
    assert agent.run("Pack tea").content == "packed: ['socks', 'tea']"
    assert agent.session_state == {"suitcase": ["socks", "tea"]}


@pytest.mark.parametrize("stored", [True, False])
async def test_runs_switch_between_sessions_each_with_its_own_state(provider: Speaks, stored: bool) -> None:
    asked = provider(packer).asked
    agent = Agent(
        model=OpenAIChat(id="gpt-4o-mini"),
        session_state={"suitcase": []},
        tools=[pack],
        storage=SqliteStorage(table_name="agent_sessions", db_file="tmp/trips.db") if stored else None,
        instructions="In the suitcase: {suitcase}",
        add_state_in_messages=True,
    )
    await agent.arun("Pack socks", session_id="oslo")
    async for _ in agent.arun("Pack tea", session_id="rome", stream=True):
        pass
    assert agent.session_state == {"suitcase": ["tea"]}
    await agent.aprint_response("Hello", session_id="oslo", stream=True)
    assert (agent.session_id, agent.session_state) == ("oslo", {"suitcase": ["socks"]})
    assert asked[-1].system == "In the suitcase: ['socks']"


def test_the_state_is_kept_with_each_provider(provider: Speaks, model: Model) -> None:
    provider(packer)
    agent = Agent(model=model, session_state={"suitcase": []}, tools=[pack, unpack, look])
    for message in ("Socks and tea please", "Without tea"):
        agent.print_response(message, stream=True)
    assert agent.session_state == {"suitcase": ["socks"]}
