"""A request that is not the first of its kind is what the SDK would have sent: see `agentrt/models/_sending.py`."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anthropic
import openai
import pytest

from agentrt import errors
from agentrt.models import _clients, _sending
from agentrt.models._http import SDKModel
from agentrt.models.anthropic import Claude
from agentrt.models.message import Message
from agentrt.models.openai import OpenAIChat, OpenAIResponses
from tests.http_server import Reply, Server, completion
from tests.models.collect import collect
from tests.models.raw_server import Peer, listening

MODELS: dict[str, Callable[..., SDKModel]] = {
    "chat": lambda **options: OpenAIChat(id="gpt-4.1", **options),
    "responses": lambda **options: OpenAIResponses(id="gpt-4.1", **options),
    "claude": lambda **options: Claude(id="claude-sonnet-4-6", betas=["one"], **options),
}


@pytest.fixture(params=list(MODELS))
def make(request: pytest.FixtureRequest) -> Callable[..., SDKModel]:
    return MODELS[request.param]


@pytest.fixture
def model(server: Server) -> OpenAIChat:
    server.answer = lambda request: Reply(json=completion("a"))
    return OpenAIChat(id="gpt-4.1", api_key="k", base_url=f"{server.url}/v1")


async def ask(model: SDKModel, text: str = "hello", *, stream: bool = False) -> None:
    """The answer may be one that this model's provider does not give: it is the request that counts here."""
    with suppress(errors.ModelResponseInvalid):
        await collect(model, stream=stream, messages=[Message(role="user", content=text)])


async def prepared(sdk: Any) -> int:
    """How many kinds of request the SDK clients of this loop are not asked for any more."""
    clients = (await _clients.loop_clients())._sdk_clients  # pyright: ignore[reportPrivateUsage]
    return sum(len(found.prepared) for found in clients.values() if isinstance(found.client, sdk))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("options", [{}, {"timeout_s": 5}, {"extra_headers": {"X-Mine": "1", "Accept": "a/b"}}])
async def test_it_is_the_same_to_the_byte(make: Any, stream: bool, options: dict[str, Any]):
    texts = ["hello", "something\nelse \u2014 \U0001d11e", "hello"]
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    async with listening(peer := Peer(*[answer] * len(texts))) as url:
        for text in texts:
            await ask(make(api_key="k", base_url=url, **options), text, stream=stream)

        kind = anthropic.AsyncAnthropic if make is MODELS["claude"] else openai.AsyncOpenAI
        async with kind(api_key="k", base_url=url) as client:
            for text in texts:
                await ask(make(client=client, **options), text, stream=stream)

    assert await prepared(kind) == 1
    assert peer.requests[:3] == peer.requests[3:]
    assert peer.requests[0] == peer.requests[2] != peer.requests[1]


async def test_cookies_go_along(server: Server, model: OpenAIChat):
    server.add(json=completion("a"), headers={"set-cookie": "who=me; Path=/"})
    for _ in range(3):
        await ask(model)

    assert [request.headers.get("cookie") for request in server.requests] == [None, "who=me", "who=me"]


@pytest.mark.parametrize("name", ["chat", "claude"])
async def test_its_errors_are_the_sdks_as_well(server: Server, name: str):
    model = MODELS[name](api_key="k", base_url=server.url)
    sdk = anthropic if name == "claude" else openai
    server.add(json={})
    await ask(model)
    server.add(status=429, headers={"retry-after": "7"}, json={"error": {"message": "slow down"}})
    server.add(body=[b""], end="reset")

    with pytest.raises(errors.ModelRateLimited, match="slow down") as caught:
        await collect(model, stream=False)
    with pytest.raises(errors.ModelConnectionError, match=server.url) as broken:
        await collect(model, stream=False)

    assert await prepared((openai.AsyncOpenAI, anthropic.AsyncAnthropic)) == 1
    assert caught.value.retry_after_s == 7
    assert isinstance(caught.value.__cause__, sdk.RateLimitError)
    assert isinstance(broken.value.__cause__, sdk.APIConnectionError)


async def test_its_timeout_is_the_sdks_as_well(server: Server, model: OpenAIChat):
    quick = model.copy(timeout_s=1)
    await ask(quick)
    server.add(body=[server.gate()])

    with pytest.raises(errors.ModelTimeout) as caught:
        await collect(quick, stream=False)
    assert await prepared(openai.AsyncOpenAI) == 1
    assert isinstance(caught.value.__cause__, openai.APITimeoutError)


async def test_what_only_the_sdk_can_encode_is_left_to_it(server: Server, model: OpenAIChat):
    day = datetime.datetime(2026, 1, 2)
    await ask(model)
    await ask(model.copy(extra_body={"day": day}))

    assert server.requests[1].json["day"] == day.isoformat()


async def test_half_a_surrogate_pair_does_not_fail_it(server: Server, model: OpenAIChat):
    for text in ("hello", "\ud83d half"):
        await ask(model, text)

    assert server.requests[1].json["messages"][0]["content"] == "\ufffd half"


async def test_the_sdks_log_is_complete_while_it_is_wanted(
    server: Server, model: OpenAIChat, caplog: pytest.LogCaptureFixture
):
    await ask(model)
    with caplog.at_level(logging.DEBUG, "openai"):
        await ask(model)

    assert any("Sending HTTP Request" in record.getMessage() for record in caplog.records)


async def test_a_redirected_request_asks_the_first_server_again(server: Server, model: OpenAIChat):
    for _ in range(2):
        server.add(status=307, headers={"location": "/elsewhere"}, json={})
        server.add(json=completion("a"))
        await ask(model)

    assert [request.path for request in server.requests] == ["/v1/chat/completions", "/elsewhere"] * 2


async def test_headers_that_are_new_each_time_do_not_pile_up(server: Server, model: OpenAIChat):
    for number in range(_sending.MAX_PREPARED + 3):
        await ask(model.copy(extra_headers={"X-Number": str(number)}))

    assert await prepared(openai.AsyncOpenAI) == _sending.MAX_PREPARED
    assert [request.headers["x-number"] for request in server.requests] == [str(n) for n in range(35)]


@pytest.mark.parametrize("options", [{"extra_query": {"a": "b"}}, {"api_key": "callable"}, {"client": True}])
async def test_a_request_that_may_be_another_each_time_is_the_sdks(
    server: Server, model: OpenAIChat, options: dict[str, Any]
):
    keys = iter(["one", "two"])

    async def key() -> str:
        return next(keys)

    async with openai.AsyncOpenAI(api_key="k", base_url=model.base_url) as client:
        if "client" in options:
            options = {"client": client}
        own = model.copy(**(options if "api_key" not in options else {"api_key": key}))
        for _ in range(2):
            await ask(own)

    assert await prepared(openai.AsyncOpenAI) == 0
    assert len(server.requests) == 2
    if "api_key" in options:
        assert [request.headers["authorization"] for request in server.requests] == ["Bearer one", "Bearer two"]


async def test_one_that_agentrt_made_is_used_by_all_at_once(server: Server, model: OpenAIChat):
    await asyncio.gather(*[ask(model, str(number)) for number in range(20)])

    assert sorted(int(request.json["messages"][0]["content"]) for request in server.requests) == list(range(20))
