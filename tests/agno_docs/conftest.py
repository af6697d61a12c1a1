from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from agentrt.models.anthropic import Claude
from agentrt.models.base import Model
from agentrt.models.google.gemini import Gemini
from agentrt.models.openai import OpenAIChat
from tests.agno_docs.provider import Provider, Think
from tests.http_server import Server

MODELS = {"openai": OpenAIChat, "anthropic": Claude, "gemini": Gemini}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    """A model of each provider."""
    return MODELS[request.param](id="some-model")


@pytest.fixture
def provider(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Think], Provider]:
    """An empty folder to work in, keys, and all three providers at one address: `provider(think)` starts them."""
    keys = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY")
    places = {"OPENAI_BASE_URL": f"{server.url}/v1", "ANTHROPIC_BASE_URL": server.url}
    for name, value in {**dict.fromkeys(keys, "test"), **places, "GOOGLE_GEMINI_BASE_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)

    def thinking(think: Think) -> Provider:
        provider = Provider(think)
        server.answer = provider
        return provider

    return thinking


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What somebody types at `input()`, line by line."""
    return lambda *lines: monkeypatch.setattr("sys.stdin", StringIO("".join(f"{line}\n" for line in lines)))
