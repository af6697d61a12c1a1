"""What a run is given besides its input: dependencies, made for it where they are functions; its state as a tool."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from agentrt import Agent, RunContext
from agentrt.testing import FunctionModel, ScriptedModel, reply
from tests.run.conftest import OpenStorage


async def seen(**options: Any) -> Any:
    """The dependencies as a tool sees them."""
    found: list[Any] = []

    def look(ctx: RunContext) -> str:
        found.append(ctx.dependencies)
        return "ok"

    await Agent(model=ScriptedModel(reply(tool_calls=[("look", {})]), "Done."), tools=[look], **options).arun("Go")
    return found[0]


class Client:
    def __call__(self) -> str:
        return "called"


async def test_functions_are_called_for_the_run_and_awaited():
    async def user(ctx: RunContext) -> str:
        return f"user {ctx.user_id}"

    def news(limit: int = 1) -> list[str]:
        return ["one", "two"][:limit]

    def half(number: int) -> int:
        return number // 2

    given = {"user": user, "news": news, "half": functools.partial(half, number=4), "city": "Oslo"}
    assert await seen(dependencies=given, user_id="ann") == {
        "user": "user ann", "news": ["one"], "half": 2, "city": "Oslo"
    }  # fmt: skip
    assert given["news"] is news


async def test_what_can_not_be_called_with_what_is_known_is_a_value():
    client = Client()

    def send(to: str) -> str:
        return to

    given = {"client": client, "send": send, "type": Client, "len": len}
    assert await seen(dependencies=given) == given


async def test_other_dependencies_are_handed_on_as_they_are():
    client = Client()
    assert await seen(dependencies=client) is client


async def test_context_is_another_name_for_dependencies():
    assert await seen(context={"city": lambda: "Oslo"}) == {"city": "Oslo"}
    assert await seen(context={"city": "Oslo"}, dependencies={"city": "Rome"}) == {"city": "Rome"}


async def test_dependencies_are_told_only_when_asked_for():
    model = FunctionModel(lambda request: "Hi")
    agent = Agent(model=model, context={"city": lambda: "Oslo"}, instructions="Be brief.")
    await agent.arun("Hello")
    assert "Oslo" not in (model.last_request.messages[0].content or "")
    await agent.copy(add_context=True).arun("Hello")
    assert '<context>\n{"city": "Oslo"}\n</context>' in (model.last_request.messages[0].content or "")


async def test_dependencies_fill_what_their_author_wrote():
    model = FunctionModel(lambda request: "Hi")
    agent = Agent(model=model, context={"city": lambda: "Oslo"}, instructions="In {city}.", add_state_in_messages=True)
    await agent.arun("Hello")
    assert model.last_request.messages[0].content == "In Oslo."


async def test_a_hook_sees_them_made():
    found: list[Any] = []
    agent = Agent(
        model=ScriptedModel("Hi"),
        dependencies={"city": lambda: "Oslo"},
        pre_hooks=[lambda dependencies: found.append(dict(dependencies))],
    )
    await agent.arun("Hello")
    assert found == [{"city": "Oslo"}]


async def test_a_function_that_fails_fails_the_run():
    def broken() -> str:
        raise ValueError("no such city")

    with pytest.raises(ValueError, match="no such city"):
        await seen(dependencies={"city": broken})


async def test_a_continued_run_has_them_made_again(open_storage: OpenStorage):
    from agentrt.tools import tool

    found: list[Any] = []

    @tool(requires_confirmation=True)
    def pay(ctx: RunContext) -> str:
        found.append(ctx.dependencies)
        return "paid"

    model = ScriptedModel(reply(tool_calls=[("pay", {})]), "Done.")
    agent = Agent(model=model, tools=[pay], storage=open_storage(), dependencies={"city": lambda: "Oslo"})
    paused = await agent.arun("Pay")
    paused.tools[0].confirmed = True
    await agent.acontinue_run(paused)
    assert found == [{"city": "Oslo"}]


# --- the state as a tool ---------------------------------------------------------------------------------------------


async def test_the_agent_can_set_keys_of_the_state(open_storage: OpenStorage):
    model = ScriptedModel(reply(tool_calls=[("update_session_state", {"updates": {"city": "Rome", "n": 1}})]), "Done.")
    agent = Agent(
        model=model,
        storage=open_storage(),
        session_id="s",
        session_state={"city": "Oslo", "keep": True},
        enable_agentic_state=True,
    )
    response = await agent.arun("I moved to Rome")
    assert response.session_state == {"city": "Rome", "keep": True, "n": 1}
    session = await agent.sessions.aget("s")
    assert session.state == {"city": "Rome", "keep": True, "n": 1}
    assert '"city": "Oslo"' in (model.requests[0].messages[0].content or "")
    assert '"city": "Rome"' in (response.tools[0].result or "")
