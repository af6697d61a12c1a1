"""`Agent`: a definition, and the ways to call it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, TypeVar, cast, overload

from typing_extensions import TypeForm, Unpack

from agentrt import _sync
from agentrt._threads import run_in_thread
from agentrt.agent import _views
from agentrt.agent._input import to_messages
from agentrt.agent._newest import Newest
from agentrt.agent.map import RunMap
from agentrt.errors import ConfigurationError, DecisionRefused
from agentrt.models.base import Model, ToolChoice
from agentrt.models.message import Message
from agentrt.run.attach import attach, cancel_run
from agentrt.run.background import RunHandle
from agentrt.run.budget import Budget
from agentrt.run.context import RunContext
from agentrt.run.definition import Instructions, RunDefinition, Tools
from agentrt.run.delegate import child_run_id
from agentrt.run.events import RunEvent
from agentrt.run.history import flatten
from agentrt.run.journal import Journal
from agentrt.run.limits import RunLimits
from agentrt.run.response import CancelMode, Out, RunResponse, ToolExecution
from agentrt.run.resume import load_run
from agentrt.run.run import Run, current_run, new_id
from agentrt.run.stream import RunStream
from agentrt.sessions import Sessions
from agentrt.utils.log import library_logger

if TYPE_CHECKING:
    from agentrt.memory.base import RunMemory, SessionSummary, UserMemory
    from agentrt.memory.memory import Memory
    from agentrt.run.code import Code
    from agentrt.storage.base import Storage
    from agentrt.tools.function import Function

Given = TypeVar("Given")
_overrides: ContextVar[Mapping[int, Mapping[str, Any]] | None] = ContextVar("agentrt_overrides", default=None)


class _Options(TypedDict, total=False):
    session_id: str | None
    user_id: str | None
    session_state: dict[str, Any]
    model: Model | str
    tools: Tools | None
    tool_choice: ToolChoice
    instructions: Instructions
    limits: RunLimits
    budget: Budget | None
    dependencies: Any
    images: Iterable[Any]
    audio: Iterable[Any]
    videos: Iterable[Any]
    files: Iterable[Any]


class _TypedOptions(_Options, total=False):
    """Those of a run whose `response_model` says the type of its answer."""

    run_id: str


class ContinueOptions(_Options, total=False):
    """What may be given to one run. Those that a definition has too replace the definition's, for this run only."""

    response_model: type[Any] | TypeForm[Any] | Mapping[str, Any] | None


class RunOptions(ContinueOptions, total=False):
    """What may be given to a new run."""

    run_id: str


class PrintOptions(RunOptions, total=False):
    """How a run is printed, besides what may be given to it."""

    stream: bool
    stream_intermediate_steps: bool
    markdown: bool
    show_message: bool
    show_reasoning: bool
    show_full_reasoning: bool
    console: Any


_REPLACING = frozenset(
    {"model", "tools", "tool_choice", "instructions", "limits", "budget", "dependencies", "response_model"}
)
_PRINTING = frozenset(PrintOptions.__annotations__) - frozenset(RunOptions.__annotations__)
_MEDIA = frozenset({"images", "audio", "videos", "files"})


class Agent(Newest[Out], RunDefinition[Out]):
    """An agent: a model with instructions, tools and sessions. One object serves any number of runs at once."""

    # --- async ---------------------------------------------------------------------------------------------------

    @overload
    def arun(
        self,
        input: Any,
        *,
        response_model: type[Given] | TypeForm[Given],
        stream: Literal[False] = False,
        **options: Unpack[_TypedOptions],
    ) -> Coroutine[Any, Any, RunResponse[Given]]: ...
    @overload
    def arun(
        self,
        input: Any,
        *,
        response_model: type[Given] | TypeForm[Given],
        stream: Literal[True],
        stream_intermediate_steps: bool = False,
        **options: Unpack[_TypedOptions],
    ) -> RunStream[Given]: ...
    @overload
    def arun(
        self, input: Any, *, stream: Literal[False] = False, **options: Unpack[RunOptions]
    ) -> Coroutine[Any, Any, RunResponse[Out]]: ...
    @overload
    def arun(
        self,
        input: Any,
        *,
        stream: Literal[True],
        stream_intermediate_steps: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunStream[Out]: ...
    def arun(
        self,
        input: Any,
        *,
        stream: bool = False,
        stream_intermediate_steps: bool = False,
        **options: Unpack[RunOptions],
    ) -> Coroutine[Any, Any, RunResponse[Any]] | RunStream[Any]:
        """Run once. Plain: a coroutine that returns the response, or raises what the run raised.

        With `stream=True`: an async iterator of events (may be awaited first), which raises after `RunError`.
        `input` is a text, a message, a list of messages (`Message`, or mappings with a role), or any other value,
        which is sent as JSON.
        """
        _check(options)
        if stream:
            return self._stream(self._open(input, options), stream_intermediate_steps, raises=True)
        return self._arun(input, options)

    async def _arun(self, input: Any, options: RunOptions) -> RunResponse[Out]:
        # opened here and not in `arun`: the implicit session is that of the task which runs the coroutine
        return await self._stream(self._open(input, options), events=False).run_to_end()

    @overload
    def stream(
        self,
        input: Any,
        *,
        response_model: type[Given] | TypeForm[Given],
        stream_intermediate_steps: bool = False,
        **options: Unpack[_TypedOptions],
    ) -> RunStream[Given]: ...
    @overload
    def stream(
        self, input: Any, *, stream_intermediate_steps: bool = False, **options: Unpack[RunOptions]
    ) -> RunStream[Out]: ...
    def stream(
        self, input: Any, *, stream_intermediate_steps: bool = False, **options: Unpack[RunOptions]
    ) -> RunStream[Any]:
        """Return the run as a stream: `async with agent.stream(…) as run: async for event in run: …`.

        Iterating ends after the last event, also after `RunError`; `await run.result()` raises. Leaving cancels.
        """
        return self._stream(self._open(input, options), stream_intermediate_steps)

    @overload
    def acontinue_run(
        self,
        run_response: RunResponse[Any] | None = None,
        *,
        run_id: str | None = None,
        updated_tools: Iterable[ToolExecution] | None = None,
        stream: Literal[False] = False,
        **options: Unpack[ContinueOptions],
    ) -> Coroutine[Any, Any, RunResponse[Out]]: ...
    @overload
    def acontinue_run(
        self,
        run_response: RunResponse[Any] | None = None,
        *,
        run_id: str | None = None,
        updated_tools: Iterable[ToolExecution] | None = None,
        stream: Literal[True],
        stream_intermediate_steps: bool = False,
        **options: Unpack[ContinueOptions],
    ) -> RunStream[Out]: ...
    def acontinue_run(
        self,
        run_response: RunResponse[Any] | None = None,
        *,
        run_id: str | None = None,
        updated_tools: Iterable[ToolExecution] | None = None,
        stream: bool = False,
        stream_intermediate_steps: bool = False,
        **options: Unpack[ContinueOptions],
    ) -> Coroutine[Any, Any, RunResponse[Out]] | RunStream[Out]:
        """Go on with a paused run: the one given, else the newest that this context got back. As `arun` otherwise.

        Decisions are taken from `updated_tools`, else from the `tools` of the response, which for a `run_id` is the
        newest that this context got back if it is that run's. What is still open stays open, and the run stays paused.
        """
        run = self._reopen(run_response, run_id, updated_tools, options)
        if stream:
            return self._stream(run, stream_intermediate_steps, raises=True)
        return self._stream(run, events=False).run_to_end()

    async def aprint_response(self, input: Any, **options: Unpack[PrintOptions]) -> None:
        """Run, and show message, reasoning, tool calls and answer in the terminal; as they come with `stream=True`.

        At a terminal, what a pause waits for is asked, and the run goes on; elsewhere it is shown, and the run stays
        paused.
        """
        run, shown = self._open_print(input, options)
        response = await self._print(input, run, shown)
        while response.is_paused and (answered := await run_in_thread(_ask_user, response)):
            with suppress(DecisionRefused):  # which is shown, and asked for again
                response = await self._print(None, self._answered(answered, options), shown)

    @overload
    async def start(
        self, input: Any, *, response_model: type[Given] | TypeForm[Given], **options: Unpack[_TypedOptions]
    ) -> RunHandle[Given]: ...
    @overload
    async def start(self, input: Any, **options: Unpack[RunOptions]) -> RunHandle[Out]: ...
    async def start(self, input: Any, **options: Unpack[RunOptions]) -> RunHandle[Any]:
        """Begin a run in the background, and return once it is stored: `run_id`, `events()`, `result()`, `cancel()`."""
        return await RunHandle[Out].start(self._open(input, options))

    def map(
        self,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        max_concurrency: int = 10,
        **options: Unpack[ContinueOptions],
    ) -> RunMap[Out]:
        """Run over many inputs, each in a session of its own if none is given, with the same options: as `arun`.

        An async iterator of `(index, RunResponse | Exception)` as they finish, of which one that fails stops no other.
        `inputs` may be endless, or come as they are made: they are taken as there is room for them.
        """
        _check(options, ContinueOptions)
        session_id = options.get("session_id") or self.given("session_id")
        return RunMap(
            lambda input: self._open(input, {**options, "session_id": session_id or new_id()}), inputs, max_concurrency
        )

    async def attach(
        self, run_id: str, *, after: str | None = None, through_pauses: bool = False, user_id: str | None = None
    ) -> AsyncGenerator[RunEvent, None]:
        """Yield the events of a run that was begun with `start`: those after the cursor, then those to come.

        The run may be driven by another process. Leaving does not stop it. Raises `RunNotFound`, `SessionAccessDenied`.
        """
        storage = self._storage()
        stored = await load_run(storage, run_id, user_id)
        reading = attach(storage, stored, after=after, through_pauses=through_pauses, definition=self._self())
        async for event in reading:
            yield event

    async def cancel(self, run_id: str, reason: str = "cancelled", *, mode: CancelMode = "now") -> bool:
        """Cancel a run that is being driven, in whatever process, or paused. Returns False when it is neither."""
        return await cancel_run(self._storage(), run_id, reason, mode)

    @property
    def sessions(self) -> Sessions:
        """The sessions in this agent's storage, as this agent's `user_id` may see them."""
        return Sessions(self._storage(), user_id=self.given("user_id"))

    async def aclose(self) -> None:
        """Wait for updates of memories, and close what this agent's models, memory and storage hold open.

        All of them open again when they are used again.
        """
        memory = self.memory or _views.record_of(self._self()).memory
        if memory is not None:
            await memory.aclose()
        for model in (self.model, self.parser_model, self.reasoning_model):
            if isinstance(model, Model):
                await model.aclose()
        if self.storage is not None:
            await self.storage.aclose()

    # --- sync ----------------------------------------------------------------------------------------------------

    @overload
    def run(
        self,
        input: Any,
        *,
        response_model: type[Given] | TypeForm[Given],
        stream: Literal[False] = False,
        **options: Unpack[_TypedOptions],
    ) -> RunResponse[Given]: ...
    @overload
    def run(self, input: Any, *, stream: Literal[False] = False, **options: Unpack[RunOptions]) -> RunResponse[Out]: ...
    @overload
    def run(
        self,
        input: Any,
        *,
        stream: Literal[True],
        stream_intermediate_steps: bool = False,
        **options: Unpack[RunOptions],
    ) -> Iterator[RunEvent]: ...
    def run(
        self,
        input: Any,
        *,
        stream: bool = False,
        stream_intermediate_steps: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunResponse[Any] | Iterator[RunEvent]:
        """`arun`, from code that is not async. Ctrl-C and leaving the `for` cancel the run."""
        run = self._open(input, options)
        if stream:
            events = self._stream(run, stream_intermediate_steps, raises=True)
            return _sync.iterate(events.__aenter__, instead="arun")
        return _sync.call(self._stream(run, events=False).run_to_end, instead="arun")

    @overload
    def continue_run(
        self,
        run_response: RunResponse[Any] | None = None,
        *,
        run_id: str | None = None,
        updated_tools: Iterable[ToolExecution] | None = None,
        stream: Literal[False] = False,
        **options: Unpack[ContinueOptions],
    ) -> RunResponse[Out]: ...
    @overload
    def continue_run(
        self,
        run_response: RunResponse[Any] | None = None,
        *,
        run_id: str | None = None,
        updated_tools: Iterable[ToolExecution] | None = None,
        stream: Literal[True],
        stream_intermediate_steps: bool = False,
        **options: Unpack[ContinueOptions],
    ) -> Iterator[RunEvent]: ...
    def continue_run(
        self,
        run_response: RunResponse[Any] | None = None,
        *,
        run_id: str | None = None,
        updated_tools: Iterable[ToolExecution] | None = None,
        stream: bool = False,
        stream_intermediate_steps: bool = False,
        **options: Unpack[ContinueOptions],
    ) -> RunResponse[Out] | Iterator[RunEvent]:
        """`acontinue_run`, from code that is not async."""
        run = self._reopen(run_response, run_id, updated_tools, options)
        if stream:
            events = self._stream(run, stream_intermediate_steps, raises=True)
            return _sync.iterate(events.__aenter__, instead="acontinue_run")
        return _sync.call(self._stream(run, events=False).run_to_end, instead="acontinue_run")

    def print_response(self, input: Any, **options: Unpack[PrintOptions]) -> None:
        """`aprint_response`, from code that is not async."""
        run, shown = self._open_print(input, options)
        response = _sync.call(self._print, input, run, shown, instead="aprint_response")
        while response.is_paused and (answered := _ask_user(response)):
            run = self._answered(answered, options)
            with suppress(DecisionRefused):
                response = _sync.call(self._print, None, run, shown, instead="aprint_response")

    def cli_app(self, **options: Any) -> None:
        """Chat with this agent in the terminal."""
        from agentrt.cli.chat import chat_loop

        chat_loop(self, **options)

    # --- the newest run ------------------------------------------------------------------------------------------

    @property
    def team_session_state(self) -> dict[str, Any] | None:
        """In a run of a team or of its members: the live state that they share, the outermost team's. Else None."""
        bound: Run | None = self.__dict__.get("_run")
        team = bound.shared if bound is not None else None
        return team.state if team is not None else None

    def within(self) -> Self:
        """Return a view of this agent for one run of a workflow: its newest run is the newest one in that run."""
        view = self.copy()
        view.__dict__.update(_original=self._self(), _own_record=_views.Record())
        return view

    def is_definition_of(self, run: Run) -> bool:
        definition = run.definition
        return definition.__dict__.get("_original", definition) is self._self()

    def _live_state(self) -> dict[str, Any] | None:
        """That of the run it is bound to, or in whose tools it is read although they were not given it."""
        context: RunContext[Any] | None = self.__dict__.get("_context")
        run = current_run.get()
        if context is None and run is not None and self.is_definition_of(run):
            context = run.context
        return context.session_state if context is not None else None

    async def aget_messages_for_session(self, session_id: str | None = None) -> list[Message]:
        """Return the messages of a session's ended runs, oldest first; of the session this context is in by default."""
        return flatten(await self._storage().load_history(session_id or self._current_session()))

    def get_messages_for_session(self, session_id: str | None = None) -> list[Message]:
        """`aget_messages_for_session`, from code that is not async."""
        session_id = session_id or self._current_session()
        return _sync.call(self.aget_messages_for_session, session_id, instead="aget_messages_for_session")

    async def aget_user_memories(self, user_id: str | None = None) -> list[UserMemory]:
        """Return what the agent's memory knows of a user, the memory changed last first. `user_id` as in `arun`."""
        return await self._memory().aget_user_memories(user_id or self.user_id)

    def get_user_memories(self, user_id: str | None = None) -> list[UserMemory]:
        """`aget_user_memories`, from code that is not async."""
        return self._memory().get_user_memories(user_id or self.user_id)

    async def aget_session_summary(
        self, session_id: str | None = None, user_id: str | None = None
    ) -> SessionSummary | None:
        """Return the summary of a session, of the session this context is in by default; None if there is none."""
        return await self._memory().aget_session_summary(session_id or self._current_session(), user_id or self.user_id)

    def get_session_summary(self, session_id: str | None = None, user_id: str | None = None) -> SessionSummary | None:
        """`aget_session_summary`, from code that is not async."""
        return self._memory().get_session_summary(session_id or self._current_session(), user_id or self.user_id)

    # --- definitions ---------------------------------------------------------------------------------------------

    def as_tool(self, name: str | None = None, description: str | None = None, **options: Any) -> Function:
        """Return a tool by which another agent's model hands this one a task, and gets its answer.

        The run of a call is a child run with messages and a session of its own. What it waits for is decided on the
        run that made the call. `options` are those of `@tool`.
        """
        from agentrt.agent._as_tool import agent_tool

        return agent_tool(self, name, description, options)

    @contextmanager
    def override(self, **changes: Any) -> Generator[None, None, None]:
        """Change options for the runs started inside the `with`, here and in tasks made there: for tests."""
        self.copy(**changes)  # refuses unknown options
        outer = _overrides.get() or {}
        token = _overrides.set({**outer, id(self): {**outer.get(id(self), {}), **changes}})
        try:
            yield
        finally:
            _overrides.reset(token)

    # --- making a run --------------------------------------------------------------------------------------------

    def _open(self, input: Any, options: RunOptions) -> Run:
        """Make a run in the caller's own task or thread: that is where its implicit session belongs."""
        messages = to_messages(input, {name: options[name] for name in options.keys() & _MEDIA})
        definition, _ = self._for_run(options)
        parent = current_run.get()
        if parent is not None and parent.code is not None:
            return self._open_in(parent.code, definition, messages, options)
        record = self._record()
        user_id = options.get("user_id") or definition.given("user_id")
        session_id = options.get("session_id") or definition.given("session_id")
        if session_id is None:
            session_id = _views.implicit_session(record.here(), user_id)
        return self._make(
            definition,
            record,
            run_id=options.get("run_id") or new_id(),
            named="run_id" in options,
            session_id=session_id,
            user_id=user_id,
            input=messages,
            given_state=record.given_state(session_id, options.get("session_state")),
        )

    def _open_in(self, code: Code, definition: Agent[Any], messages: list[Message], options: RunOptions) -> Run:
        """Make a run that the code of a workflow begins, and goes on with when it is called anew.

        It is kept where the workflow's is unless the agent has a storage of its own, by default in a session below.
        """
        workflow, name = code.run, definition.name or definition.agent_id or "agent"
        user_id = options.get("user_id") or definition.given("user_id")
        call = code.call_for(name, messages, user_id)
        if definition.storage is None:
            definition = definition.copy(storage=workflow.storage)
            definition.__dict__["_original"] = self._self()
        session_id = options.get("session_id") or definition.given("session_id") or code.session_for(name, user_id)
        record = self._record()
        run = self._make(
            definition,
            record,
            run_id=options.get("run_id") or child_run_id(workflow, call, name),
            named=True,
            session_id=session_id,
            user_id=user_id or workflow.user_id,
            input=messages,
            given_state=record.given_state(session_id, options.get("session_state")),
        )
        code.adopt(run, call)
        return run

    def _open_print(self, input: Any, options: PrintOptions) -> tuple[Run, dict[str, Any]]:
        shown: dict[str, Any] = {name: options[name] for name in options.keys() & _PRINTING}
        return self._open(input, cast("RunOptions", {k: v for k, v in options.items() if k not in shown})), shown

    def _answered(self, response: RunResponse[Any], options: PrintOptions) -> Run:
        """Make the run that goes on with a paused one whose tools were decided, with what was given to that one."""
        given = cast("ContinueOptions", {name: options[name] for name in options.keys() & _REPLACING})
        return self._reopen(response, None, None, given)

    async def _print(self, input: Any, run: Run, shown: dict[str, Any]) -> RunResponse[Out]:
        from agentrt.utils.pprint import ashow_run

        return await ashow_run(
            self._stream(run, all_steps=True),
            message=input if shown.get("show_message", True) else None,
            stream=shown.get("stream", False),
            markdown=shown.get("markdown", self.markdown),
            show_tool_calls=self.show_tool_calls,
            show_reasoning=shown.get("show_reasoning", True),
            show_full_reasoning=shown.get("show_full_reasoning", False),
            show_members_responses=bool(self.given("show_members_responses")),
            console=shown.get("console"),
        )

    def reopened(self, run_id: str, *, user_id: str | None) -> Run:
        """Make the run that a stored one goes on as, for a runtime that acts on it."""
        return self._reopen(None, run_id, (), {"user_id": user_id})

    def open_for(self, parent: Run, input: Any, *, name: str, call: ToolExecution, **changes: Any) -> Run:
        """Make the run of this agent that a call of `parent`'s model consists of: see `Delegate`.

        It is kept where its parent is, in a session of its own below its parent's.
        """
        member = self.copy(storage=parent.storage, **changes)
        member.__dict__["_original"] = self._self()
        definition, original = member._for_run({})
        run = definition._make(
            definition,
            _views.record_of(original),
            parent=parent,
            run_id=child_run_id(parent, call, name),
            named=True,
            session_id=f"{parent.session_id}/{name}",
            user_id=parent.user_id,
            input=to_messages(input, {}),
        )
        run.team = run.team or parent.team
        run.path = (*parent.path, name)
        return run

    def _reopen(
        self,
        response: RunResponse[Any] | None,
        run_id: str | None,
        decided: Iterable[ToolExecution] | None,
        options: ContinueOptions,
    ) -> Run:
        """Make the run that goes on with a stored one; what it was is read when it is driven."""
        if response is None:
            response = self.run_response if run_id is None else self._record().returned(run_id)
        definition, _ = self._for_run(options)
        if decided is None:
            decided = response.tools_with_members if response is not None else ()
        run = self._make(
            definition,
            self._record(),
            run_id=run_id or (response.run_id if response else None) or "",
            session_id=options.get("session_id") or (response.session_id if response else None) or "",
            user_id=options.get("user_id") or (response.user_id if response else None),
        )
        run.decided = list(decided)
        run.continues = True
        return run

    def _for_run(self, options: ContinueOptions) -> tuple[Agent[Any], Agent[Any]]:
        """Return the definition as this run sees it, and the object it comes from."""
        _check(options)
        original = self._self()
        changes: dict[str, Any] = {}
        if overrides := _overrides.get():
            changes.update(overrides.get(id(original), {}))
        changes.update({name: options[name] for name in options.keys() & _REPLACING})
        if not changes:
            return self, original
        changed = self.copy(**changes)
        changed.__dict__["_original"] = original
        return changed, original

    def _make(self, definition: Agent[Any], record: _views.Record, **fields: Any) -> Run:
        parent: Run | None = fields.pop("parent", None) or current_run.get()
        limits = definition.limits or _LIMITS
        if definition.tool_call_limit is not None:
            limits = replace(limits, tool_calls=definition.tool_call_limit)
        name = definition.name or definition.agent_id or "agent"
        here = record.here()
        storage = _storage_of(definition, record)
        run = Run(
            definition=definition,
            storage=storage,
            journal=Journal(storage, fields["run_id"], steps=definition.journal == "step"),
            limits=limits,
            budgets=_budgets(definition.budget, parent),
            parent=parent,
            memory=_memory_of(definition, _views.record_of(self._self())),
            path=(*parent.path, name) if parent is not None else (name,),
            view=lambda context: definition._bound(run, context),
            on_start=record.started,
            on_end=lambda response: record.ended(here, response),
            **fields,
        )
        run.journal.session_id = run.session_id
        if definition.debug_mode:
            run.debug = library_logger("run", debug=True)
        return run

    def _stream(
        self, run: Run, all_steps: bool = False, *, raises: bool = False, events: bool = True
    ) -> RunStream[Out]:
        return RunStream(run, all_steps=all_steps, raises=raises, events=events)

    def _bound(self, run: Run, context: RunContext[Any]) -> Agent[Out]:
        """Return this agent as a tool of the run sees it: its state, response and ids are the run's."""
        view = self.copy()
        view.__dict__.update(_run=run, _context=context, _original=self._self())
        return view

    def _memory(self) -> Memory:
        given = cast("Memory | None", self.memory)
        return given if given is not None else _views.own_memory(self._record())

    def _storage(self) -> Storage:
        return self.storage or _views.own_storage(self._record())

    def _current_session(self) -> str:
        session_id = self.session_id
        if session_id is None:
            raise _views.no_run_yet("session")
        return session_id


_LIMITS = RunLimits()


def _storage_of(definition: Agent[Any], record: _views.Record) -> Storage:
    storage = definition.storage
    if storage is None:
        return _views.own_storage(record)
    if not hasattr(storage, "durable"):  # the path of a file, say
        raise ConfigurationError(f'storage is a Storage, as SqliteStorage(db_file="tmp/data.db"), not {storage!r}')
    return storage


def _memory_of(definition: Agent[Any], record: _views.Record) -> RunMemory | None:
    """What remembers for a run, if it wants that."""
    if not (definition.enable_agentic_memory or definition.enable_user_memories or definition.enable_session_summaries):
        return None
    if definition.memory is None:
        return _views.own_memory(record)
    if not hasattr(definition.memory, "recall"):  # its database, say
        raise ConfigurationError(f"memory is a Memory, as Memory(db=…), not {definition.memory!r}")
    return definition.memory


def _budgets(own: Budget | None, parent: Run | None) -> tuple[Budget, ...]:
    """What a run is held to: its own budget, and all that its parent is held to."""
    above = parent.budgets if parent is not None else ()
    return above if own is None or own in above else (own, *above)


def _ask_user(response: RunResponse[Any]) -> RunResponse[Any] | None:
    """The response with the decisions of whoever sits at a terminal; None when it is to stay paused."""
    from agentrt.utils._ask import at_terminal, decided

    ask = at_terminal()
    return decided(response, ask) if ask is not None else None


def _check(options: ContinueOptions, known: type[ContinueOptions] = RunOptions) -> None:
    if unknown := options.keys() - known.__annotations__.keys():
        names = ", ".join(sorted(known.__annotations__))
        raise TypeError(f"A run has no option {min(unknown)!r}; its options are {names}")


for _name, _property in Agent.properties().items():
    setattr(Agent, _name, _property)
