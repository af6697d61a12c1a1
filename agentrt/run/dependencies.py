"""A run's dependencies: what its caller or its definition gives it, functions called for it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, cast

from agentrt.run.definition import RunDefinition
from agentrt.run.run import Run
from agentrt.tools.execute import call_hook
from agentrt.tools.hooks import known_names


def given_dependencies(definition: RunDefinition[Any]) -> Any:
    return definition.dependencies if definition.dependencies is not None else definition.context


async def resolve_dependencies(run: Run) -> None:
    """Call those that are functions, once for a run, or for each process that goes on with it. Raises what they do."""
    given: Any = run.context.dependencies
    if not isinstance(given, Mapping) or given is not given_dependencies(run.definition):
        return  # they are resolved
    known = known_names(run.context)
    values = dict(cast("Mapping[str, Any]", given))
    made = {name: value for name, value in values.items() if _is_made(value, known)}
    if made:
        for name, value in made.items():
            values[name] = await call_hook(value, known, ())
        run.context.dependencies = values


def _is_made(value: Any, known: Mapping[str, Any]) -> bool:
    """Is it a function that can be called with what is known? A class, or an object that can be called, is a value."""
    if not inspect.isroutine(value) and not isinstance(value, functools.partial):
        return False
    try:
        parameters = inspect.signature(cast("Any", value)).parameters.values()
    except ValueError:  # some of C's have none
        return False
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(
        parameter.kind in variadic or parameter.default is not parameter.empty or parameter.name in known
        for parameter in parameters
    )
