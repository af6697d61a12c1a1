"""A plan before the answer: `reasoning=True`, `reasoning_model=…`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunLimits, tool
from agentrt.errors import ModelServerError
from agentrt.models.base import Capabilities
from agentrt.run.response import Thought
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import Gate, ScriptedModel, reply

FIRST = {"title": "Split", "reasoning": "Two parts", "action": "Add them", "confidence": 0.5}
SECOND = {"title": "Check", "reasoning": "Both fit", "result": "4", "next_action": "final_answer"}
STEPS = [
    Thought(title="Split", reasoning="Two parts", action="Add them", confidence=0.5, next_action="continue"),
    Thought(title="Check", reasoning="Both fit", result="4", next_action="final_answer"),
]


def plan(*steps: dict[str, Any]) -> str:
    return json.dumps({"steps": steps})


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_model_plans_and_then_answers(stream: bool) -> None:
    model = ScriptedModel(plan(FIRST, SECOND), "4")
    agent = Agent(model=model, reasoning=True, instructions="Be brief.")
    if stream:
        events: list[Any] = [event async for event in agent.arun("2 + 2?", stream=True, stream_intermediate_steps=True)]
        names = [event.event for event in events if event.event.startswith("Reasoning")]
        assert names == ["ReasoningStarted", "ReasoningStep", "ReasoningStep", "ReasoningCompleted"]
        assert [event.step for event in events if event.event == "ReasoningStep"] == STEPS
        assert "".join(event.content for event in events if event.event == "RunContent") == "4"
        response = events[-1].response
    else:
        response = await agent.arun("2 + 2?")

    assert response.reasoning_steps == STEPS
    assert response.content == "4"
    assert [message.content for message in response.messages] == ["2 + 2?", "4"]
    assert response.session_state == {}
    assert response.usage.model_calls == 2
    asked, answered = (request.messages for request in model.requests)
    assert (asked[0].content or "").startswith("Be brief.\n\n")
    assert asked[-1].content == "2 + 2?"
    assert "1. Split\nTwo parts\nAction: Add them\n2. Check" in (answered[0].content or "")


async def test_steps_are_told_while_the_plan_is_written() -> None:
    gate = Gate()
    text = plan(FIRST, SECOND)
    half = text.index('{"title": "Check"')
    model = ScriptedModel(reply([text[:half], text[half:]], gate=gate, gate_after=1), "4")
    names: list[str] = []
    async for event in Agent(model=model, reasoning=True).arun("?", stream=True, stream_intermediate_steps=True):
        names.append(event.event)
        if event.event == "ReasoningStep":
            gate.open()  # only now comes the rest
    assert names[:5] == ["RunStarted", "ReasoningStarted", "ModelCallStarted", "ReasoningStep", "ReasoningStep"]


async def test_another_model_may_plan() -> None:
    planner, model = ScriptedModel(plan(SECOND)), ScriptedModel("4")
    response = await Agent(model=model, reasoning_model=planner).arun("2 + 2?")
    assert (response.reasoning_steps, response.content, response.model) == (STEPS[1:], "4", "scripted")
    planner.assert_done()


async def test_a_planner_without_schema_support_gives_its_plan_by_a_tool() -> None:
    planner = ScriptedModel(
        reply(tool_calls=[("final_answer", plan(SECOND))]), capabilities=Capabilities(output_schema=False)
    )
    response = await Agent(model=ScriptedModel("4"), reasoning_model=planner).arun("2 + 2?")
    assert response.reasoning_steps == STEPS[1:]


async def test_what_is_no_plan_is_one_step_as_it_stands() -> None:
    response = await Agent(model=ScriptedModel("4"), reasoning_model=ScriptedModel("I just add them.")).arun("2 + 2?")
    assert response.reasoning_steps == [Thought(reasoning="I just add them.")]


async def test_it_goes_on_until_there_are_enough_steps() -> None:
    planner = ScriptedModel(plan(SECOND), plan(SECOND), plan(SECOND))
    agent = Agent(model=ScriptedModel("4"), reasoning_model=planner, reasoning_min_steps=3)
    assert len((await agent.arun("2 + 2?")).reasoning_steps) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_it_stops_at_the_most_steps(stream: bool) -> None:
    planner = ScriptedModel(plan(FIRST), plan(FIRST, FIRST, FIRST))
    agent = Agent(model=ScriptedModel("4"), reasoning_model=planner, reasoning_max_steps=2)
    if stream:
        events: list[Any] = [event async for event in agent.arun("2 + 2?", stream=True)]
        assert len(events[-1].response.reasoning_steps) == 2
    else:
        assert len((await agent.arun("2 + 2?")).reasoning_steps) == 2


async def test_a_failing_planner_fails_the_run_and_its_start_has_its_end() -> None:
    planner = ScriptedModel(ModelServerError("down", retryable=False))
    agent = Agent(model=ScriptedModel("never"), reasoning_model=planner)
    events: list[Any] = []
    with pytest.raises(ModelServerError):
        async for event in agent.arun("2 + 2?", stream=True, stream_intermediate_steps=True):
            events.append(event)
    completed = next(event for event in events if event.event == "ReasoningCompleted")
    assert "down" in completed.error


async def test_the_limit_of_model_calls_leaves_one_for_the_answer() -> None:
    model = ScriptedModel(plan(FIRST), "4")

    def add(a: int, b: int) -> int:
        return a + b

    response = await Agent(model=model, reasoning=True, tools=[add], limits=RunLimits(model_calls=2)).arun("2 + 2?")
    assert (response.content, len(response.reasoning_steps)) == ("4", 1)


async def test_a_run_that_is_continued_has_its_plan_and_makes_no_other(tmp_path: Path) -> None:
    @tool(requires_confirmation=True)
    def add(a: int, b: int) -> int:
        return a + b

    storage = SqliteStorage(db_file=tmp_path / "data.db")
    model = ScriptedModel(plan(FIRST, SECOND), reply(tool_calls=[("add", {"a": 2, "b": 2})]), "4")
    agent = Agent(model=model, reasoning=True, tools=[add], storage=storage)
    paused = await agent.arun("2 + 2?")
    paused.tools[0].confirmed = True
    response = await agent.acontinue_run(paused)
    assert (response.content, response.reasoning_steps) == ("4", STEPS)
    assert "1. Split" in (model.last_request.messages[0].content or "")
    await storage.aclose()


async def test_a_run_that_failed_after_its_plan_goes_on_with_it(tmp_path: Path) -> None:
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    agent = Agent(model=ScriptedModel(plan(SECOND), ModelServerError("down", retryable=False)), reasoning=True)
    agent = agent.copy(storage=storage)
    with pytest.raises(ModelServerError):
        await agent.arun("2 + 2?", run_id="r")
    response = await agent.copy(model=ScriptedModel("4")).acontinue_run(run_id="r")
    assert (response.content, response.reasoning_steps) == ("4", STEPS[1:])
    await storage.aclose()


KILLED = """
import os, sys
from agentrt import Agent
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import ScriptedModel

planner = ScriptedModel('{"steps": [{"title": "Check", "reasoning": "r", "next_action": "final_answer"}]}')
model = ScriptedModel('no number', lambda request: os._exit(9))
agent = Agent(model=model, reasoning_model=planner, response_model=int, storage=SqliteStorage(db_file=sys.argv[1]))
agent.run("2 + 2?", run_id="r")
"""


async def test_a_run_whose_process_was_killed_knows_its_plan_and_its_corrections(tmp_path: Path) -> None:
    file = tmp_path / "data.db"
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, file], timeout=30)
    assert killed.returncode == 9

    storage = SqliteStorage(db_file=file)
    model, planner = ScriptedModel('{"value": 4}'), ScriptedModel()
    agent = Agent(model=model, reasoning_model=planner, response_model=int, storage=storage)
    response = await agent.acontinue_run(run_id="r")
    assert response.content == 4
    assert [step.title for step in response.reasoning_steps] == ["Check"]
    sent = model.last_request.messages
    assert "1. Check" in (sent[0].content or "")
    assert [message.role for message in sent[1:]] == ["user", "assistant", "user"]
    assert response.usage.model_calls == 3
    await storage.aclose()


async def test_a_models_own_reasoning_is_told_as_it_comes_and_kept() -> None:
    agent = Agent(model=ScriptedModel(reply("4", reasoning=["Two and ", "two."])))
    events: list[Any] = [event async for event in agent.arun("2 + 2?", stream=True)]
    assert [event.content for event in events if event.event == "ReasoningContent"] == ["Two and ", "two."]
    assert events[-1].response.reasoning_content == "Two and two."
