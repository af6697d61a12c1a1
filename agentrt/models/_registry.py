"""Models by name: `"openai:gpt-4.1"`, `"anthropic:claude-…"`, `"local"`, `"local:model.gguf"`."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches

from agentrt.errors import ModelUnavailable
from agentrt.models.base import Model

VARIABLE = "AGENTRT_MODEL"


def _openai(model_id: str) -> Model:
    from agentrt.models.openai import OpenAIChat

    return OpenAIChat(id=model_id)


def _anthropic(model_id: str) -> Model:
    from agentrt.models.anthropic import Claude

    return Claude(id=model_id)


def _local(path: str) -> Model:
    from agentrt.models.local import LocalModel

    return LocalModel(path=path) if path else LocalModel()


_PROVIDERS: dict[str, Callable[[str], Model]] = {"openai": _openai, "anthropic": _anthropic, "local": _local}
_FAMILIES = (("gpt-", "openai"), ("chatgpt-", "openai"), ("o1", "openai"), ("o3", "openai"), ("o4", "openai"))
_HINTS = (*_FAMILIES, ("claude", "anthropic"))


def resolve_model(model: Model | str) -> Model:
    """Return the model that a name stands for; a `Model` is returned as it is.

    Raises `ModelUnavailable`, whose message says how the name should read.
    """
    if isinstance(model, Model):
        return model
    if not isinstance(model, str):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may be untyped
        raise TypeError(f'A model is a Model or a name such as "openai:gpt-4.1", not {type(model).__name__}')
    provider, colon, model_id = model.strip().partition(":")
    make = _PROVIDERS.get(provider.lower())
    if make is None or (not model_id and provider.lower() != "local"):
        raise ModelUnavailable(f"No model is called {model!r}: {_advice(provider.lower(), colon, model_id)}")
    return make(model_id)


def default_model() -> Model:
    """Return the model that the variable AGENTRT_MODEL names. Raises `ModelUnavailable` when it is not set."""
    name = os.environ.get(VARIABLE)
    if name:
        return resolve_model(name)
    raise ModelUnavailable(
        f'No model was given. Give one, as in Agent(model="openai:gpt-4.1"), or export {VARIABLE}=openai:gpt-4.1 '
        f"(with OPENAI_API_KEY), {VARIABLE}=anthropic:claude-sonnet-4-5 (with ANTHROPIC_API_KEY), or {VARIABLE}=local "
        "(in process, no key: pip install 'agentrt[local]')"
    )


def _advice(provider: str, colon: str, model_id: str) -> str:
    known = ", ".join(_PROVIDERS)
    if provider in _PROVIDERS:
        return f'say which one of {provider}, as in "{provider}:MODEL"'
    hint = next((owner for prefix, owner in _HINTS if provider.startswith(prefix)), None)
    if hint is not None:
        return f'did you mean "{hint}:{provider}{colon}{model_id}"?'
    if provider.endswith(".gguf"):
        return f'did you mean "local:{provider}"?'
    if close := get_close_matches(provider, _PROVIDERS, n=1):
        return f'did you mean "{close[0]}{colon or ":"}{model_id}"? The providers are {known}'
    return f'a name is "provider:model", and the providers are {known}'
