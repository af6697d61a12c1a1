"""F37: a member fails; members know their place. What needs no provider is in tests/team."""

from __future__ import annotations

import json
from typing import Any

from agentrt import Agent, RunStatus, Team
from tests.cases.kit import Outcome, go, is_streamed, openai, ways
from tests.cases.pairing import check_chat, tool_messages
from tests.http_server import Reply, Request, Server, chat_chunk, completion, sse
from tests.scripted_chat import streamed


def serve(server: Server, anns: Any) -> None:
    """A leader that asks ann and then answers, and ann, who answers so. They are told apart by what they are asked."""

    def answer(request: Request) -> Reply:
        body: dict[str, Any] = request.json
        if body["messages"][-1]["content"] == "for ann":
            return anns(body)
        if body["messages"][-1]["role"] == "tool":
            whole = completion("told")
        else:
            arguments = json.dumps({"member": "ann", "task": "for ann"})
            whole = completion(tool_calls=[{"id": "c1", "name": "delegate_to_member", "arguments": arguments}])
        return streamed(whole) if body.get("stream") else Reply(json=whole)

    server.answer = answer


def team(server: Server) -> Team[Any]:
    members = [Agent(name=name, model=openai(server, max_retries=0)) for name in ("ann", "bob")]
    return Team(name="team", members=members, model=openai(server))


def check(server: Server, outcome: Any, told: str) -> None:
    assert outcome.error is None and outcome.response.content == "told"
    assert outcome.response.member_responses[0].status is RunStatus.FAILED
    last = server.bodies[-1]
    check_chat(last)
    text = tool_messages(last)["c1"]
    assert "ann" in text and told in text and "Half" not in text


@ways
async def test_a_members_failure_is_told_to_the_leader(server: Server, way: str) -> None:
    serve(server, lambda body: Reply(status=500, json={"error": {"message": "the backend is down"}}))
    outcome = await run(server, way)
    check(server, outcome, "the backend is down")


async def test_what_a_member_said_before_it_failed_is_no_answer(server: Server) -> None:
    serve(server, lambda body: Reply(body=sse(chat_chunk({"content": "Half"}), done=False)))
    outcome = await run(server, "streamed")
    check(server, outcome, "ModelStreamInterrupted")
    assert "Half" in [event.content for event in outcome.events if event.event == "RunContent"]


@ways
async def test_an_empty_answer_is_told_as_one(server: Server, way: str) -> None:
    def empty(body: dict[str, Any]) -> Reply:
        whole = completion(None)
        return streamed(whole) if body.get("stream") else Reply(json=whole)

    serve(server, empty)
    await run(server, way)
    assert tool_messages(server.bodies[-1])["c1"] == "'ann' gave an empty answer."


@ways
async def test_members_are_given_no_delegation_tool(server: Server, way: str) -> None:
    serve(server, lambda body: streamed(completion("ok")) if body.get("stream") else Reply(json=completion("ok")))
    await run(server, way)
    by_last = {body["messages"][-1]["content"]: body.get("tools", []) for body in server.bodies}
    assert by_last["for ann"] == []
    assert json.dumps(by_last["hi"]).count("delegate_to_member") == 1


async def run(server: Server, way: str) -> Any:
    """As `go`, whose checks of events are for one run alone."""
    if not is_streamed(way):
        return await go(team(server), way)
    events: list[Any] = [event async for event in team(server).arun("hi", stream=True, stream_intermediate_steps=True)]
    return Outcome(events[-1].response, events=events)
