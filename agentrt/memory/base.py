"""The memory ports: what a run asks of a memory, and where a memory keeps what it knows.

`agentrt.testing.memory_contracts` has the tests that every `MemoryDb` passes.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

from agentrt.models.base import Model
from agentrt.models.message import utc_now
from agentrt.run.response import RunStatus
from agentrt.storage.base import Storage

UpdateKind: TypeAlias = Literal["memories", "summary"]
Told: TypeAlias = "Callable[[str, RunStatus, str | None], Awaitable[None]]"
"""Is told what came of an update: the id of its run, its status, and its error if it failed."""


@dataclass(slots=True)
class UserMemory:
    """Something to remember of a user. `memory_id` is given by the database where it is empty."""

    memory: str
    _: KW_ONLY
    topics: list[str] = field(default_factory=list[str])
    memory_id: str = ""
    last_updated: datetime = field(default_factory=utc_now)

    @property
    def key(self) -> str:
        """What two memories of one user have in common that say the same: it is kept once."""
        plain = " ".join(self.memory.split()).rstrip(".!").casefold()
        return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class SessionSummary:
    """A session in short."""

    summary: str
    _: KW_ONLY
    session_id: str = ""
    user_id: str | None = None
    last_updated: datetime = field(default_factory=utc_now)


@dataclass(slots=True, kw_only=True)
class PendingUpdate:
    """What a finished run has left for a memory to take in. It stays in the database until that is done.

    `owner`, `attempts` and `is_claimed` are given by the database: whose it is, how often it was tried, and whether its
    owner's time has not run out.
    """

    update_id: str
    kind: UpdateKind
    user_id: str | None
    session_id: str
    run_id: str
    material: str
    created_at: datetime = field(default_factory=utc_now)
    owner: str | None = None
    attempts: int = 0
    is_claimed: bool = False

    @property
    def subject(self) -> str:
        """What it is about. Of one subject one update is carried out at a time, in order."""
        return subject_of(self.kind, self.user_id, self.session_id)


async def is_wanted(update: PendingUpdate, db: MemoryDb) -> bool:
    """Is it still this owner's to carry out? It is not once its user was forgotten, or its time ran out."""
    now = await db.list_updates(update.subject)
    return any((each.update_id, each.owner) == (update.update_id, update.owner) for each in now)


def new_memory_id() -> str:
    """An id that no other memory of the user has, and that a model can write down."""
    return uuid.uuid4().hex[:12]


def subject_of(kind: UpdateKind, user_id: str | None, session_id: str | None) -> str:
    return json.dumps([kind, user_id] if kind == "memories" else [kind, user_id, session_id])


class MemoryDb(Protocol):
    """Keeps memories, summaries and updates to come. Safe to share between agents, tasks, threads and event loops.

    Every method is one transaction, and names whose memories it is about: it sees and changes no others. Raises
    `StorageError` only.
    """

    async def list_memories(self, user_id: str) -> list[UserMemory]:
        """Return the user's memories, the one changed last first."""
        ...

    async def add_memory(self, user_id: str, memory: UserMemory) -> str:
        """Keep a memory and return its id. One that the user has already (`UserMemory.key`) is renewed, not doubled.

        One of the same `memory_id` is replaced.
        """
        ...

    async def replace_memory(self, user_id: str, memory_id: str, memory: UserMemory) -> str | None:
        """Put a memory in place of another; return its id, or None when the user has none of that id.

        Where another one says the same already, only that one is left, and its id is returned.
        """
        ...

    async def delete_memories(self, user_id: str, memory_ids: Sequence[str] | None = None) -> int:
        """Delete those of the user's memories (None: all), and return how many there were."""
        ...

    async def load_summary(self, session_id: str, user_id: str | None) -> SessionSummary | None:
        """Return the summary of this user's session (None: of nobody's)."""
        ...

    async def save_summary(self, summary: SessionSummary, *, update_id: str | None = None) -> None:
        """Keep the summary in place of the session's last one. The update that it comes of is done with it."""
        ...

    async def delete_summary(self, session_id: str, user_id: str | None) -> None:
        """Delete the summary of this user's session (None: of nobody's), and updates of it that are to come."""
        ...

    async def forget(self, user_id: str) -> None:
        """Delete everything of the user: memories, summaries and updates to come."""
        ...

    async def queue(self, update: PendingUpdate) -> None:
        """Keep an update until it is settled. One of the same id is kept once."""
        ...

    async def list_updates(self, subject: str) -> list[PendingUpdate]:
        """Return the updates to come, in order."""
        ...

    async def claim_update(
        self, subject: str, *, owner: str, lease_s: float, gone: str | None = None
    ) -> PendingUpdate | None:
        """Take the subject's first update for so long, and count the attempt.

        Returns None when there is none, or somebody else has it (anyone but `gone`) and their time has not run out.
        """
        ...

    async def settle_update(self, update_id: str, *, owner: str, done: bool) -> None:
        """Delete an update that this owner has carried out; leave it to others where it has failed."""
        ...

    async def clear(self) -> None:
        """Delete everything of everybody."""
        ...

    async def aclose(self) -> None:
        """Release what is held. Closing twice is fine; a later call opens again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """By what an update is carried out where the memory has no model of its own, and where its run is stored."""

    model: Model | str
    storage: Storage
    path: tuple[str, ...] = ()


class RunMemory(Protocol):
    """What a run asks of a memory. `agentrt.memory.memory.Memory` is one."""

    async def settled(self, subjects: Sequence[str], means: Means | None = None) -> None:
        """Wait until the updates to come of these subjects are carried out, as long as the memory says at most."""
        ...

    async def recall(self, user_id: str, about: str) -> list[UserMemory]:
        """Return what there is room for in a prompt, what matters most for this question first."""
        ...

    async def summary_of(self, session_id: str, user_id: str | None) -> SessionSummary | None:
        """Return the session's summary, cut to what there is room for in a prompt."""
        ...

    def tool(self, user_id: str, means: Means) -> Callable[..., Any]:
        """Return the tool by which an agent has this user's memories changed."""
        ...

    async def queue(self, update: PendingUpdate, told: Told) -> None:
        """Keep an update; `told` hears what comes of it in this process."""
        ...

    def start(self, subject: str, means: Means) -> None:
        """Begin to carry out the subject's updates, without waiting for them."""
        ...

    async def aclose(self) -> None:
        """Wait for the updates under way, as long as the memory says at most, and release what is held."""
        ...
