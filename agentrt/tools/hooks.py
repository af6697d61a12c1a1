"""Users' functions around tools: called with the parameters that they name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentrt.run.context import RunContext

if TYPE_CHECKING:
    from agentrt.tools.function import Function


@dataclass(slots=True, kw_only=True)
class FunctionCall:
    """One call, as `pre_hook` and `post_hook` see it. What they change in `arguments` or `result` counts."""

    function: Function[..., Any]
    arguments: dict[str, Any]
    result: Any = None
    error: str | None = None


def known_names(ctx: RunContext[Any]) -> dict[str, Any]:
    """What a hook or a function of toolsets may ask for, by the name of its parameter."""
    return {
        "ctx": ctx,
        "run_context": ctx,
        "agent": ctx.agent,
        "team": ctx.team,
        "session_state": ctx.session_state,
        "dependencies": ctx.dependencies,
    }


def call_by_name(hook: Callable[..., Any], known: Mapping[str, Any], in_order: tuple[Any, ...]) -> Any:
    """Call a hook with the parameters it names; one annotated `RunContext` is known by that.

    Required ones of other names get `in_order`, first to last. Raises `TypeError` when there are more of them.
    """
    positional: list[Any] = []
    named: dict[str, Any] = {}
    unnamed = list(in_order)
    for name, parameter in inspect.signature(hook).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in known:
            value = known[name]
            unnamed = [other for other in unnamed if other is not value]
        elif "RunContext" in str(parameter.annotation) and "ctx" in known:
            value = known["ctx"]
        elif parameter.default is parameter.empty and unnamed:
            value = unnamed.pop(0)
        elif parameter.default is parameter.empty:
            called = getattr(hook, "__name__", repr(hook))
            raise TypeError(f"{called}() takes {name!r}, which is not known here; it may take {', '.join(known)}")
        else:
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(value)
        else:
            named[name] = value
    return hook(*positional, **named)
