"""`@tool`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

from typing_extensions import ParamSpec, Unpack

from agentrt.tools.function import Function, ToolOptions

P = ParamSpec("P")
R = TypeVar("R")

_WORD = re.compile(r"[^\W\d]\w*")


@overload
def tool(function: Callable[P, R], /) -> Function[P, R]: ...
@overload
def tool(**options: Unpack[ToolOptions]) -> Callable[[Callable[P, R]], Function[P, R]]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a tool: `@tool`, or `@tool(requires_confirmation=True, …)`; the options are `Function`'s.

    Any callable is a tool as it is; this gives it options. The result is called like the function.
    """
    if function is not None:
        return _make(function, options, sys._getframe(1))  # pyright: ignore[reportPrivateUsage]  see _local_names

    def decorate(function: Callable[..., Any]) -> Function[..., Any]:
        return _make(function, options, sys._getframe(1))  # pyright: ignore[reportPrivateUsage]

    return decorate


def _make(function: Any, options: dict[str, Any], frame: Any) -> Function[..., Any]:
    if isinstance(function, Function):
        return cast("Function[..., Any]", function).copy(**options)
    made: Function[..., Any] = Function(function, **options)
    names = _local_names(function, frame)
    if names:
        made._namespace = names  # pyright: ignore[reportPrivateUsage]  ours
    return made


def _local_names(function: Any, frame: Any) -> dict[str, Any]:
    """The names of the place of definition that the function's postponed hints use: later nobody can find them."""
    if "<locals>" not in getattr(function, "__qualname__", ""):
        return {}
    names: dict[str, Any] = frame.f_locals
    if "__module__" in names and "__qualname__" in names and frame.f_back is not None:  # the body of a class
        names = {**frame.f_back.f_locals, **names}
    try:
        hints: dict[str, Any] = function.__annotations__
    except (AttributeError, NameError):  # from Python 3.14 on they are evaluated here, unless they are postponed
        return {}
    texts = [text for text in hints.values() if isinstance(text, str)]
    words = {word for text in texts for word in _WORD.findall(text)}
    return {word: names[word] for word in words if word in names}
