"""Updates to come, and the tasks that carry them out: of one subject one at a time, in order, and none is lost.

An update lies in the database until it is done, so that another process can do what this one could not. Its task runs
on the event loop of the run that it comes of. A loop that ends hands it over to the loop of the sync methods, which
the end of the process waits for.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakSet

from agentrt import _sync
from agentrt.errors import AgentRTError
from agentrt.memory.base import Means, MemoryDb, PendingUpdate, Told
from agentrt.run import owner
from agentrt.run.response import MemoryUpdate, RunStatus
from agentrt.run.run import log, new_id
from agentrt.storage.base import RunChange, Storage

LEASE_S: Final = 120.0
"""How long an update is its owner's: longer than its run may take."""
ATTEMPTS: Final = 3
"""How often a failing update is tried, each time after another of its subject was queued."""
LOOK_S: Final = 0.05
"""How often it is looked whether another process is done."""


@dataclass(slots=True)
class _Work:
    """A task at work on a subject. `again` says that something was queued since its update at hand was begun."""

    done: Future[None] = field(default_factory=Future[None])
    again: bool = False


class Updates:
    """`carry_out` makes an update happen, and raises what kept it from that."""

    def __init__(self, db: MemoryDb, carry_out: Callable[[PendingUpdate, Means], Awaitable[None]]) -> None:
        self._db = db
        self._carry_out = carry_out
        self._told: dict[str, Told] = {}
        self._lock = threading.Lock()
        self._working: dict[str, _Work] = {}
        _all.add(self)

    async def queue(self, update: PendingUpdate, told: Told) -> None:
        self._told[update.update_id] = told
        await self._db.queue(update)

    def start(self, subject: str, means: Means) -> None:
        """See to it that a task is at work on the subject's updates."""
        with self._lock:
            work = self._working.get(subject)
            if work is not None:
                work.again = True
                return
            work = self._working[subject] = _Work()
        self._begin(subject, means, work)

    def _begin(self, subject: str, means: Means, work: _Work) -> None:
        # a context of its own: it is no part of the run that began it
        task = asyncio.get_running_loop().create_task(self._work(subject, means, work), context=Context())
        _sync.wait_for_at_end(task)

    async def wait(self, subjects: Sequence[str], means: Means | None, wait_s: float) -> None:
        """Wait until nothing of these subjects is to come, or fails; begin with what nobody is at work on."""
        until = time.monotonic() + wait_s
        for subject in subjects:
            while True:
                work = self._working.get(subject)  # before it is looked what there is: it may end meanwhile
                pending = [each for each in await self._db.list_updates(subject) if not _has_failed(each)]
                if not pending:
                    break
                if work is None and not _is_being_done(pending[0]):
                    if means is None:
                        break  # nobody here could do it
                    self.start(subject, means)
                left_s = until - time.monotonic()
                if left_s <= 0:
                    log.warning("an update of memories (%s) is not done after %g s", pending[0].update_id, wait_s)
                    break
                await self._wait_a_while(self._working.get(subject) or work, left_s)

    async def drain(self, wait_s: float) -> None:
        """Wait for all that is under way in this process."""
        waiting = [asyncio.wrap_future(work.done) for work in list(self._working.values())]
        if waiting:
            await asyncio.wait(waiting, timeout=wait_s)

    async def _wait_a_while(self, work: _Work | None, left_s: float) -> None:
        if work is not None:
            await asyncio.wait([asyncio.wrap_future(work.done)], timeout=left_s)
        else:
            await asyncio.sleep(min(LOOK_S, left_s))

    # --- at work -----------------------------------------------------------------------------------------------------

    async def _work(self, subject: str, means: Means, work: _Work) -> None:
        try:
            while True:
                while await self._do_next(subject, means, work):
                    pass
                with self._lock:
                    if not work.again:
                        del self._working[subject]
                        break
                    work.again = False
        except asyncio.CancelledError:
            # the loop ends, and nothing else cancels this: go on where the process's end is waited for
            if not _sync.background(lambda: self._work(subject, means, work)):
                self._give_up(subject, work)
            raise
        except BaseException as error:
            log.error("updates of memories can't be carried out: %s", error)
            self._give_up(subject, work)
        else:
            work.done.set_result(None)

    def _give_up(self, subject: str, work: _Work) -> None:
        with self._lock:
            self._working.pop(subject, None)
        work.done.set_result(None)

    async def _do_next(self, subject: str, means: Means, work: _Work) -> bool:
        """Carry out the subject's first update. False when there is none to be had, or it has failed."""
        first = next(iter(await self._db.list_updates(subject)), None)
        if first is None:
            return False
        gone = first.owner if first.owner is not None and not _is_being_done(first) else None
        me = f"{new_id()} {owner.this_process()}"
        update = await self._db.claim_update(subject, owner=me, lease_s=LEASE_S, gone=gone)
        if update is None:
            return False
        work.again = False  # what was queued until now comes next, unless this one fails
        owner.drives(me)
        try:
            return await self._try(update, me, means)
        finally:
            owner.has_left(me)

    async def _try(self, update: PendingUpdate, me: str, means: Means) -> bool:
        try:
            await self._carry_out(update, means)
        except AgentRTError as error:
            return await self._failed(update, me, means, error)
        except Exception as error:  # a manager's or a model's own
            log.debug("update %s", update.update_id, exc_info=error)
            return await self._failed(update, me, means, error)
        await self._db.settle_update(update.update_id, owner=me, done=True)
        await self._tell(update, means, RunStatus.COMPLETED, None, last=True)
        return True

    async def _failed(self, update: PendingUpdate, me: str, means: Means, error: Exception) -> bool:
        said = f"{type(error).__name__}: {error}"
        is_last = update.attempts >= ATTEMPTS
        what = "given up" if is_last else "to be tried again with the next one"
        log.warning("update %s of memories has failed and is %s: %s", update.update_id, what, said)
        await self._db.settle_update(update.update_id, owner=me, done=is_last)
        await self._tell(update, means, RunStatus.FAILED, said, last=is_last)
        return is_last

    async def _tell(
        self, update: PendingUpdate, means: Means, status: RunStatus, error: str | None, *, last: bool
    ) -> None:
        told = self._told.pop(update.update_id, None) if last else self._told.get(update.update_id)
        try:
            if told is not None:
                await told(run_id_of(update), status, error)
            else:
                await _tell_record(update, means.storage, status, error)
        except AgentRTError as failure:
            log.warning("what came of update %s could not be stored with its run: %s", update.update_id, failure)

    def forked(self) -> None:
        self._lock = threading.Lock()
        self._working.clear()


def run_id_of(update: PendingUpdate) -> str:
    """The id of the run that this attempt is."""
    return update.update_id if update.attempts <= 1 else f"{update.update_id}-{update.attempts}"


async def _tell_record(update: PendingUpdate, storage: Storage, status: RunStatus, error: str | None) -> None:
    """Put what came of an update into the record of its run, which another process has driven."""
    stored = await storage.load_run(update.run_id)
    if stored is None or stored.response is None:
        return
    entry = MemoryUpdate(kind=update.kind, run_id=run_id_of(update), status=status, error=error)
    entries = [entry if each.kind == update.kind else each for each in stored.response.get("memory_updates", ())]
    response = stored.response | {"memory_updates": entries}
    await storage.commit(RunChange(run_id=stored.run_id, session_id=stored.session_id, response=response))


def _has_failed(update: PendingUpdate) -> bool:
    return update.attempts > 0 and update.owner is None


def _is_being_done(update: PendingUpdate) -> bool:
    """Is somebody at work on it, as far as can be seen from here?"""
    if update.owner is None or not update.is_claimed:
        return False
    return owner.is_alive(update.owner.partition(" ")[2], update.owner) is not False


_all: WeakSet[Updates] = WeakSet()


def _after_fork_in_child() -> None:
    for updates in list(_all):
        updates.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
