"""What the tests of teams have in common: leaders that hand on a task, and what is read off their requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentrt import Agent
from agentrt.run.events import RunEvent
from agentrt.testing import Reply, ScriptedModel, reply


def ask(*members: str, **more: Any) -> Reply:
    """A leader's turn: each of these members is asked."""
    return reply(
        tool_calls=[("delegate_to_member", {"member": name, "task": f"for {name}"}) for name in members], **more
    )


def member(name: str, *replies: Any, **options: Any) -> Agent[Any]:
    return Agent(name=name, model=ScriptedModel(*replies), **options)


def model_of(agent: Agent[Any]) -> ScriptedModel:
    assert isinstance(agent.model, ScriptedModel)
    return agent.model


def told(model: ScriptedModel) -> list[str]:
    """The results in a model's last request, in order."""
    return [message.content or "" for message in model.last_request.messages if message.role == "tool"]


def tools_in(model: ScriptedModel) -> list[list[str]]:
    """The names of the tools in each request."""
    return [[tool.name for tool in request.tools] for request in model.requests]


def texts(events: Iterable[RunEvent]) -> dict[str, str]:
    """The streamed text of each run, by its last name."""
    found: dict[str, str] = {}
    for event in events:
        if event.event == "RunContent":
            found[event.path[-1]] = found.get(event.path[-1], "") + event.content
    return found
