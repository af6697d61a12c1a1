"""`Memory`: what is remembered of users across sessions, and sessions in short."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from agentrt import _sync
from agentrt.errors import AgentRTError, ConfigurationError, MemoryNotFound, ToolError
from agentrt.memory._ranking import cut, fitting, matching, ranked
from agentrt.memory._runs import run_alone
from agentrt.memory._updates import Updates, run_id_of
from agentrt.memory.base import (
    Means,
    MemoryDb,
    PendingUpdate,
    RunMemory,
    SessionSummary,
    Told,
    UserMemory,
    is_wanted,
    subject_of,
)
from agentrt.memory.db.in_memory import InMemoryMemoryDb
from agentrt.memory.manager import Edits, Manager, MemoryManager
from agentrt.memory.summarizer import SessionSummarizer, Summarizer
from agentrt.models.base import Model
from agentrt.run.context import RunContext
from agentrt.run.events import BaseEvent, MemoryUpdateCompleted, MemoryUpdateStarted, RunError, SessionSummaryUpdated
from agentrt.run.response import RunResponse
from agentrt.run.run import current_run, new_id
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.tools.function import Function

__all__ = ["Memory", "MemoryManager", "SessionSummarizer", "SessionSummary", "UserMemory"]

T = TypeVar("T")

_WHEN = (
    "When the user tells something about themselves that will matter in later conversations, or wants something about "
    "them changed or forgotten, call update_user_memory before you answer."
)


class Memory(RunMemory):
    """Memories of users and summaries of sessions, for any number of agents. Nothing crosses users, in no call.

    `model` makes them, else the model of the agent. A memory without `db` lasts as long as this object. What
    `manager` notes and how `summarizer` writes can be instructed (`MemoryManager(additional_instructions=…)`), or
    replaced. Prompts get at most `max_tokens` of memories, and as much of a summary.

    What a run leaves to be remembered is taken in after it, by a run of its own. Reading waits for that, up to
    `wait_s` seconds, and so do the user's next run, `aclose()` and the end of the process.
    """

    def __init__(
        self,
        *,
        model: Model | str | None = None,
        db: MemoryDb | None = None,
        memory_manager: Manager | None = None,
        summarizer: Summarizer | None = None,
        max_tokens: int = 2000,
        wait_s: float = 10.0,
    ) -> None:
        self.db: MemoryDb = db if db is not None else InMemoryMemoryDb()
        if isinstance(db, type) or not hasattr(self.db, "list_memories"):  # a storage, say
            raise ConfigurationError(f"db is a database of memories, as SqliteMemoryDb(db_file=…), not {db!r}")
        self.model = model
        self.memory_manager: Manager = memory_manager or MemoryManager()
        self.summarizer: Summarizer = summarizer or SessionSummarizer()
        self.max_tokens = max_tokens
        self.wait_s = wait_s
        self._updates = Updates(self.db, self._carry_out)

    def __repr__(self) -> str:
        return f"Memory(db={self.db!r})"

    # --- async -------------------------------------------------------------------------------------------------------

    async def aget_user_memories(self, user_id: str | None = None) -> list[UserMemory]:
        """Return the user's memories, the one changed last first."""
        user = _whose(user_id)
        await self.settled([subject_of("memories", user, None)])
        return await self.db.list_memories(user)

    async def aget_user_memory(self, memory_id: str, user_id: str | None = None) -> UserMemory:
        """Return one of the user's memories. Raises `MemoryNotFound`."""
        for memory in await self.aget_user_memories(user_id):
            if memory.memory_id == memory_id:
                return memory
        raise _not_found(memory_id)

    async def aadd_user_memory(self, memory: UserMemory | str, user_id: str | None = None) -> str:
        """Remember something of the user, and return its id. What is known already is not kept twice."""
        return await self.db.add_memory(_whose(user_id), _checked(memory))

    async def areplace_user_memory(self, memory_id: str, memory: UserMemory | str, user_id: str | None = None) -> str:
        """Put a memory in place of another; return its id: another one where that says the same already.

        Raises `MemoryNotFound` when this user has none of that id.
        """
        kept = await self.db.replace_memory(_whose(user_id), memory_id, _checked(memory))
        if kept is None:
            raise _not_found(memory_id)
        return kept

    async def adelete_user_memory(self, memory_id: str, user_id: str | None = None) -> None:
        """Forget one of the user's memories. Raises `MemoryNotFound` when this user has none of that id."""
        if not await self.db.delete_memories(_whose(user_id), [memory_id]):
            raise _not_found(memory_id)

    async def asearch_user_memories(
        self, query: str | None = None, limit: int | None = None, user_id: str | None = None
    ) -> list[UserMemory]:
        """Return the user's memories that share words with `query`, best first; without one, the newest first."""
        memories = await self.aget_user_memories(user_id)
        return (matching(memories, query) if query else memories)[:limit]

    async def aget_session_summary(self, session_id: str, user_id: str | None = None) -> SessionSummary | None:
        """Return the summary of this user's session, None when there is none."""
        await self.settled([subject_of("summary", user_id, session_id)])
        return await self.db.load_summary(session_id, user_id)

    async def adelete_session_summary(self, session_id: str, user_id: str | None = None) -> None:
        """Delete the summary of this user's session, if there is one: deleting the session itself leaves it."""
        await self.db.delete_summary(session_id, user_id)

    async def aclear(self, user_id: str | None = None) -> None:
        """Forget a user: memories, summaries, and what runs have left to be noted, also where that is being done.

        Without `user_id`, everything of everybody is deleted.
        """
        if user_id is None:
            await self.db.clear()
        else:
            await self.db.forget(_whose(user_id))

    async def aclose(self) -> None:
        await self._updates.drain(self.wait_s)
        await self.db.aclose()

    # --- sync --------------------------------------------------------------------------------------------------------

    def get_user_memories(self, user_id: str | None = None) -> list[UserMemory]:
        return _wait(self.aget_user_memories, user_id)

    def get_user_memory(self, memory_id: str, user_id: str | None = None) -> UserMemory:
        return _wait(self.aget_user_memory, memory_id, user_id)

    def add_user_memory(self, memory: UserMemory | str, user_id: str | None = None) -> str:
        return _wait(self.aadd_user_memory, memory, user_id)

    def replace_user_memory(self, memory_id: str, memory: UserMemory | str, user_id: str | None = None) -> str:
        return _wait(self.areplace_user_memory, memory_id, memory, user_id)

    def delete_user_memory(self, memory_id: str, user_id: str | None = None) -> None:
        _wait(self.adelete_user_memory, memory_id, user_id)

    def search_user_memories(
        self, query: str | None = None, limit: int | None = None, user_id: str | None = None
    ) -> list[UserMemory]:
        return _wait(self.asearch_user_memories, query, limit, user_id)

    def get_session_summary(self, session_id: str, user_id: str | None = None) -> SessionSummary | None:
        return _wait(self.aget_session_summary, session_id, user_id)

    def delete_session_summary(self, session_id: str, user_id: str | None = None) -> None:
        _wait(self.adelete_session_summary, session_id, user_id)

    def clear(self, user_id: str | None = None) -> None:
        _wait(self.aclear, user_id)

    # --- for runs ----------------------------------------------------------------------------------------------------

    async def settled(self, subjects: Sequence[str], means: Means | None = None) -> None:
        if means is None and self.model is not None:
            means = Means(model=self.model, storage=InMemoryStorage())
        await self._updates.wait(subjects, means, self.wait_s)

    async def recall(self, user_id: str, about: str) -> list[UserMemory]:
        return fitting(ranked(await self.db.list_memories(user_id), about), self.max_tokens)

    async def summary_of(self, session_id: str, user_id: str | None) -> SessionSummary | None:
        summary = await self.db.load_summary(session_id, user_id)
        return replace(summary, summary=cut(summary.summary, self.max_tokens)) if summary is not None else None

    async def queue(self, update: PendingUpdate, told: Told) -> None:
        await self._updates.queue(update, told)

    def start(self, subject: str, means: Means) -> None:
        self._updates.start(subject, means)

    def tool(self, user_id: str, means: Means) -> Callable[..., Any]:
        async def update_user_memory(task: str, ctx: RunContext) -> str:
            """Have what is remembered about the user changed: add, correct or forget something, or everything.

            Args:
                task: What is to be remembered, changed or forgotten, with all that is needed to know it.
            """
            edits = Edits(self.db, user_id)
            ctx.emit(MemoryUpdateStarted(content=task))
            try:
                await self._manage(
                    edits,
                    user_id,
                    self.memory_manager.order(task),
                    means,
                    run_id=new_id(),
                    session_id=ctx.session_id,
                    parent=current_run.get(),
                )
            except BaseException as error:
                said = f"{type(error).__name__}: {error}".rstrip(": ")
                ctx.emit(MemoryUpdateCompleted(content=_report(edits), error=said))
                if isinstance(error, Exception):
                    raise ToolError(f"The memories could not be changed ({said}). {_report(edits)}") from error
                raise
            ctx.emit(MemoryUpdateCompleted(content=_report(edits)))
            return _report(edits)

        return Function(update_user_memory, effect="idempotent", instructions=_WHEN, add_instructions=True)

    # --- updates -----------------------------------------------------------------------------------------------------

    async def _carry_out(self, update: PendingUpdate, means: Means) -> None:
        if await means.storage.load_session(update.session_id) is None:  # deleted meanwhile, or kept elsewhere
            means = replace(means, storage=InMemoryStorage())
        where: dict[str, Any] = {
            "run_id": run_id_of(update),
            "session_id": update.session_id,
            "belongs_to": update.run_id,
            "path": means.path,
        }
        if update.kind == "summary":
            await self._summarize(update, means, where)
        elif update.user_id is not None:
            edits = Edits(self.db, update.user_id, update)
            material = self.memory_manager.material(update.material)

            def end(last: BaseEvent) -> BaseEvent:
                failed = isinstance(last, RunError)
                return MemoryUpdateCompleted(content=_report(edits), error=last.content if failed else None)

            where.update(opening=[MemoryUpdateStarted()], closing=end)
            await self._manage(edits, update.user_id, material, means, **where)

    async def _manage(self, edits: Edits, user_id: str, input: str, means: Means, **where: Any) -> None:
        memories = ranked(await self.db.list_memories(user_id), input)
        definition = self.memory_manager.definition(memories, edits, self.model or means.model)
        await run_alone(definition, input, storage=means.storage, user_id=user_id, **where)

    async def _summarize(self, update: PendingUpdate, means: Means, where: dict[str, Any]) -> None:
        last = await self.db.load_summary(update.session_id, update.user_id)
        definition = self.summarizer.definition(self.model or means.model)
        said = self.summarizer.material(last, update.material)

        async def keep(run_output: RunResponse[Any], ctx: RunContext) -> None:
            text = run_output.text().strip()
            if not text:
                raise AgentRTError("The summarizer's model has said nothing")
            if not await is_wanted(update, self.db):
                return
            summary = SessionSummary(text, session_id=update.session_id, user_id=update.user_id)
            await self.db.save_summary(summary, update_id=update.update_id)
            ctx.emit(SessionSummaryUpdated(content=text))

        definition = definition.copy(post_hooks=[*(definition.post_hooks or ()), keep])
        await run_alone(definition, said, storage=means.storage, user_id=update.user_id, **where)


def _report(edits: Edits) -> str:
    return "\n".join(edits.changes) or "Nothing was changed."


def _whose(user_id: str | None) -> str:
    if not user_id:
        raise ConfigurationError("Memories are a user's: give user_id")
    return user_id


def _checked(memory: UserMemory | str) -> UserMemory:
    memory = UserMemory(memory) if isinstance(memory, str) else memory
    if not memory.memory.strip():
        raise ConfigurationError("A memory can't be empty")
    return memory


def _not_found(memory_id: str) -> MemoryNotFound:
    return MemoryNotFound(f"This user has no memory {memory_id!r}")


def _wait(method: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    return _sync.call(method, *args, instead=getattr(method, "__name__", ""))
