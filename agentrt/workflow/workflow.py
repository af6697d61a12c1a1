"""`Workflow`: a definition whose runs are code of its author."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, cast

from agentrt import _sync
from agentrt._options import Definition
from agentrt.agent import Agent, _views
from agentrt.errors import ConfigurationError
from agentrt.models.message import Message
from agentrt.run.attach import attach, cancel_run
from agentrt.run.background import RunHandle
from agentrt.run.budget import Budget
from agentrt.run.code import Code, text_of
from agentrt.run.definition import EMPTY, RunDefinition
from agentrt.run.delegate import child_run_id
from agentrt.run.events import RunEvent
from agentrt.run.journal import Journal
from agentrt.run.limits import RunLimits
from agentrt.run.response import CancelMode, RunResponse, ToolExecution
from agentrt.run.resume import load_run
from agentrt.run.run import Run, current_run, new_id
from agentrt.run.stream import RunStream
from agentrt.sessions import Sessions
from agentrt.storage.base import Storage
from agentrt.storage.merge import copy_state
from agentrt.utils.log import library_logger
from agentrt.workflow._entry import Entry, drain
from agentrt.workflow._output import ItemStream, Output
from agentrt.workflow._step import step

LIMITS = RunLimits(model_calls=None, tool_calls=None, seconds=None)
"""What a workflow's author wrote ends as its author wrote it; its agents' runs have limits of their own."""
OPTIONS = frozenset({"run_id", "session_id", "user_id", "session_state", "limits", "budget", "dependencies"})
"""What may be given to one run, beside the arguments of its code."""
_STREAMING = frozenset({"stream", "stream_intermediate_steps"})


class Workflow(Definition):
    """A program of agents: a subclass writes `run`, sync, or `arun`, async; the other one is there as well.

    Called, they begin a run, with the arguments that the author's code takes, and any of `run_id`, `session_id`,
    `user_id`, `session_state`, `limits`, `budget`, `dependencies`. Code that yields gives an iterator of what it
    yields; other code a `RunResponse`. With `stream=True`, either gives the events of the run and of its agents' runs.

    In the code, `self` is a view of the workflow for that run: so are the agents that are its attributes, and what is
    assigned to it. `self.step(…)` and the runs of agents are stored as they end, under keys; when the run goes on after
    a crash, a pause or a failure, the code is called anew, from the state at the run's start, and none of them is done
    again. What else the code does to the world is done again.
    """

    name: str | None = None
    workflow_id: str | None = None
    """How a `Runtime` knows it; the name, or that of the class, when not given."""
    description: str | None = None
    """What it is for."""
    storage: Storage | None = None
    """Where sessions and runs are kept; in memory, for the life of this object, when not given."""
    session_id: str | None = None
    """The session of calls that name none; else one for this object in each task or thread."""
    user_id: str | None = None
    session_state: dict[str, Any] = EMPTY
    """What a session's state starts from; each session gets a copy."""
    session_concurrency: Literal["merge", "wait", "refuse"] = "merge"
    """What becomes of runs on one session at a time, as with an agent."""
    limits: RunLimits | None = None
    """How far a run may go, its agents' runs included; not limited when not given, but in depth."""
    budget: Budget | None = None
    dependencies: Mapping[str, Any] | Any = None
    """What steps find in `ctx.dependencies`."""
    debug_mode: bool = False
    """Log each step of a run at DEBUG."""

    _initial: ClassVar[dict[str, Any]] = {}
    """What a subclass has in its body of options that mean something else when they are read."""

    if TYPE_CHECKING:

        def run(self, *args: Any, **kwargs: Any) -> Any:
            """Begin a run, from code that is not async. In a subclass: the code."""

        def arun(self, *args: Any, **kwargs: Any) -> Any:
            """Begin a run. In a subclass: the code."""

    else:

        def run(self, *args, **kwargs):
            """The code, from code that is not async."""
            return self._begin("run", self._entry("run"), args, kwargs)

        def arun(self, *args, **kwargs):
            """The code, to await or to iterate over."""
            return self._begin("arun", self._entry("arun"), args, kwargs)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in ("run", "arun"):
            code = cls.__dict__.get(name)
            if callable(code) and not isinstance(code, Entry):
                entry = Entry(code)
                entry.__set_name__(cls, name)
                setattr(cls, name, entry)
        for name in _READ.keys() & cls.__dict__.keys():  # as an option: read, it is the run's
            cls._initial = {**cls._initial, name: cls.__dict__[name]}
            delattr(cls, name)

    def __init__(self, **options: Any) -> None:
        if not options.keys() <= self._option_names:
            self._refuse(options)
        self.__dict__.update(options)  # what a subclass has set before stays

    def copy(self, **changes: Any) -> Self:
        """Return a new workflow with these options changed, and all other attributes as they are."""
        if not changes.keys() <= self._option_names:
            self._refuse(changes)
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__ | changes)
        return twin

    def given(self, name: str) -> Any:
        return self.__dict__.get(name, self._initial.get(name))

    def __getattribute__(self, name: str) -> Any:
        value: Any = super().__getattribute__(name)
        if isinstance(value, (Agent, Workflow)) and name != "_original":
            definition: Agent[Any] | Workflow = value  # pyright: ignore[reportUnknownVariableType]
            views: dict[int, Any] | None = super().__getattribute__("__dict__").get("_agents")
            if views is not None:
                return views.get(id(definition)) or views.setdefault(id(definition), definition.within())
        return value  # pyright: ignore[reportUnknownVariableType]

    # --- in a run ------------------------------------------------------------------------------------------------

    step = staticmethod(step)

    # --- the newest run ------------------------------------------------------------------------------------------

    @property
    def run_response(self) -> RunResponse[Any]:
        """In a run: its response so far. Elsewhere the newest run that this task or thread got back, else the newest.

        Raises `AmbiguousRun` where runs of other tasks overlap, `AgentRTError` when there was no run.
        """
        response = self._newest("run_response")
        if response is None:
            raise _views.no_run_yet("run_response")
        return response

    @property
    def run_id(self) -> str | None:
        """The run's id, or the newest run's. See `run_response`."""
        return self.run_response.run_id

    @property
    def agent_id(self) -> str:
        """How a `Runtime` knows it."""
        return self.workflow_id or self.name or type(self).__name__

    # --- calling it ----------------------------------------------------------------------------------------------

    def _begin(self, name: str, entry: Entry, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Begin a run as `run` or `arun` does."""
        streaming = {option: kwargs.pop(option) for option in _STREAMING & kwargs.keys() if not entry.takes(option)}
        run, output = self._open(entry, args, kwargs)
        stream: RunStream[Any]
        if streaming.get("stream"):
            stream = RunStream(run, all_steps=streaming.get("stream_intermediate_steps", False), raises=True)
        elif entry.yields and streaming.get("stream") is None:
            stream = ItemStream(run, output)
        else:
            stream = RunStream(run, events=False)
            return stream.run_to_end() if name == "arun" else _sync.call(stream.run_to_end, instead="arun")
        return stream if name == "arun" else _sync.iterate(stream.__aenter__, instead="arun")

    def stream(self, *args: Any, stream_intermediate_steps: bool = False, **kwargs: Any) -> RunStream[Any]:
        """Return the run's events: `async with workflow.stream(…) as run: async for event in run: …`.

        Iterating ends after the last event, also after `RunError`; `await run.result()` raises. Leaving cancels.
        """
        return RunStream(self._open(self._entry("arun"), args, kwargs)[0], all_steps=stream_intermediate_steps)

    async def start(self, *args: Any, **kwargs: Any) -> RunHandle[Any]:
        """Begin a run in the background, and return once it is stored: `run_id`, `events()`, `result()`, `cancel()`."""
        return await RunHandle[Any].start(self._open(self._entry("arun"), args, kwargs)[0])

    async def start_with(self, input: Any, **options: Any) -> RunHandle[Any]:
        """`start`, with the code's arguments in a mapping by name; anything else is its only argument."""
        if isinstance(input, Mapping):
            return await self.start(**cast("Mapping[str, Any]", input), **options)
        return await self.start(*(() if input is None else (input,)), **options)

    def acontinue_run(
        self,
        run_response: RunResponse[Any] | None = None,
        *,
        run_id: str | None = None,
        updated_tools: Iterable[ToolExecution] | None = None,
        user_id: str | None = None,
        stream: bool = False,
        stream_intermediate_steps: bool = False,
    ) -> Any:
        """Go on with a run that is paused, failed or cut: the one given, else the newest that this context got back.

        Returns a coroutine of the response; with `stream=True` an async iterator of events. Decisions are taken from
        `updated_tools`, else from the response. The code is called with what it was called with first.
        """
        run = self._reopen(run_response, run_id, updated_tools, user_id)
        if stream:
            return RunStream[Any](run, all_steps=stream_intermediate_steps, raises=True)
        return RunStream[Any](run, events=False).run_to_end()

    def continue_run(
        self,
        run_response: RunResponse[Any] | None = None,
        *,
        run_id: str | None = None,
        updated_tools: Iterable[ToolExecution] | None = None,
        user_id: str | None = None,
        stream: bool = False,
        stream_intermediate_steps: bool = False,
    ) -> Any:
        """`acontinue_run`, from code that is not async: the response, or an iterator of events."""
        run = self._reopen(run_response, run_id, updated_tools, user_id)
        if stream:
            events = RunStream[Any](run, all_steps=stream_intermediate_steps, raises=True)
            return _sync.iterate(events.__aenter__, instead="acontinue_run")
        return _sync.call(RunStream[Any](run, events=False).run_to_end, instead="acontinue_run")

    async def aprint_response(
        self, *args: Any, markdown: bool = False, show_time: bool = True, console: Any = None, **kwargs: Any
    ) -> None:
        """Run, and show in the terminal what the code yields, as it comes, or what it returns."""
        from agentrt.utils.pprint import apprint_run_response

        given = self._arguments(kwargs)
        await apprint_run_response(self.arun(*args, **given), markdown, show_time, console=console)

    def print_response(
        self, *args: Any, markdown: bool = False, show_time: bool = True, console: Any = None, **kwargs: Any
    ) -> None:
        """`aprint_response`, from code that is not async."""
        from agentrt.utils.pprint import pprint_run_response

        pprint_run_response(self.run(*args, **self._arguments(kwargs)), markdown, show_time, console=console)

    def _arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """What is given to a run that is printed: what comes of it is printed as it comes, streamed or not."""
        entry = self._entry("arun")
        return {name: value for name, value in kwargs.items() if name not in _STREAMING or entry.takes(name)}

    # --- its runs ------------------------------------------------------------------------------------------------

    async def attach(
        self, run_id: str, *, after: str | None = None, through_pauses: bool = False, user_id: str | None = None
    ) -> AsyncGenerator[RunEvent, None]:
        """Yield the events of a run that was begun with `start`: those after the cursor, then those to come."""
        storage = self._storage()
        stored = await load_run(storage, run_id, user_id)
        async for event in attach(storage, stored, after=after, through_pauses=through_pauses):
            yield event

    async def cancel(self, run_id: str, reason: str = "cancelled", *, mode: CancelMode = "now") -> bool:
        """Cancel a run that is being driven, in whatever process, or paused. Returns False when it is neither."""
        return await cancel_run(self._storage(), run_id, reason, mode)

    @property
    def sessions(self) -> Sessions:
        """The sessions in this workflow's storage, as this workflow's `user_id` may see them."""
        return Sessions(self._storage(), user_id=self.given("user_id"))

    async def aclose(self) -> None:
        """Close the connections that this workflow's storage holds. They open again when it is used again."""
        if self.storage is not None:
            await self.storage.aclose()

    # --- making a run --------------------------------------------------------------------------------------------

    def _entry(self, name: str) -> Entry:
        """The author's code: that of the most derived class; of `run` and `arun` in one class that of this name."""
        for cls in type(self).__mro__:
            written = {n: e for n in ("run", "arun") if isinstance(e := cls.__dict__.get(n), Entry)}
            if written:
                return written.get(name) or next(iter(written.values()))
        raise ConfigurationError(f"{type(self).__name__} has no code: write its `run` or `arun`, or use @workflow")

    def _open(self, entry: Entry, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Run, Output]:
        """Make a run in the caller's own task or thread: that is where its implicit session belongs."""
        options = {name: kwargs[name] for name in OPTIONS & kwargs.keys()}
        given = {name: value for name, value in kwargs.items() if name not in options or entry.takes(name)}
        inputs = entry.inputs(args, given)
        message = Message(role="user", content=text_of(inputs))
        parent, record = current_run.get(), self._record()
        user_id = options.get("user_id") or self.given("user_id")
        session_id = options.get("session_id") or self.given("session_id")
        code = parent.code if parent is not None else None
        if code is None:
            session_id = session_id or _views.implicit_session(record.here(), user_id)
            return self._make(
                entry,
                options,
                inputs,
                run_id=options.get("run_id") or new_id(),
                session_id=session_id,
                user_id=user_id,
                input=[message],
                given_state=record.given_state(session_id, options.get("session_state")),
            )
        session_id = session_id or f"{code.run.session_id}/{self.agent_id}"
        call = code.call_for(self.agent_id, [message])
        run, output = self._make(
            entry,
            options,
            inputs,
            run_id=options.get("run_id") or child_run_id(code.run, call, self.agent_id),
            session_id=session_id,
            user_id=user_id or code.run.user_id,
            input=[message],
            given_state=record.given_state(session_id, options.get("session_state")),
            storage=self.storage or code.run.storage,
        )
        run.named = True
        code.adopt(run, call)
        return run, output

    def reopened(self, run_id: str, *, user_id: str | None) -> Run:
        """Make the run that a stored one goes on as, for a runtime that acts on it."""
        return self._reopen(None, run_id, (), user_id)

    def _reopen(
        self,
        response: RunResponse[Any] | None,
        run_id: str | None,
        decided: Iterable[ToolExecution] | None,
        user_id: str | None,
    ) -> Run:
        if response is None:
            response = self.run_response if run_id is None else self._record().returned(run_id)
        if decided is None:
            decided = response.tools_with_members if response is not None else ()
        run, _ = self._make(
            self._entry("arun"),
            {},
            {},
            run_id=run_id or (response.run_id if response else None) or "",
            session_id=(response.session_id if response else None) or "",
            user_id=user_id or (response.user_id if response else None) or self.given("user_id"),
        )
        run.decided = list(decided)
        run.continues = True
        return run

    def _make(
        self,
        entry: Entry,
        options: dict[str, Any],
        inputs: dict[str, Any],
        *,
        storage: Storage | None = None,
        **fields: Any,
    ) -> tuple[Run, Output]:
        parent, record, name = current_run.get(), self._record(), self.name or self.agent_id
        here, storage = record.here(), storage or self._storage()
        budget = options.get("budget", self.budget)
        above = parent.budgets if parent is not None else ()
        definition = RunDefinition[Any](
            name=name,
            agent_id=self.agent_id,
            session_state=self.given("session_state") or EMPTY,
            session_concurrency=self.session_concurrency,
            dependencies=options.get("dependencies", self.dependencies),
        )
        run = Run(
            definition=definition,
            storage=storage,
            journal=Journal(storage, fields["run_id"]),
            limits=options.get("limits") or self.limits or LIMITS,
            budgets=above if budget is None or budget in above else (budget, *above),
            parent=parent,
            path=(*parent.path, name) if parent is not None else (name,),
            named="run_id" in options,
            on_start=record.started,
            on_end=lambda response: record.ended(here, response),
            **fields,
        )
        run.journal.session_id = run.session_id
        if self.debug_mode:
            run.debug = library_logger("run", debug=True)
        output = Output(run)

        async def main() -> Any:
            output.before = code.yields
            call = entry.call(view, code.inputs, {"ctx": run.context, "session_state": run.state})
            return output.content(await drain(call, output.take))

        code = run.code = Code(run, main, inputs)
        view = self._bound(run)
        code.openers = view._openers()
        return run, output

    def _bound(self, run: Run) -> Self:
        """Return this workflow as the code of the run sees it."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.__dict__.update(_run=run, _agents={}, _original=self._self())
        return view

    def within(self) -> Self:
        """Return a view of this workflow for one run of another: its newest run is the newest one in that run."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.__dict__.update(_original=self._self(), _own_record=_views.Record())
        return view

    def _openers(self) -> dict[str, Callable[[ToolExecution], Run]]:
        """What makes the runs that this view's agents began, by their names."""
        run: Run = self.__dict__["_run"]
        found: dict[str, Callable[[ToolExecution], Run]] = {}
        for name, agent in self._own_agents():
            found[name] = lambda call, agent=agent, name=name: agent.open_for(run, "", name=name, call=call)
        return found

    def _own_agents(self) -> Iterator[tuple[str, Agent[Any]]]:
        names = dict.fromkeys([*self.__dict__, *(name for cls in type(self).__mro__ for name in vars(cls))])
        for name in names:
            value = None if name.startswith("__") else vars(self).get(name, getattr(type(self), name, None))
            if isinstance(value, Agent):
                agent: Agent[Any] = value  # pyright: ignore[reportUnknownVariableType]
                yield agent.name or agent.agent_id or "agent", agent

    def _self(self) -> Workflow:
        """The object that the user made, of which this may be a view for one run."""
        return self.__dict__.get("_original", self)

    def _record(self) -> _views.Record:
        return self.__dict__.get("_own_record") or _views.record_of(self._self())

    def _newest(self, name: str) -> RunResponse[Any] | None:
        run: Run | None = self.__dict__.get("_run")
        if run is not None:
            return run.touch()
        newest = self._record().read(name)
        return newest.response if newest is not None else None

    def _storage(self) -> Storage:
        return self.storage or _views.own_storage(self._record())


def _session_state(workflow: Workflow) -> dict[str, Any]:
    """In a run: its live state. Elsewhere the newest run's, see `run_response`; before the first, the initial one."""
    run: Run | None = workflow.__dict__.get("_run")
    if run is not None:
        return run.state
    newest = workflow._record().read("session_state")  # pyright: ignore[reportPrivateUsage]  a property of Workflow
    if newest is not None and newest.response.session_state is not None:
        return newest.state()
    if workflow.__dict__.get("session_state") is None:  # the class's is not changed by what is done to an instance's
        workflow.__dict__["session_state"] = copy_state(workflow.given("session_state") or {})
    return workflow.__dict__["session_state"]


def _set_session_state(workflow: Workflow, value: dict[str, Any]) -> None:
    run: Run | None = workflow.__dict__.get("_run")
    if run is None:
        workflow.__dict__["session_state"] = value
        workflow._record().set_state(value)  # pyright: ignore[reportPrivateUsage]  a property of Workflow
    elif value is not run.state:
        run.state.clear()
        run.state.update(value)


def _of_newest(name: str) -> property:
    def read(workflow: Workflow) -> str | None:
        response = workflow._newest(name)  # pyright: ignore[reportPrivateUsage]  a property of Workflow
        return getattr(response, name) if response is not None else workflow.given(name)

    return property(read, lambda workflow, value: workflow.__dict__.__setitem__(name, value))


# As options these are what a run starts from; read they are the run's, or what the newest run made of them.
_READ: Final = {
    "session_state": property(_session_state, _set_session_state),
    "session_id": _of_newest("session_id"),
    "user_id": _of_newest("user_id"),
}
for _name, _property in _READ.items():
    setattr(Workflow, _name, _property)
