"""What every storage keeps, as checks that a third-party driver can prove itself by.

    @pytest.mark.parametrize("check", storage_checks, ids=lambda check: check.__name__)
    async def test_my_storage_keeps_the_contract(check, tmp_path):
        await check(lambda: MyStorage(tmp_path / "data"))

Each check is a coroutine function of `open_storage`, which returns a storage on one and the same place, empty at
first. It is called several times where the check is about several storages; what it returned is closed at the end. A
check raises `AssertionError` (or whatever the storage raised) when the contract is broken.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from agentrt.errors import AlreadyContinued, CodecError, RunBusy, RunNotFound, SessionAccessDenied
from agentrt.media import File, Image
from agentrt.models.message import Message, ToolCall
from agentrt.run.encoding import event_to_json
from agentrt.run.events import ToolCallCompleted
from agentrt.run.response import RunStatus, ToolExecution
from agentrt.storage.base import (
    Committed,
    Conflict,
    Opening,
    StateChange,
    Step,
    Storage,
    StoredSession,
)
from agentrt.testing._contract_kit import (
    OpenStorage,
    StorageCheck,
    adding_to,
    new_change,
    new_run,
    new_step,
    raises,
    user_message,
)
from agentrt.testing._lease_contracts import lease_checks

__all__ = ["OpenStorage", "StorageCheck", "storage_checks"]

storage_checks: list[StorageCheck] = [*lease_checks]
"""All checks, for `pytest.mark.parametrize`."""
_check = adding_to(storage_checks)


# --- runs ------------------------------------------------------------------------------------------------------------


@_check
async def a_run_is_stored_from_its_first_moment(open_storage: OpenStorage) -> None:
    storage = open_storage()
    started = datetime(2025, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
    run = new_run(
        "r1", agent_id="a", created_at=started, updated_at=started, input={"messages": [user_message("hello")]}
    )

    opening = await storage.begin(run)
    stored = await storage.load_run("r1")

    assert opening == Opening(state={}, history=[], number=1)
    assert stored is not None
    assert (stored.run_id, stored.session_id, stored.agent_id) == ("r1", "s", "a")
    assert (stored.status, stored.number, stored.created_at) == (RunStatus.RUNNING, 1, started)
    assert stored.input == {"messages": [run.input["messages"][0]]}
    assert (stored.messages, stored.response, stored.steps) == ([], None, [])


@_check
async def a_completed_run_has_its_messages_and_its_response(open_storage: OpenStorage) -> None:
    storage = open_storage()
    call = ToolCall(id="c1", name="look", arguments='{"at": "moon"}', raw_arguments="{at: moon}")
    messages = [
        user_message("what do you see?"),
        Message(role="assistant", tool_calls=[call], provider="p", parts=[{"$": "opaque", "n": [1, None]}]),
        Message(role="tool", tool_call_id="c1", tool_name="look", content="no such place", tool_call_error=True),
        Message(role="assistant", content="nothing", reasoning_content="dark", refusal=True, incomplete=True),
    ]
    tool = ToolExecution(tool_call_id="c1", tool_name="look", tool_args={"at": "moon"}, result="cheese")
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", steps=[new_step(1)]))

    await storage.commit(
        new_change("r1", status=RunStatus.COMPLETED, messages=messages, response={"tools": [tool]}, last_seq=9)
    )
    stored = await storage.load_run("r1")

    assert stored is not None
    assert stored.status is RunStatus.COMPLETED
    assert stored.messages == messages
    assert stored.response == {"tools": [tool]}
    assert stored.last_seq == 9
    assert stored.steps == []


@_check
async def the_steps_of_a_run_that_may_go_on_are_kept_in_order(open_storage: OpenStorage) -> None:
    storage = open_storage()
    for run_id, status in (("r1", None), ("r2", RunStatus.PAUSED), ("r3", RunStatus.FAILED)):
        await storage.begin(new_run(run_id))
        await storage.commit(new_change(run_id, steps=[new_step(1, "model"), new_step(2, "intent")]))
        await storage.commit(new_change(run_id, steps=[new_step(3, "tool")], status=status))

        stored = await storage.load_run(run_id)

        assert stored is not None
        assert stored.steps == [new_step(1, "model"), new_step(2, "intent"), new_step(3, "tool")]


@_check
async def a_commit_leaves_alone_what_it_does_not_name(open_storage: OpenStorage) -> None:
    storage = open_storage()
    messages = [user_message("one")]
    await storage.begin(new_run("r1"))
    await storage.commit(
        new_change("r1", status=RunStatus.PAUSED, messages=messages, response={"content": "c"}, last_seq=3)
    )

    await storage.commit(new_change("r1", steps=[new_step(1)]))
    stored = await storage.load_run("r1")

    assert stored is not None
    assert (stored.status, stored.messages, stored.last_seq) == (RunStatus.PAUSED, messages, 3)
    assert stored.response == {"content": "c"}


@_check
async def a_run_id_is_taken_once(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await raises(RunBusy, storage.begin(new_run("r1", session_id="other")))

    assert (await storage.begin(new_run("r2"))).number == 2
    assert await storage.load_run("r1") is not None


@_check
async def a_run_that_is_not_stored_is_not_found(open_storage: OpenStorage) -> None:
    storage = open_storage()

    assert await storage.load_run("r1") is None
    assert await storage.load_session("s") is None
    assert await storage.load_history("s") == []
    await raises(RunNotFound, storage.commit(new_change("r1")))


@_check
async def of_two_that_continue_a_pause_one_succeeds(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", status=RunStatus.PAUSED))

    claim = new_change("r1", status=RunStatus.RUNNING, expect=RunStatus.PAUSED)
    claims = [open_storage().commit(claim), open_storage().commit(claim)]
    outcomes = await asyncio.gather(*claims, return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == [AlreadyContinued.__name__, Committed.__name__]


@_check
async def a_run_tells_the_number_and_the_time_of_its_newest_fact(open_storage: OpenStorage) -> None:
    storage, long_ago = open_storage(), datetime(2020, 1, 1, tzinfo=UTC)
    await storage.begin(new_run("r1", created_at=long_ago, updated_at=long_ago))

    await storage.commit(new_change("r1", events=[(1, "{}"), (2, "{}")], last_seq=2))

    stored, (listed,) = await storage.load_run("r1"), await storage.list_unfinished()
    assert stored is not None
    assert stored.last_seq == listed.last_seq == 2
    assert stored.updated_at == listed.updated_at > long_ago


@_check
async def a_step_or_an_event_that_is_there_already_refuses_the_whole_commit(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", steps=[new_step(1)], events=[(1, "{}")]))

    state = StateChange(base={}, mine={"a": 1})
    await raises(
        RunBusy,
        storage.commit(new_change("r1", steps=[new_step(2), new_step(1)], status=RunStatus.FAILED, state=state)),
    )
    await raises(RunBusy, storage.commit(new_change("r1", events=[(1, "{}")], status=RunStatus.FAILED)))
    stored, session = await storage.load_run("r1"), await storage.load_session("s")

    assert stored is not None and session is not None
    assert (stored.status, stored.steps, session.state) == (RunStatus.RUNNING, [new_step(1)], {})


@_check
async def events_are_read_from_a_place_on(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", events=[(1, '{"n":1}'), (2, '{"n":2}')]))
    await storage.commit(new_change("r1", events=[(3, '{"n":3}')], status=RunStatus.COMPLETED))

    assert await storage.load_events("r1") == [(1, '{"n":1}'), (2, '{"n":2}'), (3, '{"n":3}')]
    assert await storage.load_events("r1", after=1, limit=1) == [(2, '{"n":2}')]
    assert await storage.load_events("r2") == []


@_check
async def events_may_be_made_of_the_conflicts_that_the_commit_finds(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await storage.begin(new_run("r2"))
    await storage.commit(new_change("r1", state=StateChange(base={}, mine={"a": 1})))

    def events(conflicts: Sequence[Conflict]) -> list[tuple[int, str]]:
        return [(number, conflict.path) for number, conflict in enumerate(conflicts, 1)]

    await storage.commit(new_change("r2", state=StateChange(base={}, mine={"a": 2}), events=events))

    assert await storage.load_events("r2") == [(1, 'session_state["a"]')]


# --- history ---------------------------------------------------------------------------------------------------------


@_check
async def history_is_that_of_the_last_ended_runs_oldest_first(open_storage: OpenStorage) -> None:
    storage = open_storage()
    ends = [RunStatus.COMPLETED, RunStatus.FAILED, None, RunStatus.PAUSED, RunStatus.CANCELLED, RunStatus.COMPLETED]
    said = [[user_message(f"turn {number}")] for number in range(len(ends))]
    for number, status in enumerate(ends):
        await storage.begin(new_run(f"r{number}"))
        await storage.commit(new_change(f"r{number}", status=status, messages=said[number]))

    ended = [said[0], said[1], said[4], said[5]]
    assert await storage.load_history("s") == ended
    assert await storage.load_history("s", runs=2) == ended[-2:]
    assert await storage.load_history("s", runs=0) == []
    assert (await storage.begin(new_run("next"), history_runs=3)).history == ended[-3:]
    assert (await storage.begin(new_run("after that"), history_runs=None)).history == ended


@_check
async def child_runs_are_stored_but_are_no_part_of_the_session(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await _finished(storage, "r1", "said by the user")
    await storage.begin(new_run("child", parent_run_id="r1"))
    await storage.commit(new_change("child", status=RunStatus.COMPLETED, messages=[user_message("said by the parent")]))

    opening = await storage.begin(new_run("r2"), history_runs=None)
    child, session = await storage.load_run("child"), await storage.load_session("s")

    assert opening.number == 2
    assert [[message.content for message in run] for run in opening.history] == [["said by the user"]]
    assert child is not None and session is not None
    assert (child.parent_run_id, child.number, session.run_count) == ("r1", 0, 2)
    assert [run.run_id for run in await storage.list_runs("s")] == ["r2", "r1"]


@_check
async def messages_come_back_as_they_are_also_when_a_result_is_missing(open_storage: OpenStorage) -> None:
    storage = open_storage()
    calls = [ToolCall(id="c1", name="t"), ToolCall(id="c2", name="t")]
    messages = [
        user_message("q"),
        Message(role="assistant", tool_calls=calls),
        Message(role="tool", tool_call_id="c1", content="1"),
    ]
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", status=RunStatus.FAILED, messages=messages))

    assert await storage.load_history("s") == [messages]


# --- whose session ---------------------------------------------------------------------------------------------------


@_check
async def a_session_belongs_to_its_user(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1", user_id="ann"))

    await raises(SessionAccessDenied, storage.begin(new_run("r2", user_id="bob")))
    await raises(SessionAccessDenied, storage.begin(new_run("r3", user_id=None)))
    session = await storage.load_session("s")

    assert session is not None
    assert (session.user_id, session.run_count) == ("ann", 1)
    assert await storage.load_run("r2") is None


@_check
async def a_session_without_an_owner_becomes_the_users(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await storage.begin(new_run("r2", user_id="ann"))

    await raises(SessionAccessDenied, storage.begin(new_run("r3")))


@_check
async def identifiers_are_data(open_storage: OpenStorage) -> None:
    storage = open_storage()
    odd = "x'); DROP TABLE agent_sessions; -- %s {} ../../etc \n😀"
    await storage.begin(new_run(odd, session_id=odd, user_id=odd, agent_id=odd))
    await storage.rename_session(odd, odd)

    run, session = await storage.load_run(odd), await storage.load_session(odd)

    assert run is not None and session is not None
    assert (run.run_id, run.user_id, run.agent_id, session.name) == (odd, odd, odd, odd)
    assert await storage.load_session("%") is None


# --- state -----------------------------------------------------------------------------------------------------------


@_check
async def the_state_that_a_run_left_is_what_the_next_one_finds(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))

    committed = await storage.commit(new_change("r1", state=StateChange(base={}, mine={"cart": ["milk"], "n": 1})))
    opening = await storage.begin(new_run("r2"))
    session = await storage.load_session("s")

    assert session is not None
    assert committed.state == opening.state == session.state == {"cart": ["milk"], "n": 1}
    assert list(committed.conflicts) == []


@_check
async def changes_of_runs_that_overlap_are_merged(open_storage: OpenStorage) -> None:
    storage = open_storage()
    base = {"cart": ["milk", "eggs"], "place": {"city": "Rome", "zip": 1}, "old": 1}
    await storage.begin(new_run("r0"))
    await storage.commit(new_change("r0", state=StateChange(base={}, mine=base)))
    await storage.begin(new_run("r1"))
    await storage.begin(new_run("r2"))

    theirs = {"cart": ["milk", "eggs", "tea"], "place": {"city": "Oslo", "zip": 1}, "new": {1}}
    await storage.commit(new_change("r1", state=StateChange(base=base, mine=theirs)))
    mine = {"cart": ["milk", "rice"], "place": {"city": "Bonn", "zip": 2}, "old": 1}
    committed = await storage.commit(new_change("r2", state=StateChange(base=base, mine=mine)))
    session = await storage.load_session("s")

    assert session is not None
    assert committed.state == session.state
    assert session.state == {"cart": ["milk", "tea", "rice"], "place": {"city": "Bonn", "zip": 2}, "new": {1}}
    assert [(clash.path, clash.mine, clash.theirs) for clash in committed.conflicts] == [
        ('session_state["place"]["city"]', "Bonn", "Oslo")
    ]


@_check
async def a_given_state_wins_over_the_stored_one_and_that_over_the_initial_one(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", state=StateChange(base={}, mine={"a": "stored", "b": "stored"})))

    initial, given = {"b": "initial", "c": "initial", "items": ["x"]}, {"a": "given"}
    opening = await storage.begin(new_run("r2"), initial_state=initial, given_state=given)
    again = await storage.begin(new_run("r3"), initial_state=initial)

    assert opening.state == {"a": "given", "b": "stored", "c": "initial", "items": ["x"]}
    assert again.state == opening.state


@_check
async def an_initial_list_counts_once_for_runs_that_begin_together(open_storage: OpenStorage) -> None:
    storage = open_storage()
    openings = [await storage.begin(new_run(run_id), initial_state={"items": ["milk"]}) for run_id in ("r1", "r2")]
    for run_id, opening in zip(("r1", "r2"), openings, strict=True):
        state = opening.state or {}
        change = StateChange(base=state, mine={"items": [*state["items"], run_id]})
        await storage.commit(new_change(run_id, state=change))

    session = await storage.load_session("s")

    assert session is not None
    assert session.state == {"items": ["milk", "r1", "r2"]}


@_check
async def runs_at_once_through_several_storages_lose_nothing(open_storage: OpenStorage) -> None:
    storages = [open_storage() for _ in range(4)]

    async def one(number: int) -> None:
        storage, run_id = storages[number % 4], f"r{number}"
        opening = await storage.begin(new_run(run_id))
        base = opening.state or {}
        mine = {**base, "seen": [*base.get("seen", []), number], run_id: True}
        await storage.commit(
            new_change(run_id, status=RunStatus.COMPLETED, messages=[], state=StateChange(base=base, mine=mine))
        )

    await asyncio.gather(*(one(number) for number in range(20)))
    session, runs = await storages[0].load_session("s"), await storages[1].list_runs("s")

    assert session is not None
    assert sorted(session.state["seen"]) == list(range(20))
    assert all(session.state[f"r{number}"] for number in range(20))
    assert sorted(run.number for run in runs) == list(range(1, 21))


@_check
async def what_was_handed_in_or_out_may_be_changed_without_harm(open_storage: OpenStorage) -> None:
    storage = open_storage()
    mine: dict[str, Any] = {"items": [{"n": 1}]}
    messages = [user_message("one")]
    await storage.begin(new_run("r1"))
    committed = await storage.commit(
        new_change("r1", status=RunStatus.COMPLETED, messages=messages, state=StateChange(base={}, mine=mine))
    )
    opening, session = await storage.begin(new_run("r2")), await storage.load_session("s")
    assert committed.state is not None and opening.state is not None and session is not None

    mine["items"][0]["n"] = 2
    committed.state["items"].append(3)
    opening.state["items"][0]["n"] = 4
    session.state.clear()
    messages[0].content = "changed"
    (await storage.load_history("s"))[0].clear()

    assert (await storage.begin(new_run("r3"))).state == {"items": [{"n": 1}]}
    assert [[message.content for message in run] for run in await storage.load_history("s")] == [["one"]]


# --- values ----------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    """An Enum for a check."""

    RED = "red"


@_check
async def values_beyond_json_come_back_equal(open_storage: OpenStorage) -> None:
    storage = open_storage()
    state: dict[str, Any] = {
        "price": Decimal("12.34"),
        "when": datetime(2025, 3, 4, tzinfo=UTC),
        "id": uuid.UUID(int=7),
        "tags": {1, 2},
        "raw": b"\xff",
        "colour": Colour.RED,
        "pair": (1, "two"),
        "by_number": {3: "three"},
        "$": {"$": "not a tag"},
    }
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", state=StateChange(base={}, mine=state)))

    session = await storage.load_session("s")

    assert session is not None
    assert session.state == state


@_check
async def text_that_databases_refuse_is_stored_all_the_same(open_storage: OpenStorage) -> None:
    storage = open_storage()
    kept = ["😀", "\\u0000", "a\nb"]
    state = {"kept": kept, "nul": "a\x00b", "half": "x\ud83d", "key\x00": 1}
    await storage.begin(new_run("r1"))
    messages = [user_message(text) for text in (*kept, "a\x00b", "x\ud83d")]
    await storage.commit(
        new_change("r1", status=RunStatus.COMPLETED, messages=messages, state=StateChange(base={}, mine=state))
    )

    session, history = await storage.load_session("s"), await storage.load_history("s")

    assert session is not None
    assert session.state["kept"] == kept
    said = [message.content for message in history[0]]
    assert said[:3] == kept
    if storage.durable:
        assert (session.state["nul"], session.state["half"], session.state["key\ufffd"]) == ("a\ufffdb", "x\ufffd", 1)
        assert said[3:] == ["a\ufffdb", "x\ufffd"]


@_check
async def a_value_that_cannot_be_stored_is_named_and_nothing_is_half_done(open_storage: OpenStorage) -> None:
    storage = open_storage()
    state: dict[str, Any] = {"cart": [1, 2, {"lock": threading.Lock()}]}
    change = new_change(
        "r1", status=RunStatus.COMPLETED, steps=[new_step(1)], messages=[], state=StateChange(base={}, mine=state)
    )
    await storage.begin(new_run("r1"))
    if not storage.durable:  # it holds any object, by reference
        committed = await storage.commit(change)
        assert committed.state is not None
        assert committed.state["cart"][2]["lock"] is state["cart"][2]["lock"]
        return

    error = await raises(CodecError, storage.commit(change))
    stored = await storage.load_run("r1")

    assert getattr(error, "path", None) == 'session_state["cart"][2]["lock"]'
    assert stored is not None
    assert (stored.status, stored.steps) == (RunStatus.RUNNING, [])


# --- sessions --------------------------------------------------------------------------------------------------------


@_check
async def sessions_are_listed_the_one_used_last_first(open_storage: OpenStorage) -> None:
    storage = open_storage()
    for minute, (session_id, user_id, agent_id) in enumerate(
        [("s1", "ann", "a"), ("s2", "bob", "a"), ("s3", "ann", "b"), ("s4", "ann", "a"), ("s1", "ann", "c")]
    ):
        moment = datetime(2025, 1, 1, 0, minute, tzinfo=UTC)
        await storage.begin(
            new_run(
                f"r{minute}",
                session_id=session_id,
                user_id=user_id,
                agent_id=agent_id,
                created_at=moment,
                updated_at=moment,
            )
        )

    everything = await storage.list_sessions()

    assert _ids(everything) == ["s1", "s4", "s3", "s2"]
    assert _ids(await storage.list_sessions(user_id="ann")) == ["s1", "s4", "s3"]
    assert _ids(await storage.list_sessions(user_id="ann", agent_id="a")) == ["s1", "s4"]
    assert _ids(await storage.list_sessions(limit=2, offset=1)) == ["s4", "s3"]
    assert (everything[0].agent_id, everything[0].run_count) == ("a", 2)


@_check
async def a_session_that_began_below_another_is_not_listed(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1", session_id="team"))
    await storage.begin(new_run("r2", session_id="member", parent_run_id="r1", own_session=True))
    await storage.begin(new_run("r3", session_id="member"))

    assert _ids(await storage.list_sessions()) == ["team"]
    assert await storage.load_session("member") is not None


@_check
async def a_session_can_be_renamed_and_its_state_replaced(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"), initial_state={"a": 1})

    assert await storage.rename_session("s", "Groceries")
    assert await storage.replace_state("s", {"b": [2]})
    session = await storage.load_session("s")

    assert session is not None
    assert (session.name, session.state) == ("Groceries", {"b": [2]})
    assert not await storage.rename_session("none", "x")
    assert not await storage.replace_state("none", {})


@_check
async def a_deleted_session_leaves_nothing_behind(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await _finished(storage, "r1", "hello")
    await storage.begin(new_run("child", parent_run_id="r1"))
    await storage.commit(new_change("child", steps=[new_step(1)], events=[(1, "{}")]))
    await storage.begin(new_run("r2", session_id="other"))

    assert await storage.delete_session("s")
    assert not await storage.delete_session("s")
    assert await storage.load_session("s") is None
    assert await storage.load_run("r1") is None and await storage.load_run("child") is None
    assert await storage.load_events("child") == []
    assert await storage.load_run("r2") is not None
    assert await storage.begin(new_run("child"), history_runs=None) == Opening(state={}, history=[], number=1)
    stored = await storage.load_run("child")
    assert stored is not None and stored.steps == []


@_check
async def runs_are_listed_newest_first_and_paged_by_number(open_storage: OpenStorage) -> None:
    storage = open_storage()
    for number in range(1, 6):
        await _finished(storage, f"r{number}", "hello")

    newest = await storage.list_runs("s", limit=2)
    older = await storage.list_runs("s", limit=2, before=newest[-1].number)

    assert [run.run_id for run in (*newest, *older)] == ["r5", "r4", "r3", "r2"]
    assert (newest[0].status, newest[0].messages) == (RunStatus.COMPLETED, [])


# --- media -----------------------------------------------------------------------------------------------------------


@_check
async def media_come_back_from_wherever_they_were_stored(open_storage: OpenStorage) -> None:
    storage = open_storage()
    image = Image(data=b"\x89PNG\r\n\x1a\n\x00\xff", detail="low")
    asked = Message(role="user", content="what is it?", images=[image], files=[File(data=b"%PDF-", name="a.pdf")])
    shot = ToolExecution(tool_call_id="c1", tool_name="shot", result="Image", images=[image])
    event = event_to_json(ToolCallCompleted(run_id="r1", tool=shot))
    await storage.begin(new_run("r1", messages=[asked], input={"given": [asked]}))
    await storage.commit(
        new_change("r1", steps=[Step(number=1, kind="tool", data={"execution": shot})], events=[(1, event)])
    )

    paused = await storage.load_run("r1")
    await storage.commit(
        new_change("r1", status=RunStatus.COMPLETED, messages=[asked, asked], response={"tools": [shot]})
    )
    opening = await storage.begin(new_run("r2", messages=[asked]), history_runs=1)
    listed = (await storage.list_runs("s"))[1]

    assert paused is not None
    assert (paused.input, paused.messages) == ({"given": [asked]}, [asked])
    assert paused.steps[0].data == {"execution": shot}
    assert await storage.load_events("r1") == [(1, event)]
    assert opening.history == [[asked, asked]] == await storage.load_history("s")
    assert listed.response == {"tools": [shot]}


@_check
async def media_stay_until_the_last_session_that_uses_them_is_deleted(open_storage: OpenStorage) -> None:
    storage = open_storage()
    asked = Message(role="user", content="what is it?", images=[Image(data=bytes(range(256)))])
    for session_id in ("s", "other"):
        await storage.begin(new_run(session_id, session_id=session_id))
        await storage.commit(
            new_change(session_id, session_id=session_id, messages=[asked], status=RunStatus.COMPLETED)
        )

    await storage.delete_session("s")
    other = await storage.load_run("other")
    await storage.delete_session("other")
    await storage.begin(new_run("again", messages=[asked]))
    again = await storage.load_run("again")

    assert other is not None and other.messages == [asked]
    assert again is not None and again.messages == [asked]


# --- loops, cancelling, closing --------------------------------------------------------------------------------------


@_check
async def a_cancelled_call_is_done_whole_or_not_at_all(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))

    for number in range(1, 21):
        steps = [new_step(number * 2 - 1), new_step(number * 2)]
        task = asyncio.ensure_future(storage.commit(new_change("r1", steps=steps)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    stored = await storage.load_run("r1")

    assert stored is not None
    found = {step.number for step in stored.steps}
    assert all((number * 2 in found) == (number * 2 - 1 in found) for number in range(1, 21))
    await storage.commit(new_change("r1", status=RunStatus.CANCELLED))
    assert (await storage.begin(new_run("r2"))).number == 2


@_check
async def one_storage_serves_several_event_loops(open_storage: OpenStorage) -> None:
    storage = open_storage()
    together = threading.Barrier(3, timeout=20)

    async def in_a_loop_of_its_own(name: str) -> None:
        together.wait()  # all three loops are up
        for number in range(5):
            await storage.begin(new_run(f"{name}{number}"))

    def thread(name: str) -> None:
        asyncio.run(in_a_loop_of_its_own(name))

    await asyncio.gather(*(asyncio.to_thread(thread, name) for name in "abc"))
    await storage.begin(new_run("here"))
    session = await storage.load_session("s")

    assert session is not None
    assert session.run_count == 16


@_check
async def closing_twice_is_fine_and_a_later_call_opens_again(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.aclose()
    await storage.begin(new_run("r1"))
    await storage.aclose()
    await storage.aclose()

    await storage.begin(new_run("r2", session_id="other"))
    stored = await storage.load_run("r2")

    assert stored is not None


# --- helpers ---------------------------------------------------------------------------------------------------------


def _ids(sessions: Sequence[StoredSession]) -> list[str]:
    return [session.session_id for session in sessions]


async def _finished(storage: Storage, run_id: str, said: str) -> None:
    await storage.begin(new_run(run_id))
    await storage.commit(new_change(run_id, status=RunStatus.COMPLETED, messages=[user_message(said)]))
