"""`@workflow`: a function that is a workflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from agentrt.errors import AgentRTError
from agentrt.run.response import RunResponse, RunStatus
from agentrt.tools.signature import is_async
from agentrt.workflow._entry import Entry
from agentrt.workflow.workflow import Workflow

P = ParamSpec("P")
R = TypeVar("R")


class FunctionWorkflow(Workflow, Generic[P, R]):
    """A workflow whose code is a function. Called itself, it gives what the function gives; `arun` the response."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run. Raises what the function raises, and `AgentRTError` for a run that is paused, or was cancelled."""
        entry = self._entry("arun")
        if is_async(entry.function):
            given: Any = self.arun(*args, **kwargs)
            return given if entry.yields else cast("R", _content(given))
        response = self.run(*args, **kwargs)
        return response if entry.yields else cast("R", _completed(response))


async def _content(response: Any) -> Any:
    return _completed(await response)


def _completed(response: RunResponse[Any]) -> Any:
    if response.status is RunStatus.COMPLETED:
        return response.content
    error = AgentRTError(f"Run {response.run_id!r} is {response.status.value.lower()}, so there is no result")
    error.run_response = response
    raise error


@overload
def workflow(function: Callable[P, R], /, **options: Any) -> FunctionWorkflow[P, R]: ...
@overload
def workflow(**options: Any) -> Callable[[Callable[P, R]], FunctionWorkflow[P, R]]: ...
def workflow(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a workflow of a function, async or sync, a generator or not: `@workflow`, `@workflow(storage=…)`.

    `options` are those of `Workflow`. The function may take `ctx` and `session_state`, which the runtime fills in.
    """

    def made(function: Callable[..., Any]) -> FunctionWorkflow[Any, Any]:
        name: str = getattr(function, "__name__", "workflow")
        code = {"arun" if is_async(function) else "run": Entry(function, bound=False), "__doc__": function.__doc__}
        of_function = type(name, (FunctionWorkflow,), code)
        given: dict[str, Any] = {"name": name, **options}
        return of_function(**given)

    return made if function is None else made(function)
