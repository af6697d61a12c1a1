"""How what the author of a workflow wrote is called: from outside it begins a run, in a run it is the author's code."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from types import CodeType, MethodType
from typing import TYPE_CHECKING, Any, Final, cast

from agentrt._threads import run_in_thread
from agentrt.tools.signature import is_async

if TYPE_CHECKING:
    from agentrt.workflow.workflow import Workflow

_FILLED: Final = ("ctx", "session_state")


class Entry:
    """A `run` or `arun` as it was written. `bound` says that it takes the workflow as its first argument."""

    def __init__(self, function: Callable[..., Any], *, bound: bool = True) -> None:
        self.function = function
        self._bound = bound
        functools.update_wrapper(cast("Any", self), function)

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, instance: Workflow | None, owner: type[Any]) -> Any:
        if instance is None:
            return self.function
        if "_run" in vars(instance):  # the view of one run, as its code has it
            return self.of(instance)
        return MethodType(_Launch(self, self._name), instance)

    def of(self, workflow: Workflow) -> Callable[..., Any]:
        """The author's code, for a view of the workflow."""
        return MethodType(self.function, workflow) if self._bound else self.function

    @functools.cached_property
    def _signature(self) -> inspect.Signature:
        signature = inspect.signature(self.function)
        if not self._bound:
            return signature
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    @functools.cached_property
    def yields(self) -> bool:
        """Is it a generator, async or not?"""
        return inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function)

    def outside(self) -> dict[str, Any]:
        """What the code refers to outside of itself, by name: globals, and variables of functions around it."""
        function: Any = inspect.unwrap(self.function)
        if not inspect.isfunction(function):
            return {}
        found = {
            name: function.__globals__[name] for name in _names_in(function.__code__) & function.__globals__.keys()
        }
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with suppress(ValueError):  # not assigned yet
                found[name] = cell.cell_contents
        return found

    def takes(self, name: str) -> bool:
        return name in self._signature.parameters

    def inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, as far as they were given. Raises `TypeError` for those that don't fit."""
        given = self._signature.bind_partial(*args, **kwargs).arguments
        for name, parameter in self._signature.parameters.items():
            variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if parameter.default is parameter.empty and not variable and name not in given and name not in _FILLED:
                raise TypeError(f"missing a required argument: {name!r}")
        return {name: value for name, value in given.items() if name not in _FILLED}

    def call(self, workflow: Workflow, inputs: dict[str, Any], filled: dict[str, Any]) -> Callable[[], Any]:
        """The author's code with its arguments, and with what the runtime fills in."""
        given = {**{name: filled[name] for name in _FILLED if self.takes(name)}, **inputs}
        bound = self._signature.bind_partial()
        bound.arguments.update({name: given[name] for name in self._signature.parameters if name in given})
        return functools.partial(self.of(workflow), *bound.args, **bound.kwargs)


def _names_in(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names_in(const) for const in code.co_consts if isinstance(const, CodeType)))


class _Launch:
    """Begins a run: what `workflow.run` and `workflow.arun` are."""

    def __init__(self, entry: Entry, name: str) -> None:
        self._entry = entry
        self._name = name
        functools.update_wrapper(cast("Any", self), entry.function)

    def __call__(self, workflow: Workflow, *args: Any, **kwargs: Any) -> Any:
        return workflow._begin(self._name, self._entry, args, kwargs)  # pyright: ignore[reportPrivateUsage]  its own


async def drain(call: Callable[[], Any], take: Callable[[Any], None]) -> Any:
    """Call what an author wrote; `take` gets what it yields, on this loop. Returns what it returns.

    A sync function is called, and a generator exhausted, in one thread and one context; when this is cancelled, a
    generator is closed at its next `yield`.
    """
    if is_async(call):
        value = call()
        return await _drain_async(await value if inspect.isawaitable(value) else value, take)
    loop, stopped = asyncio.get_running_loop(), threading.Event()

    def report(item: Any) -> None:
        if not stopped.is_set():
            take(item)

    def work() -> Any:
        value = call()
        return _exhaust(value, lambda item: loop.call_soon_threadsafe(report, item), stopped)

    value = await run_in_thread(work, on_abandon=stopped.set)
    return await _drain_async(await value if inspect.isawaitable(value) else value, take)


async def _drain_async(value: Any, take: Callable[[Any], None]) -> Any:
    if not isinstance(value, AsyncIterator):
        return value
    values = cast("AsyncGenerator[Any]", value)
    if not hasattr(values, "aclose"):
        async for item in values:
            take(item)
        return None
    async with aclosing(values):
        async for item in values:
            take(item)
    return None


def _exhaust(value: Any, take: Callable[[Any], object], stopped: threading.Event) -> Any:
    """What a generator returns, once all that it yields was taken; any other value as it is."""
    if not isinstance(value, Iterator):
        return value
    values = cast("Iterator[Any]", value)
    try:
        while not stopped.is_set():
            try:
                item = next(values)
            except StopIteration as end:
                return end.value
            take(item)
    finally:
        if (close := getattr(values, "close", None)) is not None:
            close()
    return None
