"""`Runtime`: definitions by id, so that a process can act on runs that it did not start."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeAlias

from typing_extensions import Unpack

from agentrt.agent import Agent
from agentrt.agent.agent import ContinueOptions, RunOptions
from agentrt.errors import AlreadyContinued, ConfigurationError, DecisionRefused, RunBusy, RunNotFound
from agentrt.run import owner
from agentrt.run.attach import attach, cancel_run
from agentrt.run.background import RunHandle
from agentrt.run.deciding import decide_one, expire, response_of
from agentrt.run.decisions import Decision, Requirement
from agentrt.run.events import RunEvent
from agentrt.run.lease import LEASE_S
from agentrt.run.response import CancelMode, RunResponse, RunStatus
from agentrt.run.run import log, new_id
from agentrt.sessions import Sessions
from agentrt.storage.base import RunChange, Storage, StoredRun
from agentrt.workflow import Workflow

MayDecide: TypeAlias = "Callable[[Requirement, Decision, str | None], bool | Awaitable[bool]]"
"""`(requirement, decision, by)`: may this person decide so? Sync or async."""
GRACE_S = 10.0
"""How long a runtime that is closed waits for its runs before it lets go of them."""


class Runtime:
    """Agents, teams and workflows by id over one storage: `async with Runtime(agents=[…], storage=…) as runtime:`.

    All of them are kept in the runtime's storage. Their runs never use implicit sessions. Leaving the `async
    with` waits up to `grace_s` for the runs that `start` began; those that still go on are let go of as they are, for
    `recover` in another process.
    """

    def __init__(
        self,
        *,
        agents: Iterable[Agent[Any]] = (),
        teams: Iterable[Agent[Any]] = (),
        workflows: Iterable[Workflow] = (),
        storage: Storage,
        may_decide: MayDecide | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.storage = storage
        self._may_decide = may_decide
        self.sessions = Sessions(storage, any_user=True)
        self._grace_s = grace_s
        self._agents: dict[str, Agent[Any] | Workflow] = {}
        self._handles: set[RunHandle[Any]] = set()
        for agent in (*agents, *teams, *workflows):
            agent_id = agent.agent_id or agent.name
            if agent_id is None:
                raise ConfigurationError(f"A runtime knows agents by id: give {agent!r} an agent_id or a name")
            if agent_id in self._agents:
                raise ConfigurationError(f"Two agents are called {agent_id!r}; give one another agent_id")
            self._agents[agent_id] = agent if agent.storage is storage else agent.copy(storage=storage)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for the runs that were started here, let go of those that don't end, and close the storage."""
        handles = [handle for handle in self._handles if not handle.done]
        if handles:
            await asyncio.wait([handle.driver for handle in handles], timeout=self._grace_s)
            await asyncio.gather(*(handle.let_go() for handle in handles if not handle.done))
        await self.storage.aclose()

    def agent(self, agent_id: str) -> Agent[Any]:
        """Return the agent or team of this id. Raises `ConfigurationError` naming those there are."""
        agent = self._definition(agent_id)
        if isinstance(agent, Workflow):
            raise ConfigurationError(f"{agent_id!r} is a workflow, not an agent: runtime.workflow({agent_id!r})")
        return agent

    def workflow(self, workflow_id: str) -> Workflow:
        """Return the workflow of this id. Raises `ConfigurationError` naming those there are."""
        workflow = self._definition(workflow_id)
        if not isinstance(workflow, Workflow):
            raise ConfigurationError(f"{workflow_id!r} is an agent, not a workflow: runtime.agent({workflow_id!r})")
        return workflow

    def _definition(self, agent_id: str) -> Agent[Any] | Workflow:
        definition = self._agents.get(agent_id)
        if definition is None:
            raise ConfigurationError(
                f"This runtime has no agent {agent_id!r}; it has {', '.join(self._agents) or 'none'}"
            )
        return definition

    async def start(self, agent_id: str, input: Any, **options: Unpack[RunOptions]) -> RunHandle[Any]:
        """Begin a run in the background and return once it is stored.

        The input of a workflow is a mapping of its code's arguments; anything else is the only one of them.
        """
        options.setdefault("session_id", new_id())
        definition = self._definition(agent_id)
        begin = definition.start_with if isinstance(definition, Workflow) else definition.start
        handle = await begin(input, **options)
        self._handles.add(handle)
        return handle

    async def attach(
        self, run_id: str, *, after: str | None = None, through_pauses: bool = False
    ) -> AsyncGenerator[RunEvent, None]:
        """Yield a run's events after a cursor, stored ones and then live ones, whoever drives it. See `RunHandle`."""
        stored = await self._load(run_id)
        known = self._agents.get(stored.agent_id or "")
        definition = known if isinstance(known, Agent) else None
        reading = attach(self.storage, stored, after=after, through_pauses=through_pauses, definition=definition)
        async for event in reading:
            yield event

    async def continue_run(self, run_id: str, **options: Unpack[ContinueOptions]) -> RunResponse[Any]:
        """Go on with a run that paused or failed, or whose owner is gone. Raises `RunBusy`, `AlreadyContinued`.

        With a team's when the run is a member's.
        """
        stored = await self._load_top(run_id)
        options.setdefault("user_id", stored.user_id)
        definition = self._definition(stored.agent_id or "")
        if isinstance(definition, Workflow):
            return await definition.acontinue_run(run_id=stored.run_id, user_id=options.get("user_id"))
        return await definition.acontinue_run(run_id=stored.run_id, **options)

    async def requirements(
        self, *, open: bool = True, user_id: str | None = None, session_id: str | None = None
    ) -> list[Requirement]:
        """Return what paused runs wait for, with `open=False` also what is decided already and waits to be continued.

        Of one user or session when given. What has expired by now is decided on the way.
        """
        found: list[Requirement] = []
        async for stored in self._stored(RunStatus.PAUSED):
            if user_id not in (None, stored.user_id) or session_id not in (None, stored.session_id):
                continue
            if "of_call" in stored.input:
                continue  # its parent's run says what it waits for
            whole = await expire(self.storage, await self._load(stored.run_id))
            waiting = response_of(whole).requirements
            found += waiting if open else response_of(whole, decided=False).requirements
        return found

    async def decide(self, run_id: str, tool_call_id: str, decision: Decision, *, by: str | None = None) -> Requirement:
        """Store a decision about a call that a paused run waits for, whoever and wherever its user is.

        The first decision about a requirement counts; this returns the requirement as it is decided. The run goes on
        with `continue_run`, or `recover`. Raises `DecisionRefused` (also when `may_decide` refuses), `RunNotFound`,
        `AlreadyContinued` when the run does not wait any more. What a member of a team waits for is decided on the
        team's run; it may be addressed by the run of either.
        """
        stored = await self._load_top(run_id)
        of_run = run_id if run_id != stored.run_id else None
        run = self._definition(stored.agent_id or "").reopened(stored.run_id, user_id=stored.user_id)
        waits = [r for r in response_of(stored).requirements if r.tool_call_id == tool_call_id]
        asked = next((r for r in waits if of_run in (None, r.run_id)), None)
        if self._may_decide is not None and asked is not None:
            allowed = self._may_decide(asked, decision, by)
            if not (await allowed if inspect.isawaitable(allowed) else allowed):
                raise DecisionRefused(f"{by or 'Nobody'} may not decide about call {tool_call_id!r} of run {run_id!r}")
        return await decide_one(run, stored, tool_call_id, decision, by, of_run=of_run)

    async def cancel(self, run_id: str, reason: str = "cancelled", *, mode: CancelMode = "now") -> bool:
        """Cancel a run that is being driven, in whatever process, or paused. Returns False when it is neither."""
        return await cancel_run(self.storage, run_id, reason, mode)

    async def recover(self) -> list[RunResponse[Any]]:
        """Continue all runs whose owner is gone, and return what came of each: done, failed, or paused to ask.

        Paused runs for which all is decided, or has expired, are continued, too. Runs of agents that this runtime does
        not know are left alone. Members' runs go on with their team's, other sub-agents' runs end with their parent's.
        """
        gone = [run async for run in self._stored(RunStatus.RUNNING) if _is_gone(run)]
        async for run in self._stored(RunStatus.PAUSED):
            whole = await expire(self.storage, await self._load(run.run_id))
            if not response_of(whole).requirements:
                gone.append(run)
        for run in gone:
            if run.parent_run_id is not None and not await self._goes_on_with_parent(run):
                await self._end_child(run)
        own = [run for run in gone if run.parent_run_id is None and run.agent_id in self._agents]
        recovered = await asyncio.gather(*map(self._recover, own))
        return [response for response in recovered if response is not None]

    async def _stored(self, status: RunStatus) -> AsyncGenerator[StoredRun, None]:
        after: str | None = None
        while page := await self.storage.list_unfinished(status=status, after=after):
            for stored in page:
                yield stored
            after = page[-1].run_id

    async def _recover(self, stored: StoredRun) -> RunResponse[Any] | None:
        try:
            return await self.continue_run(stored.run_id)
        except (RunBusy, AlreadyContinued):
            return None  # another process was faster
        except Exception as error:
            log.error("run %s failed when it was recovered: %s", stored.run_id, error)
            response = getattr(error, "run_response", None) or response_of(stored)
            response.error = response.error or f"{type(error).__name__}: {error}"
            return response

    async def _end_child(self, stored: StoredRun) -> None:
        epoch = await self.storage.claim(
            stored.run_id, epoch=stored.epoch, owner=owner.this_process(), expect=[stored.status], lease_s=LEASE_S
        )
        change = RunChange(run_id=stored.run_id, session_id=stored.session_id, epoch=epoch, status=RunStatus.CANCELLED)
        await self.storage.commit(change)

    async def _goes_on_with_parent(self, stored: StoredRun) -> bool:
        """Is it what a call of its parent's run consists of, which is still to come to an end?"""
        parent = await self.storage.load_run(stored.parent_run_id or "") if "of_call" in stored.input else None
        return parent is not None and not parent.status.is_terminal

    async def _load_top(self, run_id: str) -> StoredRun:
        """Return the run, or when it is a member's, that of the outermost team."""
        stored = await self._load(run_id)
        while stored.parent_run_id is not None and "of_call" in stored.input:
            stored = await self._load(stored.parent_run_id)
        return stored

    async def _load(self, run_id: str) -> StoredRun:
        stored = await self.storage.load_run(run_id)
        if stored is None:
            raise RunNotFound(f"There is no run {run_id!r} in this runtime's storage")
        return stored


def _is_gone(run: StoredRun) -> bool:
    alive = owner.is_alive(run.owner, run.run_id)
    return alive is False or (alive is None and run.lease_expired)
