"""Running one tool: F12, F14 and F16 to F18 at the level of a single call."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from datetime import date
from typing import Any

import pytest

from agentrt._threads import call_on_loop
from agentrt.errors import ToolDefinitionError, ToolError, ToolTimeout
from agentrt.media import Image
from agentrt.run.context import RunContext
from agentrt.run.events import CustomEvent
from agentrt.tools import FunctionCall, function_of, tool
from agentrt.tools.execute import ToolResult, call_function
from tests.tools import postponed

var: ContextVar[str] = ContextVar("var", default="unset")


def context(**fields: Any) -> RunContext[Any]:
    return RunContext(run_id="r1", session_id="s1", **fields)


async def call(
    function: Callable[..., Any], values: dict[str, Any] | None = None, ctx: RunContext[Any] | None = None, **more: Any
) -> ToolResult:
    async with asyncio.timeout(10):
        return await call_function(function_of(function), values or {}, ctx or context(), **more)


# --- every kind of callable (F14, F17) -------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [postponed.t1, postponed.t2, postponed.t3, postponed.t4])
async def test_every_kind_of_function_gets_its_models(function: Callable[..., Any]) -> None:
    assert (await call(function, {"req": {"query": "tide"}})).content == "tide:5"


async def test_models_arrive_inside_lists_and_unions() -> None:
    result = await call(postponed.t5, {"reqs": [{"query": "a"}], "best": {"query": "b"}})
    assert result.content == "Search Search"


async def test_the_body_is_not_entered_with_arguments_that_do_not_fit() -> None:
    postponed.entered.clear()
    result = await call(postponed.t1, {"req": {"limit": 3}})
    assert "'req.query' is missing" in result.content
    assert result.error is not None and result.error.startswith("ToolArgumentsInvalid")
    assert postponed.entered == []


async def test_a_context_known_only_to_type_checkers_is_given() -> None:
    assert (await call(postponed.t6, {"text": "a"})).content == "a in r1"
    assert (await call(postponed.t7, {"text": "a"}, context(agent="me"))).content == "a for me in r1"


async def test_positional_only_parameters_are_given_by_place() -> None:
    def b(x: int, /, y: int, *, z: int = 3) -> int:
        return x + y + z

    def c(x: int = 1, y: int = 2, /, *rest: int) -> tuple[int, int]:
        return x, y

    def d(x: int, ctx: RunContext[Any], /) -> str:
        return f"{x} {ctx.run_id}"

    assert (await call(b, {"x": 1, "y": 2})).value == 6
    assert (await call(c, {"y": 5})).value == (1, 5)
    assert (await call(d, {"x": 1})).value == "1 r1"


class Shelf:
    def __init__(self, name: str) -> None:
        self.name = name

    def method(self, n: int) -> str:
        return f"{self.name}{n}"

    @classmethod
    def of_class(cls, n: int) -> str:
        return f"{cls.__name__}{n}"

    @staticmethod
    def static(n: int) -> str:
        return f"static{n}"

    async def __call__(self, n: int) -> str:
        return f"called {self.name}{n}"


async def double(n: int, by: int = 2) -> int:
    return n * by


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@logged
async def decorated(n: int) -> int:
    return n + 1


@logged
async def decorated_generator(n: int) -> AsyncIterator[str]:
    yield "a"
    yield str(n)


async def gives_a_generator(n: int) -> Iterator[str]:
    return iter_of(n)


def iter_of(n: int) -> Iterator[str]:
    yield "g"
    yield str(n)


@pytest.mark.parametrize(
    ("function", "content"),
    [
        (Shelf("a").method, "a3"),
        (Shelf.of_class, "Shelf3"),
        (Shelf("a").static, "static3"),
        (Shelf("a"), "called a3"),
        (functools.partial(double, by=5), "15"),
        (functools.partial(functools.partial(double), by=4), "12"),
        (decorated, "4"),
        (functools.partial(decorated), "4"),
        (decorated_generator, "a3"),
        (gives_a_generator, "g3"),
        (tool(double), "6"),
    ],
)
async def test_every_kind_of_callable_runs(function: Callable[..., Any], content: str) -> None:
    result = await call(function, {"n": 3})
    assert (result.content, result.error) == (content, None)


async def test_what_the_runtime_fills_is_the_runs() -> None:
    def fill(item: str, agent: Any, team: Any, session_state: dict[str, Any], ctx: RunContext[Any]) -> str:
        session_state["cart"] = [item]
        return f"{agent} {team} {ctx.run_id}"

    ctx = context(agent="an agent", team="a team")
    assert (await call(fill, {"item": "tea", "agent": "made up"}, ctx)).content == "an agent a team r1"
    assert ctx.session_state == {"cart": ["tea"]}


# --- results (F17) ---------------------------------------------------------------------------------------------------


async def test_nothing_is_a_text() -> None:
    async def nothing() -> None: ...

    result = await call(nothing)
    assert (result.value, result.content, result.error) == (None, "(no result)", None)


async def test_a_value_that_has_no_text_is_a_failure() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def broken() -> Any:
        return Broken()

    result = await call(broken)
    assert result.error == "RuntimeError: no text"
    assert "RuntimeError: no text" in result.content


async def test_media_are_handed_on() -> None:
    image = Image(url="https://example.com/a.png")

    def draw() -> list[Any]:
        return ["Here:", image]

    result = await call(draw)
    assert result.images == [image]
    assert result.files is None
    assert "Here:" in result.content


async def test_a_long_result_is_cut() -> None:
    @tool(max_result_chars=5)
    def long() -> str:
        return "x" * 100

    assert (await call(long)).content.startswith("xxxxx\n[cut")


def sync_values(*values: Any, then: BaseException | None = None) -> Callable[..., Any]:
    def values_() -> Iterator[Any]:
        yield from values
        if then is not None:
            raise then

    return values_


def async_values(*values: Any, then: BaseException | None = None) -> Callable[..., Any]:
    async def values_() -> AsyncIterator[Any]:
        for value in values:
            yield value
        if then is not None:
            raise then

    return values_


@pytest.mark.parametrize("make", [sync_values, async_values])
@pytest.mark.parametrize(
    ("values", "value"),
    [
        (("a", "b"), "ab"),
        ((CustomEvent(content="half way"), "done"), "done"),
        (({"n": 1},), {"n": 1}),
        (({"n": 1}, "b", None), [{"n": 1}, "b"]),
        ((CustomEvent(content=1),), None),
        ((), None),
    ],
)
async def test_a_generators_values_are_joined_and_told_as_they_come(
    make: Callable[..., Any], values: tuple[Any, ...], value: Any
) -> None:
    told: list[Any] = []
    result = await call(make(*values), progress=told.append)
    assert (result.value, result.error) == (value, None)
    assert told == list(values)


async def test_what_a_generator_returns_is_its_result() -> None:
    def work() -> Any:
        yield "on my way"
        return {"n": 1}

    assert (await call(work)).value == {"n": 1}


@pytest.mark.parametrize("make", [sync_values, async_values])
async def test_a_generator_that_fails_after_a_value_is_a_failure(make: Callable[..., Any]) -> None:
    result = await call(make("a", then=OSError("disk full")))
    assert (result.value, result.error) == (None, "OSError: disk full")
    assert "disk full" in result.content


async def test_a_sync_generator_keeps_one_thread_and_one_context() -> None:
    loop_thread = threading.get_ident()

    def work() -> Iterator[str]:
        first = threading.get_ident()
        token = var.set("inside")
        yield var.get()
        assert threading.get_ident() == first != loop_thread
        yield var.get()
        var.reset(token)
        yield var.get()

    var.set("outside")
    assert (await call(work)).content == "insideinsideoutside"


# --- failures (F16) --------------------------------------------------------------------------------------------------


async def raising(error: BaseException) -> ToolResult:
    async def on_loop() -> None:
        raise error

    def in_thread() -> None:
        raise error

    first, second = await call(tool(name="bad")(on_loop)), await call(tool(name="bad")(in_thread))
    assert (first.content, first.error) == (second.content, second.error)
    assert type(first.exception) is type(second.exception) is type(error)
    return first


@pytest.mark.parametrize(
    ("error", "content"),
    [
        (ValueError(), "Tool 'bad' failed: ValueError"),
        (ValueError("no such city"), "Tool 'bad' failed: ValueError: no such city"),
        (KeyError("x"), "Tool 'bad' failed: KeyError: 'x'"),
        (TimeoutError("its own"), "Tool 'bad' failed: TimeoutError: its own"),
        (ToolError("Only Norwegian cities."), "Only Norwegian cities."),
        (ToolError(), "Tool 'bad' failed: ToolError"),
        (SystemExit(2), "Tool 'bad' failed: SystemExit: 2"),
        (asyncio.CancelledError(), "Tool 'bad' failed: CancelledError"),
        (ExceptionGroup("two", [ValueError("a"), OSError("b")]), "Tool 'bad' failed: ExceptionGroup: ValueError: a; "
            "OSError: b"),
        (ValueError("\ud800"), "Tool 'bad' failed: ValueError: \ufffd"),
    ],
)  # fmt: skip
async def test_a_failure_is_a_result_that_names_it(error: BaseException, content: str) -> None:
    result = await raising(error)
    assert result.content == content
    assert result.error is not None and result.error.startswith(type(error).__name__)
    assert not result.abandoned


@pytest.mark.parametrize("error", [StopIteration("over"), KeyboardInterrupt()])
async def test_what_no_coroutine_may_raise_is_a_failure_when_a_thread_does(error: BaseException) -> None:
    def in_thread() -> None:
        raise error

    result = await call(in_thread)
    assert result.exception is error
    assert type(error).__name__ in result.content


async def test_four_calls_together_each_have_their_result() -> None:
    together = asyncio.Barrier(4)

    async def slow() -> str:
        await together.wait()
        return "S"

    async def bad() -> None:
        await together.wait()
        raise ValueError

    async def gone() -> None:
        await together.wait()
        raise asyncio.CancelledError

    async def quick() -> str:
        await together.wait()
        return "Q"

    slow_, bad_, gone_, quick_ = await asyncio.gather(call(slow), call(bad), call(gone), call(quick))
    assert (slow_.content, quick_.content) == ("S", "Q")
    assert "ValueError" in bad_.content
    assert "CancelledError" in gone_.content
    assert len(asyncio.all_tasks()) == 1


async def test_the_cancellation_of_the_run_goes_through() -> None:
    entered = asyncio.Event()
    cleaned: list[int] = []

    async def hang() -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            cleaned.append(1)

    running = asyncio.create_task(call(hang))
    await entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cleaned == [1]


async def test_a_callable_that_cannot_be_a_tool_is_no_failure_of_the_call() -> None:
    def wrapper(*args: Any) -> None: ...

    with pytest.raises(ToolDefinitionError):
        await call(wrapper)


# --- threads and time (F18) ------------------------------------------------------------------------------------------


async def test_sync_tools_run_beside_the_loop_with_the_runs_context() -> None:
    both = threading.Barrier(2)
    released = threading.Event()

    def sync_tool() -> str:
        both.wait(5)  # two runs are in flight
        released.wait(5)  # set by the loop, which therefore is not blocked
        return var.get()

    async def run(value: str) -> str:
        var.set(value)
        return (await call(sync_tool)).content

    async def release() -> None:
        released.set()

    assert await asyncio.gather(run("req-7"), run("req-8"), release()) == ["req-7", "req-8", None]


async def test_a_tool_that_takes_too_long_is_cancelled_and_cleaned_up() -> None:
    cleaned: list[int] = []

    @tool(timeout_s=0.05)
    async def hang() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(1)
        return "never"

    @tool(timeout_s=5.0)
    async def quick() -> str:
        return "Q"

    result, other = await asyncio.gather(call(hang), call(quick))
    assert result.content == "Tool 'hang' did not finish within 0.05 s"
    assert isinstance(result.exception, ToolTimeout)
    assert result.abandoned
    assert cleaned == [1]
    assert other.content == "Q"
    assert len(asyncio.all_tasks()) == 1


class Ear(logging.Handler):
    """Hears one log record."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: Future[str] = Future()
        logging.getLogger("agentrt").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.set_result(record.getMessage())


async def test_a_thread_that_takes_too_long_is_left_and_its_late_end_reported() -> None:
    leave, ear = threading.Event(), Ear()
    told: list[Any] = []

    @tool(timeout_s=0.05)
    def stuck() -> Iterator[str]:
        leave.wait(5)
        yield "late"
        raise AssertionError("went on after a yield")

    try:
        result = await call(stuck, progress=told.append)
        assert result.abandoned
        assert "did not finish within 0.05 s" in result.content
        leave.set()
        async with asyncio.timeout(5):
            assert "'stuck' ended after" in await asyncio.wrap_future(ear.heard)
    finally:
        logging.getLogger("agentrt").removeHandler(ear)
    assert told == []


async def test_a_tools_own_timeout_is_not_taken_for_the_runtimes() -> None:
    @tool(timeout_s=5.0)
    async def own() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    result = await call(own)
    assert result.error == "TimeoutError"
    assert not result.abandoned


async def test_a_sync_tool_that_needs_the_loop_lends_its_slot() -> None:
    async def inner() -> str:
        return (await call(lambda_tool)).content

    @tool(name="inner")
    def lambda_tool() -> str:
        return "deep"

    def outer() -> str:
        return call_on_loop(inner)

    assert (await call(outer)).content == "deep"


# --- retries ---------------------------------------------------------------------------------------------------------


async def test_a_safe_tool_is_repeated_and_knows_its_attempt() -> None:
    attempts: list[tuple[int, str | None]] = []

    @tool(effect="idempotent", retries=2)
    async def flaky(ctx: RunContext[Any]) -> str:
        attempts.append((ctx.attempt, ctx.idempotency_key))
        if ctx.attempt < 3:
            raise OSError("busy")
        return "done"

    result = await call(flaky, ctx=context(tool_call_id="c1"))
    assert (result.content, attempts) == ("done", [(1, "r1:c1"), (2, "r1:c1"), (3, "r1:c1")])


@pytest.mark.parametrize(("error", "calls"), [(OSError("busy"), 2), (ToolError("no"), 1)])
async def test_repeating_ends_and_a_tool_may_end_it(error: Exception, calls: int) -> None:
    made: list[int] = []

    @tool(effect="pure", retries=1)
    async def failing() -> None:
        made.append(1)
        raise error

    assert (await call(failing)).exception is error
    assert len(made) == calls


async def test_arguments_that_do_not_fit_are_not_tried_again() -> None:
    @tool(effect="pure", retries=3)
    async def strict(n: int) -> int:
        return n

    started = time.perf_counter()
    assert "'n' is missing" in (await call(strict)).content
    assert time.perf_counter() - started < 0.1


# --- hooks -----------------------------------------------------------------------------------------------------------


def add(n: int, by: int = 1) -> int:
    return n + by


async def async_add(n: int, by: int = 1) -> int:
    return n + by


@pytest.mark.parametrize("function", [add, async_add])
async def test_hooks_before_and_after_may_change_the_call(function: Callable[..., Any]) -> None:
    seen: list[Any] = []

    def before(fc: FunctionCall) -> None:
        seen.append((fc.function.name, dict(fc.arguments)))
        fc.arguments["n"] = 10

    async def after(ctx: RunContext[Any], fc: FunctionCall) -> None:
        seen.append((ctx.run_id, fc.result))
        fc.result = f"was {fc.result}"

    result = await call(tool(pre_hook=before, post_hook=after)(function), {"n": 1})
    assert result.content == "was 11"
    assert seen == [(function.__name__, {"n": 1}), ("r1", 11)]
    assert result.changed_args == {"n": 10}


@pytest.mark.parametrize("function", [add, async_add])
async def test_middleware_goes_around_the_call_outermost_first(function: Callable[..., Any]) -> None:
    order: list[str] = []

    def outer(function_name: str, function_call: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        order.append(f"outer {function_name}")
        return function_call(**{**arguments, "n": 5}) * 2

    async def middle(name: str, func: Callable[..., Any], args: dict[str, Any], ctx: RunContext[Any]) -> Any:
        order.append(f"middle {args['n']} {ctx.run_id}")
        return await func(**args) + 1

    def inner(a: str, b: Callable[..., Any], c: dict[str, Any]) -> Any:
        order.append(f"inner {a}")
        return b(**c) + 100

    result = await call(tool(tool_hooks=[middle, inner])(function), {"n": 1}, hooks=[outer])
    name = function.__name__
    assert order == [f"outer {name}", "middle 5 r1", f"inner {name}"]
    assert result.value == ((5 + 1) + 100 + 1) * 2
    assert result.changed_args == {"n": 5}


async def test_arguments_that_hooks_leave_alone_stay_what_the_model_said() -> None:
    def look(fc: FunctionCall) -> None: ...

    assert (await call(tool(pre_hook=look)(add), {"n": "1"})).changed_args is None


async def test_arguments_that_hooks_changed_are_known_also_when_the_tool_fails() -> None:
    def longer(fc: FunctionCall) -> None:
        fc.arguments["days"].append(date(2026, 1, 2))

    def fail(days: list[date]) -> None:
        raise ValueError(len(days))

    result = await call(tool(pre_hook=longer)(fail), {"days": ["2026-01-01"]})
    assert result.error == "ValueError: 2"
    assert result.changed_args == {"days": ["2026-01-01", "2026-01-02"]}


async def test_a_hook_can_answer_in_place_of_the_tool_or_refuse() -> None:
    def instead(function_name: str, function_call: Any, arguments: dict[str, Any]) -> str:
        return "from the hook"

    def refuse(fc: FunctionCall) -> None:
        raise ToolError("Not on Sundays.")

    assert (await call(add, {"n": 1}, hooks=[instead])).content == "from the hook"
    assert (await call(tool(pre_hook=refuse)(add), {"n": 1})).content == "Not on Sundays."


async def test_a_hook_that_asks_for_the_unknown_is_a_failure_that_says_what_it_may_ask_for() -> None:
    def odd(fc: FunctionCall, whatever: int) -> None: ...

    result = await call(tool(pre_hook=odd)(add), {"n": 1})
    assert "odd() takes 'whatever'" in result.content
    assert "session_state" in result.content


async def test_cancelling_the_run_ends_a_tool_behind_a_sync_hook() -> None:
    entered = asyncio.Event()
    cleaned: list[int] = []

    async def hang() -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            cleaned.append(1)

    def through(function_name: str, function_call: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        return function_call(**arguments)

    running = asyncio.create_task(call(hang, hooks=[through]))
    await entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cleaned == [1]
    assert len(asyncio.all_tasks()) == 1


def test_one_tool_serves_several_loops() -> None:
    async def main() -> str:
        return (await call(add, {"n": 1})).content

    assert [asyncio.run(main()) for _ in range(3)] == ["2", "2", "2"]
