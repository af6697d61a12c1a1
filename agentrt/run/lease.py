"""Leases: a thread renews those of all runs that this process drives, so that a blocked event loop loses none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agentrt.errors import StorageError
from agentrt.run import owner
from agentrt.storage.base import LeaseNews, Storage

LEASE_S: Final = 30.0
log = logging.getLogger("agentrt")
CLOSE_S: Final = 5.0
RENEW_S: Final = 2.0
"""How often leases are renewed, and how soon an owner learns of a cancel from another process."""


@dataclass(slots=True, eq=False)
class Lease:
    """A run that this process drives; renewed where its storage outlives the process.

    `on_news` is called from the renewing thread.
    """

    storage: Storage
    run_id: str
    epoch: int
    on_news: Callable[[LeaseNews], None]


class _Keeper:
    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self, lease: Lease) -> None:
        owner.drives(lease.run_id)
        with self._lock:
            self._leases[lease.run_id] = lease
            if self._thread is None and lease.storage.durable:
                self._thread = threading.Thread(target=self._main, name="agentrt-leases", daemon=True)
                self._thread.start()

    def release(self, lease: Lease) -> None:
        with self._lock:
            if self._leases.get(lease.run_id) is lease:
                owner.has_left(lease.run_id)
                del self._leases[lease.run_id]

    def _main(self) -> None:
        with asyncio.Runner() as runner:
            while True:
                self._wake.wait(RENEW_S)
                with self._lock:
                    leases = [lease for lease in self._leases.values() if lease.storage.durable]
                    if not leases:  # the next run starts a new thread
                        self._thread = None
                if not leases:
                    runner.run(_finish())
                    return
                runner.run(self._renew(leases))

    async def _renew(self, leases: list[Lease]) -> None:
        by_storage: dict[int, list[Lease]] = {}
        for lease in leases:
            by_storage.setdefault(id(lease.storage), []).append(lease)
        for held in by_storage.values():
            known = {lease.run_id: lease for lease in held}
            try:
                news = await held[0].storage.renew([(lease.run_id, lease.epoch) for lease in held], lease_s=LEASE_S)
            except StorageError as error:
                # the runs go on: their own writes tell whether storage is back, and the epoch fences them
                log.warning("the leases of %d runs could not be renewed: %s", len(held), error)
                continue
            for item in news:
                with contextlib.suppress(RuntimeError):  # its loop has just been closed
                    known[item.run_id].on_news(item)


async def _finish() -> None:
    """Let storages that were dropped meanwhile close what they hold on this loop."""
    await asyncio.sleep(0)
    if closing := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(closing, timeout=CLOSE_S)


_keeper = _Keeper()


def hold(lease: Lease) -> Lease:
    """Keep a run's lease renewed until it is released."""
    _keeper.hold(lease)
    return lease


def release(lease: Lease) -> None:
    _keeper.release(lease)


def _forget() -> None:
    global _keeper
    _keeper = _Keeper()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
