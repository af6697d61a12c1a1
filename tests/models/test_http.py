from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from agentrt import errors
from agentrt.models import _clients
from agentrt.models.openai import OpenAIChat
from tests.http_server import Reply, Server, chat_stream, completion
from tests.models.collect import collect


@pytest.fixture
def model(server: Server) -> OpenAIChat:
    return OpenAIChat(id="gpt-4.1", api_key="test", base_url=f"{server.url}/v1")


# --- F09: failures ---------------------------------------------------------------------------------------------------


def error_body(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable"),
    [
        (400, error_body("bad schema", code="invalid_request_error"), errors.ModelBadRequest, False),
        (400, error_body("too long", code="context_length_exceeded"), errors.ContextLengthExceeded, False),
        (400, error_body("This model's maximum context length is 8192"), errors.ContextLengthExceeded, False),
        (400, error_body("no", code="content_filter"), errors.ContentFiltered, False),
        (401, error_body("Incorrect API key"), errors.ModelAuthError, False),
        (402, error_body("pay"), errors.ModelQuotaExceeded, False),
        (403, error_body("Forbidden"), errors.ModelAuthError, False),
        (404, error_body("no such model", code="model_not_found"), errors.ModelNotFound, False),
        (408, error_body("slow"), errors.ModelTimeout, True),
        (422, {"detail": [{"msg": "field required"}]}, errors.ModelBadRequest, False),
        (429, error_body("slow down"), errors.ModelRateLimited, True),
        (429, error_body("quota", code="insufficient_quota"), errors.ModelQuotaExceeded, False),
        (500, error_body("boom"), errors.ModelServerError, True),
        (500, {"error": "boom as text"}, errors.ModelServerError, True),
        (503, error_body("busy"), errors.ModelOverloaded, True),
        (529, error_body("busy"), errors.ModelOverloaded, True),
    ],
)
async def test_a_status_is_the_error_it_means(
    server: Server,
    model: OpenAIChat,
    stream: bool,
    status: int,
    body: Any,
    kind: type[errors.ModelError],
    retryable: bool,
):
    server.add(status=status, json=body, headers={"x-request-id": "req_9"})

    with pytest.raises(errors.ModelError) as caught:
        await collect(model, stream=stream)

    error = caught.value
    assert type(error) is kind
    assert (error.status, error.retryable, error.body, error.request_id) == (status, retryable, body, "req_9")
    assert (error.provider, error.model_id) == ("openai", "gpt-4.1")
    assert len(server.requests) == 1


async def test_the_providers_own_words_are_in_the_message(server: Server, model: OpenAIChat):
    server.add(status=400, json=error_body("bad schema", code="invalid_request_error"))

    with pytest.raises(errors.ModelBadRequest, match=r"openai:gpt-4.1: bad schema \(status 400\)") as caught:
        await collect(model)

    assert caught.value.code == "invalid_request_error"


async def test_a_call_the_provider_could_not_read_keeps_the_models_text(server: Server, model: OpenAIChat):
    text = '<function=get_time{"tz": "UTC"}</function>'
    server.add(status=400, json=error_body("Failed.", code="tool_use_failed", failed_generation=text))

    with pytest.raises(errors.ToolUseFailed) as caught:
        await collect(model)

    assert caught.value.failed_generation == text


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry-after": "7"}, 7.0, 7.0),
        ({"retry-after": "0.5"}, 0.5, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5, 1.5),
        ({"retry-after": "86400"}, 86400.0, 86400.0),
        ({"retry-after": "-3"}, 0.0, 0.0),
        ({"retry-after": formatdate(time.time() + 6000, usegmt=True)}, 5000.0, 6001.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0, 0.0),
    ],
)
async def test_the_wait_that_the_server_asked_for_is_reported(
    server: Server, model: OpenAIChat, headers: dict[str, str], low: float, high: float
):
    server.add(status=429, headers=headers, json=error_body("slow down"))

    with pytest.raises(errors.ModelRateLimited) as caught:
        await collect(model)

    assert caught.value.retry_after_s is not None
    assert low <= caught.value.retry_after_s <= high


@pytest.mark.parametrize("headers", [{}, {"retry-after": "soon"}])
async def test_a_wait_that_was_not_said_is_none(server: Server, model: OpenAIChat, headers: dict[str, str]):
    server.add(status=429, headers=headers, json=error_body("slow down"))

    with pytest.raises(errors.ModelRateLimited) as caught:
        await collect(model)

    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 502])
async def test_a_page_of_html_is_an_error_with_its_beginning(
    server: Server, model: OpenAIChat, stream: bool, status: int
):
    page = b"<html><body>Bad  gateway" + b"!" * 2000 + b"</body></html>"
    server.add(status=status, body=page, headers={"content-type": "text/html"})
    kind = errors.ModelResponseInvalid if status == 200 else errors.ModelServerError

    with pytest.raises(kind, match="<html><body>Bad gateway!!!") as caught:
        await collect(model, stream=stream)

    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{}]}, [], "text", {"choices": [{"message": 5}]}])
async def test_json_that_is_no_completion_is_an_error(server: Server, model: OpenAIChat, body: Any):
    server.add(json=body)

    with pytest.raises(errors.ModelResponseInvalid):
        await collect(model, stream=False)


async def test_a_stream_of_nothing_is_an_error(server: Server, model: OpenAIChat):
    server.add(body=b"data: [DONE]\n\n")

    with pytest.raises(errors.ModelResponseInvalid, match="without having any choices"):
        await collect(model)


async def test_a_server_that_is_not_there_is_a_connection_error_with_the_url(model: OpenAIChat):
    with pytest.raises(errors.ModelConnectionError, match=r"http://127.0.0.1:1/v1") as caught:
        await collect(model.copy(base_url="http://127.0.0.1:1/v1"))

    assert caught.value.retryable


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_connection_that_breaks_before_the_answer_is_a_connection_error(
    server: Server, model: OpenAIChat, stream: bool, end: Any
):
    server.add(body=[b""], end=end)

    with pytest.raises(errors.ModelConnectionError) as caught:
        await collect(model, stream=stream)

    assert caught.value.retryable


async def test_no_answer_in_time_is_a_timeout(server: Server, model: OpenAIChat):
    server.add(body=[server.gate()])

    with pytest.raises(errors.ModelTimeout):
        await collect(model.copy(timeout_s=0.05), stream=False)


async def test_the_servers_word_on_retrying_counts(server: Server, model: OpenAIChat):
    server.add(status=500, headers={"x-should-retry": "false"}, json=error_body("never"))

    with pytest.raises(errors.ModelServerError) as caught:
        await collect(model)

    assert not caught.value.retryable


# --- clients ---------------------------------------------------------------------------------------------------------


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def answer_all(server: Server) -> None:
    server.answer = lambda request: (
        Reply(body=chat_stream("a")) if request.json.get("stream") else Reply(json=completion("a"))
    )


def test_three_loops_in_a_row_leave_nothing_open(server: Server, model: OpenAIChat):
    answer_all(server)
    asyncio.run(collect(model))
    gc.collect()  # what earlier tests left must not be counted
    before = open_files()

    for _ in range(3):
        asyncio.run(collect(model))

    gc.collect()  # a ResourceWarning of anything that was left open would come here
    assert open_files() <= before
    server.wait_until(lambda: server.open_connections == 0)
    assert not any(loop.is_closed() for loop in _clients._of_loop)  # pyright: ignore[reportPrivateUsage]


def test_loops_in_several_threads_share_one_model(server: Server, model: OpenAIChat):
    answer_all(server)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: asyncio.run(collect(model)).text, range(8)))

    assert answers == ["a"] * 8


def test_a_loop_that_was_only_closed_is_forgotten(server: Server, model: OpenAIChat):
    answer_all(server)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(collect(model.copy(http_client=(client := httpx2.AsyncClient()))))
    loop.run_until_complete(client.aclose())
    loop.close()

    asyncio.run(collect(model))

    assert loop not in _clients._of_loop  # pyright: ignore[reportPrivateUsage]


async def test_models_alike_share_connections(server: Server):
    answer_all(server)
    for n in range(50):
        fresh = OpenAIChat(id="gpt-4.1", api_key=f"key-{n % 2}", base_url=f"{server.url}/v1", temperature=n / 50)
        await collect(fresh, stream=bool(n % 2))

    assert server.connections == 1
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer key-0", "Bearer key-1"}


async def test_closing_a_model_leaves_the_connections_of_others(server: Server, model: OpenAIChat):
    answer_all(server)
    other = model.copy()
    await collect(model)
    await collect(other)

    await model.aclose()
    await collect(other)
    assert server.connections == 1

    await other.aclose()
    await server.until(lambda: server.open_connections == 0)
    assert (await collect(model)).text == "a"


async def test_a_callers_http_client_is_used_and_not_closed(server: Server, model: OpenAIChat):
    answer_all(server)
    async with httpx2.AsyncClient(headers={"x-mine": "yes"}) as client:
        own = model.copy(http_client=client)
        await collect(own)
        await own.aclose()

        assert not client.is_closed
        assert server.requests[0].headers["x-mine"] == "yes"


async def test_a_callers_sdk_client_is_used_and_not_closed(server: Server):
    answer_all(server)
    async with openai.AsyncOpenAI(api_key="mine", base_url=f"{server.url}/mine", max_retries=5) as client:
        own = OpenAIChat(id="gpt-4.1", client=client)
        await collect(own)
        server.add(status=500, json=error_body("boom"))
        with pytest.raises(errors.ModelServerError):
            await collect(own)
        await own.aclose()

        assert not client.is_closed()
    assert [request.path for request in server.requests] == ["/mine/chat/completions"] * 2


async def test_an_azure_client_finds_its_deployment(server: Server):
    answer_all(server)
    async with openai.AsyncAzureOpenAI(api_key="k", azure_endpoint=server.url, api_version="2025-01-01") as client:
        await collect(OpenAIChat(id="my-deployment", client=client))

    assert server.requests[0].path == "/openai/deployments/my-deployment/chat/completions?api-version=2025-01-01"
    assert server.requests[0].headers["api-key"] == "k"


async def test_a_sync_client_is_refused():
    with (
        openai.OpenAI(api_key="k") as client,
        pytest.raises(errors.ConfigurationError, match=r"AsyncOpenAI\), not OpenAI"),
    ):
        await collect(OpenAIChat(id="gpt-4.1", client=client))


async def test_without_a_key_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(errors.ModelUnavailable, match="export OPENAI_API_KEY="):
        await collect(OpenAIChat(id="gpt-4.1"))


async def test_a_key_that_is_set_later_is_found(server: Server, monkeypatch: pytest.MonkeyPatch):
    answer_all(server)
    model = OpenAIChat(id="gpt-4.1", base_url=f"{server.url}/v1")
    for key in ("first", "second"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        await collect(model)

    assert [request.headers["authorization"] for request in server.requests] == ["Bearer first", "Bearer second"]


async def test_without_the_sdk_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openai", None)

    with pytest.raises(errors.ModelUnavailable, match="pip install openai"):
        await collect(OpenAIChat(id="gpt-4.1", api_key="k", base_url="http://127.0.0.1:1/none"))


async def test_an_api_key_may_be_a_callable(server: Server, model: OpenAIChat):
    answer_all(server)

    async def key() -> str:
        return "fresh"

    await collect(model.copy(api_key=key))

    assert server.requests[0].headers["authorization"] == "Bearer fresh"


def test_importing_the_adapter_does_not_import_the_sdk():
    code = (
        "import sys; from agentrt.models.openai import OpenAIChat; OpenAIChat(id='gpt-4.1');"
        "print([m for m in ('openai', 'httpx2', 'pydantic', 'anthropic') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
