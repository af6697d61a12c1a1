from __future__ import annotations

import pytest

from agentrt.errors import ModelUnavailable
from agentrt.models._registry import default_model, resolve_model
from agentrt.models.openai import OpenAIChat


def test_a_name_is_provider_and_model():
    model = resolve_model("openai:gpt-4.1")

    assert isinstance(model, OpenAIChat)
    assert model.id == "gpt-4.1"


def test_a_model_id_may_hold_colons():
    assert resolve_model("openai:ft:gpt-4o:me::1").id == "ft:gpt-4o:me::1"


def test_claude_is_anthropics():
    assert resolve_model("anthropic:claude-sonnet-4-5").provider == "anthropic"


def test_a_model_is_itself():
    model = OpenAIChat(id="gpt-4.1")

    assert resolve_model(model) is model


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("gpt-4.1", 'did you mean "openai:gpt-4.1"'),
        ("claude-sonnet-4-5", 'did you mean "anthropic:claude-sonnet-4-5"'),
        ("ft:gpt-4o:me::1", "the providers are openai, anthropic, local"),
        ("model.gguf", 'did you mean "local:model.gguf"'),
        ("opnai:gpt-4.1", 'did you mean "openai:gpt-4.1"'),
        ("acme:thing", "the providers are openai, anthropic, local"),
        ("openai", 'as in "openai:MODEL"'),
        ("openai:", 'as in "openai:MODEL"'),
    ],
)
def test_an_unknown_name_is_told_how_it_should_read(name: str, advice: str):
    with pytest.raises(ModelUnavailable, match=advice):
        resolve_model(name)


def test_something_else_is_a_type_error():
    with pytest.raises(TypeError, match="not int"):
        resolve_model(5)  # pyright: ignore[reportArgumentType]


def test_the_default_model_is_named_by_a_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AGENTRT_MODEL", "openai:gpt-4o-mini")

    assert default_model().id == "gpt-4o-mini"


def test_without_a_default_the_error_has_the_commands(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AGENTRT_MODEL", raising=False)

    with pytest.raises(ModelUnavailable, match=r"export AGENTRT_MODEL=openai:gpt-4.1.*AGENTRT_MODEL=local"):
        default_model()
