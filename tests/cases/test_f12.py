"""F12: mistakes of the model are answered, not raised, and are bounded."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent, RunLimits, RunStatus, errors
from agentrt.run.model_call import TOOL_USE_ATTEMPTS
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
from tests.cases.pairing import check_chat, check_claude, tool_messages, tool_results
from tests.http_server import Reply, Request, Server, chat_chunk, completion, sse


def get_time(tz: str) -> str:
    return f"noon in {tz}"


def look_up(word: str) -> str:
    return word


@all_ways
async def test_an_unknown_tool_is_answered_with_the_names_there_are(server: Server, way: str) -> None:
    add_chat(server, way, calls=[call("c1", "get_time", {"tz": "UTC"}), call("c2", "get_tiem", {"tz": "CET"})])
    add_chat(server, way, "done")
    outcome = await go(Agent(model=openai(server), tools=[get_time, look_up]), way)

    assert outcome.response.content == "done"
    check_chat(server.bodies[1])
    told = tool_messages(server.bodies[1])
    assert told["c1"] == "noon in UTC"
    assert "get_tiem" in told["c2"] and "get_time" in told["c2"] and "look_up" in told["c2"]


@ways
async def test_calls_without_any_tools_are_answered(server: Server, way: str) -> None:
    add_chat(server, way, calls=[call("c1", "search")])
    add_chat(server, way, "done")
    outcome = await go(Agent(model=openai(server)), way)

    assert outcome.response.content == "done"
    check_chat(server.bodies[1])


@ways
async def test_an_unknown_tool_over_anthropic_is_an_error_result(server: Server, way: str) -> None:
    add_claude(server, way, use_block("t1", "get_time", tz="UTC"), use_block("t2", "get_tiem", tz="CET"))
    add_claude(server, way, text_block("done"))
    await go(Agent(model=claude(server), tools=[get_time]), way)

    check_claude(server.bodies[1])
    assert tool_results(server.bodies[1])["t2"]["is_error"] is True


TOOL_USE_FAILED = {
    "error": {
        "message": "Failed to call a function.",
        "type": "invalid_request_error",
        "code": "tool_use_failed",
        "failed_generation": '<function=get_time{"tz": "UTC"}</function>',
    }
}


@all_ways
async def test_a_call_its_provider_could_not_read_is_asked_for_again(server: Server, way: str) -> None:
    server.add(status=400, json=TOOL_USE_FAILED)
    add_chat(server, way, "done")
    outcome = await go(Agent(model=openai(server, max_retries=0), tools=[get_time]), way)

    assert outcome.response.content == "done" and len(server.requests) == 2
    last = server.bodies[1]["messages"][-1]
    assert "Failed to call a function." in last["content"] and "<function=get_time" in last["content"]
    assert [m.role for m in outcome.response.messages] == ["user", "assistant"]  # the exchange is not kept


@all_ways
async def test_asking_again_ends(server: Server, way: str) -> None:
    server.answer = lambda request: Reply(status=400, json=TOOL_USE_FAILED)
    outcome = await go(Agent(model=openai(server), tools=[get_time]), way)

    assert isinstance(outcome.error, errors.ToolUseFailed)
    assert len(server.requests) == 1 + TOOL_USE_ATTEMPTS
    assert "Failed to call a function." in (outcome.response.error or "")


@pytest.mark.parametrize("code", ["tool_use_failed"])
async def test_a_failure_to_read_a_call_inside_a_stream_is_asked_for_again_too(server: Server, code: str) -> None:
    server.add(body=sse(TOOL_USE_FAILED))
    add_chat(server, "streamed", "done")
    outcome = await go(Agent(model=openai(server), tools=[get_time]), "streamed")

    assert outcome.response.content == "done" and len(server.requests) == 2


class Steps:
    def __init__(self) -> None:
        self.done = 0

    def step(self) -> str:
        self.done += 1
        return f"step {self.done}"


def always(way: str, *names: str) -> Any:
    def answer(request: Request) -> Reply:
        number = len(request.json["messages"])
        calls = [call(f"c{number}_{at}", name) for at, name in enumerate(names)]
        if is_streamed(way):
            deltas = [{"index": at, **one} for at, one in enumerate(calls)]
            return Reply(body=sse(chat_chunk({"tool_calls": deltas}), chat_chunk({}, "tool_calls")))
        body = completion(finish_reason="tool_calls")
        body["choices"][0]["message"]["tool_calls"] = calls
        return Reply(json=body)

    return answer


@pytest.mark.parametrize("choice", [None, "step", "required"])
@pytest.mark.parametrize("names", [["step"], ["step"] * 3])
@all_ways
async def test_a_tool_call_limit_holds_however_the_model_insists(
    server: Server, way: str, names: list[str], choice: Any
) -> None:
    server.answer = always(way, *names)
    steps = Steps()
    agent = Agent(
        model=openai(server), tools=[steps.step], tool_call_limit=2, tool_choice=choice, session_id="s",
        add_history_to_messages=True,
    )  # fmt: skip
    outcome = await go(agent, way)

    assert steps.done == 2
    assert len(server.requests) <= 4
    for body in server.bodies:
        check_chat(body)
    assert isinstance(outcome.error, errors.LimitReached) and "2 tool calls" in str(outcome.error)
    assert outcome.response.status is RunStatus.FAILED
    forced = [body.get("tool_choice") for body in server.bodies]
    assert forced[-1] in (None, "none", "auto")
    assert forced[0] == ({"type": "function", "function": {"name": "step"}} if choice == "step" else choice)
    assert not [value for value in forced[1:] if value not in (None, "none", "auto")]

    server.answer = lambda request: Reply(json=completion("fine"))
    again = await go(agent, "plain", "go on")
    assert again.response.content == "fine"
    check_chat(server.bodies[-1])


@ways
async def test_a_model_that_heeds_the_limit_ends_with_a_reason(server: Server, way: str) -> None:
    steps = Steps()
    add_chat(server, way, calls=[call(f"c{at}", "step") for at in range(4)])
    add_chat(server, way, "as far as I got")
    outcome = await go(Agent(model=openai(server), tools=[steps.step], tool_call_limit=2), way)

    assert steps.done == 2 and outcome.error is None
    assert outcome.response.content == "as far as I got"
    assert outcome.response.stop_reason == "tool_call_limit" != "end"
    check_chat(server.bodies[1])
    assert sum("limit" in text for text in tool_messages(server.bodies[1]).values()) == 2


@pytest.mark.parametrize("name", ["step", "no_such_tool"])
async def test_without_a_limit_there_is_a_finite_one(server: Server, name: str) -> None:
    server.answer = always("plain", name)
    outcome = await go(Agent(model=openai(server), tools=[Steps().step]), "plain")

    assert isinstance(outcome.error, errors.LimitReached)
    assert len(server.requests) == RunLimits().model_calls


@ways
async def test_the_limit_holds_over_anthropic_too(server: Server, way: str) -> None:
    steps = Steps()
    for at in range(4):
        add_claude(server, way, use_block(f"t{at}", "step"))
    agent = Agent(model=claude(server), tools=[steps.step], tool_call_limit=2, tool_choice="required")
    outcome = await go(agent, way)

    assert steps.done == 2 and len(server.requests) == 4
    assert isinstance(outcome.error, errors.LimitReached)
    for body in server.bodies:
        check_claude(body)
    assert [body.get("tool_choice") for body in server.bodies] == [{"type": "any"}, None, None, {"type": "none"}]
