"""Pausing, deciding in parts and from elsewhere, continuing elsewhere, twice, never twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agentrt import Agent, RunResponse, RunStatus, tool
from agentrt.errors import AlreadyContinued, DecisionRefused, RunNotFound, StorageError, UserInputInvalid
from agentrt.run.decisions import Confirm, Provide, Reject, Resolve
from agentrt.runtime import Runtime
from agentrt.storage.base import Committed, RunChange, Storage
from agentrt.testing import ScriptedModel, reply
from tests.run.conftest import OpenStorage
from tests.run.test_history import paired

pytestmark = pytest.mark.timeout(20)


class World:
    """What the tools have done, and agents as separate processes build them."""

    def __init__(self, open_storage: OpenStorage) -> None:
        self.open = open_storage
        self.did: list[str] = []

    def agent(self, *replies: Any, **options: Any) -> Agent[Any]:
        def read(x: int) -> str:
            self.did.append(f"read {x}")
            return f"read {x}"

        @tool(requires_confirmation=True, allow_edits=options.pop("allow_edits", False))
        def drop(x: int) -> str:
            self.did.append(f"drop {x}")
            return f"dropped {x}"

        self.model = ScriptedModel(*replies)
        tools = options.pop("tools", [read, drop])
        return Agent(agent_id="a", model=self.model, tools=tools, storage=self.open(), **options)

    async def pause(self) -> RunResponse[Any]:
        """One turn with a plain call and two that must be confirmed."""
        calls = [("read", {"x": 1}), ("drop", {"x": 2}), ("drop", {"x": 3})]
        return await self.agent(reply(tool_calls=calls)).arun("go", run_id="r", session_id="s")


@pytest.fixture
def world(open_storage: OpenStorage) -> World:
    return World(open_storage)


def by_x(response: RunResponse[Any], x: int) -> Any:
    return next(tool for tool in response.tools if tool.tool_args == {"x": x})


async def test_free_calls_run_and_the_rest_waits(world: World) -> None:
    paused = await world.pause()
    assert paused.status is RunStatus.PAUSED
    assert world.did == ["read 1"] and len(world.model.requests) == 1
    assert [(r.kind, r.tool.tool_name, r.tool.tool_args) for r in paused.requirements] == [
        ("confirmation", "drop", {"x": 2}),
        ("confirmation", "drop", {"x": 3}),
    ]


async def test_decided_in_parts_by_three_processes(world: World) -> None:
    await world.pause()
    second = world.agent()
    loaded = await second.sessions.aget_run("r")
    by_x(loaded, 2).confirmed = True
    still = await second.acontinue_run(loaded)
    assert still.is_paused and world.did == ["read 1"] and world.model.requests == []
    assert [r.tool.tool_args for r in still.requirements] == [{"x": 3}]

    third = world.agent("done")
    loaded = await third.sessions.aget_run("r")
    (open_one,) = loaded.requirements
    open_one.reject("not today")
    response = await third.acontinue_run(loaded)
    assert response.content == "done" and world.did == ["read 1", "drop 2"]
    sent = world.model.last_request.messages
    assert paired(sent)
    results = [m.content or "" for m in sent if m.role == "tool"]
    assert results[:2] == ["read 1", "dropped 2"] and "not today" in results[2]

    with pytest.raises(AlreadyContinued):
        await world.agent().acontinue_run(loaded)
    assert world.did == ["read 1", "drop 2"]


async def test_what_was_never_asked_can_not_be_decided(world: World) -> None:
    paused = await world.pause()
    with pytest.raises(RunNotFound):
        await world.agent().acontinue_run(run_id="nope")
    paused.tools[1].tool_call_id = "made-up"
    with pytest.raises(DecisionRefused, match="made-up"):
        await world.agent().acontinue_run(run_id="r", updated_tools=paused.tools)
    assert (await world.agent().sessions.aget_run("r")).is_paused
    assert world.did == ["read 1"]


async def test_a_client_can_not_change_arguments_unless_the_tool_allows_it(world: World) -> None:
    paused = await world.pause()
    for requirement in paused.requirements:
        requirement.confirm()
        requirement.tool.tool_args = {"x": 99}
    await world.agent("done").acontinue_run(paused)
    assert sorted(world.did) == ["drop 2", "drop 3", "read 1"]


async def test_edited_arguments_are_run_and_recorded_where_allowed(world: World) -> None:
    paused = await world.pause()
    first, second = paused.requirements
    first.confirm(args={"x": 20})
    second.reject()
    with pytest.raises(DecisionRefused, match="allow_edits"):
        await world.agent().acontinue_run(paused)
    first.confirm(args={"x": "many"})
    with pytest.raises(DecisionRefused, match="x"):
        await world.agent(allow_edits=True).acontinue_run(paused)
    assert world.did == ["read 1"]
    first.confirm(args={"x": 20})
    response = await world.agent("done", allow_edits=True).acontinue_run(paused)
    assert world.did == ["read 1", "drop 20"]
    assert next(t for t in response.tools if t.edited_args).tool_args == {"x": 20}


async def test_two_processes_at_once_run_each_tool_once(world: World) -> None:
    paused = await world.pause()
    for requirement in paused.requirements:
        requirement.confirm()
    outcomes = await asyncio.gather(
        *(world.agent("done").acontinue_run(paused) for _ in range(4)), return_exceptions=True
    )
    assert sorted(world.did) == ["drop 2", "drop 3", "read 1"]
    assert sum(isinstance(outcome, RunResponse) for outcome in outcomes) == 1
    assert all(isinstance(o, (RunResponse, AlreadyContinued)) for o in outcomes)


async def test_an_earlier_decision_does_not_answer_a_later_call_of_the_same_id(world: World) -> None:
    from agentrt.models.message import ToolCall

    same = ToolCall(id="same", name="drop", arguments='{"x": 2}')
    paused = await world.agent(reply(tool_calls=[same])).arun("go", run_id="r", session_id="s")
    paused.requirements[0].confirm()
    again = await world.agent(reply(tool_calls=[ToolCall(id="same", name="drop", arguments='{"x": 4}')])).acontinue_run(
        paused
    )
    assert again.is_paused and world.did == ["drop 2"]
    assert [r.tool.tool_args for r in again.requirements] == [{"x": 4}]
    again.requirements[0].reject()
    response = await world.agent("done").acontinue_run(again)
    assert response.content == "done" and world.did == ["drop 2"]
    assert paired(world.model.last_request.messages)


async def test_the_session_goes_on_while_a_run_is_paused_and_the_run_keeps_its_own_history(world: World) -> None:
    paused = await world.pause()
    other = world.agent("meanwhile", add_history_to_messages=True)
    await other.arun("something else", session_id="s")
    assert paired(world.model.last_request.messages)
    for requirement in paused.requirements:
        requirement.confirm()
    await world.agent("done", add_history_to_messages=True).acontinue_run(paused)
    assert [m.content for m in world.model.last_request.messages if m.role == "user"] == ["go"]


async def test_new_code_may_have_renamed_the_tool_and_its_instructions(world: World) -> None:
    paused = await world.agent(reply(tool_calls=[("drop", {"x": 2})]), instructions="the old ones").arun(
        "go", run_id="r", session_id="s"
    )
    (asked,) = paused.requirements
    asked.confirm()
    with pytest.raises(DecisionRefused, match="only be rejected"):
        await world.agent(tools=[]).acontinue_run(paused)
    asked.reject()
    response = await world.agent("done", tools=[], instructions="the new ones").acontinue_run(paused)
    assert response.content == "done"
    assert world.model.last_request.messages[0].content == "the old ones"


async def test_a_response_goes_through_a_web_client_and_back(world: World) -> None:
    paused = await world.pause()
    back = RunResponse.from_json(paused.to_json())
    for requirement in back.requirements:
        requirement.confirm()
    response = await world.agent("done").acontinue_run(back)
    assert response.content == "done" and len(world.did) == 3


async def test_a_runtime_lists_and_decides_for_people_who_do_not_own_the_session(world: World) -> None:
    await world.agent(reply(tool_calls=[("drop", {"x": 2})])).arun("go", run_id="r", session_id="s", user_id="ann")

    def only_the_boss(requirement: Any, decision: Any, by: str | None) -> bool:
        return by == "boss"

    storage = world.open()
    runtime = Runtime(agents=[world.agent("done")], storage=storage, may_decide=only_the_boss)
    (asked,) = await runtime.requirements()
    assert (asked.run_id, asked.kind, asked.user_id) == ("r", "confirmation", "ann")
    with pytest.raises(DecisionRefused, match="bob"):
        await runtime.decide("r", asked.tool_call_id, Confirm(), by="bob")
    with pytest.raises(DecisionRefused, match="Resolve"):
        await runtime.decide("r", asked.tool_call_id, Resolve("x"), by="boss")
    decided = await runtime.decide("r", asked.tool_call_id, Reject(reason="too dear"), by="boss")
    assert decided.tool.confirmed is False and not decided.is_open
    with pytest.raises(DecisionRefused):
        await runtime.decide("r", asked.tool_call_id, Confirm(), by="boss")
    assert await runtime.requirements() == []
    assert len(await runtime.requirements(open=False)) == 1
    (response,) = await runtime.recover()
    assert response.content == "done" and world.did == []


async def test_the_first_of_two_decisions_counts(world: World) -> None:
    await world.agent(reply(tool_calls=[("drop", {"x": 2})])).arun("go", run_id="r", session_id="s")
    runtime = Runtime(agents=[world.agent("done")], storage=world.open())
    (asked,) = await runtime.requirements()
    both = await asyncio.gather(
        runtime.decide("r", asked.tool_call_id, Confirm(), by="a"),
        runtime.decide("r", asked.tool_call_id, Reject(), by="b"),
        return_exceptions=True,
    )
    verdicts = {outcome.tool.confirmed for outcome in both if not isinstance(outcome, BaseException)}
    assert len(verdicts) == 1
    response = await runtime.continue_run("r")
    assert world.did == (["drop 2"] if verdicts == {True} else [])
    assert response.content == "done"


async def test_what_nobody_decides_in_time_is_rejected_at_the_next_read(world: World) -> None:
    @tool(requires_confirmation=True, expires_after_s=0.0)
    def drop(x: int) -> str:
        world.did.append("drop")
        return "dropped"

    paused = await world.agent(reply(tool_calls=[("drop", {"x": 2})]), tools=[drop]).arun("go", run_id="r")
    assert paused.is_paused
    runtime = Runtime(agents=[world.agent("done", tools=[drop])], storage=world.open())
    assert await runtime.requirements() == []
    (response,) = await runtime.recover()
    assert response.content == "done" and world.did == []
    assert "nobody decided in time" in (response.tools[0].result or "")


async def test_mixed_kinds_in_one_turn_are_answered_in_call_order(world: World) -> None:
    @tool(external_execution=True)
    def shell(command: str) -> str:
        raise AssertionError("it is run elsewhere")

    @tool(requires_user_input=True, user_input_fields=["to"])
    def send(body: str, to: str) -> str:
        world.did.append(f"sent to {to}")
        return f"sent {body} to {to}"

    @tool(requires_confirmation=True)
    def drop(x: int) -> str:
        world.did.append(f"drop {x}")
        return f"dropped {x}"

    tools = [shell, send, drop]
    calls = [("shell", {"command": "ls"}), ("send", {"body": "hi"}), ("drop", {"x": 1})]
    await world.agent(reply(tool_calls=calls), tools=tools).arun("go", run_id="r", session_id="s")
    runtime = Runtime(agents=[world.agent("done", tools=tools)], storage=world.open())
    asked = {requirement.kind: requirement for requirement in await runtime.requirements()}
    assert set(asked) == {"external_execution", "user_input", "confirmation"}
    with pytest.raises(UserInputInvalid, match="cc"):
        await runtime.decide("r", asked["user_input"].tool_call_id, Provide({"cc": "bob"}))
    await runtime.decide("r", asked["external_execution"].tool_call_id, Resolve({"files": ["a"]}))
    await runtime.decide("r", asked["user_input"].tool_call_id, Provide({"to": "bob"}))
    await runtime.decide("r", asked["confirmation"].tool_call_id, Confirm())
    response = await runtime.continue_run("r")
    assert response.content == "done"
    results = [m.content for m in world.model.last_request.messages if m.role == "tool"]
    assert results == ['{"files": ["a"]}', "sent hi to bob", "dropped 1"]
    assert sorted(world.did) == ["drop 1", "sent to bob"]


async def test_a_value_that_is_refused_leaves_the_run_as_it_was_and_the_error_shows_no_failed_one(world: World) -> None:
    @tool(requires_user_input=True)
    def count(n: int) -> int:
        return n

    agent = world.agent(reply(tool_calls=[("count", {})]), tools=[count])
    paused = await agent.arun("go", run_id="r", session_id="s")
    for call in paused.tools_requiring_user_input:
        call.user_input_schema = [replace(field, value="many") for field in call.user_input_schema or ()]
    with pytest.raises(UserInputInvalid, match="'n': int expected, not many") as caught:
        await agent.acontinue_run(paused)
    assert caught.value.run_response is None
    assert (await agent.sessions.aget_run("r")).is_paused


async def test_a_paused_run_can_be_cancelled_and_its_session_goes_on(world: World) -> None:
    await world.pause()
    agent = world.agent("next", add_history_to_messages=True)
    assert await agent.cancel("r", "never mind")
    stored = await agent.sessions.aget_run("r")
    assert stored.status is RunStatus.CANCELLED
    with pytest.raises(AlreadyContinued):
        await agent.acontinue_run(run_id="r")
    await agent.arun("and now?", session_id="s")
    assert paired(world.model.last_request.messages)
    assert world.did == ["read 1"]


async def test_a_half_filled_form_is_refused_and_stays_open(world: World) -> None:
    @tool(requires_user_input=True)
    def send(body: str, to: str) -> str:
        return f"sent {body} to {to}"

    await world.agent(reply(tool_calls=[("send", {})]), tools=[send]).arun("go", run_id="r", session_id="s")
    runtime = Runtime(agents=[world.agent("done", tools=[send])], storage=world.open())
    (asked,) = await runtime.requirements()
    with pytest.raises(DecisionRefused, match="body"):
        await runtime.decide("r", asked.tool_call_id, Provide({"to": "bob"}))
    await runtime.decide("r", asked.tool_call_id, Provide({"to": "bob", "body": "hi"}))
    assert (await runtime.continue_run("r")).tools[0].result == "sent hi to bob"


async def test_whatever_is_asked_may_be_rejected_on_the_response(world: World) -> None:
    @tool(external_execution=True)
    def shell(command: str) -> str:
        raise AssertionError("it is run elsewhere")

    @tool(requires_user_input=True)
    def send(to: str) -> str:
        raise AssertionError("it is not sent")

    calls = [("shell", {"command": "ls"}), ("send", {})]
    paused = await world.agent(reply(tool_calls=calls), tools=[shell, send]).arun("go", run_id="r", session_id="s")
    for requirement in paused.requirements:
        requirement.reject("no")
    response = await world.agent("done", tools=[shell, send]).acontinue_run(paused)
    assert response.content == "done"
    assert all("rejected" in (t.result or "") for t in response.tools)


class FailsOnce:
    """A storage whose write of a tool's result fails, as on a full disk; with `end`, that of the run's end, too."""

    def __init__(self, storage: Storage, *, end: bool) -> None:
        self._storage, self._end, self.armed = storage, end, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def commit(self, change: RunChange) -> Committed:
        result_of = any(step.kind == "tool" and step.data["execution"].tool_name == "drop" for step in change.steps)
        if self.armed and (result_of or (self._end and change.status is not None)):
            raise StorageError("The disk is full")
        return await self._storage.commit(change)


@pytest.mark.parametrize("end", [False, True])
async def test_saving_fails_right_after_a_tool_ran_and_it_is_not_run_again(world: World, end: bool) -> None:
    paused = await world.pause()
    for requirement in paused.requirements:
        requirement.confirm()
    failing: Any = FailsOnce(world.open(), end=end)
    agent = world.agent("done").copy(storage=failing)
    failing.armed = True
    if not failing.durable:
        return  # where nothing is written step by step, nothing can fail on the way
    with pytest.raises(StorageError, match="full"):
        await agent.acontinue_run(paused)
    ran = sorted(world.did)
    failing.armed = False
    response = await world.agent("done").acontinue_run(run_id="r")
    assert response.content == "done"
    # what ran did not run again: its result was kept, or the model is told that the outcome is unknown
    assert [sorted(world.did).count(what) for what in ran] == [1] * len(ran)
    assert paired(response.messages)
