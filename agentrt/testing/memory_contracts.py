"""The contract of a `MemoryDb` as tests: run `memory_checks` for one of your own.

    @pytest.mark.parametrize("check", memory_checks, ids=lambda check: check.__name__)
    async def test_my_database_keeps_the_contract(check, tmp_path):
        await check(lambda: MyMemoryDb(tmp_path / "data"))

Each check is a coroutine function of `open_db`, which returns a database on one and the same place, empty at first.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from agentrt.memory.base import MemoryDb, PendingUpdate, SessionSummary, UserMemory, subject_of

OpenMemoryDb: TypeAlias = Callable[[], MemoryDb]
MemoryCheck: TypeAlias = Callable[[OpenMemoryDb], Awaitable[None]]

memory_checks: list[MemoryCheck] = []
"""All checks, for `pytest.mark.parametrize`."""
_START = datetime(2025, 1, 1, tzinfo=UTC)
_SUBJECT = subject_of("memories", "ann", None)


def _check(function: MemoryCheck) -> MemoryCheck:
    @functools.wraps(function)
    async def checked(open_db: OpenMemoryDb) -> None:
        opened: list[MemoryDb] = []

        def open() -> MemoryDb:
            opened.append(open_db())
            return opened[-1]

        try:
            async with asyncio.timeout(30):
                await function(open)
        finally:
            for db in opened:
                await db.aclose()

    memory_checks.append(checked)
    return checked


def _memory(text: str, day: int = 0, **fields: Any) -> UserMemory:
    return UserMemory(text, last_updated=_START + timedelta(days=day), **fields)


def _update(update_id: str = "r1-memory", user_id: str = "ann", **fields: Any) -> PendingUpdate:
    return PendingUpdate(
        update_id=update_id, kind="memories", user_id=user_id, session_id="s", run_id="r1", material="I ski.", **fields
    )


async def _texts(db: MemoryDb, user_id: str) -> list[str]:
    return [memory.memory for memory in await db.list_memories(user_id)]


# --- memories --------------------------------------------------------------------------------------------------------


@_check
async def a_memory_comes_back_as_it_was_kept(open_db: OpenMemoryDb) -> None:
    db = open_db()
    kept = _memory("Likes «tea» 🍵\nand cake", topics=["food", "drink"])
    memory_id = await db.add_memory("ann", kept)

    [found] = await open_db().list_memories("ann")

    assert memory_id
    assert (found.memory_id, found.memory, found.topics) == (memory_id, kept.memory, kept.topics)
    assert found.last_updated == kept.last_updated


@_check
async def the_memory_that_changed_last_comes_first(open_db: OpenMemoryDb) -> None:
    db = open_db()
    first = await db.add_memory("ann", _memory("one", 1))
    await db.add_memory("ann", _memory("two", 2))
    await db.replace_memory("ann", first, _memory("one and a half", 3))
    assert await _texts(db, "ann") == ["one and a half", "two"]


@_check
async def what_says_the_same_is_kept_once_and_under_its_first_id(open_db: OpenMemoryDb) -> None:
    db = open_db()
    memory_id = await db.add_memory("ann", _memory("Likes tea.", topics=["drink"]))
    assert await db.add_memory("ann", _memory("  likes   TEA ", 1)) == memory_id
    [found] = await db.list_memories("ann")
    assert (found.memory, found.topics) == ("Likes tea.", ["drink"])
    assert found.last_updated == _START + timedelta(days=1)


@_check
async def two_users_may_have_the_same_memory_and_the_same_id(open_db: OpenMemoryDb) -> None:
    db = open_db()
    await db.add_memory("ann", _memory("Likes tea", memory_id="m"))
    await db.add_memory("bob", _memory("Likes tea", memory_id="m"))
    await db.replace_memory("ann", "m", _memory("Likes milk"))
    assert (await _texts(db, "ann"), await _texts(db, "bob")) == (["Likes milk"], ["Likes tea"])


@_check
async def a_memory_of_a_known_id_is_replaced(open_db: OpenMemoryDb) -> None:
    db = open_db()
    await db.add_memory("ann", _memory("Likes tea", memory_id="m"))
    assert await db.add_memory("ann", _memory("Likes milk", memory_id="m")) == "m"
    assert await db.add_memory("ann", _memory("Likes milk!", memory_id="m")) == "m"
    assert await _texts(db, "ann") == ["Likes milk!"]


@_check
async def a_memory_that_becomes_like_another_is_merged_into_it(open_db: OpenMemoryDb) -> None:
    db = open_db()
    tea = await db.add_memory("ann", _memory("Likes tea"))
    other = await db.add_memory("ann", _memory("Likes hot leaves"))
    assert await db.replace_memory("ann", other, _memory("likes tea")) == tea
    assert len(await db.list_memories("ann")) == 1


@_check
async def what_a_user_does_not_have_is_neither_replaced_nor_deleted(open_db: OpenMemoryDb) -> None:
    db = open_db()
    theirs = await db.add_memory("bob", _memory("Likes tea"))
    for memory_id in (theirs, "12"):
        assert await db.replace_memory("ann", memory_id, _memory("Hates tea")) is None
        assert await db.delete_memories("ann", [memory_id]) == 0
    assert (await _texts(db, "ann"), await _texts(db, "bob")) == ([], ["Likes tea"])


@_check
async def deleting_takes_those_that_are_named_or_all_of_one_user(open_db: OpenMemoryDb) -> None:
    db = open_db()
    ids = [await db.add_memory("ann", _memory(text, day)) for day, text in enumerate(("one", "two", "three"))]
    await db.add_memory("bob", _memory("one"))
    assert await db.delete_memories("ann", [ids[1], ids[1], "12"]) == 1
    assert await _texts(db, "ann") == ["three", "one"]
    assert await db.delete_memories("ann") == 2
    assert (await _texts(db, "ann"), await _texts(db, "bob")) == ([], ["one"])


@_check
async def the_same_added_at_once_is_kept_once(open_db: OpenMemoryDb) -> None:
    dbs = [open_db() for _ in range(3)]
    ids = await asyncio.gather(*(db.add_memory("ann", _memory("Likes tea")) for db in dbs for _ in range(5)))
    assert len(set(ids)) == 1
    assert await _texts(dbs[0], "ann") == ["Likes tea"]


# --- summaries -------------------------------------------------------------------------------------------------------


@_check
async def a_summary_replaces_the_last_one_of_its_session_and_user(open_db: OpenMemoryDb) -> None:
    db = open_db()
    for user_id in ("ann", "bob", None):
        await db.save_summary(SessionSummary(f"first of {user_id}", session_id="s", user_id=user_id))
    newest = SessionSummary("second", session_id="s", user_id="ann", last_updated=_START)
    await db.save_summary(newest)
    assert await db.load_summary("s", "ann") == newest
    assert await db.load_summary("t", "ann") is None
    for user_id in ("bob", None):
        found = await db.load_summary("s", user_id)
        assert found is not None and found.summary == f"first of {user_id}"


# --- updates ---------------------------------------------------------------------------------------------------------


@_check
async def an_update_waits_until_it_is_done(open_db: OpenMemoryDb) -> None:
    db = open_db()
    update = _update(created_at=_START)
    await db.queue(update)
    await db.queue(update)
    assert await open_db().list_updates(_SUBJECT) == [update]
    claimed = await db.claim_update(_SUBJECT, owner="me", lease_s=60)
    assert claimed is not None
    assert (claimed.material, claimed.owner, claimed.attempts, claimed.is_claimed) == ("I ski.", "me", 1, True)
    await db.settle_update(update.update_id, owner="somebody", done=True)
    assert await db.list_updates(_SUBJECT) == [claimed]
    await db.settle_update(update.update_id, owner="me", done=True)
    assert await db.list_updates(_SUBJECT) == []


@_check
async def one_update_of_a_subject_is_claimed_at_a_time_and_in_order(open_db: OpenMemoryDb) -> None:
    db = open_db()
    await db.queue(_update("r1", created_at=_START))
    await db.queue(_update("r2", created_at=_START + timedelta(seconds=1)))
    await db.queue(_update("b1", "bob", created_at=_START))
    claims = await asyncio.gather(*(db.claim_update(_SUBJECT, owner=f"o{n}", lease_s=60) for n in range(4)))
    [first] = [claim for claim in claims if claim is not None]
    assert first.update_id == "r1"
    assert await db.claim_update(subject_of("memories", "bob", None), owner="x", lease_s=60) is not None
    await db.settle_update("r1", owner=first.owner or "", done=True)
    second = await db.claim_update(_SUBJECT, owner="x", lease_s=60)
    assert second is not None and second.update_id == "r2"


@_check
async def an_update_that_failed_or_whose_owner_is_gone_is_claimed_again(open_db: OpenMemoryDb) -> None:
    db = open_db()
    await db.queue(_update())
    await db.claim_update(_SUBJECT, owner="me", lease_s=60)
    await db.settle_update(_update().update_id, owner="me", done=False)
    [failed] = await db.list_updates(_SUBJECT)
    assert (failed.owner, failed.attempts, failed.is_claimed) == (None, 1, False)
    await db.claim_update(_SUBJECT, owner="dead", lease_s=60)
    assert await db.claim_update(_SUBJECT, owner="me", lease_s=60) is None
    taken = await db.claim_update(_SUBJECT, owner="me", lease_s=0, gone="dead")
    assert taken is not None and taken.attempts == 3
    again = await db.claim_update(_SUBJECT, owner="you", lease_s=60)  # the time of the last one has run out
    assert again is not None


@_check
async def a_summary_ends_the_update_that_it_comes_of(open_db: OpenMemoryDb) -> None:
    db = open_db()
    update = PendingUpdate(
        update_id="r1-summary", kind="summary", user_id=None, session_id="s", run_id="r1", material="…"
    )
    await db.queue(update)
    await db.claim_update(update.subject, owner="me", lease_s=60)
    await db.save_summary(SessionSummary("short", session_id="s"), update_id=update.update_id)
    assert await db.list_updates(update.subject) == []


@_check
async def a_summary_is_deleted_with_what_is_to_come_of_its_session(open_db: OpenMemoryDb) -> None:
    db = open_db()
    update = PendingUpdate(
        update_id="r1-summary", kind="summary", user_id="ann", session_id="s", run_id="r1", material="…"
    )
    await db.queue(update)
    await db.queue(_update())
    for session_id, user_id in (("s", "ann"), ("s", "bob"), ("s", None), ("t", "ann")):
        await db.save_summary(SessionSummary("short", session_id=session_id, user_id=user_id))
    await db.delete_summary("s", "ann")
    assert (await db.load_summary("s", "ann"), await db.list_updates(update.subject)) == (None, [])
    assert len(await db.list_updates(_SUBJECT)) == 1
    for session_id, user_id in (("s", "bob"), ("s", None), ("t", "ann")):
        assert await db.load_summary(session_id, user_id) is not None


@_check
async def a_user_is_forgotten_with_all_there_is_and_nobody_else(open_db: OpenMemoryDb) -> None:
    db = open_db()
    for user_id in ("ann", "bob"):
        await db.add_memory(user_id, _memory("one"))
        await db.save_summary(SessionSummary("short", session_id="s", user_id=user_id))
        await db.queue(_update(f"{user_id}-memories", user_id))
    await db.save_summary(SessionSummary("short", session_id="s"))
    await db.forget("ann")
    assert (await _texts(db, "ann"), await db.load_summary("s", "ann")) == ([], None)
    assert await db.list_updates(_SUBJECT) == []
    assert await _texts(db, "bob") == ["one"]
    assert await db.load_summary("s", "bob") is not None and await db.load_summary("s", None) is not None
    assert len(await db.list_updates(subject_of("memories", "bob", None))) == 1


@_check
async def clearing_leaves_nothing(open_db: OpenMemoryDb) -> None:
    db = open_db()
    await db.add_memory("ann", _memory("one"))
    await db.save_summary(SessionSummary("short", session_id="s"))
    await db.queue(_update())
    await db.clear()
    assert (await db.list_memories("ann"), await db.load_summary("s", None)) == ([], None)
    assert await db.list_updates(_SUBJECT) == []
