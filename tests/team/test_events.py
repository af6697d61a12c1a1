"""What members do, told in the team's stream (F37 g)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from agentrt import Agent, Team
from agentrt.run.events import BaseEvent, RunCompleted, RunContent, RunEvent
from agentrt.runtime import Runtime
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.testing import Gate, ScriptedModel, reply
from tests.run.conftest import OpenStorage, open_storage, same_place  # noqa: F401  fixtures
from tests.team.kit import ask, member, texts

pytestmark = pytest.mark.timeout(20)
ANN = "ann has counted to ten and to twenty"
BOB = "bob has read all of the books that there are"


def look(what: str) -> str:
    return f"saw {what}"


def team_of_two(**options: Any) -> Team[Any]:
    looking = reply("", tool_calls=[("look", {"what": "x"})])
    ann, bob = member("ann", looking, ANN, tools=[look]), member("bob", BOB)
    return Team(name="team", members=[ann, bob], model=ScriptedModel(ask("ann", "bob"), "both have"), **options)


def check(events: list[RunEvent]) -> None:
    """Each event says whose it is; each run's own are in order, with a start, an end and the whole text."""
    root = events[0].run_id
    facts = [event.seq for event in events if not event.is_delta]
    assert facts == list(range(1, len(facts) + 1))
    runs: dict[str, list[BaseEvent]] = defaultdict(list)
    for event in events:
        runs[event.run_id].append(event)
        assert (event.parent_run_id, event.path) in {
            (None, ("team",)),
            (root, ("team", "ann")),
            (root, ("team", "bob")),
        }
    for run in runs.values():
        names = [event.event for event in run if not event.is_delta]
        assert names[:2] == ["RunStarted", "ModelCallStarted"] and names[-1] == "RunCompleted"
        inside = [event.event for event in run if event.event != "RunContent"]
        assert inside.index("ModelCallStarted") < [event.event for event in run].index("RunContent")
    assert texts(events) == {"team": "both have", "ann": ANN, "bob": BOB}
    places = [(event.seq, event.offset) for event in events if isinstance(event, RunContent)]
    assert places == sorted(set(places))


async def test_members_tell_what_they_do_in_the_teams_stream(open_storage: OpenStorage) -> None:  # noqa: F811
    team = team_of_two(storage=open_storage())
    check([event async for event in team.arun("go", stream=True, stream_intermediate_steps=True)])


async def test_text_stands_behind_the_facts_it_belongs_to_however_slow_storage_is() -> None:
    class Slow(InMemoryStorage):
        durable = True

        async def commit(self, change: Any) -> Any:
            for _ in range(20):
                await asyncio.sleep(0)
            return await super().commit(change)

    events = [
        event async for event in team_of_two(storage=Slow()).arun("go", stream=True, stream_intermediate_steps=True)
    ]
    check(events)
    order = [event.event for event in events if event.path[-1] == "ann"]
    assert order == [
        "RunStarted",
        "ModelCallStarted",
        *["ToolCallArguments"] * 2,
        "ModelCallCompleted",
        "ToolCallStarted",
        "ToolCallCompleted",
        "ModelCallStarted",
        *["RunContent"] * 8,
        "ModelCallCompleted",
        "RunCompleted",
    ]


async def test_readers_may_come_later_and_elsewhere_and_go_on_from_any_place(open_storage: OpenStorage) -> None:  # noqa: F811
    runtime = Runtime(teams=[team_of_two()], storage=open_storage())
    handle = await runtime.start("team", "go", run_id="r")
    seen = [event async for event in handle.events()]
    check(seen)
    other = Runtime(storage=open_storage())
    whole = [event async for event in other.attach("r")]
    assert texts(whole) == texts(seen)
    facts = [(event.cursor, event.event, event.path) for event in seen if not event.is_delta]
    assert [(event.cursor, event.event, event.path) for event in whole if not event.is_delta] == facts
    for place in range(0, len(seen), 5):
        rest = [event async for event in other.attach("r", after=seen[place].cursor)]
        told = texts(seen[: place + 1])
        for name, text in texts(rest).items():
            told[name] = told.get(name, "") + text
        assert told == texts(seen)
    ann = next(event for event in whole if isinstance(event, RunCompleted) and event.path[-1] == "ann")
    assert ann.response.content == ANN and ann.response.run_id == ann.run_id


async def test_a_reader_that_is_there_sees_members_work() -> None:
    gate = Gate()
    ann = member("ann", reply("one two three", gate=gate, gate_after=2))
    runtime = Runtime(
        teams=[Team(name="team", members=[ann], model=ScriptedModel(ask("ann"), "ok"))], storage=InMemoryStorage()
    )
    handle = await runtime.start("team", "go")
    said = ""
    async with asyncio.timeout(5):
        async for event in handle.events():
            if event.event == "RunContent" and event.path[-1] == "ann":
                said += event.content
                if said == "one two ":
                    gate.open()
    assert said == "one two three"


async def test_members_events_can_be_left_out() -> None:
    team = team_of_two(stream_member_events=False)
    events = [event async for event in team.arun("go", stream=True, stream_intermediate_steps=True)]
    assert {event.path for event in events} == {("team",)}
    assert team.run_response.content == "both have"
    assert [one.content for one in team.run_response.member_responses] == [ANN, BOB]


async def test_route_shows_the_members_answer_as_it_streams() -> None:
    gate = Gate()
    ann = member("ann", reply("one two three", gate=gate, gate_after=2))
    leader = ScriptedModel(reply(tool_calls=[("forward_to_member", {"member": "ann"})]))
    team, said = Team(name="team", mode="route", members=[ann], model=leader), ""
    async with asyncio.timeout(5):
        async for event in team.arun("go", stream=True):
            if event.event == "RunContent":
                said += event.content
                if said == "one two ":
                    gate.open()
    assert team.run_response.content == said == "one two three"


async def test_the_teams_text_is_that_of_its_own_run() -> None:
    async with team_of_two().stream("go") as run:
        deltas: Any = run.text_deltas()
        pieces: list[str] = [piece async for piece in deltas]
        assert "".join(pieces) == "both have"
        assert await run.text() == "both have"


def routing(name: str, to: Agent) -> Team:
    leader = ScriptedModel(reply(tool_calls=[("forward_to_member", {"member": to.name})]))
    return Team(name=name, mode="route", members=[to], model=leader)


async def test_the_text_of_a_team_that_routes_is_its_members_also_through_another_team() -> None:
    team = routing("outer", routing("inner", member("ann", "one two three")))
    async with team.stream("go") as run:
        deltas: Any = run.text_deltas()
        assert "".join([piece async for piece in deltas]) == "one two three" == await run.text()


async def test_members_that_are_handed_one_question_answer_one_after_the_other() -> None:
    turn = reply(tool_calls=[("forward_to_member", {"member": name}) for name in ("ann", "bob")])
    team = Team(mode="route", members=[member("ann", ANN), member("bob", BOB)], model=ScriptedModel(turn))
    async with team.stream("go") as run:
        deltas: Any = run.text_deltas()
        assert "".join([piece async for piece in deltas]) == f"{ANN}\n\n{BOB}" == await run.text()


async def test_an_answer_that_was_not_streamed_is_the_last_piece() -> None:
    team = routing("outer", member("ann", "one two three")).copy(stream_member_events=False)
    async with team.stream("go") as run:
        deltas: Any = run.text_deltas()
        assert [piece async for piece in deltas] == ["one two three"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("shown", [True, False])
def test_a_team_that_routes_prints_the_members_answer_once(
    stream: bool, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    team = routing("outer", routing("inner", member("ann", "one two three"))).copy(show_members_responses=shown)
    team.print_response("go", stream=stream)
    assert capsys.readouterr().out.count("one two three") == 1


def test_answers_of_several_that_are_handed_a_question_are_printed_apart(capsys: pytest.CaptureFixture[str]) -> None:
    turn = reply(tool_calls=[("forward_to_member", {"member": name}) for name in ("ann", "bob")])
    team = Team(mode="route", members=[member("ann", ANN), member("bob", BOB)], model=ScriptedModel(turn))
    team.print_response("go", stream=True)
    assert f"{ANN}\n\n{BOB}\n" in capsys.readouterr().out


@pytest.mark.parametrize("stream", [True, False])
def test_a_team_prints_what_its_members_say(stream: bool, capsys: pytest.CaptureFixture[str]) -> None:
    team = team_of_two(show_members_responses=True)
    team.print_response("go", stream=stream)
    out = capsys.readouterr().out
    assert "both have" in out and f"Response of ann: {ANN}" in out and f"Response of bob: {BOB}" in out
    quiet = team_of_two()
    quiet.print_response("go", stream=True)
    out = capsys.readouterr().out
    assert "both have" in out and "Response of" not in out


def test_sync_code_reads_members_events_too() -> None:
    check(list(team_of_two().run("go", stream=True, stream_intermediate_steps=True)))


def test_an_agents_own_name_stays_what_it_is_in_a_team() -> None:
    ann = Agent(name="ann", model=ScriptedModel("alone"))
    assert ann.run("go").agent_name == "ann"


async def test_a_slow_reader_of_the_text_misses_nothing_of_a_member_of_a_member() -> None:
    team = routing("outer", routing("inner", member("ann", "one two three")))
    async with team.stream("go") as run:
        await run.result()  # all is over, and its runs are gone, before anything is read
        deltas: Any = run.text_deltas()
        assert "".join([piece async for piece in deltas]) == "one two three"
