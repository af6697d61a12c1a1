"""Agents as tools, and what the model that asked is told of what came of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentrt.errors import ConfigurationError, ToolError
from agentrt.run.children import run_children
from agentrt.run.context import RunContext
from agentrt.run.delegate import Delegate
from agentrt.run.response import RunResponse, RunStatus, ToolExecution
from agentrt.run.run import Run

if TYPE_CHECKING:
    from agentrt.agent.agent import Agent


def agent_tool(agent: Agent[Any], name: str | None, description: str | None, options: dict[str, Any]) -> Delegate:
    """Return the tool that `Agent.as_tool` describes. Raises `ConfigurationError` for an agent without a name."""
    called = agent.name or agent.agent_id or name
    name = name or re.sub(r"[^a-zA-Z0-9_-]+", "_", called or "").strip("_").lower()[:64]
    if not called or not name:
        raise ConfigurationError(f"A tool has a name, of ASCII letters: give {agent!r} one, or as_tool(name=…)")

    async def ask(task: str, ctx: RunContext[Any]) -> str:
        (response,) = await run_children(ctx)
        return told(called, response)

    def open_runs(run: Run, call: ToolExecution) -> list[Run]:
        return [agent.open_for(run, call.tool_args["task"], name=called, call=call)]

    return Delegate(
        ask,
        name=name,
        description=description or about(agent) or f"Hand a task to {called}, and get the answer.",
        open_runs=open_runs,
        **options,
    )


def about(agent: Agent[Any]) -> str:
    """What an agent is for, in its author's words."""
    return "\n".join(text for text in (agent.role, agent.description) if text)


def told(name: str, response: RunResponse[Any]) -> str:
    """The answer of an agent that was asked, for the model that asked. Raises `ToolError` when there is none."""
    if response.status is RunStatus.FAILED:
        # what it had said by then is no answer
        raise ToolError(f"{name!r} failed, there is no answer: {response.error}")
    if response.status is RunStatus.CANCELLED:
        raise ToolError(f"{name!r} was cancelled, there is no answer")
    return response.text() or f"{name!r} gave an empty answer."
