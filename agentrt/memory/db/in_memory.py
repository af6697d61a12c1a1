"""`InMemoryMemoryDb`: memories for as long as the process lives."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from agentrt.memory.base import MemoryDb, PendingUpdate, SessionSummary, UserMemory, new_memory_id, subject_of


class InMemoryMemoryDb(MemoryDb):
    """Keeps memories in this object, for any number of threads and event loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, dict[str, UserMemory]] = {}
        """By id, the one changed last at the end."""
        self._summaries: dict[tuple[str, str | None], SessionSummary] = {}
        self._updates: dict[str, PendingUpdate] = {}
        self._leases: dict[str, float] = {}

    async def list_memories(self, user_id: str) -> list[UserMemory]:
        with self._lock:
            return [_own(memory) for memory in reversed(self._users.get(user_id, {}).values())]

    async def add_memory(self, user_id: str, memory: UserMemory) -> str:
        with self._lock:
            return self._put(user_id, memory, memory.memory_id)

    async def replace_memory(self, user_id: str, memory_id: str, memory: UserMemory) -> str | None:
        with self._lock:
            if memory_id not in self._users.get(user_id, {}):
                return None
            return self._put(user_id, memory, memory_id)

    def _put(self, user_id: str, memory: UserMemory, memory_id: str) -> str:
        memories = self._users.setdefault(user_id, {})
        memories.pop(memory_id, None)
        same = next((other for other in memories.values() if other.key == memory.key), None)
        if same is not None:
            memories.pop(same.memory_id, None)
            topics = memory.topics or same.topics
            memory, memory_id = replace(same, topics=topics, last_updated=memory.last_updated), same.memory_id
        memory_id = memory_id or new_memory_id()
        memories[memory_id] = replace(memory, memory_id=memory_id, topics=list(memory.topics))
        return memory_id

    async def delete_memories(self, user_id: str, memory_ids: Sequence[str] | None = None) -> int:
        with self._lock:
            memories = self._users.get(user_id, {})
            found = [id for id in (memories if memory_ids is None else dict.fromkeys(memory_ids)) if id in memories]
            for memory_id in found:
                del memories[memory_id]
            return len(found)

    async def load_summary(self, session_id: str, user_id: str | None) -> SessionSummary | None:
        with self._lock:
            summary = self._summaries.get((session_id, user_id))
            return replace(summary) if summary is not None else None

    async def save_summary(self, summary: SessionSummary, *, update_id: str | None = None) -> None:
        with self._lock:
            self._summaries[summary.session_id, summary.user_id] = replace(summary)
            self._updates.pop(update_id or "", None)

    async def delete_summary(self, session_id: str, user_id: str | None) -> None:
        subject = subject_of("summary", user_id, session_id)
        with self._lock:
            self._summaries.pop((session_id, user_id), None)
            self._updates = {id: update for id, update in self._updates.items() if update.subject != subject}

    async def forget(self, user_id: str) -> None:
        with self._lock:
            self._users.pop(user_id, None)
            self._summaries = {key: summary for key, summary in self._summaries.items() if key[1] != user_id}
            self._updates = {id: update for id, update in self._updates.items() if update.user_id != user_id}

    async def queue(self, update: PendingUpdate) -> None:
        with self._lock:
            self._updates.setdefault(update.update_id, replace(update))

    async def list_updates(self, subject: str) -> list[PendingUpdate]:
        with self._lock:
            now = time.monotonic()
            return [self._shown(update, now) for update in self._updates.values() if update.subject == subject]

    async def claim_update(
        self, subject: str, *, owner: str, lease_s: float, gone: str | None = None
    ) -> PendingUpdate | None:
        with self._lock:
            now = time.monotonic()
            update = next((update for update in self._updates.values() if update.subject == subject), None)
            if update is None:
                return None
            if update.owner not in (None, gone) and self._leases.get(update.update_id, 0) > now:
                return None
            update.owner, update.attempts = owner, update.attempts + 1
            self._leases[update.update_id] = now + lease_s
            return self._shown(update, now)

    async def settle_update(self, update_id: str, *, owner: str, done: bool) -> None:
        with self._lock:
            update = self._updates.get(update_id)
            if update is not None and update.owner == owner:
                self._leases.pop(update_id, None)
                update.owner = None
                if done:
                    del self._updates[update_id]

    def _shown(self, update: PendingUpdate, now: float) -> PendingUpdate:
        return replace(update, is_claimed=self._leases.get(update.update_id, 0) > now)

    async def clear(self) -> None:
        with self._lock:
            for everything in (self._users, self._summaries, self._updates, self._leases):
                everything.clear()

    async def aclose(self) -> None:
        return


def _own(memory: UserMemory) -> UserMemory:
    return replace(memory, topics=list(memory.topics))
