"""A member that waits for somebody pauses its team, which is where it is decided (F37 h)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from agentrt import Agent, RunResponse, RunStatus, Team, tool
from agentrt.errors import AlreadyContinued, DecisionRefused
from agentrt.models.base import ModelRequest
from agentrt.models.message import utc_now
from agentrt.run.decisions import Confirm, Provide, Reject, Requirement
from agentrt.runtime import Runtime
from agentrt.testing import FunctionModel, ScriptedModel, reply
from tests.run.conftest import OpenStorage, open_storage, same_place  # noqa: F401  fixtures
from tests.run.test_history import paired
from tests.team.kit import ask

pytestmark = pytest.mark.timeout(30)


class World:
    """What the tools have done, and the same team as separate processes build it. Models answer from the messages."""

    def __init__(self, open_storage: OpenStorage) -> None:  # noqa: F811
        self.open = open_storage
        self.did: list[str] = []
        self.asked: list[str] = []
        self.results: list[str] = []

    def member(self, name: str, **options: Any) -> Agent[Any]:
        given: dict[str, Any] = options or {"requires_confirmation": True}

        @tool(**given)
        def drop(x: str) -> str:
            self.did.append(f"{name} drops {x}")
            return f"dropped {x}"

        def answer(request: ModelRequest) -> Any:
            self.asked.append(name)
            results = [message.content for message in request.messages if message.role == "tool"]
            return f"{name}: {results[-1]}" if results else reply("let me", tool_calls=[("drop", {"x": name})])

        return Agent(name=name, model=FunctionModel(answer), tools=[drop])

    def leader(self, name: str, *members: str) -> FunctionModel:
        def answer(request: ModelRequest) -> Any:
            self.asked.append(name)
            results = [message.content or "" for message in request.messages if message.role == "tool"]
            if name == "team":
                self.results = results
            return f"{name}: {'; '.join(results)}" if results else ask(*members)

        return FunctionModel(answer)

    def two(self, **options: Any) -> Team[Any]:
        members = [self.member("ann", **options), self.member("bob", **options)]
        return Team(name="team", members=members, model=self.leader("team", "ann", "bob"), storage=self.open())

    def nested(self, **options: Any) -> Team[Any]:
        """ann and bob in a team of cid's team."""
        ann, bob, cid = (self.member(name, **options) for name in ("ann", "bob", "cid"))
        inner = Team(name="inner", members=[ann, bob], model=self.leader("inner", "ann", "bob"))
        middle = Team(name="middle", members=[inner, cid], model=self.leader("middle", "inner", "cid"))
        return Team(name="team", members=[middle], model=self.leader("team", "middle"), storage=self.open())


@pytest.fixture
def world(open_storage: OpenStorage) -> World:  # noqa: F811
    return World(open_storage)


def waiting(response: RunResponse[Any]) -> list[tuple[str, ...]]:
    return [requirement.path for requirement in response.requirements]


async def test_the_teams_run_shows_what_its_members_wait_for(world: World) -> None:
    paused = await world.two().arun("go", run_id="r", session_id="s")
    assert paused.is_paused and world.did == []
    assert waiting(paused) == [("team", "ann"), ("team", "bob")]
    ann, bob = paused.requirements
    assert ann.kind == "confirmation" and ann.tool.tool_args == {"x": "ann"} and ann.run_id != bob.run_id != "r"
    assert [tool.tool_args for tool in paused.tools_requiring_confirmation] == [{"x": "ann"}, {"x": "bob"}]
    again = await world.two().sessions.aget_run("r")
    assert waiting(again) == waiting(paused)
    assert [r.run_id for r in again.requirements] == [ann.run_id, bob.run_id]


async def test_decided_on_the_team_it_goes_on_exactly_there(world: World) -> None:
    team = world.two()
    paused = await team.arun("go")
    ann, bob = paused.requirements
    ann.confirm()
    bob.reject("not that one")
    response = await team.acontinue_run(paused)
    assert response.status is RunStatus.COMPLETED and world.did == ["ann drops ann"]
    assert world.results[0] == "ann: dropped ann" and "not that one" in world.results[1]
    assert sorted(world.asked) == ["ann", "ann", "bob", "bob", "team", "team"]
    assert paired(response.messages)
    total = sum(one.total_usage.model_calls for one in response.member_responses)
    assert response.usage.model_calls == 2 and response.total_usage.model_calls == 2 + total == 6


async def test_as_old_code_confirms_tools_and_continues(world: World) -> None:
    team = world.two()
    await team.arun("go")
    while team.is_paused:
        for call in team.run_response.tools_requiring_confirmation:
            call.confirmed = True
        await team.acontinue_run()
    assert sorted(world.did) == ["ann drops ann", "bob drops bob"]


async def test_decided_in_parts_by_several_processes(world: World) -> None:
    await world.two().arun("go", run_id="r", session_id="s")
    runtime = Runtime(teams=[world.two()], storage=world.open())
    ann, bob = await runtime.requirements()
    assert [one.path[-1] for one in (ann, bob)] == ["ann", "bob"]

    decided = await runtime.decide(ann.run_id, ann.tool_call_id, Confirm(), by="boss")
    assert decided.run_id == ann.run_id and decided.tool.confirmed and not decided.is_open
    still = await Runtime(teams=[world.two()], storage=world.open()).continue_run("r")
    assert still.is_paused and waiting(still) == [("team", "bob")] and world.did == []

    third = Runtime(teams=[world.two()], storage=world.open())
    await third.decide(bob.run_id, bob.tool_call_id, Confirm())
    (response,) = await third.recover()
    assert response.status is RunStatus.COMPLETED
    assert sorted(world.did) == ["ann drops ann", "bob drops bob"]
    assert world.results == ["ann: dropped ann", "bob: dropped bob"]
    assert sorted(world.asked) == ["ann", "ann", "bob", "bob", "team", "team"]
    assert await third.requirements() == [] and await third.recover() == []
    with pytest.raises(AlreadyContinued):
        await third.continue_run("r")


async def test_calls_of_one_id_are_told_apart_by_their_runs(world: World) -> None:
    def same(request: ModelRequest) -> Any:
        done = request.messages[-1].role == "tool"
        return "ok" if done else reply(tool_calls=[world_call])

    from agentrt.models.message import ToolCall

    world_call = ToolCall(id="call", name="drop", arguments='{"x": "it"}')
    team = world.two()
    members = [member.copy(model=FunctionModel(same)) for member in team.members]
    team = team.copy(members=members)
    await team.arun("go", run_id="r")
    runtime = Runtime(teams=[team], storage=world.open())
    with pytest.raises(DecisionRefused, match="Several runs wait"):
        await runtime.decide("r", "call", Confirm())
    first, second = await runtime.requirements()
    await runtime.decide(first.run_id, "call", Confirm())
    await runtime.decide("r", "call", Reject())  # the one that is left
    assert first.run_id != second.run_id
    await runtime.continue_run("r")
    assert world.did == ["ann drops it"]


async def test_a_pause_far_below_shows_and_is_decided_at_the_top(world: World) -> None:
    paused = await world.nested().arun("go", run_id="r", session_id="s")
    assert waiting(paused) == [
        ("team", "middle", "inner", "ann"),
        ("team", "middle", "inner", "bob"),
        ("team", "middle", "cid"),
    ]
    runtime = Runtime(teams=[world.nested()], storage=world.open())
    *most, last = await runtime.requirements(session_id="s")
    for requirement in most:
        await runtime.decide(requirement.run_id, requirement.tool_call_id, Confirm())
    await runtime.decide("r", last.tool_call_id, Confirm())
    response = await runtime.continue_run(paused.requirements[0].run_id)  # of whichever run
    assert response.run_id == "r" and response.status is RunStatus.COMPLETED
    assert sorted(world.did) == ["ann drops ann", "bob drops bob", "cid drops cid"]
    assert world.results == ["middle: inner: ann: dropped ann; bob: dropped bob; cid: dropped cid"]
    assert response.total_usage.model_calls == len(world.asked) == 12


async def test_decisions_taken_along_reach_members_far_below(world: World) -> None:
    await world.nested().arun("go", run_id="r", session_id="s")
    other = world.nested()
    loaded = await other.sessions.aget_run("r")
    for requirement in loaded.requirements:
        requirement.confirm()
    events = [event async for event in other.acontinue_run(loaded, stream=True)]
    assert [event.content for event in events if event.event == "RunCompleted"][-1] == f"team: {world.results[0]}"
    assert len(world.did) == 3


KINDS: dict[str, Callable[[Requirement], None]] = {
    "requires_confirmation": lambda asked: asked.confirm(),
    "requires_user_input": lambda asked: asked.provide({"x": asked.path[-1]}),
    "external_execution": lambda asked: asked.resolve(f"dropped {asked.path[-1]}"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["plain", "streamed", "sync"])
async def test_members_far_below_may_wait_for_anything_and_go_on_elsewhere(world: World, kind: str, way: str) -> None:
    async def done(team: Team[Any], response: RunResponse[Any] | None = None) -> RunResponse[Any]:
        if way == "sync":
            if response is None:
                return await asyncio.to_thread(team.run, "go", run_id="r", session_id="s")
            return await asyncio.to_thread(team.continue_run, response)
        if way == "plain":
            return await (team.acontinue_run(response) if response else team.arun("go", run_id="r", session_id="s"))
        last: Any = None
        async for event in (
            team.acontinue_run(response, stream=True) if response else team.arun("go", run_id="r", stream=True)
        ):
            last = event
        return last.response

    assert len((await done(world.nested(**{kind: True}))).requirements) == 3
    other = world.nested(**{kind: True})
    loaded = await (other.sessions.aget_run("r") if way != "sync" else asyncio.to_thread(other.sessions.get_run, "r"))
    for requirement in loaded.requirements:
        KINDS[kind](requirement)
    response = await done(other, loaded)
    assert response.status is RunStatus.COMPLETED and response.requirements == []
    acted = [] if kind == "external_execution" else ["ann drops ann", "bob drops bob", "cid drops cid"]
    assert sorted(world.did) == acted
    assert world.results == ["middle: inner: ann: dropped ann; bob: dropped bob; cid: dropped cid"]
    assert len(world.asked) == 12 and paired(response.messages)


async def test_a_leader_may_wait_before_its_members_do_and_one_member_twice_at_once(world: World) -> None:
    @tool(requires_user_input=True)
    def ask_who(name: str) -> str:
        return f"for {name}"

    def lead(request: ModelRequest) -> Any:
        world.results = [message.content or "" for message in request.messages if message.role == "tool"]
        first = reply(tool_calls=[("ask_who", {"name": ""})])
        return [first, ask("ann", "ann"), "", "all done"][len(world.results)]

    ann = world.member("ann")
    team = Team(name="team", members=[ann], tools=[ask_who], model=FunctionModel(lead), storage=world.open())
    paused = await team.arun("go", session_id="s")
    paused.requirements[0].provide({"name": "Ada"})
    paused = await team.acontinue_run(paused)
    first, second = paused.requirements
    assert waiting(paused) == [("team", "ann")] * 2 and first.run_id != second.run_id
    first.confirm()
    second.reject("once is enough")
    response = await team.acontinue_run(paused)
    assert response.content == "all done" and world.did == ["ann drops ann"]
    assert world.results[:2] == ["for Ada", "ann: dropped ann"] and "once is enough" in world.results[2]


async def test_a_member_may_pause_again(world: World) -> None:
    def answer(request: ModelRequest) -> Any:
        done = sum(message.role == "tool" for message in request.messages)
        return "ann is done" if done == 3 else reply(tool_calls=[("drop", {"x": str(done)})])

    ann = world.member("ann").copy(model=FunctionModel(answer))
    team = Team(name="team", members=[ann], model=world.leader("team", "ann"), storage=world.open())
    response = await team.arun("go")
    for turn in range(3):
        (requirement,) = response.requirements
        assert requirement.tool.tool_args == {"x": str(turn)}
        requirement.confirm()
        response = await team.acontinue_run(response)
    assert world.did == ["ann drops 0", "ann drops 1", "ann drops 2"] and world.results == ["ann is done"]
    assert response.total_usage.model_calls == 6


async def test_a_decision_that_does_not_fit_a_members_call_is_refused_and_nothing_is_stored(world: World) -> None:
    paused = await world.two().arun("go", run_id="r")
    runtime = Runtime(teams=[world.two()], storage=world.open())
    ann = paused.requirements[0]
    with pytest.raises(DecisionRefused, match="does not fit"):
        await runtime.decide(ann.run_id, ann.tool_call_id, Provide({"x": "1"}))
    with pytest.raises(DecisionRefused, match="allow_edits"):
        await runtime.decide(ann.run_id, ann.tool_call_id, Confirm(args={"x": "1"}))
    with pytest.raises(DecisionRefused, match="has no call 'nope'"):
        await runtime.decide("r", "nope", Confirm())
    assert len(await runtime.requirements()) == 2


async def test_arguments_of_a_members_call_may_be_edited_where_its_tool_says_so(world: World) -> None:
    team = world.two(requires_confirmation=True, allow_edits=True)
    paused = await team.arun("go")
    ann, bob = paused.requirements
    ann.confirm(args={"x": "less"})
    bob.reject()
    await team.acontinue_run(paused)
    assert world.did == ["ann drops less"]


async def test_may_decide_sees_whose_call_it_is(world: World) -> None:
    paused = await world.two().arun("go", run_id="r")
    runtime = Runtime(
        teams=[world.two()],
        storage=world.open(),
        may_decide=lambda requirement, decision, by: requirement.path == ("team", by),
    )
    ann, bob = paused.requirements
    await runtime.decide(ann.run_id, ann.tool_call_id, Confirm(), by="ann")
    with pytest.raises(DecisionRefused, match="ann may not decide"):
        await runtime.decide(bob.run_id, bob.tool_call_id, Confirm(), by="ann")


async def test_time_decides_about_a_members_call_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.two(requires_confirmation=True, expires_after_s=60, on_expiry="confirm").arun("go", run_id="r")
    runtime = Runtime(teams=[world.two()], storage=world.open())
    assert len(await runtime.requirements()) == 2
    later = utc_now() + timedelta(seconds=61)
    monkeypatch.setattr("agentrt.run.deciding.utc_now", lambda: later)
    assert await runtime.requirements() == []
    (response,) = await runtime.recover()
    assert response.status is RunStatus.COMPLETED and len(world.did) == 2


async def test_a_member_that_has_answered_is_not_asked_again_for_another_that_waits(world: World) -> None:
    bob = Agent(name="bob", model=FunctionModel(lambda request: world.asked.append("bob") or "from bob"))
    team = Team(
        name="team", members=[world.member("ann"), bob], model=world.leader("team", "ann", "bob"), storage=world.open()
    )
    paused = await team.arun("go")
    assert [one.status for one in paused.member_responses] == [RunStatus.PAUSED, RunStatus.COMPLETED]
    paused.requirements[0].confirm()
    await team.acontinue_run(paused)
    assert world.results == ["ann: dropped ann", "from bob"] and world.asked.count("bob") == 1


async def test_all_members_that_were_asked_together_may_wait(world: World) -> None:
    def answer(request: ModelRequest) -> Any:
        results = [message.content or "" for message in request.messages if message.role == "tool"]
        return results[0] if results else reply(tool_calls=[("ask_all_members", {"task": "Drop it."})])

    team = world.two().copy(mode="collaborate", model=FunctionModel(answer))
    paused = await team.arun("go")
    assert waiting(paused) == [("team", "ann"), ("team", "bob")]
    for requirement in paused.requirements:
        requirement.confirm()
    response = await team.acontinue_run(paused)
    assert response.content == "ann answered:\nann: dropped ann\n\nbob answered:\nbob: dropped bob"
    assert len(response.member_responses) == 2


async def test_the_answer_of_a_routed_member_that_waited_is_the_teams(world: World) -> None:
    leader = ScriptedModel(reply(tool_calls=[("forward_to_member", {"member": "ann"})]))
    team = world.two().copy(mode="route", model=leader)
    paused = await team.arun("go")
    (ann,) = paused.requirements
    ann.confirm()
    assert (await team.acontinue_run(paused)).content == "ann: dropped ann"


async def test_cancelling_a_paused_team_cancels_the_members_that_wait(world: World) -> None:
    paused = await world.nested().arun("go", run_id="r")
    assert await world.nested().cancel("r", "never mind")
    storage = world.open()
    for run_id in ("r", *(requirement.run_id for requirement in paused.requirements)):
        stored = await storage.load_run(run_id)
        assert stored is not None and stored.status is RunStatus.CANCELLED
    runtime = Runtime(teams=[world.nested()], storage=storage)
    assert await runtime.requirements() == [] and await runtime.recover() == []
