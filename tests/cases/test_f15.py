"""F15: signatures and docstrings, as the model is shown them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import pytest
from pydantic import Field

from agentrt import Agent
from tests.cases.kit import add_chat, add_claude, call, claude, go, openai, text_block
from tests.cases.pairing import tool_messages
from tests.cases.typed_tools import Level
from tests.http_server import Server


# fmt: off
def a(x: int, *args: Any, **kwargs: Any) -> None: "Do it.\n\nArgs:\n    x: the number"
def b(x: int, /, y: int, *, z: int = 3) -> int: return x + y + z
def c(when=datetime.min, level=Level.LOW, cb=print, bag=[]): "Odd defaults."  # noqa: B006
# fmt: on


def d(city: str, mode: str) -> None:
    """Look up.
    Args:
        city: Name of the city.
        mode: One of:
            fast - quick look
            deep - full scan
    """


def e(city: str, mode: str) -> None:
    """Look up.

    Parameters
    ----------
    city : str
        Name of the city.
    mode : {"fast", "deep"}
        How hard to look.
    """


def f(city: str, mode: Annotated[str, Field(description="From the field.")]) -> None:
    """Look up.

    :param city: Name of the city.
    :param mode: From the docstring.
    """


def g(city: str) -> None:
    """Look up.


    Args:

        city (str): Name of the city.

    Returns:
        Nothing.
    """


def h(x):
    return x


async def shown(server: Server, *tools: Any) -> dict[str, dict[str, Any]]:
    add_chat(server, "plain", "done")
    await go(Agent(model=openai(server), tools=list(tools)), "plain")
    return {entry["function"]["name"]: entry["function"] for entry in server.bodies[0]["tools"]}


async def test_signatures_are_shown_as_they_can_be_called(server: Server) -> None:
    tools = await shown(server, a, b, c, h)

    assert list(tools["a"]["parameters"]["properties"]) == ["x"] == tools["a"]["parameters"]["required"]
    assert list(tools["b"]["parameters"]["properties"]) == ["x", "y", "z"]
    assert tools["b"]["parameters"]["required"] == ["x", "y"]
    assert tools["c"]["description"] == "Odd defaults." and not tools["c"]["parameters"].get("required")
    assert list(tools["h"]["parameters"]["properties"]) == ["x"]


@pytest.mark.parametrize(
    ("function", "city", "modes"),
    [(d, "Name of the city.", ["fast", "deep", "quick look"]), (e, "Name of the city.", ["How hard to look."]),
     (f, "Name of the city.", ["From the field."]), (g, "Name of the city.", [])],
)  # fmt: skip
async def test_docstrings_are_told_apart(server: Server, function: Any, city: str, modes: list[str]) -> None:
    shown_as = (await shown(server, function))[function.__name__]

    assert shown_as["description"].startswith("Look up.") and "ity" not in shown_as["description"]
    assert shown_as["description"] == "Look up." or function is g  # whose result is told, too
    members = shown_as["parameters"]["properties"]
    assert members["city"]["description"] == city
    for words in modes:
        assert words in members["mode"]["description"]


async def test_what_is_positional_only_can_be_called(server: Server) -> None:
    calls = [call("c1", "b", {"x": 1, "y": 2}), call("c2", "b", {"x": 1, "y": 2, "z": 0})]
    add_chat(server, "plain", calls=[*calls, call("c3", "c"), call("c4", "a", {"x": 1, "args": [2], "other": 3})])
    add_chat(server, "plain", "done")
    outcome = await go(Agent(model=openai(server), tools=[a, b, c]), "plain")

    assert list(tool_messages(server.bodies[1]).values())[:2] == ["6", "3"]
    assert [tool.tool_call_error for tool in outcome.response.tools] == [False] * 4


async def test_anthropic_is_shown_the_same_and_takes_no_empty_description(server: Server) -> None:
    add_claude(server, "plain", text_block("done"))
    await go(Agent(model=claude(server), tools=[d, h]), "plain")

    first, second = server.bodies[0]["tools"]
    assert first["description"] == "Look up." and "description" not in second
    assert first["input_schema"]["type"] == second["input_schema"]["type"] == "object"
