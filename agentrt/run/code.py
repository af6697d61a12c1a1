"""Runs that are code: what the run of a workflow does in place of asking a model.

Going on with such a run calls its code anew, from the state at the run's start. What the code did by steps, and by runs
that it began, has a key: a name, a digest of what it was given, and how often the same was done before, by the code
itself or by the step that it is part of. What has ended is in the journal under its key, and is not done again: its
result is returned, what it changed in the state is changed, or what it raised is raised. A run that was cut goes on.

A step, or a run, that waits for a person does not return. Once all else that the code has begun has ended, the code is
cancelled, and the run is paused. What the code has begun and not waited for is waited for at its end, and is cut when
that is an exception. Nothing of this is for other threads than that of the run's event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from agentrt.errors import AgentRTError, DecisionRefused, StepFailed
from agentrt.models.message import Message
from agentrt.run.children import follow
from agentrt.run.limits import count_again, count_stored, deadline_of, out_of_time, settled, take_stored
from agentrt.run.loop import drive
from agentrt.run.response import RunResponse, RunStatus, ToolExecution
from agentrt.run.run import Run, log
from agentrt.storage.base import Step
from agentrt.storage.codec import dumps
from agentrt.storage.merge import copy_state, merge
from agentrt.tools.results import to_text

CLOSE_S = 5.0
"""How long the end of a run waits for what is cut with it."""
SETTLE_S = 0.05
"""How long code that waits for a person is given to get from one step to the next elsewhere."""

_scope: ContextVar[Scope | None] = ContextVar("agentrt_scope", default=None)


class Scope:
    """What the code of a run, or of one of its steps, has under way: what works, and what waits for somebody."""

    def __init__(self, code: Code, prefix: str = "", above: Scope | None = None) -> None:
        self.code = code
        self._prefix = prefix
        self._above = above
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._working = 0
        self._waiting = 0

    def key(self, name: str, digest: str) -> str:
        """The key of what is done next under this name with what has this digest."""
        key = f"{self._prefix}{name}:{digest}"
        with self._lock:  # a sync workflow begins runs in its own thread
            self._seen[key] += 1
            return f"{key}:{self._seen[key]}"

    def below(self, key: str) -> Scope:
        """The scope of a step that is under way here."""
        return Scope(self.code, f"{key}/", self)

    @property
    def waits(self) -> bool:
        """Does all that is under way here wait for somebody?"""
        return self._waiting > 0 and self._working == 0

    @contextmanager
    def working(self) -> Generator[None, None, None]:
        self.code.begin()
        self._move(1, 0)
        try:
            yield
        finally:
            self._move(-1, 0)

    @contextmanager
    def waiting(self) -> Generator[None, None, None]:
        """Inside `working`: it waits for somebody."""
        self._move(-1, 1)
        try:
            yield
        finally:
            self._move(1, -1)

    def leave(self) -> None:
        """The step is over, whatever it has left under way."""
        if self._above is not None and self.waits:
            self._above._move(1, -1)
        self._above = None

    def _move(self, working: int, waiting: int) -> None:
        waited = self.waits
        self._working += working
        self._waiting += waiting
        if self.waits != waited:
            if self._above is not None:
                self._above._move(*((-1, 1) if self.waits else (1, -1)))
            elif self.waits and self is self.code.root:
                self.code.look()


class Code:
    """The code of one run, and what it has done so far. `main` calls it, and returns what the run comes to."""

    def __init__(self, run: Run, main: Callable[[], Awaitable[Any]], inputs: dict[str, Any]) -> None:
        self.run = run
        self._main = main
        self.inputs = inputs
        """What the code is called with; of a stored run, what it was called with first."""
        self.root = Scope(self)
        self.calls: dict[str, ToolExecution] = {}
        """What it has done, or has begun, by key."""
        self.begun = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        """Those of the code's tasks that have begun something, but for the driver's."""
        self.yields = 0
        """How many values it has given out by the time it was cut."""
        self.pausing = False
        self._is_over = False
        self.unsure: set[str] = set()
        """Steps that were under way when the run was cut."""
        self.cut: set[str] = set()
        """Steps whose end was told although they were cancelled: if they are done again, it is told anew."""
        self.openers: Callable[[], dict[str, Callable[[ToolExecution], Run]]] = dict
        """Gives what makes the runs of agents that are known, by name, to see what may be decided about them."""
        self._effects: dict[str, dict[str, Any]] = {}
        self._raised: dict[str, dict[str, Any]] = {}
        self._failures: dict[str, Exception] = {}
        self._failed: dict[str, Run] = {}
        """The runs that failed, by the keys of their calls."""
        self._bases: dict[str, dict[str, Any]] = {}
        """The state as it was when each of the steps began that are under way."""

    # --- driving it ----------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Call the code. Afterwards the run has its content, or is `pausing`."""
        run, loop, task = self.run, asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        if run.limits.seconds is not None:
            run.deadline = loop.time() + run.limits.seconds
        _scope.set(self.root)
        run.in_tools = True  # so that it may be cancelled after what is under way by then
        clock = asyncio.timeout_at(deadline_of(run))
        try:
            async with clock:
                content = await self._main()
                while rest := self._under_way():
                    await asyncio.wait(rest)
        except BaseException as error:
            if self.pausing and task.uncancel() == 0:
                if not isinstance(error, asyncio.CancelledError):
                    log.warning("run %s is paused; its code left with %s: %s", run.run_id, type(error).__name__, error)
                return
            if isinstance(error, TimeoutError) and clock.expired():
                raise out_of_time(run) from None
            if isinstance(error, Exception):
                self._try_again(error)
            raise
        finally:
            await self._cut_rest()
            self._is_over = True
        if self.pausing:  # the code took its cancellation for its own
            if task.uncancel() == 0:
                return
            raise asyncio.CancelledError
        run.stop_reason = "end"
        run.response.content = content
        run.messages.append(Message(role="assistant", content=run.response.text()))

    def begin(self) -> None:
        """The running task of the code begins something."""
        self.begun += 1
        task = asyncio.current_task()
        if task is not None and task is not self.run.driver and task not in self._tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _under_way(self) -> list[asyncio.Task[Any]]:
        return [task for task in self._tasks if not task.done()]

    async def _cut_rest(self) -> None:
        """Have nothing go on that belongs to a run which does not."""
        if rest := self._under_way():
            for task in rest:
                if not task.cancelling():  # again would cut short what that has set going
                    task.cancel()
            await asyncio.wait(rest, timeout=CLOSE_S)

    def look(self) -> None:
        """All that is under way waits: unless the code begins something else at once, the run is paused."""
        asyncio.get_running_loop().call_later(SETTLE_S, self._pause, self.begun)

    def _pause(self, begun: int) -> None:
        driver = self.run.driver
        if self.root.waits and begun == self.begun and not self.pausing and driver is not None and not driver.done():
            if self.run.winding_down:
                self.run.stop(None)
                return
            self.pausing = True
            driver.cancel()

    def scope(self) -> Scope:
        """The scope of the running code."""
        scope = _scope.get()
        return scope if scope is not None and scope.code is self else self.root

    @contextmanager
    def within(self, scope: Scope) -> Generator[None, None, None]:
        token = _scope.set(scope)
        try:
            yield
        finally:
            _scope.reset(token)
            scope.leave()

    def check(self) -> None:
        """Let no more be begun by code that is being cancelled, or by a task that it has left."""
        if self.pausing or self.run.cancel_flag.is_set():
            raise asyncio.CancelledError
        if self._is_over:
            raise AgentRTError(f"Run {self.run.run_id!r} is over: its code is to await the tasks that it makes")

    async def wind_down(self, scope: Scope) -> None:
        """Let no more be begun, but what is under way end, where the run is to be cancelled only then."""
        if self.run.winding_down:
            await self.wait_for_somebody(scope)

    async def wait_for_somebody(self, scope: Scope) -> None:
        """Wait until the run is paused, and its code cancelled."""
        with scope.waiting():
            await asyncio.get_running_loop().create_future()

    # --- what it does --------------------------------------------------------------------------------------------

    def call(self, key: str, name: str) -> ToolExecution:
        """What is done under a key: as it is known, or new."""
        call = self.calls.get(key)
        if call is None:
            call = self.calls[key] = ToolExecution(tool_call_id=key, tool_name=name, run_id=self.run.run_id)
            self.run.executions.append(call)
        return call

    def opened(self, call: ToolExecution) -> None:
        """A step begins: from here on, what changes in the state is what it changes."""
        self._bases[call.tool_call_id] = copy_state(self.run.state)

    def closed(self, call: ToolExecution) -> None:
        """A step has ended. What it changed is kept with its result, and is none of what others do that go on."""
        key, mine = call.tool_call_id, self.run.state
        base = self._bases.pop(key)
        if _differ(base, mine):
            effect = self._effects[key] = {"base": base, "mine": copy_state(mine)}
            for other, its_base in self._bases.items():
                if not key.startswith(f"{other}/"):
                    self._bases[other], _ = merge(effect["base"], effect["mine"], its_base)

    def ended(self, call: ToolExecution, elapsed_s: float, error: Exception | None = None) -> None:
        """Have the journal write what became of a call: its result, or what it raised."""
        run, key = self.run, call.tool_call_id
        call.elapsed_s = elapsed_s
        if error is not None:
            call.tool_call_error = True
            call.error = f"{type(error).__name__}: {error}".rstrip(": ")
            self._failures[key] = error
            self._raised[key] = _packed(error)
        run.intended.discard(key)
        run.journal.add_step(
            "tool",
            lambda: {
                "execution": call,
                "effect": self._effects.get(key),
                "raised": self._raised.get(key),
                "below": settled(run),
            },
        )

    def drop(self, call: ToolExecution) -> None:
        """Forget what became of a call, which is then to be made again."""
        key = call.tool_call_id
        self.calls.pop(key, None)
        self._effects.pop(key, None)
        self._raised.pop(key, None)
        self._failures.pop(key, None)
        if (child := self._failed.pop(key, None)) is not None:
            self.run.children[child.run_id] = child  # to be gone on with
        self.run.executions[:] = [known for known in self.run.executions if known is not call]

    def again(self, call: ToolExecution) -> Any:
        """What came of a call that has ended, by now or before the run was cut: its result, or what it raises."""
        key = call.tool_call_id
        if (effect := self._effects.get(key)) is not None:
            state = self.run.state
            merged, _ = merge(effect["base"], effect["mine"], state)
            state.clear()
            state.update(merged)
        if (raised := self._raised.get(key)) is not None:
            error = self._failures[key] = _unpacked(raised, call.tool_name)
            raise error
        return copy_state(call.result)  # what the code makes of it is not what the step came to

    def forget_failures(self, prefix: str) -> None:
        """Forget what failed under keys that begin so: the step that they are part of is tried again."""
        for key in [key for key in self._failures if key.startswith(prefix)]:
            self.drop(self.calls[key])

    def _try_again(self, error: BaseException) -> None:
        """Forget the failures that the run failed for: when it is gone on with, they are to be tried again."""
        reasons = {id(reason) for reason in _reasons(error)}
        for key in [key for key, failure in self._failures.items() if id(failure) in reasons]:
            self.drop(self.calls[key])

    # --- runs that it begins -------------------------------------------------------------------------------------

    def call_for(self, name: str, input: Sequence[Message], user_id: str | None) -> ToolExecution:
        """The call that a run begun by the running code is what comes of. `user_id` is what that run was given."""
        plain = [message.model_dump(exclude={"created_at"}) for message in input]
        return self.call(self.scope().key(name, digest_of([user_id, *plain])), name)

    def session_for(self, name: str, user_id: str | None) -> str:
        """The session, below that of this run, of runs that the code begins: each user has one of their own."""
        below = f"{self.run.session_id}/{name}"
        return below if user_id in (None, self.run.user_id) else f"{below}/{user_id}"

    def adopt(self, child: Run, call: ToolExecution) -> None:
        """Have a run that the running code begins be a part of this one: told in its stream, gone on with by it."""
        call.child_run_ids = [child.run_id]
        child.of_call = call.tool_call_id
        scope = self.scope()
        child.drive = lambda: self._drive(child, call, scope)

    async def _drive(self, child: Run, call: ToolExecution, scope: Scope) -> RunResponse[Any]:
        run = self.run
        if not run.loop_is_here():
            return await drive(child)  # of the code, called from another loop
        self.check()
        known = call.elapsed_s is not None
        if known and call.tool_call_error:
            self._fail_again(child, call)
        with scope.working():
            await self.wind_down(scope)
            await self._take_up(child)
            try:
                response = await _drive_decided(child)
            except Exception as error:  # one that is cut stays among the children: it may be gone on with
                self._failed[call.tool_call_id] = run.children.pop(child.run_id)
                run.members[child.run_id] = child.touch()
                self.ended(call, child.response.elapsed_s or 0.0, error)
                raise
            run.members[child.run_id] = response
            if not child.stored and not known:
                count_stored(child)
            if response.is_paused:
                await self.wait_for_somebody(scope)
            run.children.pop(child.run_id, None)
            if not known:
                call.result = response.text()
                self.ended(call, response.elapsed_s or 0.0)
                run.journal.write_soon()
            return response

    async def _take_up(self, child: Run) -> None:
        """Have a run that is begun, or gone on with, told in this one's stream, and counted in it once."""
        run = self.run
        if (before := run.members.get(child.run_id)) is not None:
            child.decided = before.tools_with_members  # as they were decided on this run
        child.stream = child.stream or run.stream
        cut = run.children.get(child.run_id)
        if cut is not None and run.epoch > 1:
            await run.journal.write()  # what has been told of it
        await follow(run, child)
        if cut is not None:
            count_again(cut, -1)  # what it had used is brought along
        run.children[child.run_id] = child

    def _fail_again(self, child: Run, call: ToolExecution) -> None:
        """Raise what a run has failed with before, and remember what it had used, should it be gone on with."""
        if (before := self.run.members.get(child.run_id)) is not None:
            take_stored(child, before)
        self._failed[call.tool_call_id] = child
        self.again(call)

    # --- going on ------------------------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """What is stored with a run that can be gone on with, besides what all runs store."""
        return {
            "effects": self._effects,
            "raised": self._raised,
            "yields": self.yields,
            "cut": sorted(self.cut),
        }

    def load(self, status: RunStatus, kept: dict[str, Any], steps: Sequence[Step]) -> None:
        """Take over what is known of a stored run: `kept` at its last save, and the steps since."""
        run = self.run
        self.calls = {call.tool_call_id: call for call in run.executions}
        self._effects = dict(kept.get("effects", {}))
        self._raised = dict(kept.get("raised", {}))
        self.yields = kept.get("yields", 0)
        self.cut = set(kept.get("cut", ()))
        for step in steps:
            data = step.data
            if step.kind == "intent":
                run.intended.update(data["calls"])
            elif step.kind == "yield":
                self.yields = data["count"]
            elif step.kind == "tool":
                call: ToolExecution = data["execution"]
                self.calls[call.tool_call_id] = call
                self._effects |= {call.tool_call_id: data["effect"]} if data["effect"] else {}
                self._raised |= {call.tool_call_id: data["raised"]} if data["raised"] else {}
                run.below = data["below"]
        run.executions = list(self.calls.values())
        if status is not RunStatus.PAUSED:
            self.unsure = set(run.intended)

    def open_runs(self, call: ToolExecution) -> list[Run]:
        """The run that a call stands for, made anew to see what may be decided about it, if that can be told here."""
        opener = self.openers().get(call.tool_name)
        return [opener(call)] if opener is not None else []


async def _drive_decided(child: Run) -> RunResponse[Any]:
    """Drive a run that the code began. What was decided about it, unseen, and does not fit leaves it waiting."""
    try:
        return await drive(child)
    except DecisionRefused as error:
        if not child.decided or child.stored:
            raise
        log.warning("run %s still waits, for what was decided can't be done: %s", child.run_id, error)
        child.decided = []
        child.cancel_flag.clear()  # it has failed, but only so far
        return await drive(child)


def digest_of(value: Any) -> str:
    """What tells one value from another. Raises `CodecError` for one that storage can't hold."""
    return hashlib.sha256(dumps(value, "arguments").encode()).hexdigest()[:16]


def text_of(inputs: dict[str, Any]) -> str:
    """What code is called with, as a text: the only one of its arguments if that is a text, else all as JSON."""
    values = list(inputs.values())
    return values[0] if len(values) == 1 and isinstance(values[0], str) else to_text(inputs)


def _differ(before: dict[str, Any], now: dict[str, Any]) -> bool:
    try:
        return before != now
    except Exception:  # values of users' types, such as arrays, may refuse to be compared
        return True


# --- exceptions ------------------------------------------------------------------------------------------------------


def _packed(error: Exception) -> dict[str, Any]:
    """What is stored of an exception, so that it can be raised again."""
    cls = type(error)
    plain = all(arg is None or isinstance(arg, (str, int, float, bool)) for arg in error.args)
    return {
        "type": f"{cls.__module__}:{cls.__qualname__}",
        "args": list(error.args) if plain else None,
        "text": str(error),
    }


def _unpacked(packed: dict[str, Any], name: str) -> Exception:
    """The exception that was stored, when its class is there and can be made of its arguments; else `StepFailed`."""
    module, _, path = packed["type"].partition(":")
    found: Any = sys.modules.get(module)  # nothing is imported because stored data says so
    for part in path.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Exception) and packed["args"] is not None:
        try:
            error = found(*packed["args"])
        except Exception:  # its constructor takes something else than what it keeps
            error = None
        if error is not None and str(error) == packed["text"]:
            return error
    return StepFailed(name, f"{path}: {packed['text']}")


def _reasons(error: BaseException, seen: set[int] | None = None) -> Iterator[BaseException]:
    """The exception, those it was raised for, and those it is a group of."""
    seen = seen if seen is not None else set()
    if id(error) in seen:
        return
    seen.add(id(error))
    yield error
    group = cast("BaseExceptionGroup[Any]", error).exceptions if isinstance(error, BaseExceptionGroup) else ()
    for reason in (error.__cause__, error.__context__, *group):
        if reason is not None:
            yield from _reasons(reason, seen)
