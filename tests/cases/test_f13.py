"""F13: type hints that fall through schema generation: what the model is shown, and what the function sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from agentrt import Agent
from tests.cases import typed_tools
from tests.cases.kit import add_chat, add_claude, all_ways, call, claude, go, openai, text_block, use_block, ways
from tests.cases.pairing import check_chat, tool_messages
from tests.cases.typed_tools import Address, Level, Person, Point, Priority, Tree, plan, ship
from tests.http_server import Server

ARGUMENTS = {
    "mode": "edit",
    "level": "high",
    "day": "2025-03-04",
    "ref": "7b0d2f6e-0c1a-4f57-9d3e-2a4b6c8d0e1f",
    "tags": ["x"],
    "extra": {"a": 1},
}


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    typed_tools.seen.clear()
    yield
    typed_tools.seen.clear()


def resolved(node: Any, definitions: dict[str, Any], depth: int = 0) -> Any:
    """A schema with its references put in place, as deep as a test looks."""
    if isinstance(node, list):
        return [resolved(one, definitions, depth) for one in node]
    if not isinstance(node, dict) or depth > 8:
        return node
    if "$ref" in node:
        return resolved(definitions[node["$ref"].rpartition("/")[2]], definitions, depth + 1) | {
            key: value for key, value in node.items() if key != "$ref"
        }
    return {key: resolved(value, definitions, depth + 1) for key, value in node.items() if key != "$defs"}


async def shown(server: Server, provider: str, tool: Any, **options: Any) -> dict[str, Any]:
    if provider == "openai":
        add_chat(server, "plain", "done")
        await go(Agent(model=openai(server, **options), tools=[tool]), "plain")
        parameters = server.bodies[-1]["tools"][0]["function"]["parameters"]
    else:
        add_claude(server, "plain", text_block("done"))
        await go(Agent(model=claude(server, **options), tools=[tool]), "plain")
        parameters = server.bodies[-1]["tools"][0]["input_schema"]
    return resolved(parameters, parameters.get("$defs", {}))


def kinds(schema: dict[str, Any]) -> set[str]:
    types = schema.get("type", [])
    found = {types} if isinstance(types, str) else set(types)
    return found.union(*(kinds(one) for one in schema.get("anyOf", [])))


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_each_hint_is_shown_as_what_it_means(server: Server, provider: str) -> None:
    schema = await shown(server, provider, plan)
    members = schema["properties"]

    assert list(members) == ["mode", "level", "day", "ref", "tags", "extra", "blob", "size", "kind"]
    assert schema["required"] == ["mode", "level", "day", "ref", "tags", "extra"]
    assert (members["mode"]["type"], members["mode"]["enum"]) == ("string", ["edit", "delete"])
    assert (members["level"]["type"], members["level"]["enum"]) == ("string", ["low", "high"])
    assert (members["day"]["type"], members["day"]["format"]) == ("string", "date")
    assert members["ref"]["type"] == "string"
    assert (members["tags"]["type"], members["tags"]["items"]) == ("array", {"type": "string"})
    assert members["extra"]["type"] == "object" and members["extra"].get("additionalProperties") in (True, {}, None)
    assert not {"type", "anyOf", "enum", "const"} & members["blob"].keys()
    assert kinds(members["size"]) == {"integer", "null"}
    assert kinds(members["kind"]) == {"integer", "string"}
    assert all(not (m.get("properties") == {} and m.get("additionalProperties") is False) for m in members.values())


@all_ways
async def test_the_function_sees_what_its_hints_say(server: Server, way: str) -> None:
    add_chat(server, way, calls=[call("c1", "plan", ARGUMENTS)])
    add_chat(server, way, "done")
    await go(Agent(model=openai(server), tools=[plan]), way)

    assert tool_messages(server.bodies[1]) == {"c1": "planned"}
    mode, level, day, ref, tags, extra, *rest = typed_tools.seen[0]
    assert mode == "edit" and level is Level.HIGH and day == date(2025, 3, 4)
    assert ref == UUID(ARGUMENTS["ref"]) and isinstance(ref, UUID)  # pyright: ignore[reportArgumentType]
    assert tags == ["x"] and type(tags) is list and extra == {"a": 1}
    assert rest == [None, None, 1]


PARCEL = {
    "person": {"name": "Åse", "address": {"street": "Gata 1", "zip": "00123"}, "born": "1990-01-02"},
    "priority": 2,
    "options": {"level": "low"},
    "price": "12.50",
    "corners": [[1, 2]],
    "tree": {"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]},
    "label": "two",
    "by_level": {"low": [{"name": "Bo", "address": {"street": "Vei 2", "zip": "1"}}]},
}


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_dataclasses_nested_and_recursive_types_are_shown_whole(server: Server, provider: str) -> None:
    schema = await shown(server, provider, ship)
    members = schema["properties"]

    assert schema["required"] == ["person", "priority"]
    address = members["person"]["properties"]["address"]
    assert address["required"] == ["street", "zip"] and address["properties"]["zip"]["description"] == "Five digits."
    assert (members["priority"]["type"], members["priority"]["enum"]) == ("integer", [1, 2])
    assert kinds(members["price"]) <= {"string", "number"} and kinds(members["price"])
    assert kinds(members["tree"]) == {"object", "null"} and kinds(members["corners"]) == {"array", "null"}


@ways
async def test_dataclasses_nested_and_recursive_types_arrive_as_such(server: Server, way: str) -> None:
    add_chat(server, way, calls=[call("c1", "ship", PARCEL)])
    add_chat(server, way, calls=[call("c2", "ship", {name: json.dumps(value) for name, value in PARCEL.items()})])
    add_chat(server, way, "done")
    await go(Agent(model=openai(server), tools=[ship]), way)

    check_chat(server.bodies[2])
    assert tool_messages(server.bodies[2]) == {"c1": "shipped", "c2": "shipped"}
    for person, priority, options, price, corners, tree, label, by_level in typed_tools.seen:
        assert person == Person("Åse", Address("Gata 1", "00123"), date(1990, 1, 2))
        assert priority is Priority.NOW and options == {"level": Level.LOW}
        assert corners == [Point(1, 2)] and isinstance(tree, Tree) and tree.children[0].children[0].name == "c"
        assert label in ("two", '"two"') and by_level == {Level.LOW: [Person("Bo", Address("Vei 2", "1"))]}
        assert price == Decimal("12.50")


async def test_strict_mode_shows_closed_objects_and_null_means_the_default(server: Server) -> None:
    def order(person: Person, size: int = 3, level: Level = Level.LOW, note: str | None = None) -> str:
        typed_tools.seen.append((person, size, level, note))
        return "ordered"

    given = {"person": {"name": "Bo", "address": {"street": "V", "zip": "1", "floor": None}, "born": None},
             "size": None, "level": None, "note": None}  # fmt: skip
    add_chat(server, "plain", calls=[call("c1", "order", given)])
    add_chat(server, "plain", "done")
    await go(Agent(model=openai(server, strict=True), tools=[order]), "plain")

    function = server.bodies[0]["tools"][0]["function"]
    schema = resolved(function["parameters"], function["parameters"].get("$defs", {}))
    assert function["strict"] is True and schema["required"] == ["person", "size", "level", "note"]
    assert schema["properties"]["person"]["additionalProperties"] is False
    assert typed_tools.seen == [(Person("Bo", Address("V", "1")), 3, Level.LOW, None)]


async def test_a_wrong_enum_value_is_told_with_the_right_ones(server: Server) -> None:
    add_chat(server, "plain", calls=[call("c1", "plan", ARGUMENTS | {"level": "medium", "day": "soon"})])
    add_chat(server, "plain", "done")
    await go(Agent(model=openai(server), tools=[plan]), "plain")

    told = tool_messages(server.bodies[1])["c1"]
    assert "level" in told and "low" in told and "high" in told and "day" in told
    assert typed_tools.seen == []


async def test_anthropics_input_is_typed_alike(server: Server) -> None:
    add_claude(server, "streamed", use_block("t1", "plan", **ARGUMENTS))
    add_claude(server, "streamed", text_block("done"))
    await go(Agent(model=claude(server), tools=[plan]), "streamed")

    assert typed_tools.seen[0][1] is Level.HIGH and typed_tools.seen[0][2] == date(2025, 3, 4)
