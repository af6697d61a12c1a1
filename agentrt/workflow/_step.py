"""One step of a workflow: done once, and stored before its result is returned."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from agentrt._threads import call_on_loop, current_worker, run_in_thread
from agentrt.errors import CodecError, ConfigurationError, StepRejected, StepTimeout
from agentrt.run.code import Code, digest_of
from agentrt.run.decisions import open_kinds
from agentrt.run.events import WorkflowStepCompleted, WorkflowStepStarted
from agentrt.run.response import ToolExecution
from agentrt.run.run import Run, current_run
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
    run = current_run.get()
    if run is None or run.code is None:
        raise ConfigurationError(f"Step {name!r} is not in the code of a workflow: only that has steps")
    if (function is None) != external_execution:
        raise TypeError(f"Step {name!r} takes a function to call, or external_execution=True")
    if effect == "once" and retries:
        raise ConfigurationError(f"Step {name!r} acts once, so it can't be tried again: leave out effect or retries")
    one = _Step(
        run=run,
        code=run.code,
        name=name,
        function=function,
        args=args,
        kwargs=kwargs,
        key=key,
        retries=retries,
        timeout_s=timeout_s,
        once=effect == "once",
        confirm=requires_confirmation,
        external=external_execution,
    )
    if (worker := current_worker()) is not None and worker.loop is run.loop:
        return call_on_loop(one.result)
    return one.result()


class _Step:
    def __init__(
        self,
        *,
        run: Run,
        code: Code,
        name: str,
        function: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: str | None,
        retries: int,
        timeout_s: float | None,
        once: bool,
        confirm: bool,
        external: bool,
    ) -> None:
        self._run = run
        self._code = code
        self._name = name
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._retries = retries
        self._timeout_s = timeout_s
        self._once = once
        self._confirm = confirm
        self._external = external
        self._scope = code.scope()
        # here, and not when it is awaited: steps of a task group are told apart by the order in which they are written
        self._key = self._scope.key(name, key if key is not None else self._digest())

    def _digest(self) -> str:
        try:
            return digest_of({"args": self._args, "kwargs": self._kwargs})
        except CodecError as error:
            raise ConfigurationError(
                f"Step {self._name!r} can't be told from others by its arguments: {error}. Give it a key=…"
            ) from error

    async def result(self) -> Any:
        code = self._code
        code.check()
        call = code.call(self._key, self._name)
        if call.elapsed_s is not None:
            return code.again(call)
        with self._scope.working():
            await code.wind_down(self._scope)
            await self._wait_for_somebody(call)
            self._tell_start()
            if self._once:
                await self._run.journal.write()  # from here on, it may have acted
            else:
                self._run.journal.write_soon()
            started = time.perf_counter()
            try:
                value = await self._value(call)
            except asyncio.CancelledError:
                if not code.pausing and not self._run.is_left:
                    code.cut.add(self._key)
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
        call.requires_confirmation = self._confirm
        call.external_execution_required = self._external
        if self._once and self._key in self._code.unsure and call.confirmed is None and call.result is None:
            call.unknown_outcome = True
        if self._confirm or self._external or call.unknown_outcome:
            call.tool_args = self._shown()
        if open_kinds(call):
            await self._code.wait_for_somebody(self._scope)

    def _shown(self) -> dict[str, Any]:
        """The arguments, by name, for whoever decides; those that storage can't hold are not shown."""
        if self._function is None:
            return {**{str(at): value for at, value in enumerate(self._args)}, **self._kwargs}
        try:
            named = inspect.signature(self._function).bind_partial(*self._args, **self._kwargs).arguments
            digest_of(named)
        except (CodecError, TypeError, ValueError):
            return {}
        return dict(named)

    # --- doing it ------------------------------------------------------------------------------------------------

    async def _value(self, call: ToolExecution) -> Any:
        if call.confirmed is False:
            raise StepRejected(self._name, call.confirmation_note)
        if call.result is not None or self._function is None:
            return call.result  # as somebody gave it
        self._code.opened(call)
        try:
            return await self._attempts(call)
        finally:
            self._code.closed(call)

    async def _attempts(self, call: ToolExecution) -> Any:
        attempt = 1
        while True:
            try:
                with self._code.within(self._scope.below(self._key)):
                    return await self._attempt(call, attempt)
            except Exception:
                if attempt > self._retries:
                    raise
            self._code.forget_failures(f"{self._key}/")
            await asyncio.sleep(RETRY_DELAY_S * 2 ** (attempt - 1))
            attempt += 1

    async def _attempt(self, call: ToolExecution, attempt: int) -> Any:
        function = self._function
        assert function is not None
        kwargs = dict(self._kwargs)
        if _takes_context(function, self._args, kwargs):
            kwargs["ctx"] = context = self._run.tool_context(call)
            context.attempt = attempt
        work = partial(function, *self._args, **kwargs)
        clock = asyncio.timeout(self._timeout_s)
        try:
            async with clock:
                value = work() if is_async(function) else await run_in_thread(work)
                return await value if inspect.isawaitable(value) else value
        except TimeoutError as error:
            if clock.expired():
                raise StepTimeout(
                    self._name, f"Step {self._name!r} did not finish within {self._timeout_s:g} s"
                ) from error
            raise

    # --- telling it ----------------------------------------------------------------------------------------------

    def _tell_start(self) -> None:
        run, key = self._run, self._key
        if key not in run.intended or key in self._code.cut:  # else it is done again, and its start was told
            self._code.cut.discard(key)
            run.intended.add(key)
            run.journal.add_step("intent", lambda: {"calls": [key]})
            run.fact(WorkflowStepStarted(content=self._name, step=self._name, key=key))

    def _tell_end(self, elapsed_s: float, value: Any = None, error: str | None = None) -> None:
        self._run.fact(
            WorkflowStepCompleted(content=value, step=self._name, key=self._key, error=error, elapsed_s=elapsed_s)
        )

    async def _end(
        self, call: ToolExecution, started: float, value: Any = None, error: Exception | None = None
    ) -> None:
        elapsed_s = time.perf_counter() - started
        call.result = value
        self._code.ended(call, elapsed_s, error)
        self._tell_end(elapsed_s, value, call.error)
        try:
            await self._run.journal.write()
        except CodecError as refused:
            self._code.drop(call)
            raise CodecError(
                f"Step {self._name!r} left something that storage can't hold: {refused}", path=refused.path
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
