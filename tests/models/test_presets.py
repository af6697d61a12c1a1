from __future__ import annotations

import pytest

from agentrt.errors import ConfigurationError, ModelOverloaded, ModelUnavailable
from agentrt.models._registry import resolve_model
from agentrt.models.azure import AzureOpenAI
from agentrt.models.base import Capabilities
from agentrt.models.deepseek import DeepSeek
from agentrt.models.groq import Groq
from agentrt.models.llama_cpp import LlamaCpp
from agentrt.models.message import Message, ToolCall
from agentrt.models.ollama import Ollama
from agentrt.models.openai import OpenAIChat, OpenAILike, OpenAIResponses
from agentrt.models.openai._servers import SERVERS
from agentrt.models.openrouter import OpenRouter
from agentrt.models.vllm import VLLM
from tests.http_server import Server, completion
from tests.models.collect import collect

PRESETS: list[type[OpenAILike]] = [Ollama, VLLM, LlamaCpp, Groq, DeepSeek, OpenRouter]
presets = pytest.mark.parametrize("preset", PRESETS)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("responses:gpt-5", OpenAIResponses),
        ("groq:llama-3.3-70b-versatile", Groq),
        ("ollama:llama3.1:8b", Ollama),
        ("vllm:my-model", VLLM),
        ("llama-cpp:any", LlamaCpp),
        ("llama-cpp", LlamaCpp),
        ("deepseek:deepseek-chat", DeepSeek),
        ("openrouter:openai/gpt-4.1", OpenRouter),
        ("azure:my-deployment", AzureOpenAI),
    ],
)
def test_a_name_stands_for_a_preset(name: str, kind: type[OpenAIChat]):
    model = resolve_model(name)

    assert type(model) is kind
    assert model.id == (name.partition(":")[2] or "default")


@presets
async def test_a_preset_asks_its_server_and_goes_by_its_name(server: Server, preset: type[OpenAILike]):
    server.add(json={"error": {"message": "busy"}}, status=503)

    with pytest.raises(ModelOverloaded) as caught:
        await collect(preset(id="some-model", base_url=f"{server.url}/v1", api_key="test"))
    assert caught.value.provider == preset.name
    assert server.requests[0].path == "/v1/chat/completions"
    assert server.requests[0].headers["authorization"] == "Bearer test"


@presets
async def test_the_key_comes_from_the_servers_own_variable(
    server: Server, preset: type[OpenAILike], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(preset.environment[0], "its-own")
    server.add(json=completion("Fine"))
    await collect(preset(id="m", base_url=server.url), stream=False)

    assert server.requests[0].headers["authorization"] == "Bearer its-own"


@presets
async def test_nothing_of_openais_goes_to_another_server(
    server: Server, preset: type[OpenAILike], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv(preset.environment[0], raising=False)
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-internal: secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    server.add(json=completion("Fine"))

    if preset.needs_key:
        with pytest.raises(ModelUnavailable, match=f"export {preset.environment[0]}="):
            await collect(preset(id="m", base_url=server.url))
        await collect(preset(id="m", base_url=server.url, api_key="test"), stream=False)
    else:
        await collect(preset(id="m", base_url=server.url), stream=False)
    assert "secret" not in str(server.requests[0].headers)


@pytest.mark.parametrize("preset", [VLLM, LlamaCpp, Groq, DeepSeek, OpenRouter])
async def test_the_address_may_come_from_a_variable(
    server: Server, preset: type[OpenAILike], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(preset.base_url_variable, f"{server.url}/elsewhere")
    server.add(json=completion("Fine"))
    await collect(preset(id="m", api_key="test"), stream=False)

    assert server.requests[0].path == "/elsewhere/chat/completions"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("", "http://localhost:11434/v1"),
        ("gpu-box", "http://gpu-box:11434/v1"),
        ("0.0.0.0:8000", "http://localhost:8000/v1"),
        ("https://ollama.example.com", "https://ollama.example.com:443/v1"),
        ("http://10.0.0.5:11434/", "http://10.0.0.5:11434/v1"),
    ],
)
def test_ollamas_own_variable_is_understood(host: str, address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OLLAMA_HOST", host)

    assert Ollama().address() == address
    assert Ollama(base_url="http://here/v1").address() == "http://here/v1"


async def test_a_server_of_ones_own_needs_its_address(server: Server):
    with pytest.raises(ConfigurationError, match="base_url="):
        await collect(OpenAILike(id="m"))
    server.add(json=completion("Fine"))
    model = OpenAILike(id="m", base_url=server.url, name="ours")

    assert (await collect(model, stream=False)).text == "Fine"
    assert model.provider == "ours" and model.copy(id="n").provider == "ours"


def test_what_a_server_takes_is_a_row_of_the_table():
    assert Groq().capable() == SERVERS["groq"].takes
    assert not DeepSeek().capable().output_schema
    assert OpenRouter(id="openai/gpt-5").capable().max_tokens_name == "max_completion_tokens"
    assert Groq(capabilities=Capabilities()).capable().output_schema
    assert all(row.source.startswith("https://") for row in SERVERS.values())


async def test_groq_gets_no_names_of_users(server: Server):
    server.add(json=completion("Fine"))
    model = Groq(base_url=server.url, api_key="test", max_tokens=9)
    await collect(model, stream=False, messages=[Message(role="user", name="Ann", content="hi")])

    assert server.bodies[0]["messages"] == [{"role": "user", "content": "hi"}]
    assert server.bodies[0]["max_completion_tokens"] == 9


async def test_deepseek_gets_the_reasoning_back_that_led_to_a_call(server: Server):
    server.add(json=completion("Fine"))
    messages = [
        Message(role="user", content="hi"),
        Message(role="assistant", content="Hello", reasoning_content="greet"),
        Message(role="user", content="When?"),
        Message(role="assistant", reasoning_content="look", tool_calls=[ToolCall(id="call_1", name="now")]),
        Message(role="tool", tool_call_id="call_1", content="noon"),
    ]
    await collect(DeepSeek(base_url=server.url, api_key="test"), stream=False, messages=messages)

    sent = server.bodies[0]["messages"]
    assert [message.get("reasoning_content") for message in sent] == [None, None, None, "look", None]


async def test_azure_asks_a_deployment_with_its_own_key(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url)
    monkeypatch.setenv("OPENAI_API_VERSION", "2025-03-01")
    server.add(json=completion("Fine"))
    model = AzureOpenAI(id="gpt-5-ours", max_tokens=9)
    await collect(model, stream=False)

    request = server.requests[0]
    assert request.path == "/openai/deployments/gpt-5-ours/chat/completions?api-version=2025-03-01"
    assert request.headers["api-key"] == "azure-key"
    assert request.json["max_completion_tokens"] == 9


async def test_azure_may_have_the_deployment_apart_from_the_models_name(server: Server):
    server.add(json=completion("Fine"))
    model = AzureOpenAI(
        id="gpt-4.1", azure_deployment="ours", azure_endpoint=server.url, api_version="v", azure_ad_token="token"
    )
    await collect(model, stream=False)

    assert server.requests[0].path.startswith("/openai/deployments/ours/chat/completions")
    assert server.requests[0].headers["authorization"] == "Bearer token"


async def test_azure_says_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    for name in AzureOpenAI.environment:
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(ModelUnavailable, match="export AZURE_OPENAI_API_KEY="):
        await collect(AzureOpenAI(id="m", api_version="v", azure_endpoint="http://127.0.0.1:9"))
    with pytest.raises(ConfigurationError, match="azure_endpoint"):
        await collect(AzureOpenAI(id="m", api_version="v", api_key="k"))
    with pytest.raises(ConfigurationError, match="api_version"):
        await collect(AzureOpenAI(id="m", api_key="k", azure_endpoint="http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("model_id", "sampling", "limit"),
    [
        ("gpt-4.1-nano", True, "max_tokens"),
        ("gpt-5.4-mini", False, "max_completion_tokens"),
        ("gpt-5.2-chat-latest", True, "max_completion_tokens"),
        ("gpt-6.1-sol", False, "max_completion_tokens"),
        ("o4-mini", False, "max_completion_tokens"),
        ("codex-mini-latest", False, "max_completion_tokens"),
        ("something-new", True, "max_tokens"),
    ],
)
def test_each_family_of_openais_has_its_row(model_id: str, sampling: bool, limit: str):
    row = OpenAIChat(id=model_id).capable()

    assert (row.sampling, row.max_tokens_name) == (sampling, limit)
