"""The switch that keeps tests away from real models. The engine asks `check` before each model call."""

from __future__ import annotations

from agentrt.errors import ConfigurationError
from agentrt.models.base import Model

_allowed = True


def set_allowed(allowed: bool) -> bool:
    """Allow or forbid real model requests in this process; returns what was set before."""
    global _allowed
    before, _allowed = _allowed, allowed
    return before


def check(model: Model) -> None:
    """Raise `ConfigurationError` if real requests are forbidden and `model` is not made for tests."""
    if _allowed or getattr(model, "is_test_model", False):
        return
    name = ":".join(part for part in (model.provider, getattr(model, "id", "")) if part)
    raise ConfigurationError(
        f"A request to {name or type(model).__name__} was about to be made, but real model requests are forbidden "
        "here: use agentrt.testing.ScriptedModel or FunctionModel (Agent.override(model=…) swaps one in), "
        "or agentrt.testing.allow_model_requests()"
    )
