"""From what an agent is given as its tools to the tools of one run, by name."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias, cast

from agentrt.errors import ToolDefinitionError
from agentrt.run.context import RunContext
from agentrt.tools.arguments import quote
from agentrt.tools.function import Function, function_of
from agentrt.tools.hooks import call_by_name, known_names
from agentrt.tools.toolkit import Toolkit

Tools: TypeAlias = Iterable[Any]
"""Callables, `Function`s, `Toolkit`s, and lists of such."""


def collect_tools(tools: Tools) -> dict[str, Function[..., Any]]:
    """Return the tools by name, in the order given. Raises `ToolDefinitionError` when two have one name."""
    found: dict[str, Function[..., Any]] = {}
    for function in _each(tools):
        other = found.setdefault(function.name, function)
        if other is not function:
            raise ToolDefinitionError(
                f"Two tools are called {function.name!r}: {_origin(other)} and {_origin(function)}; "
                "give one another name with @tool(name=…), or its toolkit a prefix"
            )
    return found


async def resolve_tools(
    tools: Tools | Callable[..., Tools | Awaitable[Tools]] | None, ctx: RunContext[Any]
) -> dict[str, Function[..., Any]]:
    """Return the tools of a run. A function given in place of the list is called for it, with `ctx` or `agent`."""
    given: Any = tools
    if callable(given) and not isinstance(given, Function):
        made: Any = call_by_name(given, known_names(ctx), (ctx,))
        given = await made if inspect.isawaitable(made) else made
    return collect_tools(cast("Tools", given)) if given else {}


def _each(tools: Tools) -> Iterable[Function[..., Any]]:
    if isinstance(tools, (str, bytes, dict, Function)) or not isinstance(tools, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may be untyped
        raise ToolDefinitionError(f"tools is a list of callables and toolkits, not {quote(tools, 80)}")
    for item in tools:
        if isinstance(item, Toolkit):
            yield from item.functions.values()
        elif isinstance(item, type) and issubclass(item, Toolkit):
            raise ToolDefinitionError(f"{item.__name__} is a toolkit's class; give an instance: {item.__name__}()")
        elif callable(cast("Any", item)):
            yield function_of(cast("Callable[..., Any]", item))
        elif isinstance(item, Iterable) and not isinstance(item, (str, bytes, dict)):
            yield from _each(cast("Tools", item))
        else:
            raise ToolDefinitionError(f"A tool is a callable, a Function or a Toolkit, not {item!r}")


def _origin(function: Function[..., Any]) -> str:
    entrypoint: Any = function.entrypoint
    name = getattr(entrypoint, "__qualname__", None) or repr(entrypoint)
    return f"{getattr(entrypoint, '__module__', '?')}.{name}"
