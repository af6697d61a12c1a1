"""`ReasoningTools`: notes of the model become reasoning steps."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent
from agentrt.run.response import Thought
from agentrt.testing import ScriptedModel, reply
from agentrt.tools.reasoning import ReasoningTools


def thinking() -> ScriptedModel:
    thought = {"title": "Plan", "thought": "Look it up", "action": "look", "confidence": 0.5}
    analysis = {"title": "Found", "result": "3", "analysis": "It fits", "next_action": "final_answer"}
    return ScriptedModel(reply(tool_calls=[("think", thought)]), reply(tool_calls=[("analyze", analysis)]), "3")


STEPS = [
    Thought(title="Plan", reasoning="Look it up", action="look", confidence=0.5),
    Thought(title="Found", reasoning="It fits", result="3", next_action="final_answer"),
]


async def test_each_note_is_a_step_of_the_response_and_none_of_the_session_state() -> None:
    response = await Agent(model=thinking(), tools=[ReasoningTools()]).arun("How many?")
    assert response.reasoning_steps == STEPS
    assert response.session_state == {}


async def test_each_note_is_an_event_inside_its_call() -> None:
    agent = Agent(model=thinking(), tools=[ReasoningTools()])
    events: list[Any] = [event async for event in agent.arun("How many?", stream=True, stream_intermediate_steps=True)]
    kept = ("ToolCallStarted", "ReasoningStep", "ToolCallCompleted")
    assert [event.event for event in events if event.event in kept] == [*kept, *kept]
    assert [event.step for event in events if event.event == "ReasoningStep"] == STEPS


@pytest.mark.parametrize(("options", "names"), [({"think": False}, ["analyze"]), ({"analyze": False}, ["think"])])
def test_each_tool_can_be_left_out(options: dict[str, Any], names: list[str]) -> None:
    assert list(ReasoningTools(**options).functions) == names


def test_it_takes_the_options_of_every_kit() -> None:
    kit = ReasoningTools(prefix="my_", show_result_tools=["think"])
    assert [(name, tool.show_result) for name, tool in kit.functions.items()] == [
        ("my_think", True), ("my_analyze", False)
    ]  # fmt: skip


async def test_instructions_and_examples_are_told_when_asked_for() -> None:
    for kit, told in [
        (ReasoningTools(), None),
        (ReasoningTools(add_instructions=True, instructions="Think hard."), "Think hard."),
        (ReasoningTools(add_few_shot=True, instructions="Think.", few_shot_examples="So:"), "Think.\n\nSo:"),
    ]:
        model = ScriptedModel("3")
        await Agent(model=model, tools=[kit]).arun("How many?")
        first = model.last_request.messages[0]
        assert (first.content if first.role == "system" else None) == told
