"""Sessions in short: made from the last summary and what was said since, told in the next prompt."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentrt import Agent
from agentrt.memory.base import SessionSummary
from agentrt.memory.memory import Memory
from agentrt.memory.summarizer import SessionSummarizer
from agentrt.models.base import Model, ModelRequest
from agentrt.run.definition import RunDefinition
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.testing import FunctionModel, Gate, ScriptedModel, reply
from tests.memory.kit import all_text, echo, system_of


def agent_with(memory: Memory, **options: Any) -> Agent:
    return Agent(model=echo(), memory=memory, enable_session_summaries=True, session_id="s", **options)


async def summary(memory: Memory, session_id: str = "s", user_id: str | None = "u1") -> str | None:
    found = await memory.aget_session_summary(session_id, user_id)
    return found.summary if found is not None else None


async def test_a_run_leaves_a_summary_that_the_next_one_knows():
    memory = Memory(model=ScriptedModel("They spoke of tea.", "They spoke of tea and milk."))
    agent = agent_with(memory)
    model = agent.model
    assert isinstance(model, FunctionModel)
    response = await agent.arun("Tell me of tea", user_id="u1")
    assert await summary(memory) == "They spoke of tea."
    assert [update.kind for update in response.memory_updates] == ["summary"]
    await agent.arun("And milk?", user_id="u1")
    assert "They spoke of tea." in system_of(model.last_request)
    assert await summary(memory) == "They spoke of tea and milk."


async def test_it_is_made_from_the_last_one_and_what_was_said_since():
    model = ScriptedModel("They spoke of tea.", "They spoke of tea and milk.")
    memory = Memory(model=model)
    agent = agent_with(memory, add_history_to_messages=True)
    await agent.arun("Tell me of tea", user_id="u1")
    await agent.arun("And milk?", user_id="u1")
    await memory.aclose()
    first, second = (request.messages[-1].content or "" for request in model.requests)
    assert "there is none yet" in first and "user: Tell me of tea" in first
    assert "They spoke of tea." in second and "assistant: You said: And milk?" in second
    assert "Tell me of tea" not in second


async def test_sessions_and_users_have_their_own():
    memory = Memory(model=FunctionModel(lambda request: f"Short: {(request.messages[-1].content or '')[-120:]}"))
    for user_id, session_id in (("u1", "s"), ("u1", "t"), ("u2", "s")):
        agent = agent_with(memory, storage=InMemoryStorage())
        await agent.arun(f"{user_id} in {session_id}", user_id=user_id, session_id=session_id)
    assert "u1 in s" in (await summary(memory) or "")
    assert "u1 in t" in (await summary(memory, "t") or "")
    assert "u2 in s" in (await summary(memory, "s", "u2") or "")
    assert await summary(memory, "s", None) is None


async def test_a_session_of_nobody_has_one_too():
    memory = Memory(model=ScriptedModel("Short."))
    await agent_with(memory).arun("Hello")
    assert await summary(memory, "s", None) == "Short."


async def test_results_of_tools_are_part_of_what_is_summed_up():
    def get_weather() -> str:
        """The weather."""
        return "It rains."

    summarizing = ScriptedModel("Rain.")
    memory = Memory(model=summarizing)
    agent = Agent(
        model=ScriptedModel(reply(tool_calls=[("get_weather", {})]), "Take a coat."),
        tools=[get_weather],
        memory=memory,
        enable_session_summaries=True,
    )
    await agent.arun("Coat?", user_id="u1")
    await memory.aclose()
    assert "[get_weather: It rains.]" in all_text(summarizing.last_request)


async def test_a_summarizer_that_says_nothing_leaves_the_last_summary():
    memory = Memory(model=ScriptedModel("Short.", "  ", "Shorter."))
    agent = agent_with(memory)
    await agent.arun("One", user_id="u1")
    response = await agent.arun("Two", user_id="u1")
    assert await summary(memory) == "Short."
    assert "said nothing" in (response.memory_updates[0].error or "")


async def test_a_long_summary_is_cut_in_the_prompt():
    memory = Memory(model=ScriptedModel("Begin " + "blah " * 5000 + "end", "Short."), max_tokens=100)
    agent = agent_with(memory)
    model = agent.model
    assert isinstance(model, FunctionModel)
    await agent.arun("One", user_id="u1")
    await agent.arun("Two", user_id="u1")
    told = system_of(model.last_request)
    assert "Begin" in told and "end" in told and len(told) < 1000
    await memory.aclose()


async def test_a_deleted_summary_is_told_no_more_and_not_made_again():
    held = Gate()
    memory = Memory(model=ScriptedModel("Tea.", reply("Tea and milk.", gate=held), "Short."))
    agent = agent_with(memory)
    model = agent.model
    assert isinstance(model, FunctionModel)
    await agent.arun("Tea", user_id="u1")
    async with asyncio.timeout(5):
        await agent.arun("Milk", user_id="u1")
        await held.reached.wait()
        await memory.adelete_session_summary("s", "u1")
        held.open()
        assert await summary(memory) is None
        await agent.arun("Hello", user_id="u1")
        await memory.aclose()
    assert "Tea" not in system_of(model.last_request)


def test_a_summary_is_read_and_deleted_from_code_that_is_not_async():
    memory = Memory(model=ScriptedModel("Tea."))
    agent_with(memory).run("Tea", user_id="u1")
    found = memory.get_session_summary(session_id="s", user_id="u1")
    assert found is not None and found.summary == "Tea."
    memory.delete_session_summary("s", user_id="u1")
    assert memory.get_session_summary(session_id="s", user_id="u1") is None


async def test_the_update_tells_of_the_new_summary():
    memory = Memory(model=ScriptedModel("Short."))
    agent = agent_with(memory)
    response = await agent.arun("One", user_id="u1")
    await memory.aclose()
    events = [event async for event in agent.attach(response.memory_updates[0].run_id, user_id="u1")]
    [told] = [event for event in events if event.event == "SessionSummaryUpdated"]
    assert told.content == "Short."


@pytest.mark.parametrize("how", ["instructed", "replaced"])
async def test_a_summarizer_can_be_instructed_or_replaced(how: str):
    model = ScriptedModel("Short.")
    told = "In French." if how == "instructed" else "Say it in one word."
    options: dict[str, Any] = {"additional_instructions": told} if how == "instructed" else {"system_message": told}
    memory = Memory(summarizer=SessionSummarizer(model=model, **options))
    await agent_with(memory).arun("One", user_id="u1")
    await memory.aclose()
    system = system_of(model.last_request)
    assert told in system and ("You keep the summary" in system) is (how == "instructed")


async def test_a_summarizer_can_be_another_one_altogether():
    class Counting:
        def definition(self, model: Model | str | None) -> RunDefinition[Any]:
            return RunDefinition(model=echo())

        def material(self, last: SessionSummary | None, messages: str) -> str:
            return f"{last.summary if last else ''}*"

    memory = Memory(summarizer=Counting())
    for _ in range(2):
        await agent_with(memory).arun("One", user_id="u1")
    assert await summary(memory) == "You said: You said: **"


async def test_the_agents_own_model_makes_it_when_there_is_no_other():
    def answer(request: ModelRequest) -> str:
        return "Short." if "You keep the summary" in system_of(request) else "Hi"

    memory = Memory()
    agent = Agent(model=FunctionModel(answer), memory=memory, enable_session_summaries=True, session_id="s")
    await agent.arun("One", user_id="u1")
    assert await summary(memory) == "Short."
