"""One step of a workflow: done once, and stored before its result is returned."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from agentrt._threads import call_on_loop, current_worker, run_in_thread
from agentrt.errors import CodecError, ConfigurationError, StepRejected, StepTimeout
from agentrt.run.code import Code, Scope, digest_of
from agentrt.run.decisions import open_kinds
from agentrt.run.events import WorkflowStepCompleted, WorkflowStepStarted
from agentrt.run.response import ToolExecution
from agentrt.run.run import Run, current_run
from agentrt.storage.merge import copy_state
from agentrt.tools.execute import RETRY_DELAY_S
from agentrt.tools.signature import is_async


def step(
    name: str,
    function: Callable[..., Any] | None = None,
    /,
    *args: Any,
    key: str | None = None,
    retries: int = 0,
    timeout_s: float | None = None,
    effect: Literal["once"] | None = None,
    requires_confirmation: bool = False,
    external_execution: bool = False,
    _of: Run | None = None,
    **kwargs: Any,
) -> Any:
    """Do a step of the workflow whose code this is: `await step("fetch", fetch, day)` is `fetch(day)`, done once.

    The result is stored before it is returned. When the run goes on after a crash, a pause or a failure, what has ended
    is not done again: its result is returned, or what it raised is raised. In a sync workflow it is not awaited.

    A step is known by its name, the digest of its arguments, and how often both came before; `key` stands in for the
    digest where arguments can't be stored, or differ each time. `function` is sync, which is called in a thread, or
    async; it may take `ctx`, whose `idempotency_key` is the same each time the step is tried.

    A step that was under way when its process ended is done again; with `effect="once"` somebody is asked first.
    `retries` counts the attempts after the first; `timeout_s` holds for each of them (`StepTimeout`).
    `requires_confirmation` has the run wait until somebody confirms the step (rejected: `StepRejected`), and
    `external_execution`, without a function, until somebody gives its result, as a text.
    """
    run = current_run.get() or _of  # a thread that the code has started itself knows only what it was told
    if run is None or run.code is None:
        raise ConfigurationError(f"Step {name!r} is not in the code of a workflow: only that has steps")
    if external_execution != (function is None) or not (function is None or callable(function)):
        given = f", not {function!r}: step({name!r}, function, *arguments)" if function is not None else ""
        raise TypeError(f"Step {name!r} takes a function to call, or external_execution=True{given}")
    if effect == "once" and retries:
        raise ConfigurationError(f"Step {name!r} acts once, so it can't be tried again: leave out effect or retries")
    one = _Step(
        run=run,
        code=run.code,
        name=name,
        function=function,
        args=args,
        kwargs=kwargs,
        retries=retries,
        timeout_s=timeout_s,
        once=effect == "once",
        confirm=requires_confirmation,
        external=external_execution,
    )
    one.begin(key)
    if (worker := current_worker()) is not None and worker.loop is run.loop:
        return call_on_loop(one.result)
    if run.loop is not None and not run.loop_is_here():
        return asyncio.run_coroutine_threadsafe(one.result_elsewhere(), run.loop).result()
    return one.result()


@dataclass(slots=True, kw_only=True)
class _Step:
    run: Run
    code: Code
    name: str
    function: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    retries: int
    timeout_s: float | None
    once: bool
    confirm: bool
    external: bool
    scope: Scope = field(init=False)
    key: str = field(init=False)

    def begin(self, key: str | None) -> None:
        """Find out which step it is: steps of a task group are told apart by the order in which they are written."""
        self.scope = self.code.scope()
        self.key = self.scope.key(self.name, key if key is not None else self._digest())

    def _digest(self) -> str:
        try:
            return digest_of({"args": self.args, "kwargs": self.kwargs})
        except CodecError as error:
            raise ConfigurationError(
                f"Step {self.name!r} can't be told from others by its arguments: {error}. Give it a key=…"
            ) from error

    async def result_elsewhere(self) -> Any:
        """The result, in a task that knows nothing of the run."""
        current_run.set(self.run)
        return await self.result()

    async def result(self) -> Any:
        code = self.code
        code.check()
        call = code.call(self.key, self.name)
        if call.elapsed_s is not None:
            return code.again(call)
        with self.scope.working():
            await code.wind_down(self.scope)
            await self._wait_for_somebody(call)
            self._tell_start()
            if self.once:
                await self.run.journal.write()  # from here on, it may have acted
            else:
                self.run.journal.write_soon()
            started = time.perf_counter()
            try:
                value = await self._value(call)
            except asyncio.CancelledError:
                if not code.pausing and not self.run.is_left:
                    code.cut.add(self.key)
                    self._tell_end(time.perf_counter() - started, error="cancelled")
                raise
            except Exception as error:
                await self._end(call, started, error=error)
                raise
            await self._end(call, started, value)
            return value

    # --- people --------------------------------------------------------------------------------------------------

    async def _wait_for_somebody(self, call: ToolExecution) -> None:
        """Have the run wait until all that this step needs from people is there."""
        call.requires_confirmation = self.confirm
        call.external_execution_required = self.external
        if self.once and self.key in self.code.unsure and call.confirmed is None and call.result is None:
            call.unknown_outcome = True
        if self.confirm or self.external or call.unknown_outcome:
            call.tool_args = self._shown()
        if open_kinds(call):
            await self.code.wait_for_somebody(self.scope)

    def _shown(self) -> dict[str, Any]:
        """The arguments, by name, for whoever decides; those that storage can't hold are not shown."""
        if self.function is None:
            return {**{str(at): value for at, value in enumerate(self.args)}, **self.kwargs}
        try:
            named = inspect.signature(self.function).bind_partial(*self.args, **self.kwargs).arguments
            digest_of(named)
        except (CodecError, TypeError, ValueError):
            return {}
        return dict(named)

    # --- doing it ------------------------------------------------------------------------------------------------

    async def _value(self, call: ToolExecution) -> Any:
        if call.confirmed is False:
            raise StepRejected(self.name, call.confirmation_note)
        if call.result is not None or self.function is None:
            return call.result  # as somebody gave it
        self.code.opened(call)
        try:
            return await self._attempts(call)
        finally:
            self.code.closed(call)

    async def _attempts(self, call: ToolExecution) -> Any:
        attempt = 1
        while True:
            try:
                with self.code.within(self.scope.below(self.key)):
                    return await self._attempt(call, attempt)
            except Exception:
                if attempt > self.retries:
                    raise
            self.code.forget_failures(f"{self.key}/")
            await asyncio.sleep(RETRY_DELAY_S * 2 ** (attempt - 1))
            attempt += 1

    async def _attempt(self, call: ToolExecution, attempt: int) -> Any:
        function = self.function
        assert function is not None
        kwargs = dict(self.kwargs)
        if _takes_context(function, self.args, kwargs):
            kwargs["ctx"] = context = self.run.tool_context(call)
            context.attempt = attempt
        work = partial(function, *self.args, **kwargs)
        clock = asyncio.timeout(self.timeout_s)
        try:
            async with clock:
                value = work() if is_async(function) else await run_in_thread(work)
                return await value if inspect.isawaitable(value) else value
        except TimeoutError as error:
            if clock.expired():
                raise StepTimeout(
                    self.name, f"Step {self.name!r} did not finish within {self.timeout_s:g} s"
                ) from error
            raise

    # --- telling it ----------------------------------------------------------------------------------------------

    def _tell_start(self) -> None:
        run, key = self.run, self.key
        if key not in run.intended or key in self.code.cut:  # else it is done again, and its start was told
            self.code.cut.discard(key)
            run.intended.add(key)
            run.journal.add_step("intent", lambda: {"calls": [key]})
            run.fact(WorkflowStepStarted(content=self.name, step=self.name, key=key))

    def _tell_end(self, elapsed_s: float, value: Any = None, error: str | None = None) -> None:
        self.run.fact(
            WorkflowStepCompleted(content=value, step=self.name, key=self.key, error=error, elapsed_s=elapsed_s)
        )

    async def _end(
        self, call: ToolExecution, started: float, value: Any = None, error: Exception | None = None
    ) -> None:
        elapsed_s = time.perf_counter() - started
        call.result = copy_state(value)  # what the code makes of it is not what the step came to
        self.code.ended(call, elapsed_s, error)
        self._tell_end(elapsed_s, call.result, call.error)
        try:
            await self.run.journal.write()
        except CodecError as refused:
            self.code.drop(call)
            raise CodecError(
                f"Step {self.name!r} left something that storage can't hold: {refused}", path=refused.path
            ) from refused


def _takes_context(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if "ctx" in kwargs:
        return False
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without one
        return False
    if "ctx" not in signature.parameters:
        return False
    return "ctx" not in signature.bind_partial(*args, **kwargs).arguments
