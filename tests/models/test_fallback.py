from __future__ import annotations

import logging
from typing import Any

import pytest

from agentrt import Agent, errors
from agentrt.models.anthropic import Claude
from agentrt.models.base import Capabilities
from agentrt.models.fallback import FallbackModel
from agentrt.models.message import Message
from agentrt.models.openai import OpenAIChat
from agentrt.testing import ScriptedModel, forbid_model_requests, reply
from tests.cases.kit import add_chat, add_claude, all_ways, claude, go, is_streamed, openai, text_block, use_block, ways
from tests.http_server import Reply, Server, chat_chunk, sse, sse_events


def refusal(status: int, message: str = "no", **error: Any) -> dict[str, Any]:
    return {"status": status, "json": {"error": {"message": message, **error}}}


def both(server: Server, **options: Any) -> FallbackModel:
    return FallbackModel(openai(server, max_retries=0), claude(server, max_retries=0), **options)


def paths(server: Server) -> list[str]:
    return [request.path.rpartition("/")[2] for request in server.requests]


@all_ways
@pytest.mark.parametrize("status", [429, 500, 503, 529, 408])
async def test_the_next_model_answers_when_the_first_is_in_trouble(server: Server, way: str, status: int) -> None:
    server.add(**refusal(status))
    add_claude(server, way, text_block("Fine"))
    outcome = await go(Agent(model=both(server)), way)

    assert outcome.response.content == "Fine" and outcome.error is None
    assert paths(server) == ["completions", "messages"]


@ways
async def test_events_and_response_name_the_model_that_answered(server: Server, way: str) -> None:
    server.add(**refusal(503))
    add_claude(server, way, text_block("Fine"))
    outcome = await go(Agent(model=both(server)), way)

    assert (outcome.response.model_provider, outcome.response.model) == ("anthropic", "claude-test")
    if is_streamed(way):
        names = [getattr(event, "model", None) for event in outcome.events if event.event.startswith("ModelCall")]
        assert names == ["openai:test-model", "anthropic:claude-test"]


@ways
async def test_each_model_gets_its_own_parts_back(server: Server, way: str) -> None:
    thinking = {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}
    server.add(**refusal(503))
    add_claude(server, way, thinking, use_block("toolu_1", "now"))
    server.add(**refusal(503))
    add_claude(server, way, text_block("Noon"))

    def now() -> str:
        """Tell the time."""
        return "12:00"

    outcome = await go(Agent(model=both(server), tools=[now]), way)

    assert outcome.response.content == "Noon"
    assert outcome.response.messages[1].provider == "anthropic"
    assert server.bodies[3]["messages"][1]["content"][0] == thinking  # to Claude, as it wrote it
    assert "c2ln" not in str(server.bodies[2])  # to OpenAI, without


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_what_is_wrong_with_the_request_is_not_asked_of_another(server: Server, status: int) -> None:
    server.add(**refusal(status, "as it happens"))
    outcome = await go(Agent(model=both(server)), "streamed")

    assert "as it happens" in str(outcome.error) and len(server.requests) == 1


async def test_the_kinds_of_errors_can_be_chosen(server: Server) -> None:
    server.add(**refusal(401))
    add_claude(server, "plain", text_block("Fine"))
    model = both(server, on=(errors.ModelAuthError,))

    assert (await go(Agent(model=model), "plain")).response.content == "Fine"

    server.add(**refusal(503))
    assert isinstance((await go(Agent(model=model), "plain")).error, errors.ModelOverloaded)


async def test_a_broken_connection_is_trouble(server: Server) -> None:
    nobody = openai(server, base_url="http://127.0.0.1:9", max_retries=0)
    add_claude(server, "plain", text_block("Fine"))

    response = await Agent(model=FallbackModel(nobody, claude(server))).arun("hi")
    assert response.content == "Fine"


async def test_a_model_makes_its_own_retries_first(server: Server) -> None:
    for _ in range(3):
        server.add(**refusal(503))
    add_claude(server, "plain", text_block("Fine"))
    model = FallbackModel(openai(server, max_retries=2), claude(server))

    assert (await go(Agent(model=model), "plain")).response.content == "Fine"
    assert paths(server) == ["completions"] * 3 + ["messages"]


async def test_a_wait_that_is_too_long_for_a_model_is_the_end_of_its_retries(server: Server) -> None:
    server.add(**refusal(429), headers={"retry-after": "86400"})
    add_claude(server, "plain", text_block("Fine"))

    model = FallbackModel(openai(server, max_retries=2), claude(server))
    assert (await go(Agent(model=model), "plain")).response.content == "Fine"


async def test_after_the_first_delta_no_other_model_is_asked(server: Server) -> None:
    server.add(body=sse(chat_chunk({"content": "Half"}), {"error": {"message": "gone", "code": 503}}))
    outcome = await go(Agent(model=both(server)), "streamed")

    assert isinstance(outcome.error, errors.ModelOverloaded)
    assert outcome.texts == ["Half"] and len(server.requests) == 1


async def test_an_error_after_nothing_but_usage_moves_on(server: Server) -> None:
    start = {"type": "message_start", "message": {"id": "msg_1", "model": "claude-test", "usage": {"input_tokens": 9}}}
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    server.add(body=sse_events(start, overloaded))
    add_chat(server, "streamed", "Fine")
    model = FallbackModel(claude(server, max_retries=0), openai(server))
    outcome = await go(Agent(model=model), "streamed")

    assert outcome.response.content == "Fine"
    assert outcome.response.usage.input_tokens == 12  # the one that answered


async def test_when_all_fail_the_last_error_is_raised_and_tells_of_the_others(server: Server) -> None:
    server.add(**refusal(503, "first is busy"))
    server.add(json={"type": "error", "error": {"type": "api_error", "message": "second broke"}}, status=500)
    outcome = await go(Agent(model=both(server)), "plain")

    assert isinstance(outcome.error, errors.ModelServerError) and "second broke" in str(outcome.error)
    assert "first is busy" in outcome.error.__notes__[0]
    assert len(server.requests) == 2


async def test_with_retries_of_its_own_it_goes_through_its_models_again(server: Server) -> None:
    for _ in range(2):
        server.add(**refusal(503))
    add_chat(server, "plain", "Fine")
    outcome = await go(Agent(model=both(server, max_retries=1, retry_delay_s=0.001)), "plain")

    assert outcome.response.content == "Fine"
    assert paths(server) == ["completions", "messages", "completions"]


@ways
async def test_a_slow_model_is_given_up_for_the_next(server: Server, way: str) -> None:
    option = "first_token_timeout_s" if is_streamed(way) else "timeout_s"
    add_claude(server, way, text_block("Fine"))
    with Server() as silent:
        silent.answer = lambda _: Reply(body=[silent.gate()])
        slow = openai(silent, max_retries=0, **{option: 0.05})
        outcome = await go(Agent(model=FallbackModel(slow, claude(server))), way)

    assert outcome.response.content == "Fine"


async def test_each_of_its_models_is_asked_whether_it_is_for_tests() -> None:
    with forbid_model_requests(), ScriptedModel(errors.ModelOverloaded("busy"), max_retries=0) as scripted:
        agent = Agent(model=FallbackModel(scripted, OpenAIChat(api_key="test")))
        with pytest.raises(errors.ConfigurationError, match=r"openai:gpt-4\.1"):
            await agent.arun("hi")


async def test_moving_on_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    first = ScriptedModel(errors.ModelOverloaded("busy"), max_retries=0)
    with caplog.at_level(logging.WARNING, "agentrt"):
        await Agent(model=FallbackModel(first, ScriptedModel(reply("Fine")))).arun("hi")

    assert "busy" in caplog.text and "asking the next model" in caplog.text


def test_it_takes_what_all_of_its_models_take() -> None:
    model = FallbackModel(OpenAIChat(id="gpt-4.1"), Claude(id="claude-3-5-sonnet-latest"))

    assert not model.capable().output_schema and not model.capable().json_mode
    assert model.capable().tools
    assert model.copy(capabilities=Capabilities()).capable().json_mode


def test_models_may_be_names() -> None:
    model = FallbackModel("openai:gpt-4.1", "anthropic:claude-sonnet-4-5")

    assert [one.provider for one in model.models] == ["openai", "anthropic"]
    assert (model.provider, model.id) == ("openai", "gpt-4.1")


def test_without_models_it_is_refused() -> None:
    with pytest.raises(errors.ConfigurationError, match="FallbackModel"):
        FallbackModel()


async def test_one_in_another_names_the_one_that_answered(server: Server) -> None:
    server.add(**refusal(503))
    server.add(**refusal(503))
    add_claude(server, "plain", text_block("Fine"))
    inner = FallbackModel(openai(server, max_retries=0), claude(server))
    response = await Agent(model=FallbackModel(openai(server, max_retries=0), inner)).arun(Message.of("hi"))

    assert response.model_provider == "anthropic"
