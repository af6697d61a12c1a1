"""F14: model-typed parameters and postponed annotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentrt import Agent, RunContext, tool
from tests.cases import typed_tools
from tests.cases.kit import add_chat, call, go, openai, ways
from tests.cases.pairing import check_chat, tool_messages
from tests.cases.typed_tools import Callable_, Kit, Search, partly, t1, t2, t3, t4, t5, t6, t7, wrapped
from tests.http_server import Server


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    typed_tools.seen.clear()
    yield
    typed_tools.seen.clear()


@tool
def marked(req: Search) -> str:
    return f"{req.query}:{req.limit}"


KINDS: dict[str, Any] = {
    "t1": t1, "t2": t2, "t3": t3, "t4": t4, "limited": partly, "Callable_": Callable_(), "method": Kit().method,
    "of_class": Kit.of_class, "plain": Kit.plain, "marked": marked,
}  # fmt: skip


@ways
async def test_every_kind_of_callable_gets_an_instance(server: Server, way: str) -> None:
    add_chat(server, way, calls=[call(f"c_{name}", name, {"req": {"query": "tide"}}) for name in KINDS])
    add_chat(server, way, "done")
    await go(Agent(model=openai(server), tools=list(KINDS.values())), way)

    check_chat(server.bodies[1])
    assert tool_messages(server.bodies[1]) == {f"c_{name}": "tide:5" for name in KINDS}


async def test_an_async_function_behind_a_decorator_gets_an_instance(server: Server) -> None:
    add_chat(server, "plain", calls=[call("c1", "t2", {"req": '{"query": "tide", "limit": "3"}'})])
    add_chat(server, "plain", "done")
    await go(Agent(model=openai(server), tools=[wrapped]), "plain")

    assert tool_messages(server.bodies[1]) == {"c1": "tide:3"}


@ways
async def test_instances_arrive_in_lists_and_unions(server: Server, way: str) -> None:
    given = {"reqs": [{"query": "a"}, {"query": "b", "limit": 1}], "best": {"query": "c"}}
    add_chat(server, way, calls=[call("c1", "t5", given), call("c2", "t5", {"reqs": []})])
    add_chat(server, way, "done")
    await go(Agent(model=openai(server), tools=[t5]), way)

    assert tool_messages(server.bodies[1]) == {"c1": "2", "c2": "0"}
    assert ([Search(query="a"), Search(query="b", limit=1)], Search(query="c")) in typed_tools.seen


@ways
async def test_what_lacks_a_member_is_told_and_the_body_not_entered(server: Server, way: str) -> None:
    wrong = [call("c1", "t1", {"req": {"limit": 2}}), call("c2", "t5", {"reqs": [{"query": "a"}, {"limit": 1}]})]
    add_chat(server, way, calls=wrong)
    add_chat(server, way, "done")
    await go(Agent(model=openai(server), tools=[t1, t5]), way)

    told = tool_messages(server.bodies[1])
    assert "query" in told["c1"] and "query" in told["c2"]
    assert typed_tools.seen == []


@pytest.mark.parametrize(("function", "name"), [(t6, "t6"), (t7, "t7")])
@ways
async def test_a_context_known_to_type_checkers_alone_is_injected(
    server: Server, way: str, function: Any, name: str
) -> None:
    add_chat(server, way, calls=[call("c1", name, {"text": "x"})])
    add_chat(server, way, "done")
    outcome = await go(Agent(model=openai(server), tools=[function]), way)

    schema = server.bodies[0]["tools"][0]["function"]["parameters"]
    assert list(schema["properties"]) == ["text"] and schema["required"] == ["text"]
    assert tool_messages(server.bodies[1]) == {"c1": "x"}
    assert isinstance(typed_tools.seen[0], RunContext) and typed_tools.seen[0].run_id == outcome.response.run_id


async def test_the_model_cannot_fill_what_is_injected(server: Server) -> None:
    add_chat(server, "plain", calls=[call("c1", "t6", {"text": "x", "ctx": {"user_id": "admin"}})])
    add_chat(server, "plain", "done")
    await go(Agent(model=openai(server), tools=[t6]), "plain", user_id="u1")

    assert typed_tools.seen[0].user_id == "u1"
