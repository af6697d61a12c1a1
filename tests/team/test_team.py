"""Teams: who is asked what, what the leader is told of it, and what members know of each other (F37 a to f)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentrt import Agent, Image, RunContext, RunLimits, RunResponse, RunStatus, Team, tool
from agentrt.errors import ConfigurationError, ModelServerError
from agentrt.models.base import ModelRequest
from agentrt.run.events import BaseEvent
from agentrt.runtime import Runtime
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, Gate, ScriptedModel, reply
from agentrt.tools.reasoning import ReasoningTools
from tests.run.test_history import paired
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


@pytest.mark.parametrize("concurrency", ["wait", "refuse"])
async def test_a_member_asked_twice_in_a_turn_has_its_session_as_it_wants_it(concurrency: Any, tmp_path: Path) -> None:
    ann = Agent(name="ann", model=FunctionModel(lambda request: "ok"), session_concurrency=concurrency)
    leader = ScriptedModel(ask("ann", "ann"), "done")
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    async with asyncio.timeout(10):
        await Team(members=[ann], model=leader, storage=storage).arun("go")
    first, second = told(leader)
    assert first == "ok" and (second == "ok" if concurrency == "wait" else "SessionBusy" in second)


async def test_fifty_runs_of_one_team_at_once_keep_apart(tmp_path: Path) -> None:
    async def note(ctx: RunContext, team: Team[Any]) -> str:
        team.session_state["seen"].append(ctx.session_id)
        await asyncio.sleep(0)
        return ctx.user_id or ""

    def noting(request: ModelRequest) -> Any:
        last = request.messages[-1]
        return f"bob for {last.content}" if last.role == "tool" else reply(tool_calls=[("note", {})])

    def lead(request: ModelRequest) -> Any:
        results = [message.content or "" for message in request.messages if message.role == "tool"]
        task = request.messages[-1].content
        calls = [("delegate_to_member", {"member": name, "task": task}) for name in ("ann", "bob")]
        return " and ".join(results) if results else reply(tool_calls=calls)

    ann = Agent(name="ann", model=FunctionModel(lambda request: f"ann on {request.messages[-1].content}"))
    bob = Agent(name="bob", model=FunctionModel(noting), tools=[note])
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    team = Team(members=[ann, bob], model=FunctionModel(lead), storage=storage, team_session_state={"seen": []})

    async def one(number: int) -> RunResponse[Any]:
        who: Any = {"session_id": f"s{number}", "user_id": f"u{number}"}
        if number % 2:
            return await team.arun(f"q{number}", **who)
        async with team.stream(f"q{number}", **who) as run:
            async for event in run:
                assert (event.session_id or "").split("/")[0] == f"s{number}"
            return await run.result()

    async with asyncio.timeout(15):
        responses = await asyncio.gather(*map(one, range(50)))
    for number, response in enumerate(responses):
        assert response.content == f"ann on q{number} and bob for u{number}"
        assert response.session_state == {"seen": [f"s{number}/bob"]}
        assert {below.user_id for below in response.member_responses} == {f"u{number}"}


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


async def test_images_that_the_team_is_asked_about_are_shown_to_its_members() -> None:
    ann, image = member("ann", "a cat"), Image(url="https://example.org/cat.png")
    inner = Team(name="inner", members=[ann], model=ScriptedModel(ask("ann"), "a cat"))
    team = Team(members=[inner], model=ScriptedModel(ask("inner"), "a cat"))
    await team.arun("What is it?", images=[image])
    assert model_of(ann).last_request.messages[-1].images == [image]


async def test_a_member_without_dependencies_has_those_of_the_teams_run() -> None:
    made: list[str] = []

    def look(ctx: RunContext) -> str:
        return ctx.dependencies["place"]

    def place() -> str:
        made.append("Oslo")
        return "Oslo"

    looking = reply(tool_calls=[("look", {})])
    ann, bob = member("ann", looking, "ok", tools=[look]), member("bob", looking, "ok", tools=[look])
    bob = bob.copy(dependencies={"place": "Rome"})
    inner = Team(name="inner", members=[ann], model=ScriptedModel(ask("ann"), "ok"))
    team = Team(members=[inner, bob], model=ScriptedModel(ask("inner", "bob"), "ok"))
    await team.arun("go", dependencies={"place": place})
    assert (told(model_of(ann)), told(model_of(bob)), made) == (["Oslo"], ["Rome"], ["Oslo"])


async def test_usage_is_each_members_own_and_the_teams_in_total() -> None:
    inner = Team(name="inner", members=[member("ann", "one two three")], model=ScriptedModel(ask("ann"), "four five"))
    team = Team(members=[inner, member("bob", "six")], model=ScriptedModel(ask("inner", "bob"), "done"))
    response = await team.arun("go")
    below, bob = response.member_responses
    (ann,) = below.member_responses
    assert [run.usage.output_tokens for run in (response, below, ann, bob)] == [1, 2, 3, 1]
    assert below.total_usage.total_tokens == below.usage.total_tokens + ann.usage.total_tokens
    runs = (response, below, ann, bob)
    assert response.total_usage.total_tokens == sum(run.usage.total_tokens for run in runs)


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
        ([Agent(name=" ")], "by name"),
        ([Agent(name="ann"), Agent(name="ann")], "Two members are called 'ann'"),
        (["ann"], "agents and teams"),
    ],
    ids=str,
)
def test_a_team_that_can_not_be_is_refused(members: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Team(members=members)


def test_a_mode_that_there_is_not_is_refused() -> None:
    options: dict[str, Any] = {"mode": "cordinate"}
    with pytest.raises(ConfigurationError, match="mode is coordinate, route, collaborate; not 'cordinate'"):
        Team(members=[Agent(name="ann")], **options)


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


@pytest.mark.parametrize("name", ["Märta 研究", "日本", "a/b", "x" * 300])
async def test_a_member_may_have_any_name(name: str) -> None:
    leader = ScriptedModel(ask(name), "ok")
    response = await Team(members=[member(name, "found")], model=leader, storage=InMemoryStorage()).arun("go")
    assert told(leader) == ["found"] and response.member_responses[0].agent_name == name


async def test_of_members_with_names_alike_each_is_asked_by_its_very_name() -> None:
    leader = ScriptedModel(ask("web search", "Web_Search", "WEB SEARCH"), "ok")
    await Team(members=[member("web search", "one"), member("Web_Search", "two")], model=leader).arun("go")
    assert told(leader) == ["one", "two", "There is no member 'WEB SEARCH'; the members are: web search, Web_Search"]


async def test_a_team_among_its_own_members_is_held_by_the_limit_of_depth() -> None:
    def lead(request: ModelRequest) -> Any:
        return "ok" if request.messages[-1].role == "tool" else ask("team")

    team = Team(name="team", members=[member("ann")], model=FunctionModel(lead))
    team.members = [team]
    response = await team.arun("go")
    assert response.content == "ok" and response.total_usage.model_calls == 10


async def test_a_member_that_reaches_a_limit_is_a_result_for_the_leader() -> None:
    def act() -> str:
        return "acted"

    ann = Agent(
        name="ann",
        model=FunctionModel(lambda request: reply(tool_calls=[("act", {})])),
        tools=[act],
        limits=RunLimits(model_calls=3),
    )
    bob = member("bob", reply("never", gate=Gate())).copy(limits=RunLimits(seconds=0.01))
    leader = ScriptedModel(ask("ann", "bob"), "done")
    async with asyncio.timeout(5):
        response = await Team(members=[ann, bob], model=leader).arun("go")
    assert response.content == "done"
    assert "limit of 3 model calls" in told(leader)[0] and "limit of 0.01 seconds" in told(leader)[1]


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


async def test_a_team_that_is_left_has_every_run_ended_and_every_call_answered(tmp_path: Path) -> None:
    gate = Gate()
    ann = member("ann", reply("half of it", gate=gate, gate_after=1))
    inner = Team(name="inner", members=[ann, member("bob", "ok")], model=ScriptedModel(ask("ann", "bob")))
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    team = Team(name="team", members=[inner], model=ScriptedModel(ask("inner")), storage=storage)
    async with asyncio.timeout(5), team.stream("go", run_id="r") as run:
        async for event in run:
            if event.event == "RunContent" and event.path[-1] == "ann":
                break
    response = await team.sessions.aget_run("r")
    (below,) = response.member_responses
    runs = [response, below, *below.member_responses]
    ended = {run.agent_name: (await storage.load_run(run.run_id or "")) for run in runs}
    cancelled = RunStatus.CANCELLED
    assert {name: run and run.status for name, run in ended.items()} == {
        "team": cancelled,
        "inner": cancelled,
        "ann": cancelled,
        "bob": RunStatus.COMPLETED,
    }
    assert all(run is not None and paired(run.messages) for run in ended.values())
    facts = [json.loads(text) for _, text in await storage.load_events("r")]
    ends = [fact["path"][-1] for fact in facts if fact["event"] in ("RunCompleted", "RunCancelled")]
    assert ends[-3:] == ["ann", "inner", "team"] and await storage.list_unfinished() == []


async def test_a_team_cancelled_after_its_turn_has_its_members_finish() -> None:
    gate = Gate()
    team = Team(members=[member("ann", reply("whole", gate=gate))], model=ScriptedModel(ask("ann")))
    handle = await team.start("go")
    async with asyncio.timeout(5):
        await gate.reached.wait()
        await team.cancel(handle.run_id, "enough", mode="after_turn")
        gate.open()
        response = await handle.result()
    assert response.status is RunStatus.CANCELLED
    assert [(one.status, one.content) for one in response.member_responses] == [(RunStatus.COMPLETED, "whole")]


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


@pytest.mark.parametrize("of", ["team", "run"])
async def test_route_has_a_member_without_a_type_answer_in_the_teams_also_through_another_team(of: str) -> None:
    ann = member("ann", '{"city": "Oslo", "degrees": 4}')
    inner = Team(name="inner", mode="route", members=[ann], model=ScriptedModel(forward("ann")))
    team: Any = Team(mode="route", members=[inner], model=ScriptedModel(forward("inner")))
    if of == "team":
        response = await team.copy(response_model=Weather).arun("go")
    else:
        response = await team.arun("go", response_model=Weather)
    assert response.content == Weather(city="Oslo", degrees=4)


async def test_the_answer_of_the_member_is_what_was_said_in_the_teams_conversation() -> None:
    read = reply(tool_calls=[("get_chat_history", {})])
    leader = ScriptedModel(forward("ann"), read, "as ann said")
    team = Team(
        mode="route",
        members=[member("ann", "from ann")],
        model=leader,
        read_chat_history=True,
        post_hooks=[lambda run_output: f"{run_output.content}!"],
    )
    assert (await team.arun("go", session_id="s")).content == "from ann!"
    await team.arun("again", session_id="s")
    said = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "from ann!"}]
    assert json.loads(told(leader)[-1]) == said


async def test_a_leader_that_routes_may_answer_by_itself() -> None:
    team = Team(mode="route", members=[member("ann")], model=ScriptedModel("I know"))
    response = await team.arun("go")
    assert (response.content, response.member_responses) == ("I know", [])


async def test_of_several_that_are_handed_the_question_one_that_fails_is_left_to_the_leader() -> None:
    turn = reply(tool_calls=[("forward_to_member", {"member": name}) for name in ("ann", "bob")])
    leader = ScriptedModel(turn, "bob has no idea")
    team = Team(mode="route", members=[member("ann", "from ann"), member("bob", ValueError("no idea"))], model=leader)
    assert (await team.arun("go")).content == "bob has no idea"
    assert told(leader)[0] == "from ann" and "no idea" in told(leader)[1]


async def test_a_team_answers_in_a_type_and_is_told_its_members_as_data() -> None:
    oslo, rome = '{"city": "Oslo", "degrees": 4}', '{"city": "Rome", "degrees": 9}'
    leader = ScriptedModel(reply(tool_calls=[("think", {"title": "x", "thought": "Ask ann."})]), ask("ann"), rome)
    ann = member("ann", oslo, response_model=Weather)
    team = Team(members=[ann], model=leader, response_model=Weather, tools=[ReasoningTools()])
    response = await team.arun("go")
    assert response.content == Weather(city="Rome", degrees=9)
    assert told(leader)[-1] == oslo and response.reasoning_steps[0].reasoning == "Ask ann."


async def test_a_team_makes_a_plan_before_it_asks_its_members() -> None:
    leader = ScriptedModel("1. Ask ann.", ask("ann"), "done")
    response = await Team(members=[member("ann", "ok")], model=leader, reasoning=True).arun("go")
    assert response.content == "done" and "Ask ann." in response.reasoning_steps[0].reasoning
    assert tools_in(leader)[1:] == [["delegate_to_member"]] * 2


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


async def test_teams_that_collaborate_may_be_members_of_each_other() -> None:
    def together(name: str, *members: Agent[Any]) -> Team[Any]:
        turn = reply(tool_calls=[("ask_all_members", {"task": "Is it so?"})])
        return Team(name=name, mode="collaborate", members=members, model=ScriptedModel(turn, f"{name} agrees"))

    bottom = together("bottom", member("ann", "yes"), member("bob", "no"))
    top = together("top", together("middle", bottom), member("cid", "perhaps"))
    response = await top.arun("go")
    assert told(model_of(bottom)) == ["ann answered:\nyes\n\nbob answered:\nno"]
    assert told(model_of(top)) == ["middle answered:\nmiddle agrees\n\ncid answered:\nperhaps"]
    assert response.total_usage.model_calls == 9


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
    assert [one.session_id for one in await team.sessions.of_user("ada").alist()] == ["s"]
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


@pytest.mark.parametrize("name", [None, "研究"])
def test_an_agent_without_a_name_for_a_tool_is_none_until_it_is_given_one(name: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"as_tool\(name=…\)"):
        Agent(name=name).as_tool()
    assert Agent(name=name).as_tool("research").name == "research"


async def test_a_task_for_an_agent_that_is_a_tool_may_have_to_be_confirmed_and_its_answer_be_the_last_word() -> None:
    expert = member("expert", "one two three")
    model = ScriptedModel(reply(tool_calls=[("expert", {"task": "Count."})]))
    agent = Agent(model=model, tools=[expert.as_tool(requires_confirmation=True, stop_after_tool_call=True)])
    paused = await agent.arun("go")
    assert model_of(expert).requests == []
    paused.requirements[0].confirm()
    response = await agent.acontinue_run(paused)
    assert (response.content, response.stop_reason) == ("one two three", "tool")


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
