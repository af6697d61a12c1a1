"""F22: the output limit is reached inside a tool call."""

from __future__ import annotations

import pytest

from agentrt import Agent, RunStatus, errors
from tests.cases.kit import (
    add_chat,
    add_claude,
    all_ways,
    call,
    claude,
    go,
    is_streamed,
    openai,
    text_block,
    use_block,
    ways,
)
from tests.cases.pairing import check_chat, check_claude
from tests.http_server import Server, sse_events

CUT = '{"html": "<p>lo'


class Pages:
    def __init__(self) -> None:
        self.written: list[str] = []

    def write_page(self, html: str = "") -> str:
        self.written.append(html)
        return "written"


def add_cut(server: Server, way: str, provider: str, arguments: str) -> None:
    if provider == "openai":
        add_chat(server, way, "Writing the page.", calls=[call("c1", "write_page", arguments)], finish="length")
    elif is_streamed(way):
        server.add(
            body=sse_events(
                {"type": "message_start", "message": {"content": [], "model": "m", "usage": {"input_tokens": 50}}},
                {"type": "content_block_start", "index": 0, "content_block": text_block("")},
                {"type": "content_block_delta", "index": 0,
                 "delta": {"type": "text_delta", "text": "Writing the page."}},
                {"type": "content_block_stop", "index": 0},
                {"type": "content_block_start", "index": 1, "content_block": use_block("toolu_1", "write_page")},
                {"type": "content_block_delta", "index": 1,
                 "delta": {"type": "input_json_delta", "partial_json": arguments}},
                {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 4096}},
                {"type": "message_stop"},
            )
        )  # fmt: skip
    else:
        add_claude(server, way, text_block("Writing the page."), use_block("toolu_1", "write_page"), stop="max_tokens")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("arguments", [CUT, "", '{"html": "<p>looks complete"}'])
@all_ways
async def test_the_tool_is_not_called_and_the_limit_is_named(
    server: Server, way: str, provider: str, arguments: str
) -> None:
    pages = Pages()
    model = openai(server) if provider == "openai" else claude(server)
    agent = Agent(model=model, tools=[pages.write_page], session_id="s", add_history_to_messages=True)
    add_cut(server, way, provider, arguments)
    outcome = await go(agent, way)

    assert pages.written == [] and len(server.requests) == 1
    assert isinstance(outcome.error, errors.OutputTruncated)
    assert "output-token limit" in str(outcome.error) and "write_page" in str(outcome.error)
    assert outcome.response.status is RunStatus.FAILED and "limit" in (outcome.response.error or "")
    assert outcome.response.content == "Writing the page."

    if provider == "openai":
        add_chat(server, way, "Fine.")
    else:
        add_claude(server, way, text_block("Fine."))
    assert (await go(agent, way, "again")).response.content == "Fine."
    (check_chat if provider == "openai" else check_claude)(server.bodies[1])


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "model_length"])
@all_ways
async def test_a_text_that_was_cut_says_so(server: Server, way: str, finish: str) -> None:
    add_chat(server, way, "Once upon", finish=finish)
    outcome = await go(Agent(model=openai(server)), way)

    assert outcome.response.content == "Once upon" and outcome.response.status is RunStatus.COMPLETED
    assert outcome.response.finish_reason == "length" and outcome.response.stop_reason == "output_limit"


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded"])
@ways
async def test_a_text_of_anthropics_that_was_cut_says_so(server: Server, way: str, stop: str) -> None:
    add_claude(server, way, text_block("Once upon"), stop=stop)
    outcome = await go(Agent(model=claude(server)), way)

    assert outcome.response.content == "Once upon"
    assert outcome.response.finish_reason == "length" and outcome.response.stop_reason == "output_limit"


@ways
async def test_a_limit_used_up_by_thinking_is_no_ordinary_empty_answer(server: Server, way: str) -> None:
    add_chat(server, way, "", finish="length", reasoning="thinking and thinking")
    outcome = await go(Agent(model=openai(server)), way)

    assert outcome.response.content == "" and outcome.response.stop_reason == "output_limit"
