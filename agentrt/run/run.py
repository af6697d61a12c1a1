"""`Run`: all that one run knows while it is being driven. It is made anew for each run and seen by the engine alone."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agentrt.errors import LimitReached
from agentrt.models.base import Model, ModelAnswer
from agentrt.models.message import Message, Usage
from agentrt.run.budget import Budget
from agentrt.run.context import RunContext
from agentrt.run.debug import line_of
from agentrt.run.definition import RunDefinition
from agentrt.run.events import (
    BaseEvent,
    DeltaEvent,
    ReasoningStep,
    RunCancelled,
    RunCompleted,
    RunPaused,
    StateConflict,
    WorkflowCompleted,
)
from agentrt.run.journal import Journal
from agentrt.run.lease import Lease
from agentrt.run.limits import RunLimits, Spent, settled
from agentrt.run.response import RunResponse, RunStatus, StopReason, ToolExecution
from agentrt.storage.base import Committed, Conflict, LeaseNews, StateChange, Storage
from agentrt.storage.merge import copy_state
from agentrt.tools.function import Function

if TYPE_CHECKING:
    from agentrt.memory.base import RunMemory
    from agentrt.run.code import Code
    from agentrt.run.output import Output

log = logging.getLogger("agentrt")
current_run: ContextVar[Run | None] = ContextVar("agentrt_current_run", default=None)
"""The run that the running code works for: runs started there are its children."""


live: dict[str, Run] = {}
"""The runs that this process drives."""


def new_id() -> str:
    return uuid.uuid4().hex


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """One execution."""

    definition: RunDefinition[Any]
    storage: Storage
    journal: Journal
    limits: RunLimits
    budgets: tuple[Budget, ...] = ()
    """Its own, if it has one, and those of the run whose child it is."""
    run_id: str
    session_id: str
    user_id: str | None
    parent: Run | None = None
    of_call: str | None = None
    """The call of its parent that this run is what comes of; that one waits for it, and goes on with it."""
    drive: Callable[[], Coroutine[Any, Any, RunResponse[Any]]] | None = None
    """How it is driven as a part of a workflow's run."""
    code: Code | None = None
    """What it does in place of asking a model: it is a workflow's."""
    team: Run | None = None
    """The run of the team that it works for; a team's own run is itself."""
    own_tools: Sequence[Any] = ()
    """Tools that it has besides its definition's: those that a team has its members by."""
    own_sections: list[Callable[[Run], Iterable[tuple[str, str]]]] = field(default_factory=list[Any])
    """What its system message has besides: functions of sections, each with its name."""
    memory: RunMemory | None = None
    """What remembers its user, or puts its session in short, if it wants either."""
    belongs_to: str | None = None
    """The run below which it stands although that one is over."""
    opening: list[BaseEvent] = field(default_factory=list[BaseEvent])
    """What is told right after its start."""
    closing: Callable[[BaseEvent], BaseEvent] | None = None
    """Makes what is told right before its last event."""
    path: tuple[str, ...] = ()
    input: list[Message] = field(default_factory=list[Message])
    given_state: dict[str, Any] | None = None
    view: Callable[[RunContext[Any]], Any] | None = None
    """Makes the `agent` that a tool is given: the definition bound to this run."""
    on_start: Callable[[], None] | None = None
    on_end: Callable[[RunResponse[Any] | None], None] | None = None
    """Told once, before the final event; without a response when the run never came to be stored."""
    stream: bool = False
    continues: bool = False
    """Does it go on with a stored run?"""
    decided: list[ToolExecution] = field(default_factory=list[ToolExecution])
    named: bool = False
    """Did the caller choose its id? Then the same call again is the same run."""
    epoch: int = 1
    lease: Lease | None = None
    stored: bool = False
    """Does storage know this run?"""

    # filled by prepare()
    model: Model = None  # pyright: ignore[reportAssignmentType]  set before the loop is entered
    tools: dict[str, Function] = field(default_factory=dict[str, Function])
    context: RunContext[Any] = None  # pyright: ignore[reportAssignmentType]  set before the loop is entered
    system: Message | None = None
    history: list[Message] = field(default_factory=list[Message])
    base_state: dict[str, Any] = field(default_factory=dict[str, Any])
    ready: bool = False
    """Has its input passed the hooks, and is its prompt rendered? That is done once."""
    output: Output | None = None
    """How a typed answer is asked for."""
    parser: tuple[Model, Output] | None = None
    """The model that puts a text into the answer's type, and how it is asked for that."""
    reasoner: Model | None = None
    """The model that makes a plan before the answer."""
    reasoned: bool = False
    answer: ModelAnswer | None = None
    """Its model's last answer, when the run was cut before it was taken."""

    # what happens in the loop
    messages: list[Message] = field(default_factory=list[Message])
    executions: list[ToolExecution] = field(default_factory=list[ToolExecution])
    response: RunResponse[Any] = field(init=False)
    model_calls: int = 0
    asides: int = 0
    """Model calls that are none of the conversation: of a planner, of a parser."""
    corrections: int = 0
    """How often its model was told what is wrong with its answer."""
    tool_calls: int = 0
    below: Spent = field(default_factory=Spent)
    members: dict[str, RunResponse[Any]] = field(default_factory=dict[str, RunResponse[Any]])
    """What has come of the runs that its calls consist of, by their id."""
    children: dict[str, Run] = field(default_factory=dict[str, "Run"])
    """Those of them whose calls have no result yet."""
    team_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one call that may change the state that a team and its members share."""
    deadline: float | None = None
    """When its own time is up, by its loop's clock."""
    offset: int = 0
    intended: set[str] = field(default_factory=set[str])
    """Calls of this turn that were started, by this driver of the run or an earlier one."""
    brought: set[str] = field(default_factory=set[str])
    """Calls of this turn whose results came from outside."""
    stop_reason: StopReason | None = None
    limit_reached: LimitReached | None = None
    """The limit for which it must stop: raised if its model does not."""
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the run is stored, or known to be."""
    let_go: bool = False
    """Is its driver to leave it as it is, for another process?"""
    turn: asyncio.Lock | None = None
    """Held while it has its session alone, within this process."""
    in_tools: bool = False
    winding_down: bool = False
    """Is it to stop before its next model call?"""
    lost: bool = False
    """Was the run taken over by somebody else?"""
    cancel_reason: str | None = None
    cancel_flag: threading.Event = field(default_factory=threading.Event)
    state_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    started: float = field(default_factory=time.perf_counter)
    loop: asyncio.AbstractEventLoop | None = None
    thread_id: int = 0
    driver: asyncio.Task[Any] | None = None
    debug: logging.Logger | None = None
    """Where each step is told, with `debug_mode`."""

    def __post_init__(self) -> None:
        definition = self.definition
        self.response = RunResponse(
            run_id=self.run_id,
            session_id=self.session_id,
            user_id=self.user_id,
            agent_id=definition.agent_id or definition.name,
            agent_name=definition.name,
            parent_run_id=self.parent.run_id if self.parent is not None else self.belongs_to,
            status=RunStatus.RUNNING,
        )

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    @property
    def state(self) -> dict[str, Any]:
        """The live session state."""
        return self.context.session_state

    @property
    def usage(self) -> Usage:
        return self.response.usage

    @property
    def shared(self) -> Run | None:
        """The run of the outermost team that it works for: its state is what they all share."""
        team = self.team
        while team is not None and team.parent is not None and team.parent.team is not None:
            team = team.parent.team
        return team

    @property
    def is_left(self) -> bool:
        """Is it to stay as it is stored, for whoever goes on with it, or with the run that it is a part of?"""
        above = self.parent
        while above is not None:
            if above.let_go or above.lost:
                return True
            above = above.parent
        return self.let_go

    @property
    def is_cut(self) -> bool:
        """Was it cancelled by the code of the workflow that it is a part of, which may yet go on with it?"""
        above = self.parent
        if self.drive is None or self.cancel_reason is not None or above is None:
            return False
        return not above.cancel_flag.is_set() or above.is_cut

    def hear(self, news: LeaseNews) -> None:
        """Take what the renewing thread has learned: somebody else has the run, or somebody wants it to stop."""
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._heard, news)

    def _heard(self, news: LeaseNews) -> None:
        if news.lost:
            self.lost = True
            self.stop(None)
        elif news.cancel is not None:
            mode, _, reason = news.cancel.partition(":")
            self.stop(reason, mode)

    def stop(self, reason: str | None, mode: str = "now") -> None:
        """Cancel the run, or have it wind down.

        The driver is cancelled once: again would cut short what that sets going (closing, the last write).
        """
        self.cancel_reason = reason or self.cancel_reason
        if mode == "after_turn" or (mode == "after_tools" and self.in_tools):
            self.winding_down = True
        elif not self.cancel_flag.is_set():
            self.cancel_flag.set()
            if self.driver is not None:
                self.driver.cancel()

    def keep_for_readers(self) -> None:
        """Have its events kept, deltas and all, for whoever attaches."""
        self.stream = True
        self.journal.keep_for_readers()

    def leave_readers(self) -> None:
        """From here on, who wants to read the run is to look at what is stored."""
        if live.get(self.run_id) is self:
            del live[self.run_id]

    def loop_is_here(self) -> bool:
        """Is this code running on the loop that drives the run?"""
        return self.loop is not None and threading.get_ident() == self.thread_id

    # --- events --------------------------------------------------------------------------------------------------

    def fact(self, event: BaseEvent) -> None:
        """Say whose an event is, and hand it to the journal, whose next write stores and announces it."""
        self._sign(event)
        if isinstance(event, ReasoningStep):
            self.response.reasoning_steps.append(event.step)
            self.journal.add_step("thought", lambda: {"thought": event.step})
        self.journal.add(event)
        if self.debug is not None:
            self.debug.debug("%s", line_of(event))

    def custom(self, event: BaseEvent) -> None:
        """Put a tool's own event into the stream, from whatever thread it comes."""
        if self.loop is not None and not self.loop_is_here():
            self.loop.call_soon_threadsafe(self.custom, event)
            return
        self.fact(event)
        self.journal.write_soon()

    def delta(self, event: DeltaEvent) -> None:
        """Place a piece of text after the last fact, and put it into the stream."""
        event.offset = self.offset
        self.offset += len(event.content)
        self._sign(event)
        self.journal.delta(event)

    def _sign(self, event: BaseEvent) -> None:
        event.run_id = self.run_id
        event.path = self.path
        event.agent_id = self.response.agent_id
        event.session_id = self.session_id
        event.parent_run_id = self.parent.run_id if self.parent is not None else self.belongs_to

    def end_as(self, response: RunResponse[Any], seq: int) -> RunResponse[Any]:
        """Take a stored response for this run's, and tell of it as its last event would."""
        self.response = response
        completed = RunCompleted if self.code is None else WorkflowCompleted
        kinds = {RunStatus.COMPLETED: completed, RunStatus.PAUSED: RunPaused}
        last = kinds.get(response.status, RunCancelled)(content=response.content, response=response, seq=seq)
        last.repeated = True
        self._sign(last)
        if self.on_end is not None:
            self.on_end(response)
            self.on_end = None
        for read in self.journal.readers:
            read(last)
        return response

    # --- storage -------------------------------------------------------------------------------------------------

    async def save(self, status: RunStatus, last: BaseEvent, *, with_state: bool = True) -> None:
        """Store all that the run has come to, with its session's state, and then announce its last event."""
        response = self.touch()
        goes_on = status in (RunStatus.PAUSED, RunStatus.FAILED)
        response.status = status
        response.elapsed_s = time.perf_counter() - self.started
        if self.closing is not None and status.is_terminal:
            closing, self.closing = self.closing, None
            self.fact(closing(last))
        self._sign(last)
        if self.debug is not None:
            self.debug.debug("%s", line_of(last))
        await self.journal.commit(
            last,
            self._conflict,
            before=self._settle,
            status=status,
            messages=self.messages,
            response=self.record(),
            # code that is called anew begins with the state at the run's start
            state=self._change() if with_state and not (self.code is not None and goes_on) else None,
        )

    def _change(self) -> StateChange | None:
        """What the run made of the state; None when it left it as it was, so that there is nothing to merge."""
        try:
            if self.state == self.base_state:
                return None
        except Exception:  # values of users' types, such as arrays, may refuse to be compared
            log.debug("run %s: its state can't be compared, and counts as changed", self.run_id)
        return StateChange(base=self.base_state, mine=self.state)

    def _settle(self, committed: Committed) -> None:
        """Take over the state as it was merged; whoever asks for the newest run finds this one from here on."""
        if committed.state is not None:
            self.state.clear()
            self.state.update(committed.state)
            self.base_state = copy_state(committed.state)
        self.response.session_state = self.state
        self.leave_readers()
        if self.on_end is not None:
            self.on_end(self.response)
            self.on_end = None

    def _conflict(self, conflict: Conflict) -> BaseEvent:
        event = StateConflict(content=conflict.path, mine=conflict.mine, theirs=conflict.theirs)
        self._sign(event)
        return event

    def record(self) -> dict[str, Any]:
        """The response as it is stored: without the messages and the state, which have their own places."""
        response = self.response
        record = {
            name: value
            for name in _RECORDED
            if (value := getattr(response, name)) is not None and (name == "content" or value != [])
        }
        if response.member_responses:
            record["member_responses"] = [_without_messages(member) for member in response.member_responses]
        if response.status in (RunStatus.PAUSED, RunStatus.FAILED):
            # what the run goes on from; the messages stand for all steps up to this one
            record["resume"] = {
                "ready": self.ready,
                "system": self.system,
                "model_calls": self.model_calls,
                "asides": self.asides,
                "corrections": self.corrections,
                "tool_calls": self.tool_calls,
                "below": settled(self),
                "steps": self.journal.last_step,
                "intended": sorted(self.intended),
                "epoch": self.epoch,
                **(self.code.record() if self.code is not None else {}),
            }
        return record

    # --- the answer ----------------------------------------------------------------------------------------------

    def touch(self) -> RunResponse[Any]:
        """Bring the response up to what the run has come to."""
        response = self.response
        response.messages = self.messages
        response.tools = self.executions
        asked = [run_id for execution in self.executions for run_id in execution.child_run_ids or ()]
        response.member_responses = [self.members[run_id] for run_id in asked if run_id in self.members]
        response.stop_reason = self.stop_reason
        response.total_usage = total = Usage()
        total.add(response.usage)
        total.add(self.below.usage)
        return response

    def tool_context(self, execution: ToolExecution) -> RunContext[Any]:
        """A context for one call, sharing the run's state, usage and flags."""
        base = self.context
        context = RunContext[Any](
            run_id=base.run_id,
            session_id=base.session_id,
            user_id=base.user_id,
            parent_run_id=base.parent_run_id,
            path=base.path,
            session_state=base.session_state,
            dependencies=base.dependencies,
            usage=base.usage,
            tool_call_id=execution.tool_call_id,
            tool_name=execution.tool_name,
            cancel_flag=base.cancel_flag,
            emit_event=base.emit_event,
            state_lock=base.state_lock,
        )
        self.show(context)
        return context

    def show(self, context: RunContext[Any]) -> None:
        """Give a context of this run the agent and the team as code of this run sees them."""
        if self.view is not None:
            context.agent = self.view(context)
        if self.team is self:
            context.team = context.agent
        elif self.team is not None and self.team.view is not None:
            context.team = self.team.view(self.team.context)


_RECORDED = tuple(name for name in RunResponse.__dataclass_fields__ if name not in ("messages", "session_state"))


def _without_messages(response: RunResponse[Any]) -> RunResponse[Any]:
    below = [_without_messages(member) for member in response.member_responses]
    return replace(response, messages=[], session_state=None, member_responses=below)
