"""One tool call: arguments validated, parameters injected, hooks around it, its result as text.

A failure of the tool, of a hook or of the arguments is a `ToolResult` with a text for the model. Only the cancellation
of the run comes out as an exception, and what the runtime itself got wrong.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from agentrt._threads import call_on_loop, run_in_thread
from agentrt.errors import ToolError, ToolTimeout
from agentrt.media import Audio, File, Image, Video
from agentrt.run.context import RunContext
from agentrt.run.events import BaseEvent
from agentrt.tools.cache import key_of
from agentrt.tools.function import Function
from agentrt.tools.hooks import FunctionCall, call_by_name, known_names
from agentrt.tools.results import media_in, of_kind, to_text
from agentrt.tools.signature import is_async

log = logging.getLogger("agentrt")

RETRY_DELAY_S = 0.1
"""The wait before the first repetition of a call; doubled each time."""

Progress: TypeAlias = Callable[[Any], Any]
Call: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]


@dataclass(slots=True, kw_only=True)
class ToolResult:
    """What came of a call. `content` is what the model is told; `error` names what failed, as `ValueError: no city`.

    `abandoned` says that the call was given up at its timeout, so that it may still act, or have half acted.
    `changed_args` are the arguments that hooks put in place of the model's, as plain data; None when they did not.
    """

    value: Any = None
    content: str = ""
    error: str | None = None
    exception: BaseException | None = None
    abandoned: bool = False
    changed_args: dict[str, Any] | None = None
    elapsed_s: float = 0.0
    images: list[Image] | None = None
    audio: list[Audio] | None = None
    videos: list[Video] | None = None
    files: list[File] | None = None


def _no_progress(value: Any) -> None: ...


async def call_function(
    function: Function[..., Any],
    values: dict[str, Any],
    ctx: RunContext[Any],
    *,
    progress: Progress = _no_progress,
    hooks: Sequence[Callable[..., Any]] = (),
) -> ToolResult:
    """Call a tool with the arguments of a model.

    `progress` gets each value that a generator tool yields, on the loop, as it comes; events among them are no part of
    the result. `hooks` is middleware around the function's own. Raises `CancelledError` when the run is cancelled.
    """
    started = time.perf_counter()
    used: list[dict[str, Any]] = []
    function.spec()  # raises for a callable that can't be a tool: that is no failure of the call
    try:
        arguments = function.validate(values)
        if function.pre_hook is None and function.post_hook is None and not hooks and not function.tool_hooks:
            value = await _attempts(function, arguments, ctx, progress)
        else:
            value = await _hooked(function, arguments, ctx, progress, hooks, used)
        result = ToolResult(value=value, content=to_text(value, function.max_result_chars))
        if media := media_in(value):
            result.images = of_kind(media, Image)
            result.audio = of_kind(media, Audio)
            result.videos = of_kind(media, Video)
            result.files = of_kind(media, File)
    except (GeneratorExit, KeyboardInterrupt):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        result = failure(function, error)
    except BaseException as error:  # a tool's SystemExit too is a failure of the tool
        result = failure(function, error)
    result.elapsed_s = time.perf_counter() - started
    if used and used[0] != used[-1]:
        result.changed_args = used[-1]
    return result


def failure(function: Function[..., Any], error: BaseException) -> ToolResult:
    """The result of a call that ended in `error`. A `ToolError` says itself what the model is told."""
    if isinstance(error, _Uncarried):
        error = error.error
    kind = type(error).__name__
    told = _told(error)
    named = f"{kind}: {told}" if told else kind
    content = told if isinstance(error, ToolError) and told else f"Tool {function.name!r} failed: {named}"
    return ToolResult(
        content=to_text(content, function.max_result_chars),
        error=to_text(named, function.max_result_chars),
        exception=error,
        abandoned=isinstance(error, ToolTimeout),
    )


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[Any]", error)
        return "; ".join(f"{type(part).__name__}: {_told(part)}" for part in group.exceptions)
    try:
        return str(error)
    except Exception:  # a user's __str__
        return ""


# --- hooks -----------------------------------------------------------------------------------------------------------


async def _hooked(
    function: Function[..., Any],
    arguments: dict[str, Any],
    ctx: RunContext[Any],
    progress: Progress,
    hooks: Sequence[Callable[..., Any]],
    used: list[dict[str, Any]],
) -> Any:
    """The result, with the hooks around the call. `used` gets the arguments as they came and as the call is made."""
    used.append(_plain(arguments))
    call = FunctionCall(function=function, arguments=arguments)
    known = known_names(ctx)
    calls = {**known, "fc": call, "function_call": call}

    async def innermost(**arguments: Any) -> Any:
        used.append(_plain(arguments))
        return await _attempts(function, arguments, ctx, progress)

    inner: Call = innermost
    for hook in reversed((*hooks, *function.tool_hooks)):
        inner = _around(hook, inner, function.name, known)
    if function.pre_hook is not None:
        await call_hook(function.pre_hook, calls, (call,))
    call.result = await inner(**call.arguments)
    if function.post_hook is not None:
        await call_hook(function.post_hook, calls, (call,))
    return call.result


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as JSON has them: for the record, and no part of what hooks go on changing."""
    return json.loads(to_text(arguments))


def _around(hook: Callable[..., Any], inner: Call, name: str, known: dict[str, Any]) -> Call:
    """The call with one middleware around it. A sync hook's `function_call` waits; an async one's is awaited."""

    def blocking(**arguments: Any) -> Any:
        return call_on_loop(functools.partial(inner, **arguments))

    async def outer(**arguments: Any) -> Any:
        following = inner if is_async(hook) else blocking
        names = {
            **known,
            "function_name": name,
            "name": name,
            "function_call": following,
            "function": following,
            "func": following,
            "arguments": arguments,
            "args": arguments,
        }
        return await call_hook(hook, names, (name, following, arguments))

    return outer


async def call_hook(hook: Callable[..., Any], known: dict[str, Any], in_order: tuple[Any, ...]) -> Any:
    """Call a hook by the names of its parameters (`call_by_name`): an async one here, another one in a thread."""
    if is_async(hook):
        return await call_by_name(hook, known, in_order)
    name = getattr(hook, "__name__", repr(hook))
    result = await _in_thread(name, functools.partial(call_by_name, hook, known, in_order))
    return await result if inspect.isawaitable(result) else result


# --- the call itself -------------------------------------------------------------------------------------------------


async def _attempts(
    function: Function[..., Any],
    arguments: dict[str, Any],
    ctx: RunContext[Any],
    progress: Progress,
) -> Any:
    """The result: from the cache, or of an attempt; failures are repeated as often as the tool allows."""
    cache = function.cache
    key = key_of(arguments, ctx.user_id) if cache is not None else None
    if cache is not None and key is not None and (known := cache.get(key)):
        return known[0]
    for name, source in function.signature.injected:
        arguments[name] = ctx if source == "ctx" else getattr(ctx, source)
    ctx.attempt = 1
    while True:
        try:
            value = await _attempt(function, arguments, progress)
            break
        except Exception as error:
            # a tool that speaks to the model has decided for itself
            final = isinstance(error, ToolError) and not isinstance(error, ToolTimeout)
            if final or ctx.attempt > function.retries:
                raise
        await asyncio.sleep(RETRY_DELAY_S * 2 ** (ctx.attempt - 1))
        ctx.attempt += 1
    if cache is not None and key is not None:
        cache.put(key, value)
    return value


async def _attempt(function: Function[..., Any], arguments: dict[str, Any], progress: Progress) -> Any:
    call = functools.partial(function.entrypoint, **arguments)
    if positional := function.signature.positional:
        defaults = function.signature.positional_defaults
        keywords = dict(arguments)
        given = [keywords.pop(name, defaults.get(name)) for name in positional]
        call = functools.partial(function.entrypoint, *given, **keywords)
    if function.timeout_s is None:
        return await _run(function, call, progress)
    scope = asyncio.timeout(function.timeout_s)
    try:
        async with scope:
            return await _run(function, call, progress)
    except TimeoutError as error:
        if scope.expired():
            raise ToolTimeout(f"Tool {function.name!r} did not finish within {function.timeout_s:g} s") from error
        raise


async def _run(function: Function[..., Any], call: Callable[[], Any], progress: Progress) -> Any:
    """Call on the loop what is async, in a thread what is not. What a plain function gives back may be async, too."""
    value = call() if function.is_async else await _in_thread(function.name, call, progress)
    if inspect.isawaitable(value):
        value = await value
    if isinstance(value, AsyncIterator):
        values = cast("AsyncIterator[Any]", value)
        return await _drain(values, progress)
    if inspect.isgenerator(value):
        return await _in_thread(function.name, lambda: value, progress)  # pyright: ignore[reportUnknownLambdaType]
    return value


# --- generators ------------------------------------------------------------------------------------------------------


def _take(value: Any, pieces: list[Any], progress: Progress) -> None:
    progress(value)
    if value is not None and not isinstance(value, BaseEvent):
        pieces.append(value)


def _joined(pieces: list[Any]) -> Any:
    """What a generator's values come to: texts are joined, one value is itself, several are a list."""
    if len(pieces) == 1:
        return pieces[0]
    if pieces and all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    return pieces or None


async def _drain(values: AsyncIterator[Any], progress: Progress) -> Any:
    pieces: list[Any] = []
    closing = aclosing(cast("AsyncGenerator[Any]", values)) if isinstance(values, AsyncGenerator) else nullcontext()
    async with closing:
        async for value in values:
            _take(value, pieces, progress)
    return _joined(pieces)


def _exhaust(values: Generator[Any, Any, Any], progress: Progress, stopped: threading.Event) -> Any:
    """What a generator returns or, when it returns nothing, what it yields. Once stopped, it is closed at a yield."""
    pieces: list[Any] = []
    try:
        while not stopped.is_set():
            try:
                value = next(values)
            except StopIteration as end:
                return _joined(pieces) if end.value is None else end.value
            _take(value, pieces, progress)
    finally:
        values.close()
    return None


# --- threads ---------------------------------------------------------------------------------------------------------


class _Uncarried(Exception):
    """Carries what a thread raised and no coroutine may: `StopIteration`, `SystemExit`, `KeyboardInterrupt`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {_told(error)}")
        self.error = error


async def _in_thread(name: str, call: Callable[[], Any], progress: Progress = _no_progress) -> Any:
    """Call in a worker thread. A generator that comes of it is exhausted there: in one thread, in one context."""
    loop = asyncio.get_running_loop()
    stopped = threading.Event()
    started = time.perf_counter()

    def report(value: Any) -> None:
        if not stopped.is_set():
            progress(value)

    def work() -> Any:
        try:
            value = call()
            if inspect.isgenerator(value):
                return _exhaust(value, functools.partial(loop.call_soon_threadsafe, report), stopped)
            return value
        except (StopIteration, SystemExit, KeyboardInterrupt) as error:
            raise _Uncarried(error) from error
        finally:
            if stopped.is_set():
                took = time.perf_counter() - started
                log.warning("tool %r ended after %.1f s, long given up: its result is dropped", name, took)

    return await run_in_thread(work, on_abandon=stopped.set)
