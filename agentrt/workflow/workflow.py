"""`Workflow`: a definition whose runs are code of its author."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from agentrt import _sync
from agentrt.agent import Agent, _views
from agentrt.models.message import Message
from agentrt.run.attach import attach, cancel_run
from agentrt.run.background import RunHandle
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
from agentrt.utils.log import library_logger
from agentrt.workflow._definition import WorkflowDefinition
from agentrt.workflow._entry import Entry, drain
from agentrt.workflow._output import ItemStream, Output
from agentrt.workflow._step import step

LIMITS = RunLimits(model_calls=None, tool_calls=None, seconds=None)
"""What a workflow's author wrote ends as its author wrote it; its agents' runs have limits of their own."""
OPTIONS = frozenset({"run_id", "session_id", "user_id", "session_state", "limits", "budget", "dependencies"})
"""What may be given to one run, beside the arguments of its code."""
_STREAMING = frozenset({"stream", "stream_intermediate_steps"})


class Workflow(WorkflowDefinition):
    """A program of agents: a subclass writes `run`, sync, or `arun`, async; the other one is there as well.

    Called, they begin a run, with the arguments that the author's code takes, and any of `run_id`, `session_id`,
    `user_id`, `session_state`, `limits`, `budget`, `dependencies`. Code that yields gives an iterator of what it
    yields; other code a `RunResponse`. With `stream=True`, either gives the events of the run and of its agents' runs.

    In the code, `self` is a view of the workflow for that run: so are the agents that are its attributes, and what is
    assigned to it. `self.step(…)` and the runs of agents are stored as they end, under keys; when the run goes on after
    a crash, a pause or a failure, the code is called anew, from the state at the run's start, and none of them is done
    again. What else the code does to the world is done again.
    """

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

    step = staticmethod(step)

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

        given = self.arun(*args, **self._arguments(kwargs))
        shown = given if hasattr(given, "__aiter__") else _without_steps(await given)
        await apprint_run_response(shown, markdown, show_time, console=console)

    def print_response(
        self, *args: Any, markdown: bool = False, show_time: bool = True, console: Any = None, **kwargs: Any
    ) -> None:
        """`aprint_response`, from code that is not async."""
        from agentrt.utils.pprint import pprint_run_response

        given = self.run(*args, **self._arguments(kwargs))
        shown = given if hasattr(given, "__iter__") else _without_steps(given)
        pprint_run_response(shown, markdown, show_time, console=console)

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

    def _open(self, entry: Entry, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Run, Output]:
        """Make a run in the caller's own task or thread: that is where its implicit session belongs."""
        options = {name: kwargs[name] for name in OPTIONS & kwargs.keys()}
        given = {name: value for name, value in kwargs.items() if name not in options or entry.takes(name)}
        inputs = entry.inputs(args, given)
        message = Message(role="user", content=text_of(inputs))
        user_id = options.get("user_id") or self.given("user_id")
        session_id = options.get("session_id") or self.given("session_id")
        record, parent = self._record(), current_run.get()
        if parent is not None and parent.code is not None:
            code, call = parent.code, parent.code.call_for(self.agent_id, [message], user_id)
            session_id = session_id or code.session_for(self.agent_id, user_id)
        else:
            code = call = None
            session_id = session_id or _views.implicit_session(record.here(), user_id)
        run, output = self._make(
            entry,
            options,
            inputs,
            parent=parent,
            call=call,
            session_id=session_id,
            user_id=user_id,
            input=[message],
            given_state=record.given_state(session_id, options.get("session_state")),
        )
        if code is not None and call is not None:
            code.adopt(run, call)
        return run, output

    def open_for(self, parent: Run, *, call: ToolExecution) -> Run:
        """Make the run of this workflow that a call of `parent`'s code consists of."""
        return self._make(self._entry("arun"), {}, {}, parent=parent, call=call, session_id="", user_id=None)[0]

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
            {"run_id": run_id or (response.run_id if response else None) or ""},
            {},
            parent=current_run.get(),
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
        parent: Run | None,
        call: ToolExecution | None = None,
        user_id: str | None,
        **fields: Any,
    ) -> tuple[Run, Output]:
        """Make a run of its own, or, with a `call`, one that this call of its parent's code consists of."""
        record, name = self._record(), self.name or self.agent_id
        here, run_id = record.here(), options.get("run_id")
        if parent is not None and call is not None:
            run_id, user_id = run_id or child_run_id(parent, call, self.agent_id), user_id or parent.user_id
            storage = self.storage or parent.storage
        else:
            run_id, storage = run_id or new_id(), self._storage()
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
            journal=Journal(storage, run_id),
            limits=options.get("limits") or self.limits or LIMITS,
            budgets=above if budget is None or budget in above else (budget, *above),
            parent=parent,
            run_id=run_id,
            user_id=user_id,
            path=(*parent.path, name) if parent is not None else (name,),
            named="run_id" in options or call is not None,
            on_start=record.started,
            on_end=lambda response: record.ended(here, response),
            **fields,
        )
        run.journal.session_id = run.session_id
        if self.debug_mode:
            run.debug = library_logger("run", debug=True)
        return run, self._put_code_in(run, entry, inputs)

    def _put_code_in(self, run: Run, entry: Entry, inputs: dict[str, Any]) -> Output:
        view, output = self._bound(run), Output(run)

        async def main() -> Any:
            output.before = code.yields
            call = entry.call(view, code.inputs, {"ctx": run.context, "session_state": run.state})
            return output.content(await drain(call, output.take))

        code = run.code = Code(run, main, inputs)
        code.openers = lambda: self._openers(run)
        return output

    def _openers(self, run: Run) -> dict[str, Callable[[ToolExecution], Run]]:
        """What makes the runs that the code of a run may have begun, by their names."""
        found: dict[str, Callable[[ToolExecution], Run]] = {}
        for name, definition in self._definitions():
            if isinstance(definition, Workflow):
                found[name] = lambda call, inner=definition: inner.open_for(run, call=call)
            elif isinstance(definition, Agent):
                found[name] = lambda call, agent=definition, name=name: agent.open_for(run, "", name=name, call=call)
        return found


def _without_steps(response: RunResponse[Any]) -> RunResponse[Any]:
    """The response for printing: the steps that were taken are no calls of a model's."""
    return replace(response, tools=[tool for tool in response.tools if not tool.is_done])
