"""Checks of storages: who drives a run, and what its readers are given."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from datetime import timedelta

from agentrt.errors import AlreadyContinued, RunBusy, RunNotFound, SessionAccessDenied, SessionBusy
from agentrt.run.response import RunStatus
from agentrt.storage.base import LeaseNews, StateChange, Step, Storage, StoredRun
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

lease_checks: list[StorageCheck] = []
_check = adding_to(lease_checks)


# --- leases ----------------------------------------------------------------------------------------------------------


@_check
async def a_new_run_is_its_owners_in_epoch_one(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1", owner="me"), initial_state={"n": 1})
    await storage.begin(new_run("r2", owner="me"), lease_s=0)
    await storage.commit(new_change("r1", epoch=1, state=StateChange(base={"n": 1}, mine={"n": 2})))

    run = await _loaded(storage, "r1")

    assert (run.owner, run.epoch, run.lease_expired, run.base_state) == ("me", 1, False, {"n": 1})
    assert (await _loaded(storage, "r2")).lease_expired


@_check
async def a_status_other_than_running_ends_the_lease(open_storage: OpenStorage) -> None:
    storage = open_storage()
    for status in (RunStatus.PAUSED, RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.FAILED):
        await storage.begin(new_run(status.value, owner="me"), given_state={"n": 1})
        await storage.commit(new_change(status.value, status=status, epoch=1))

        run = await _loaded(storage, status.value)

        assert (run.owner, run.epoch, run.lease_expired) == (None, 1, True)
        assert run.base_state == ({"n": 1} if status in (RunStatus.PAUSED, RunStatus.FAILED) else {})
    assert await storage.list_unfinished() == []


@_check
async def what_an_earlier_owner_writes_is_refused_and_nothing_of_it_is_stored(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1", owner="old"))
    assert await storage.claim("r1", epoch=1, owner="new", expect=[RunStatus.RUNNING]) == 2

    late = new_change(
        "r1",
        epoch=1,
        status=RunStatus.COMPLETED,
        steps=[new_step(1)],
        events=[(1, "{}")],
        deltas=[(0, 0, "{}")],
        messages=[user_message("late")],
        response={"content": "late"},
        state=StateChange(base={}, mine={"late": True}),
    )
    await raises(RunBusy, storage.commit(late))
    run, session = await _loaded(storage, "r1"), await storage.load_session("s")

    assert session is not None
    assert (run.status, run.owner, run.epoch, run.steps, run.messages) == (RunStatus.RUNNING, "new", 2, [], [])
    assert (run.response, session.state) == (None, {})
    assert (await storage.load_events("r1"), await storage.load_deltas("r1")) == ([], [])
    await storage.commit(new_change("r1", epoch=2, steps=[new_step(1)]))


@_check
async def of_ten_claims_exactly_one_succeeds(open_storage: OpenStorage) -> None:
    storages = [open_storage() for _ in range(10)]
    for status in (RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.FAILED):
        refusal = RunBusy if status is RunStatus.RUNNING else AlreadyContinued
        await storages[0].begin(new_run(status.value, owner="gone"))
        await storages[0].commit(new_change(status.value, status=status))

        claims = [
            storage.claim(status.value, epoch=1, owner=f"owner {number}", expect=[status])
            for number, storage in enumerate(storages)
        ]
        outcomes = await asyncio.gather(*claims, return_exceptions=True)
        run = await _loaded(storages[0], status.value)

        assert [type(outcome) for outcome in outcomes].count(refusal) == 9
        assert (run.status, run.owner, run.epoch) == (RunStatus.RUNNING, f"owner {outcomes.index(2)}", 2)
        assert not run.lease_expired


@_check
async def a_claim_names_what_it_found(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1", owner="me"))
    expect = [RunStatus.PAUSED, RunStatus.FAILED]

    await raises(RunNotFound, storage.claim("none", epoch=1, owner="me", expect=expect))
    await raises(AlreadyContinued, storage.claim("r1", epoch=1, owner="me", expect=expect))
    await storage.commit(new_change("r1", status=RunStatus.PAUSED))
    await raises(RunBusy, storage.claim("r1", epoch=2, owner="me", expect=expect))
    assert await storage.claim("r1", epoch=1, owner="me", expect=expect) == 2


@_check
async def a_renewed_lease_holds_and_a_lost_one_is_told_of(open_storage: OpenStorage) -> None:
    storage = open_storage()
    for run_id in ("mine", "taken", "ended", "deleted"):
        await storage.begin(new_run(run_id, session_id=f"of {run_id}", owner="me"), lease_s=0)
    await storage.claim("taken", epoch=1, owner="other", expect=[RunStatus.RUNNING], lease_s=0)
    await storage.commit(new_change("ended", session_id="of ended", status=RunStatus.COMPLETED))
    await storage.delete_session("of deleted")

    news = await storage.renew([(run_id, 1) for run_id in ("mine", "taken", "ended", "deleted")])

    assert news == [LeaseNews(run_id="taken", lost=True), LeaseNews(run_id="deleted", lost=True)]
    assert not (await _loaded(storage, "mine")).lease_expired
    assert (await _loaded(storage, "taken")).lease_expired
    assert (await _loaded(storage, "ended")).lease_expired


@_check
async def leases_are_renewed_on_another_thread_while_this_ones_loop_is_blocked(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1", owner="me"), lease_s=0)

    async def renew() -> list[LeaseNews]:
        return await storage.renew([("r1", 1)])

    thread = threading.Thread(target=asyncio.run, args=(renew(),))
    thread.start()
    thread.join(20)

    assert not thread.is_alive()
    assert not (await _loaded(storage, "r1")).lease_expired


@_check
async def a_request_to_cancel_reaches_whoever_drives_the_run_until_it_ends(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1", owner="me"))

    assert await open_storage().request_cancel("r1", "after_turn")
    assert not await storage.request_cancel("none", "now")
    assert await storage.renew([("r1", 1)]) == [LeaseNews(run_id="r1", cancel="after_turn")]
    await storage.commit(new_change("r1", status=RunStatus.PAUSED))
    assert not await storage.request_cancel("r1", "now")
    assert await storage.renew([("r1", 1)]) == []
    await storage.claim("r1", epoch=1, owner="next", expect=[RunStatus.PAUSED])
    assert await storage.renew([("r1", 2)]) == [LeaseNews(run_id="r1", cancel="after_turn")]
    await storage.commit(new_change("r1", status=RunStatus.FAILED))
    await storage.claim("r1", epoch=2, owner="third", expect=[RunStatus.FAILED])
    assert await storage.renew([("r1", 3)]) == []


@_check
async def evidence_is_kept_whoever_drives_the_run(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1", owner="old"))
    await storage.commit(new_change("r1", steps=[new_step(1)]))
    await storage.claim("r1", epoch=1, owner="new", expect=[RunStatus.RUNNING])

    for result in ("first", "second"):
        await storage.add_evidence("r1", "tool", {"result": result})
    await storage.commit(new_change("r1", epoch=2, steps=[new_step(2)]))
    evidence = [
        Step(number=-2, kind="tool", data={"result": "second"}),
        Step(number=-1, kind="tool", data={"result": "first"}),
    ]
    assert (await _loaded(storage, "r1")).steps == [*evidence, new_step(1), new_step(2)]
    await storage.commit(new_change("r1", epoch=2, status=RunStatus.COMPLETED))
    assert (await _loaded(storage, "r1")).steps == evidence
    await raises(RunNotFound, storage.add_evidence("none", "tool", {}))


@_check
async def unfinished_runs_are_listed_by_id(open_storage: OpenStorage) -> None:
    storage = open_storage()
    for number in range(5):
        await storage.begin(new_run(f"r{number}", session_id=f"s{number}", owner="me"), given_state={"n": number})
    await storage.commit(new_change("r1", session_id="s1", status=RunStatus.PAUSED))

    found = await storage.list_unfinished()

    assert [run.run_id for run in found] == ["r0", "r2", "r3", "r4"]
    assert (found[0].owner, found[0].epoch, found[0].lease_expired) == ("me", 1, False)
    assert [run.run_id for run in await storage.list_unfinished(limit=2, after="r0")] == ["r2", "r3"]


# --- a session for one run at a time ---------------------------------------------------------------------------------


@_check
async def a_run_that_is_to_be_alone_is_refused_while_another_is_driven(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1", owner="me", user_id="ann"), alone=True)

    await raises(SessionBusy, storage.begin(new_run("r2", user_id="ann"), alone=True, given_state={"n": 1}))
    await raises(SessionAccessDenied, storage.begin(new_run("r2", user_id="bob"), alone=True))
    await raises(RunBusy, storage.begin(new_run("r1", user_id="ann"), alone=True))
    await storage.begin(new_run("r2", session_id="other"), alone=True)
    session = await storage.load_session("s")
    assert session is not None
    assert (session.run_count, session.state) == (1, {})

    await storage.renew([("r1", 1)], lease_s=0)  # runs out at once, as if its owner were gone
    opening = await storage.begin(new_run("r3", owner="me", user_id="ann"), alone=True)
    assert opening.number == 2
    await storage.commit(new_change("r3", status=RunStatus.PAUSED))
    assert (await storage.begin(new_run("r4", user_id="ann"), alone=True)).number == 3


@_check
async def of_ten_runs_that_are_to_be_alone_one_begins(open_storage: OpenStorage) -> None:
    storages = [open_storage() for _ in range(10)]

    begun: list[Awaitable[object]] = [
        storage.begin(new_run(f"r{number}"), alone=True) for number, storage in enumerate(storages)
    ]
    outcomes = await asyncio.gather(*begun, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes].count(SessionBusy) == 9
    assert len(await storages[0].list_runs("s")) == 1


# --- readers ---------------------------------------------------------------------------------------------------------


@_check
async def deltas_are_read_in_order_from_a_place_on(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", deltas=[(2, 0, "c"), (1, 0, "a")]))
    await storage.commit(new_change("r1", deltas=[(1, 10, "b"), (2, 9, "d")], events=[(1, "{}")]))

    assert await storage.load_deltas("r1") == [(1, 0, "a"), (1, 10, "b"), (2, 0, "c"), (2, 9, "d")]
    assert await storage.load_deltas("r1", after=(1, 10)) == [(1, 10, "b"), (2, 0, "c"), (2, 9, "d")]
    assert await storage.load_deltas("r1", after=(2, 1)) == [(2, 9, "d")]
    assert await storage.load_deltas("r2") == []
    await storage.commit(new_change("r1", deltas=[(2, 9, "D")]))
    assert await storage.load_deltas("r1", after=(2, 1)) == [(2, 9, "D")]


@_check
async def a_reader_is_woken_by_what_is_stored_after_its_place(open_storage: OpenStorage) -> None:
    reader, writer = open_storage(), open_storage()
    await writer.begin(new_run("r1"))
    await writer.begin(new_run("r2"))
    await writer.commit(new_change("r1", events=[(1, "{}")]))

    fact, delta = new_change("r1", events=[(2, "{}")]), new_change("r1", deltas=[(2, 5, "")])
    for after, news in (((1, 0), fact), ((2, 5), delta)):
        waiting = asyncio.create_task(reader.wait_for_news("r1", after=after, timeout_s=20))
        await _reads(reader)
        await writer.commit(new_change("r2", events=[(after[0], "{}")]))
        await _reads(reader)
        assert not waiting.done()
        await writer.commit(news)
        async with asyncio.timeout(5):
            await waiting


@_check
async def a_reader_does_not_wait_for_what_is_stored_already(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", events=[(1, "{}"), (2, "{}")], deltas=[(2, 7, "")]))

    async with asyncio.timeout(5):
        for after in ((0, 0), (1, 99), (2, 0), (2, 7)):
            await storage.wait_for_news("r1", after=after, timeout_s=20)
        await storage.wait_for_news("r1", after=(2, 8), timeout_s=0.01)
        await storage.wait_for_news("none", after=(0, 0), timeout_s=0)


@_check
async def a_commit_on_one_event_loop_wakes_a_reader_on_another(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    reading, woken = threading.Event(), threading.Event()

    async def read() -> None:
        asyncio.get_running_loop().call_soon(reading.set)
        await storage.wait_for_news("r1", after=(0, 0), timeout_s=20)
        woken.set()

    thread = threading.Thread(target=asyncio.run, args=(read(),))
    thread.start()
    await asyncio.to_thread(reading.wait, 5)
    await storage.commit(new_change("r1", events=[(1, "{}")]))

    assert await asyncio.to_thread(woken.wait, 5)
    await asyncio.to_thread(thread.join, 5)


# --- what is out of date ---------------------------------------------------------------------------------------------


@_check
async def pruning_deletes_facts_and_deltas_of_ended_runs_and_keeps_the_runs(open_storage: OpenStorage) -> None:
    storage = open_storage()
    ends = [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.PAUSED, None]
    for number, status in enumerate(ends):
        await storage.begin(new_run(f"r{number}"))
        await storage.commit(new_change(f"r{number}", events=[(1, "{}"), (2, "{}")], deltas=[(1, 0, "")]))
        await storage.commit(new_change(f"r{number}", status=status, messages=[user_message("kept")]))

    assert await storage.prune(older_than=timedelta(days=1)) == 0
    assert await storage.prune(older_than=timedelta(0)) == 6
    assert await storage.prune(older_than=timedelta(0)) == 0

    for number in range(4):
        kept = number >= 2
        assert len(await storage.load_events(f"r{number}")) == (2 if kept else 0)
        assert len(await storage.load_deltas(f"r{number}")) == (1 if kept else 0)
        assert [message.content for message in (await _loaded(storage, f"r{number}")).messages] == ["kept"]
    assert len(await storage.load_history("s")) == 2


@_check
async def what_a_continued_run_stores_is_pruned_after_its_own_end(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", events=[(1, "{}")], status=RunStatus.FAILED))
    await storage.claim("r1", epoch=1, owner="me", expect=[RunStatus.FAILED])

    assert await storage.prune(older_than=timedelta(0)) == 0
    await storage.commit(new_change("r1", events=[(2, "{}")], status=RunStatus.COMPLETED, epoch=2))
    assert await storage.prune(older_than=timedelta(0)) == 2


@_check
async def a_deleted_session_takes_deltas_and_evidence_with_it(open_storage: OpenStorage) -> None:
    storage = open_storage()
    await storage.begin(new_run("r1"))
    await storage.commit(new_change("r1", deltas=[(1, 0, "")], events=[(1, "{}")]))
    await storage.add_evidence("r1", "tool", {})

    assert await storage.delete_session("s")
    await storage.begin(new_run("r1"))

    assert (await storage.load_deltas("r1"), await storage.load_events("r1")) == ([], [])
    assert (await _loaded(storage, "r1")).steps == []


# --- helpers ---------------------------------------------------------------------------------------------------------


async def _loaded(storage: Storage, run_id: str) -> StoredRun:
    run = await storage.load_run(run_id)
    assert run is not None
    return run


async def _reads(storage: Storage) -> None:
    """Let whoever waits look at least once."""
    for _ in range(3):
        await storage.load_events("r1")
        await asyncio.sleep(0)
