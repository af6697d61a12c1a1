"""F11: argument values that do not fit the annotation."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt import Agent
from tests.cases.kit import add_chat, add_claude, all_ways, call, claude, go, openai, text_block, use_block, ways
from tests.cases.pairing import check_chat, check_claude, tool_messages, tool_results
from tests.http_server import Server

FINE = {"city": "Bergen"}


class Hotel:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def book(
        self,
        city: str,
        nights: int = 2,
        opts: dict | None = None,  # pyright: ignore[reportMissingTypeArgument]  as users write it
        tags: list[str] = [],  # noqa: B006  as users write it
        note: str = "",
    ) -> str:
        self.calls.append((city, nights, opts, tags, note))
        return "ok"


ROWS: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({"city": "Oslo", "nights": "3"}, ("Oslo", 3, None, [], "")),
    ({"city": "Oslo", "nights": 3.0}, ("Oslo", 3, None, [], "")),
    ({"city": "Oslo", "nights": None}, ("Oslo", 2, None, [], "")),
    ({"city": "Oslo", "nights": None, "opts": None, "tags": None, "note": None}, ("Oslo", 2, None, [], "")),
    ({"city": "Oslo", "opts": '{"late":true}'}, ("Oslo", 2, {"late": True}, [], "")),
    ({"city": "Oslo", "tags": '["a","b"]'}, ("Oslo", 2, None, ["a", "b"], "")),
    ({"city": "Oslo", "note": '{"late":true}'}, ("Oslo", 2, None, [], '{"late":true}')),
    ({"city": "[1]", "note": "null"}, ("[1]", 2, None, [], "null")),
    ({"city": "Oslo", "opts": None}, ("Oslo", 2, None, [], "")),
    ({"city": "Oslo", "zone": "B"}, ("Oslo", 2, None, [], "")),
    ({"city": "Oslo", "self": "x", "opts": {"deep": [{"er": 1}]}}, ("Oslo", 2, {"deep": [{"er": 1}]}, [], "")),
]


@pytest.mark.parametrize(("given", "got"), ROWS)
@all_ways
async def test_values_are_made_to_fit_and_the_next_call_works(
    server: Server, way: str, given: dict[str, Any], got: tuple[Any, ...]
) -> None:
    hotel = Hotel()
    add_chat(server, way, calls=[call("c1", "book", given)])
    add_chat(server, way, calls=[call("c2", "book", FINE)])
    add_chat(server, way, "done")
    outcome = await go(Agent(model=openai(server), tools=[hotel.book]), way)

    assert hotel.calls == [got, ("Bergen", 2, None, [], "")]
    assert type(hotel.calls[0][1]) is int
    check_chat(server.bodies[2])
    assert tool_messages(server.bodies[2]) == {"c1": "ok", "c2": "ok"}
    assert outcome.response.content == "done"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"nights": 2}, "city"),
        ({}, "city"),
        ({"city": "Oslo", "nights": "many"}, "nights"),
        ({"city": "Oslo", "nights": 2.5}, "nights"),
        ({"city": None}, "city"),
        ({"city": "Oslo", "tags": {"a": 1}}, "tags"),
        ({"city": "Oslo", "opts": "late"}, "opts"),
        ({"city": ["Oslo"]}, "city"),
        ({"City": "Oslo"}, "city"),
    ],
)
@ways
async def test_what_cannot_be_made_to_fit_is_named_and_the_next_call_works(
    server: Server, way: str, given: dict[str, Any], named: str
) -> None:
    hotel = Hotel()
    add_chat(server, way, calls=[call("c1", "book", given)])
    add_chat(server, way, calls=[call("c2", "book", FINE)])
    add_chat(server, way, "done")
    outcome = await go(Agent(model=openai(server), tools=[hotel.book]), way)

    assert hotel.calls == [("Bergen", 2, None, [], "")]
    assert named in tool_messages(server.bodies[1])["c1"]
    check_chat(server.bodies[2])
    assert outcome.response.tools[0].tool_call_error and not outcome.response.tools[1].tool_call_error


@ways
async def test_the_same_over_anthropic_is_an_error_result(server: Server, way: str) -> None:
    hotel = Hotel()
    add_claude(server, way, use_block("t1", "book", nights="many", city="Oslo"), use_block("t2", "book", city="Oslo",
               nights="3"))  # fmt: skip
    add_claude(server, way, text_block("done"))
    await go(Agent(model=claude(server), tools=[hotel.book]), way)

    assert hotel.calls == [("Oslo", 3, None, [], "")]
    check_claude(server.bodies[1])
    results = tool_results(server.bodies[1])
    assert results["t1"]["is_error"] is True and "nights" in results["t1"]["content"]
    assert results["t2"]["content"] == "ok" and "is_error" not in results["t2"]
