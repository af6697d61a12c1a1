"""Teams: who is asked what, what the leader is told of it, and what members know of each other (F37 a to f)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentrt import Agent, RunContext, RunLimits, RunResponse, RunStatus, Team, tool
from agentrt.errors import ConfigurationError, ModelServerError
from agentrt.models.base import ModelRequest
from agentrt.run.events import BaseEvent
from agentrt.runtime import Runtime
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, Gate, ScriptedModel, reply
from tests.team.kit import ask, member, model_of, told, tools_in

pytestmark = pytest.mark.timeout(20)


async def plain(team: Agent[Any]) -> RunResponse[Any]:
    return await team.arun("go")


async def streamed(team: Agent[Any]) -> RunResponse[Any]:
    async with team.stream("go") as run:
        async for _ in run:
            pass
        return await run.result()


async def sync(team: Agent[Any]) -> RunResponse[Any]:
    return await asyncio.to_thread(team.run, "go")


ways = pytest.mark.parametrize("go", [plain, streamed, sync])
Go = Callable[[Agent[Any]], Any]


# --- coordinate ------------------------------------------------------------------------------------------------------


@ways
async def test_members_answer_tasks_and_the_leader_answers_the_question(go: Go) -> None:
    ann, bob = member("ann", "from ann"), member("bob", "from bob")
    leader = ScriptedModel(ask("ann", "bob"), "both have answered")
    response = await go(Team(members=[ann, bob], model=leader))
    assert response.content == "both have answered"
    assert told(leader) == ["from ann", "from bob"]
    assert [(one.agent_name, one.content, one.status) for one in response.member_responses] == [
        ("ann", "from ann", RunStatus.COMPLETED),
        ("bob", "from bob", RunStatus.COMPLETED),
    ]
    assert [message.content for message in model_of(ann).last_request.messages] == ["for ann"]
    assert response.usage.model_calls == 2 and response.total_usage.model_calls == 4


async def test_the_leader_knows_its_members_and_how_to_lead_them() -> None:
    team = Team(
        members=[
            member("ann", role="Finds facts."),
            Team(name="desk", role="Writes.", members=[member("bob", description="Spells.")]),
        ],
        instructions="Be brief.",
        success_criteria="All is said.",
        model=(leader := ScriptedModel("ok")),
    )
    await team.arun("go")
    system = leader.last_request.messages[0].content or ""
    assert "- ann: Finds facts.\n- desk: Writes.\n  a team of:\n  - bob: Spells." in system
    assert "delegate_to_member" in system and "Be brief." in system and "All is said." in system
    (spec,) = leader.last_request.tools
    assert spec.parameters["properties"]["member"]["enum"] == ["ann", "desk"]
    assert spec.parameters["required"] == ["member", "task"]


async def test_members_asked_in_one_turn_work_together_and_answer_in_order() -> None:
    slow, quick = Gate(), Gate()
    ann, bob = member("ann", reply("from ann", gate=slow)), member("bob", reply("from bob", gate=quick))
    leader = ScriptedModel(ask("ann", "bob"), "ok")
    run = asyncio.ensure_future(Team(members=[ann, bob], model=leader).arun("go"))
    async with asyncio.timeout(5):
        await slow.reached.wait()
        await quick.reached.wait()
        quick.open()
        slow.open()
        await run
    assert told(leader) == ["from ann", "from bob"]


async def test_one_member_may_be_asked_twice_in_a_turn() -> None:
    ann = member("ann", "one", "two")
    leader = ScriptedModel(ask("ann", "ann"), "ok")
    response = await Team(members=[ann], model=leader).arun("go")
    assert sorted(told(leader)) == ["one", "two"]
    assert len({one.run_id for one in response.member_responses}) == 2


async def test_an_agent_may_be_a_member_of_several_teams_that_run_at_once() -> None:
    def answer(request: ModelRequest) -> str:
        return f"heard {request.messages[-1].content}"

    ann = Agent(name="ann", model=FunctionModel(answer))
    leaders = [ScriptedModel(ask("ann", "ann"), "ok") for _ in range(20)]
    async with asyncio.timeout(10):
        responses = await asyncio.gather(*(Team(members=[ann], model=leader).arun("go") for leader in leaders))
    assert all(one.content == "ok" for one in responses)
    assert all(told(leader) == ["heard for ann"] * 2 for leader in leaders)


async def test_what_is_expected_goes_with_the_task() -> None:
    ann = member("ann", "ok")
    arguments = {"member": "ann", "task": "Count.", "expected_output": "A number."}
    await Team(members=[ann], model=ScriptedModel(reply(tool_calls=[("delegate_to_member", arguments)]), "ok")).arun(
        "go"
    )
    assert model_of(ann).last_request.messages[-1].content == "Count.\n\nExpected output: A number."


async def test_a_member_without_a_model_uses_the_teams() -> None:
    model = ScriptedModel(ask("ann"), "from ann", "ok")
    response = await Team(members=[Agent(name="ann")], model=model).arun("go")
    assert response.content == "ok" and told(model) == ["from ann"]


async def test_tools_of_the_team_stand_beside_its_members() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    leader = ScriptedModel(reply(tool_calls=[("add", {"a": 1, "b": 2})]), "3")
    assert (await Team(members=[member("ann")], model=leader, tools=[add]).arun("go")).content == "3"
    assert tools_in(leader)[0] == ["delegate_to_member", "add"] and told(leader) == ["3"]


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([], "has members"),
        ([Agent()], "by name"),
        ([Agent(name="ann"), Agent(name="ann")], "Two members are called 'ann'"),
        (["ann"], "agents and teams"),
    ],
    ids=str,
)
def test_a_team_that_can_not_be_is_refused(members: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Team(members=members)


# --- what goes wrong -------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("said", ["", "Half"])
async def test_a_members_failure_is_told_to_the_leader_and_what_it_said_by_then_is_not(go: Go, said: str) -> None:
    down = ModelServerError("the provider is down", provider="p", model_id="m", status=500)
    ann = member("ann", *[reply(said, error=down, error_after=len(said))] * 3)
    model_of(ann).retry_delay_s = 0.001
    leader = ScriptedModel(ask("ann"), "she could not")
    response = await go(Team(members=[ann], model=leader))
    assert response.content == "she could not"
    (text,) = told(leader)
    assert "ann" in text and "the provider is down" in text and "Half" not in text
    assert response.tools[0].tool_call_error
    assert response.member_responses[0].status is RunStatus.FAILED


@ways
async def test_an_empty_answer_is_told_as_one(go: Go) -> None:
    leader = ScriptedModel(ask("ann"), "ok")
    await go(Team(members=[member("ann", "")], model=leader))
    assert told(leader) == ["'ann' gave an empty answer."]


async def test_who_is_no_member_is_told_who_is() -> None:
    leader = ScriptedModel(ask("carl"), "ok")
    response = await Team(members=[member("ann"), member("bob")], model=leader).arun("go")
    assert told(leader) == ["There is no member 'carl'; the members are: ann, bob"]
    assert response.tools[0].tool_call_error and response.content == "ok"


@pytest.mark.parametrize("written", ["web search agent", "Web_Search_Agent", "web-1"])
async def test_a_member_is_known_by_its_id_too_and_however_its_name_is_written(written: str) -> None:
    web = member("Web Search Agent", "found", agent_id="web-1")
    leader = ScriptedModel(ask(written), "ok")
    await Team(members=[web], model=leader).arun("go")
    assert told(leader) == ["found"]


async def test_members_have_no_members_unless_they_are_teams() -> None:
    cid = member("cid", "from cid")
    inner = Team(name="inner", members=[cid], model=ScriptedModel(ask("cid"), "from inner"))
    ann = member("ann", "from ann")
    await Team(members=[ann, inner], model=ScriptedModel(ask("ann", "inner"), "ok")).arun("go")
    assert tools_in(model_of(ann)) == tools_in(model_of(cid)) == [[]]
    assert tools_in(model_of(inner)) == [["delegate_to_member"]] * 2


async def test_a_leader_that_delegates_for_ever_is_stopped() -> None:
    def more(request: ModelRequest) -> Any:
        return "enough" if request.tool_choice == "none" else ask("ann")

    ann = Agent(name="ann", model=FunctionModel(lambda request: "ok"))
    response = await Team(members=[ann], model=FunctionModel(more), limits=RunLimits(model_calls=9)).arun("go")
    assert response.content == "enough" and response.stop_reason == "model_call_limit"
    assert response.total_usage.model_calls <= 9


async def test_teams_within_teams_end_at_the_limit_of_depth() -> None:
    team = Team(name="t0", members=[member("ann", "ok")], model=ScriptedModel(ask("ann"), "ok"))
    for depth in range(1, 4):
        inner = team
        team = Team(name=f"t{depth}", members=[inner], model=ScriptedModel(ask(inner.name or ""), "ok"))
    response = await team.arun("go", limits=RunLimits(depth=3))
    refused = response.member_responses[0]
    while refused.member_responses:
        refused = refused.member_responses[0]
    assert refused.agent_name == "t0" and refused.status is RunStatus.FAILED
    assert "levels of nested runs" in (refused.error or "")
    assert response.content == "ok"


async def test_cancelling_the_team_cancels_its_members() -> None:
    gate = Gate()
    ann = member("ann", reply("never", gate=gate))
    inner = Team(name="inner", members=[ann], model=ScriptedModel(ask("ann")))
    storage = InMemoryStorage()
    team = Team(members=[inner], model=ScriptedModel(ask("inner")), storage=storage)
    handle = await team.start("go")
    async with asyncio.timeout(5):
        await gate.reached.wait()
        await handle.cancel("enough")
        response = await handle.result()
    assert response.status is RunStatus.CANCELLED
    below = response.member_responses
    assert [one.status for one in (*below, *below[0].member_responses)] == [RunStatus.CANCELLED] * 2
    assert model_of(ann).open_streams == 0
    stored = await storage.load_run(below[0].member_responses[0].run_id or "")
    assert stored is not None and stored.status is RunStatus.CANCELLED


async def test_a_member_that_is_cancelled_alone_leaves_the_team_to_go_on() -> None:
    gate, storage = Gate(), InMemoryStorage()
    leader = ScriptedModel(ask("ann"), "without ann")
    team = Team(members=[member("ann", reply("never", gate=gate))], model=leader, storage=storage)
    handle = await team.start("go")
    async with asyncio.timeout(5):
        await gate.reached.wait()
        (child,) = [run for run in await storage.list_unfinished() if run.parent_run_id == handle.run_id]
        await team.cancel(child.run_id)
        assert (await handle.result()).content == "without ann"
    assert told(leader) == ["'ann' was cancelled, there is no answer"]


# --- route and collaborate -------------------------------------------------------------------------------------------


class Weather(BaseModel):
    city: str
    degrees: int


def forward(name: str) -> Any:
    return reply(tool_calls=[("forward_to_member", {"member": name})])


@ways
async def test_route_hands_on_the_question_and_gives_the_members_answer(go: Go) -> None:
    ann, leader = member("ann", "from ann"), ScriptedModel(forward("ann"))
    response = await go(Team(mode="route", members=[ann, member("bob")], model=leader))
    assert response.content == "from ann" and response.stop_reason == "tool"
    assert [message.content for message in model_of(ann).last_request.messages] == ["go"]
    leader.assert_done()


async def test_route_gives_a_members_typed_answer_as_it_is() -> None:
    ann = member("ann", '{"city": "Oslo", "degrees": 4}', response_model=Weather)
    response = await Team(mode="route", members=[ann], model=ScriptedModel(forward("ann"))).arun("go")
    assert response.content == Weather(city="Oslo", degrees=4)


async def test_route_goes_on_when_the_member_fails() -> None:
    ann, leader = member("ann", ValueError("no idea")), ScriptedModel(forward("ann"), "I can't say")
    assert (await Team(mode="route", members=[ann], model=leader).arun("go")).content == "I can't say"
    assert "no idea" in told(leader)[0]


async def test_collaborate_gives_all_members_the_same_task() -> None:
    ann, bob = member("ann", "yes"), member("bob", ValueError("no idea"))
    leader = ScriptedModel(reply(tool_calls=[("ask_all_members", {"task": "Is it so?"})]), "perhaps")
    response = await Team(mode="collaborate", members=[ann, bob], model=leader).arun("go")
    assert response.content == "perhaps"
    assert (
        model_of(ann).last_request.messages[-1].content
        == model_of(bob).last_request.messages[-1].content
        == "Is it so?"
    )
    (text,) = told(leader)
    assert text.startswith("ann answered:\nyes\n\n'bob' failed") and "no idea" in text
    assert not response.tools[0].tool_call_error
    assert [one.status for one in response.member_responses] == [RunStatus.COMPLETED, RunStatus.FAILED]


async def test_collaborate_is_an_error_when_nobody_answers() -> None:
    leader = ScriptedModel(reply(tool_calls=[("ask_all_members", {"task": "Is it so?"})]), "who knows")
    response = await Team(mode="collaborate", members=[member("ann", ValueError("no idea"))], model=leader).arun("go")
    assert response.tools[0].tool_call_error and response.content == "who knows"


# --- sessions and state ----------------------------------------------------------------------------------------------


async def test_members_have_sessions_of_their_own_and_remember_what_they_were_asked() -> None:
    storage = InMemoryStorage()
    ann = member("ann", "one", "two", add_history_to_messages=True)
    leader = ScriptedModel(ask("ann"), "first", ask("ann"), "second")
    team = Team(members=[ann], model=leader, storage=storage, add_history_to_messages=True)
    await team.arun("go", session_id="s", user_id="ada")
    await team.arun("again", session_id="s", user_id="ada")
    assert [message.content for message in model_of(ann).last_request.messages] == ["for ann", "one", "for ann"]
    assert [m.content for m in leader.last_request.messages if m.role == "user"] == ["go", "again"]
    session = await storage.load_session("s")
    below = await storage.load_session("s/ann")
    assert session is not None and session.run_count == 2
    assert below is not None and below.user_id == "ada"


async def test_deleting_a_session_deletes_those_of_its_members() -> None:
    storage = InMemoryStorage()
    inner = Team(name="inner", members=[member("ann", "ok")], model=ScriptedModel(ask("ann"), "ok"))
    team = Team(members=[inner], model=ScriptedModel(ask("inner"), "ok"), storage=storage)
    await team.arun("go", session_id="s")
    assert await storage.load_session("s/inner/ann") is not None
    await team.sessions.adelete("s")
    assert [await storage.load_session(name) for name in ("s", "s/inner", "s/inner/ann")] == [None] * 3


async def test_the_state_of_the_team_is_shared_with_its_members() -> None:
    def by_team(item: str, team: Team[Any]) -> str:
        team.session_state["items"].append(item)
        return "added"

    def by_agent(item: str, agent: Agent[Any]) -> str:
        assert agent.team_session_state is not None
        agent.team_session_state["items"].append(item)
        return "added"

    async def by_context(item: str, ctx: RunContext) -> str:
        ctx.team.team_session_state["items"].append(item)
        return f"own state: {ctx.session_state}"

    def adding(name: str, item: str) -> Any:
        return reply(tool_calls=[(name, {"item": item})])

    cid = member("cid", adding("by_context", "c"), "ok", tools=[by_context])
    inner = Team(name="inner", members=[cid], model=ScriptedModel(ask("cid"), "ok"), team_session_state={"more": [1]})
    team = Team(
        members=[
            member("ann", adding("by_team", "a"), "ok", tools=[by_team]),
            member("bob", adding("by_agent", "b"), "ok", tools=[by_agent]),
            inner,
        ],
        model=ScriptedModel(ask("ann"), ask("bob"), ask("inner"), "done"),
        team_session_state={"items": []},
        session_state={"own": 1},
        storage=InMemoryStorage(),
    )
    response = await team.arun("go", session_id="s")
    expected = {"own": 1, "items": ["a", "b", "c"], "more": [1]}
    assert response.session_state == team.team_session_state == expected
    assert (await team.sessions.aget("s")).state == expected
    assert model_of(cid).last_request.messages[-1].content == "own state: {}"


async def test_calls_of_members_that_change_the_shared_state_run_one_at_a_time() -> None:
    inside = 0

    async def count(team: Team[Any]) -> str:
        nonlocal inside
        inside += 1
        assert inside == 1
        before = team.session_state.get("n", 0)
        await asyncio.sleep(0)
        team.session_state["n"] = before + 1
        inside -= 1
        return "counted"

    members = [
        member(name, reply(tool_calls=[("count", {})] * 3), "ok", tools=[count]) for name in ("ann", "bob", "cid")
    ]
    response = await Team(members=members, model=ScriptedModel(ask("ann", "bob", "cid"), "ok")).arun("go")
    assert response.session_state == {"n": 9}


async def test_the_context_that_a_leader_sets_is_told_to_members() -> None:
    ann, leader = (
        member("ann", "ok"),
        ScriptedModel(
            reply(tool_calls=[("set_team_context", {"context": "The client is {name}."})]), ask("ann"), "done", "again"
        ),
    )
    team = Team(
        members=[ann],
        model=leader,
        enable_agentic_context=True,
        add_state_in_messages=True,
        session_state={"name": "x"},
    )
    await team.arun("go", session_id="s")
    assert "The client is {name}." in (model_of(ann).last_request.messages[0].content or "")
    await team.arun("go on", session_id="s")
    assert "The client is {name}." in (leader.last_request.messages[0].content or "")


async def test_members_see_what_others_have_answered_when_that_is_shared() -> None:
    ann, bob = member("ann", "it rains"), member("bob", "ok")
    await Team(
        members=[ann, bob], model=ScriptedModel(ask("ann"), ask("bob"), "ok"), share_member_interactions=True
    ).arun("go")
    system = model_of(bob).last_request.messages[0]
    assert system.role == "system" and "ann was asked: for ann\nann answered: it rains" in (system.content or "")
    assert all(message.role != "system" for message in model_of(ann).last_request.messages)


# --- agents as tools -------------------------------------------------------------------------------------------------


async def test_an_agent_is_a_tool_of_another_agent() -> None:
    expert = member("Tax Expert", "it is 19 %", role="Knows taxes.")
    model = ScriptedModel(reply(tool_calls=[("tax_expert", {"task": "What is the rate?"})]), "19 %")
    agent = Agent(name="clerk", model=model, tools=[expert.as_tool()])
    events: list[BaseEvent] = [event async for event in agent.arun("go", stream=True)]
    (spec,) = model.requests[0].tools
    assert spec.description == "Knows taxes." and [*spec.parameters["properties"]] == ["task"]
    assert told(model) == ["it is 19 %"]
    assert {event.path for event in events} == {("clerk",), ("clerk", "Tax Expert")}
    response = agent.run_response
    assert [one.content for one in response.member_responses] == ["it is 19 %"]
    assert response.member_responses[0].parent_run_id == response.run_id


async def test_what_an_agent_that_is_a_tool_waits_for_is_decided_on_the_run_that_called_it() -> None:
    @tool(requires_confirmation=True)
    def drop(x: int) -> str:
        return f"dropped {x}"

    expert = member("expert", reply(tool_calls=[("drop", {"x": 1})]), "it is gone", tools=[drop])
    model = ScriptedModel(reply(tool_calls=[("ask_expert", {"task": "Drop it."})]), "done")
    agent = Agent(name="clerk", model=model, tools=[expert.as_tool("ask_expert", "Ask the expert.")])
    paused = await agent.arun("go")
    (requirement,) = paused.requirements
    assert requirement.path == ("clerk", "expert")
    requirement.confirm()
    assert (await agent.acontinue_run(paused)).content == "done"
    assert told(model) == ["it is gone"]


def test_an_agent_without_a_name_is_no_tool() -> None:
    with pytest.raises(ConfigurationError, match=r"as_tool\(name=…\)"):
        Agent().as_tool()


async def test_a_team_that_its_process_lets_go_of_is_gone_on_with_elsewhere(tmp_path: Path) -> None:
    def build(*replies: Any) -> tuple[Runtime, ScriptedModel]:
        inner = Team(name="inner", members=[member("ann", *replies)], model=ScriptedModel(*lead("ann")))
        leader = ScriptedModel(*lead("inner"))
        storage = SqliteStorage(db_file=tmp_path / "data.db")
        return Runtime(teams=[Team(name="team", members=[inner], model=leader)], storage=storage, grace_s=0), leader

    def lead(name: str) -> list[Any]:
        return [lambda request: "all done" if request.messages[-1].role == "tool" else ask(name)] * 2

    gate = Gate()
    async with asyncio.timeout(10):
        runtime, _ = build(reply("never", gate=gate))
        async with runtime:
            await runtime.start("team", "go", run_id="r")
            await gate.reached.wait()
        other, leader = build("from ann")
        async with other:
            (response,) = await other.recover()
    assert response.content == "all done" and told(leader) == ["all done"]
    assert response.member_responses[0].member_responses[0].content == "from ann"
