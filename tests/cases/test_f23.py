"""F23: one tool, three dialects."""

from __future__ import annotations

import copy
import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from agentrt import Agent, tool
from agentrt.models.openai import OpenAIChat, OpenAIResponses
from tests.cases.kit import add_chat, add_claude, call, claude, go, openai, text_block
from tests.cases.test_f24 import TEXT, add, responses
from tests.http_server import Server


class Item(BaseModel):
    sku: str
    qty: int = 1
    size: Literal[1, 2] | None = None


ordered: list[tuple[Any, ...]] = []


def order(items: list[Item], kind: Literal["gift"] = "gift", note: str | None = None) -> str:
    """Order items."""
    ordered.append((items, kind, note))
    return "ordered"


def order_with_meta(
    items: list[Item], kind: Literal["gift"] = "gift", note: str | None = None, meta: dict[str, str] = {}  # noqa: B006
) -> str:  # fmt: skip
    """Order items."""
    return "ordered"


def objects(schema: Any) -> list[dict[str, Any]]:
    """All object schemas in a schema."""
    if isinstance(schema, list):
        return [one for item in schema for one in objects(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if schema.get("type") == "object" else []
    return own + [one for value in schema.values() for one in objects(value)]


def admits_null(schema: dict[str, Any]) -> bool:
    return any(choice.get("type") == "null" for choice in schema.get("anyOf", ()))


async def sent(server: Server, model: Any, function: Any) -> dict[str, Any]:
    """The tool as it is declared in a request."""
    if isinstance(model, OpenAIChat):
        add_chat(server, "plain", "Fine")
    elif isinstance(model, OpenAIResponses):
        add(server, "plain", TEXT)
    else:
        add_claude(server, "plain", text_block("Fine"))
    await Agent(model=model, tools=[function]).arun("hi")
    declared = server.bodies[-1]["tools"][0]
    return declared.get("function", declared)


@pytest.mark.parametrize("make", [openai, responses])
async def test_strict_closes_every_object_and_lets_what_had_a_default_be_null(server: Server, make: Any) -> None:
    declared = await sent(server, make(server, strict=True), order)

    assert declared["strict"] is True
    found = objects(declared["parameters"])
    assert len(found) == 2
    for one in found:
        assert one["additionalProperties"] is False and one["required"] == list(one["properties"])
    assert all(admits_null(declared["parameters"]["properties"][name]) for name in ("kind", "note"))
    (item,) = [one for one in found if "sku" in one["properties"]]
    assert admits_null(item["properties"]["qty"]) and not admits_null(item["properties"]["sku"])


@pytest.mark.parametrize("make", [openai, responses])
async def test_a_tool_that_strict_can_not_say_is_not_strict(server: Server, make: Any) -> None:
    declared = await sent(server, make(server, strict=True), order_with_meta)

    assert not declared.get("strict") and declared["parameters"]["required"] == ["items"]


@pytest.mark.parametrize("make", [openai, responses])
async def test_without_strict_only_what_has_no_default_is_required(server: Server, make: Any) -> None:
    declared = await sent(server, make(server), order)

    assert not declared.get("strict") and declared["parameters"]["required"] == ["items"]


async def test_null_for_a_parameter_with_a_default_is_its_default(server: Server) -> None:
    ordered.clear()
    arguments = json.dumps({"items": [{"sku": "a", "qty": None, "size": None}], "kind": None, "note": None})
    add_chat(server, "plain", calls=[call("call_1", "order", arguments)])
    add_chat(server, "plain", "Fine")
    outcome = await go(Agent(model=openai(server, strict=True), tools=[order]), "plain")

    assert outcome.response.tools[0].result == "ordered"
    assert ordered == [([Item(sku="a")], "gift", None)]


async def test_claude_gets_an_object_at_the_root(server: Server) -> None:
    assert (await sent(server, claude(server), order))["input_schema"]["type"] == "object"


async def test_no_dialect_changes_what_another_gets(server: Server) -> None:
    shared = tool(order)
    makers: list[Any] = [openai, responses, claude]
    models = [make(server, strict=True) if make is not claude else make(server) for make in makers]
    alone = [copy.deepcopy(await sent(server, model, tool(order))) for model in models]
    together = [await sent(server, model, shared) for model in (*models, *reversed(models))]

    assert together == [*alone, *reversed(alone)]
