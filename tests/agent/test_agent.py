"""Agents as users hold them: options, copies, overrides, inputs."""

from __future__ import annotations

import asyncio
import inspect
import logging
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from agentrt import Agent, Message, RunContext
from agentrt.errors import ConfigurationError
from agentrt.testing import FunctionModel, ScriptedModel, reply


def say(text: str) -> FunctionModel:
    return FunctionModel(lambda request: text)


def shout(text: str) -> str:
    return text.upper()


def test_a_misspelt_option_is_a_type_error_that_names_the_right_one() -> None:
    with pytest.raises(TypeError, match="did you mean 'instructions'"):
        Agent(instruction="x")  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="sesion_id"):
        Agent(model=say("x")).arun("hi", sesion_id="s")  # pyright: ignore


def test_options_are_keyword_only() -> None:
    with pytest.raises(TypeError, match="Agent takes its options by name, not 'name'"):
        Agent("name")  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"storage": "tmp/data.db"}, r"storage is a Storage, as SqliteStorage\(.*\), not 'tmp/data.db'"),
        ({"instructions": 5}, "instructions are a text, several, or a function that returns them, not 5"),
        ({"tools": [shout], "tool_choice": "shuot"}, "tool_choice names 'shuot', and the tools are: shout"),
        ({"tool_choice": "shout"}, "the tools are: none"),
    ],
)
def test_an_option_of_the_wrong_kind_is_said_before_a_model_is_asked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Agent(model=ScriptedModel(), **options).run("hi")


def test_arun_is_a_real_coroutine() -> None:
    running = Agent(model=say("x")).arun("hi")
    assert inspect.iscoroutine(running)
    running.close()


def test_a_copy_changes_without_touching_the_original() -> None:
    agent = Agent(name="one", instructions="be brief")
    other = agent.copy(name="two")
    assert (agent.name, other.name, other.instructions) == ("one", "two", "be brief")


async def test_an_override_holds_inside_the_with_and_in_tasks_made_there() -> None:
    agent = Agent(model=say("real"))
    with agent.override(model=say("test")):
        inside = await asyncio.create_task(agent.arun("hi"))
    assert (inside.content, (await agent.arun("hi")).content) == ("test", "real")


async def test_options_of_a_run_replace_the_agents_for_this_run_only() -> None:
    def ping() -> str:
        return "pong"

    agent = Agent(model=say("one"), instructions="a")
    other = ScriptedModel(reply(tool_calls=[("ping", {})]), "two")
    response = await agent.arun("hi", model=other, tools=[ping], instructions="b", dependencies={"k": 1})
    assert response.content == "two"
    assert other.requests[0].messages[0].content == "b"
    assert (await agent.arun("hi")).content == "one"
    assert agent.tools is None


async def test_input_may_be_messages() -> None:
    model = say("ok")
    await Agent(model=model).arun(
        [Message(role="user", content="a"), {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    )
    assert [(m.role, m.content) for m in model.last_request.messages] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]


async def test_input_may_be_typed() -> None:
    class Order(BaseModel):
        sku: str
        qty: int = 1

    @dataclass
    class Point:
        x: int

    model = say("ok")
    agent = Agent(model=model)
    for value, text in [(Order(sku="a"), '{"sku":"a","qty":1}'), (Point(x=3), '{"x":3}'), ({"a": 1}, '{"a":1}')]:
        await agent.arun(value)
        assert (model.last_request.messages[-1].content or "").replace(" ", "").replace("\n", "") == text


async def test_a_wrong_message_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="role"):
        await Agent(model=say("x")).arun([{"role": "robot", "content": "x"}])


async def test_instructions_may_be_functions_of_the_context_or_the_agent() -> None:
    async def by_context(ctx: RunContext) -> str:
        return f"user {ctx.user_id}"

    def by_agent(agent: Agent[Any]) -> list[str]:
        return [f"I am {agent.name}", f"state {agent.session_state['k']}"]

    model = say("ok")
    await Agent(model=model, instructions=by_context).arun("hi", user_id="u1")
    assert model.last_request.messages[0].content == "user u1"
    await Agent(name="ann", model=model, instructions=by_agent, session_state={"k": 7}).arun("hi")
    assert model.last_request.messages[0].content == "- I am ann\n- state 7"


async def test_tools_may_be_a_function_of_the_context() -> None:
    def admin() -> str:
        return "done"

    def tools(ctx: RunContext) -> list[Any]:
        return [admin] if ctx.user_id == "root" else []

    model = say("ok")
    agent = Agent(model=model, tools=tools)
    await agent.arun("hi", user_id="root")
    assert [t.name for t in model.last_request.tools] == ["admin"]
    await agent.arun("hi", user_id="u")
    assert list(model.last_request.tools) == []


async def test_a_typed_answer_is_an_instance() -> None:
    class Answer(BaseModel):
        text: str
        tags: list[str] = []

    response = await Agent(model=say('{"text": "a", "tags": ["x"]}'), response_model=Answer).arun("hi")
    assert response.content == Answer(text="a", tags=["x"])


async def test_a_list_is_wrapped_for_the_provider_and_given_bare() -> None:
    model = say('{"value": [1, 2]}')
    response = await Agent(model=model, response_model=list[int]).arun("hi")
    assert response.content == [1, 2]
    assert model.last_request.output is not None
    assert model.last_request.output.schema["type"] == "object"


def test_message_dumps_what_is_asked_for() -> None:
    message = Message(role="user", content="hi")
    assert message.model_dump(include={"role", "content"}) == {"role": "user", "content": "hi"}


def test_no_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentrt.errors import ModelUnavailable

    monkeypatch.delenv("AGENTRT_MODEL", raising=False)
    with pytest.raises(ModelUnavailable, match="AGENTRT_MODEL"):
        Agent().run("hi")


def test_a_subclass_may_set_options_as_attributes() -> None:
    class Poet(Agent[str]):
        instructions = "Rhyme."

    model = say("ok")
    Poet(model=model).run("hi")
    assert model.last_request.messages[0].content == "Rhyme."


async def test_debug_mode_tells_each_step_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    model = ScriptedModel(reply(tool_calls=[("add", {"a": 1, "b": 2})]), "three")
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []  # as in a program that has not configured logging
    try:
        await Agent(model=model, tools=[add], debug_mode=True).arun("how much?")
    finally:
        root.handlers = handlers
        logging.getLogger("agentrt.run").setLevel(logging.NOTSET)
    told = capsys.readouterr().err
    for part in (
        "RunStarted",
        "user: how much?",
        "ToolCallStarted add({'a': 1, 'b': 2})",
        "add: 3",
        "RunCompleted: three",
    ):
        assert part in told
