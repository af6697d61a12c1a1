"""Models by name: `"openai:gpt-4.1"`, `"anthropic:claude-…"`, `"ollama:llama3.1"`, `"local:model.gguf"`, `"local"`."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

from agentrt.errors import ModelUnavailable
from agentrt.models.base import Model

VARIABLE = "AGENTRT_MODEL"
_ADAPTERS: dict[str, str] = {
    "openai": "openai:OpenAIChat",
    "anthropic": "anthropic:Claude",
    "local": "local:LocalModel",
    "google": "google:Gemini",
    "gemini": "google:Gemini",
    "responses": "openai:OpenAIResponses",
    "azure": "azure:AzureOpenAI",
    "deepseek": "deepseek:DeepSeek",
    "groq": "groq:Groq",
    "llama-cpp": "llama_cpp:LlamaCpp",
    "ollama": "ollama:Ollama",
    "openrouter": "openrouter:OpenRouter",
    "vllm": "vllm:VLLM",
}
"""Where the model of a provider is, under `agentrt.models`; imported when it is asked for."""
_COMPLETE_ALONE = ("local", "llama-cpp")
"""The providers that serve one model, so that their name is enough."""
_HINTS = (
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("claude", "anthropic"),
    ("gemini-", "google"),
    ("gemma", "google"),
)


def resolve_model(model: Model | str) -> Model:
    """Return the model that a name stands for; a `Model` is returned as it is.

    Raises `ModelUnavailable`, whose message says how the name should read.
    """
    if isinstance(model, Model):
        return model
    if not isinstance(model, str):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may be untyped
        raise TypeError(f'A model is a Model or a name such as "openai:gpt-4.1", not {type(model).__name__}')
    provider, colon, model_id = model.strip().partition(":")
    provider = provider.lower()
    if provider not in _ADAPTERS or (not model_id and provider not in _COMPLETE_ALONE):
        raise ModelUnavailable(f"No model is called {model!r}: {_advice(provider, colon, model_id)}")
    module, _, name = _ADAPTERS[provider].partition(":")
    adapter: Callable[..., Model] = getattr(import_module(f"agentrt.models.{module}"), name)
    given = {"path" if provider == "local" else "id": model_id} if model_id else {}
    return adapter(**given)


def default_model() -> Model:
    """Return the model that the variable AGENTRT_MODEL names. Raises `ModelUnavailable` when it is not set."""
    name = os.environ.get(VARIABLE)
    if name:
        return resolve_model(name)
    raise ModelUnavailable(
        f'No model was given. Give one, as in Agent(model="openai:gpt-4.1"), or export {VARIABLE}=openai:gpt-4.1 '
        f"(with OPENAI_API_KEY), {VARIABLE}=anthropic:claude-sonnet-4-6 (with ANTHROPIC_API_KEY), or {VARIABLE}=local "
        "(in process, no key: pip install 'agentrt[local]')"
    )


def _advice(provider: str, colon: str, model_id: str) -> str:
    known = ", ".join(_ADAPTERS)
    if provider in _ADAPTERS:
        return f'say which one of {provider}, as in "{provider}:MODEL"'
    hint = next((owner for prefix, owner in _HINTS if provider.startswith(prefix)), None)
    if hint is not None:
        return f'did you mean "{hint}:{provider}{colon}{model_id}"?'
    if provider.endswith(".gguf"):
        return f'did you mean "local:{provider}"?'
    if close := get_close_matches(provider, _ADAPTERS, n=1):
        return f'did you mean "{close[0]}{colon or ":"}{model_id}"? The providers are {known}'
    return f'a name is "provider:model", and the providers are {known}'
