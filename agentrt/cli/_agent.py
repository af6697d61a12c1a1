"""The agent that a command works with: the user's own, or one made from the options."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from agentrt import _sync
from agentrt.agent import Agent
from agentrt.cli._database import VARIABLE as DB_VARIABLE
from agentrt.cli._database import make_storage
from agentrt.errors import ConfigurationError, ModelUnavailable
from agentrt.models._registry import VARIABLE
from agentrt.storage.base import StoredRun


def make_agent(place: str | None, *, model: str | None, db: str | None, table: str | None) -> Agent[Any]:
    """Return the agent at `module:name`, or a general one, with the model and the storage that were asked for."""
    if place is not None:
        agent = load_agent(place)
        changes: dict[str, Any] = {"model": model} if model is not None else {}
    else:
        agent = Agent(name="agentrt", model=model or default_model_name(), markdown=True)
        changes = {}
    if db is None and agent.storage is None:
        db = os.environ.get(DB_VARIABLE)
    if db:
        changes["storage"] = _sync.call(make_storage, db, table)
    return agent.copy(**changes)


def check_agent(agent: Agent[Any], stored: StoredRun) -> None:
    """Raise `ConfigurationError` when a run is another agent's."""
    agent_id = agent.agent_id or agent.name
    if stored.agent_id != agent_id:
        raise ConfigurationError(f"Run {stored.run_id} is of agent {stored.agent_id!r}, and this one is {agent_id!r}")


def default_model_name() -> str:
    """`AGENTRT_MODEL`, else the local model if it is installed. A key that happens to be set is never spent."""
    if name := os.environ.get(VARIABLE):
        return name
    if find_spec("xllamacpp") is not None:
        return "local"
    raise ModelUnavailable(
        "There is no model to ask. Any of these gives one:\n"
        "  agentrt … --model openai:gpt-4.1               with OPENAI_API_KEY set\n"
        "  agentrt … --model anthropic:claude-sonnet-4-6  with ANTHROPIC_API_KEY set\n"
        f"  export {VARIABLE}=openai:gpt-4.1           to make it the default\n"
        "  pip install 'agentrt[local]'                   a small model on this machine, no key"
    )


def load_agent(place: str) -> Agent[Any]:
    """Return the agent named by `module:name`; modules are also looked for in the working directory."""
    module_name, colon, path = place.partition(":")
    module_name = module_name.removesuffix(".py").replace("/", ".")
    if not colon or not module_name or not path:
        raise ConfigurationError(f"An agent is named as module:variable, as in my_app:agent; not {place!r}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"{module_name} could not be imported: {error}") from error
        raise ConfigurationError(f"There is no module {error.name} here ({Path.cwd()}) or installed") from None
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    if isinstance(found, Agent):
        return cast("Agent[Any]", found)
    names = _agents_in(module)
    there = f"; it has {', '.join(names)}" if names else ""
    what = "no agent" if found is None else f"a {type(found).__name__}, not an agent,"
    raise ConfigurationError(f"{module_name} has {what} {path!r}{there}")


def _agents_in(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Agent)]
