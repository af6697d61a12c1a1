"""The schema that a model is shown, from hints and docstrings (F13, F14, F15)."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, Optional
from uuid import UUID

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict, Unpack

from agentrt.errors import ToolDefinitionError
from agentrt.run.context import RunContext
from agentrt.tools import Function, function_of, tool
from tests.tools import postponed


class Level(str, Enum):  # noqa: UP042  as people write it
    LOW = "low"
    HIGH = "high"


class Node(BaseModel):
    title: str
    children: list[Node] = []


@dataclass
class Point:
    x: float
    y: float = 0.0


class Options(TypedDict):
    deep: bool
    title: NotRequired[str]


def schema(function: Callable[..., Any]) -> dict[str, Any]:
    return function_of(function).spec().parameters


def properties(function: Callable[..., Any]) -> dict[str, Any]:
    return schema(function)["properties"]


def plan(
    mode: Literal["edit", "delete"],
    level: Level,
    day: date,
    ref: UUID,
    tags: Sequence[str],
    extra: dict[str, Any],
    blob: Any = None,
    size: Optional[int] = None,  # noqa: UP045  as people write it
    kind: int | str = 1,
) -> str:
    return repr((level, day, ref, tags))


def test_each_hint_becomes_what_it_means() -> None:
    shown = schema(plan)
    level = shown["$defs"][shown["properties"].pop("level")["$ref"].rpartition("/")[2]]
    assert level == {"type": "string", "enum": ["low", "high"]}
    assert shown["properties"] == {
        "mode": {"type": "string", "enum": ["edit", "delete"]},
        "day": {"type": "string", "format": "date"},
        "ref": {"type": "string", "format": "uuid"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "extra": {"type": "object", "additionalProperties": True},
        "blob": {},
        "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "kind": {"anyOf": [{"type": "integer"}, {"type": "string"}], "default": 1},
    }
    assert shown["required"] == ["mode", "level", "day", "ref", "tags", "extra"]


def test_values_arrive_as_the_hints_say() -> None:
    values = function_of(plan).validate(
        {
            "mode": "edit",
            "level": "high",
            "day": "2025-03-04",
            "ref": "7b0d2f6e-0c1a-4f57-9d3e-2a4b6c8d0e1f",
            "tags": ["x"],
            "extra": {"a": 1},
        }
    )
    assert values["level"] is Level.HIGH
    assert values["day"] == date(2025, 3, 4)
    assert values["ref"] == UUID("7b0d2f6e-0c1a-4f57-9d3e-2a4b6c8d0e1f")
    assert values["tags"] == ["x"]


def test_models_dataclasses_typed_dicts_and_recursive_types_keep_their_members() -> None:
    def draw(tree: Node, at: Point, options: Options, price: Decimal, data: bytes = b"") -> None: ...

    made = tool(draw)
    shown = made.spec().parameters
    assert set(shown["properties"]) == {"tree", "at", "options", "price", "data"}
    assert set(shown["$defs"]["Node"]["properties"]) == {"title", "children"}
    assert shown["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
    assert set(shown["$defs"]["Options"]["properties"]) == {"deep", "title"}
    values = made.validate(
        {
            "tree": {"title": "a", "children": [{"title": "b"}]},
            "at": {"x": 1},
            "options": {"deep": True},
            "price": "1.10",
            "data": "é",
        }
    )
    assert values["tree"].children[0].title == "b"
    assert values["at"] == Point(1.0)
    assert values["price"] == Decimal("1.10")
    assert values["data"] == "é".encode()


def test_no_title_is_shown_but_a_member_of_that_name_stays() -> None:
    def write(title: str, node: Node) -> None: ...

    shown = tool(write).spec().parameters
    assert shown["properties"]["title"] == {"type": "string"}
    assert "title" in shown["$defs"]["Node"]["properties"]
    assert '"title": "' not in json.dumps(shown)


def test_a_tool_without_parameters_or_docstring_has_an_object_schema() -> None:
    def ping(): ...

    spec = function_of(ping).spec()
    assert (spec.name, spec.description, spec.parameters) == ("ping", "", {"type": "object", "properties": {}})


def test_names_that_mean_something_to_pydantic_are_only_names() -> None:
    def odd(_x: int, schema: str, model_config: str, json: str, copy: int = 1) -> None: ...

    assert list(properties(odd)) == ["_x", "schema", "model_config", "json", "copy"]


# --- signatures and docstrings (F15) ---------------------------------------------------------------------------------


def test_variadic_parameters_are_not_shown() -> None:
    def a(x: int, *args, **kwargs):
        "Do it.\n\nArgs:\n    x: the number"

    shown = schema(a)
    assert shown["properties"] == {"x": {"type": "integer", "description": "the number"}}
    assert shown["required"] == ["x"]


def test_a_tool_that_takes_only_variadics_is_refused() -> None:
    def wrapper(*args, **kwargs): ...

    with pytest.raises(ToolDefinitionError, match=r"'wrapper' takes only \*args .* functools\.wraps"):
        function_of(wrapper).spec()


def test_unpacked_keywords_are_parameters() -> None:
    def search(query: str, **options: Unpack[Options]) -> None: ...

    shown = schema(search)
    assert set(shown["properties"]) == {"query", "deep", "title"}
    assert shown["required"] == ["query", "deep"]


def test_defaults_that_json_cannot_hold_are_left_out_of_the_schema() -> None:
    def c(when=datetime.min, level=Level.LOW, cb=print, bag=[]):  # noqa: B006
        "Odd defaults."

    shown = schema(c)
    assert set(shown["properties"]) == {"when", "level", "cb", "bag"}
    assert "required" not in shown
    assert shown["properties"]["level"]["default"] == "low"
    assert shown["properties"]["bag"]["default"] == []
    assert "default" not in shown["properties"]["cb"]
    json.dumps(shown)


def test_google_docstrings_are_read_without_blank_lines_too() -> None:
    def d(city: str, mode: str):
        """Look up.
        Args:
            city: Name of the city.
            mode: One of:
                fast - quick look
                deep - full scan
        """

    spec = function_of(d).spec()
    shown = spec.parameters["properties"]
    assert spec.description == "Look up."
    assert shown["city"]["description"] == "Name of the city."
    assert "fast - quick look" in shown["mode"]["description"]
    assert "deep - full scan" in shown["mode"]["description"]


def test_numpy_docstrings_are_read() -> None:
    def e(city: str, mode: str):
        """Look up.

        Parameters
        ----------
        city : str
            Name of the city.
        mode : {"fast", "deep"}
            How hard to look.
        """

    spec = function_of(e).spec()
    assert spec.description == "Look up."
    assert spec.parameters["properties"]["city"]["description"] == "Name of the city."
    assert spec.parameters["properties"]["mode"]["description"] == "How hard to look."


def test_a_field_wins_over_a_rest_docstring() -> None:
    def f(city: str, mode: Annotated[str, Field(description="From the field.")]):
        """Look up.

        :param city: Name of the city.
        :param mode: From the docstring.
        """

    spec = tool(f).spec()
    assert spec.description == "Look up."
    assert spec.parameters["properties"]["city"]["description"] == "Name of the city."
    assert spec.parameters["properties"]["mode"]["description"] == "From the field."


def test_a_field_given_as_the_default_counts() -> None:
    def g(city: str = Field(description="Name of the city."), days: int = Field(3, ge=1)): ...

    made = function_of(g)
    shown = made.spec().parameters
    assert shown["required"] == ["city"]
    assert shown["properties"]["city"] == {"type": "string", "description": "Name of the city."}
    assert shown["properties"]["days"] == {"type": "integer", "default": 3, "minimum": 1}
    assert made.validate({"city": "Oslo"}) == {"city": "Oslo", "days": 3}


def test_what_a_partial_fixes_is_not_shown() -> None:
    def search(query: str, api_key: str) -> str:
        """Search."""
        return query + api_key

    spec = function_of(functools.partial(search, api_key="secret")).spec()
    assert (spec.name, spec.description) == ("search", "Search.")
    assert spec.parameters["properties"] == {"query": {"type": "string"}}


# --- hints that can't be resolved, or have no schema -----------------------------------------------------------------


@pytest.mark.parametrize("function", [postponed.t6, postponed.t7])
def test_a_context_known_only_to_type_checkers_is_injected(function: Callable[..., Any]) -> None:
    assert list(properties(function)) == ["text"]


def test_one_hint_that_cannot_be_resolved_loses_no_other(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "agentrt"):
        shown = properties(postponed.t8)
    assert shown == {"number": {"type": "integer"}, "names": {}}
    assert "OnlyForCheckers[str] of parameter 'names'" in caplog.text


def test_a_decorated_tool_may_use_types_of_the_function_around_it() -> None:
    class Local(BaseModel):
        size: int

    @tool
    def measure(what: Local) -> int:
        return what.size

    class Kit:
        @tool(name="weigh")
        def weigh(self, what: Local) -> int:
            return what.size

    assert measure.validate({"what": {"size": "3"}}) == {"what": Local(size=3)}
    assert Kit().weigh.validate({"what": {"size": "3"}}) == {"what": Local(size=3)}


class Connection:
    """No schema can tell it."""


def test_a_required_parameter_without_a_schema_is_refused_by_name() -> None:
    def query(connection: Connection, text: str) -> None: ...

    with pytest.raises(ToolDefinitionError, match="'connection' of tool 'query'"):
        function_of(query).spec()


def test_a_parameter_without_a_schema_keeps_its_default() -> None:
    def query(text: str, connection: Connection | None = None) -> None: ...

    made = function_of(query)
    assert list(made.spec().parameters["properties"]) == ["text"]
    assert made.validate({"text": "a", "connection": 1}) == {"text": "a"}


def test_a_builtin_without_a_signature_says_what_to_do() -> None:
    with pytest.raises(ToolDefinitionError, match="wrap it in a function"):
        function_of(min).spec()


# --- what the runtime fills ------------------------------------------------------------------------------------------


def test_parameters_that_the_runtime_fills_are_not_shown() -> None:
    def add(item: str, ctx, agent, team: Any, session_state: dict[str, Any], it: RunContext[Any]) -> None: ...

    made = function_of(add)
    assert list(made.spec().parameters["properties"]) == ["item"]
    assert made.stateful


def test_a_parameter_called_agent_may_be_the_models() -> None:
    def transfer(agent: str, team: Literal["a", "b"], session_state: int) -> None: ...

    made = function_of(transfer)
    assert list(made.spec().parameters["properties"]) == ["agent", "team", "session_state"]
    assert not made.stateful


def test_a_tool_that_takes_only_the_context_shares_no_state() -> None:
    assert not function_of(postponed.t6).stateful


# --- overrides and sharing -------------------------------------------------------------------------------------------


def test_options_override_what_the_function_says() -> None:
    @tool(name="find", description="Find it.", parameters={"properties": {"q": {"type": "string"}}}, strict=True)
    def search(q: str, **more: Any) -> str:
        """Search."""
        return q

    spec = search.spec()
    assert (spec.name, spec.description, spec.strict) == ("find", "Find it.", True)
    assert spec.parameters == {"type": "object", "properties": {"q": {"type": "string"}}}
    assert search.validate({"q": "a", "lang": "no"}) == {"q": "a", "lang": "no"}


def test_the_fields_that_a_user_fills_are_not_shown_to_the_model() -> None:
    @tool(requires_user_input=True, user_input_fields=["to_address", "count"])
    def send_email(subject: str, to_address: str, count: Optional[int] = None) -> None:  # noqa: UP045
        """Send.

        Args:
            subject: What it is about.
            to_address: Who gets it.
        """

    assert send_email.spec().parameters["required"] == ["subject"]
    form = send_email.user_input_schema({"subject": "Hi", "to_address": "made up"})
    assert [(field.name, field.field_type, field.value) for field in form] == [
        ("subject", str, "Hi"),
        ("to_address", str, None),
        ("count", int, None),
    ]
    assert form[1].description == "Who gets it."


def test_without_named_fields_the_user_fills_all() -> None:
    @tool(requires_user_input=True)
    def book(day: date, nights: int, tags: list[str], level: Level, at: Point, price: float, sure: bool) -> None: ...

    assert book.spec().parameters == {"type": "object", "properties": {}, "$defs": book.spec().parameters["$defs"]}
    types = [field.field_type for field in book.user_input_schema({"nights": 3})]
    assert types == [str, int, list, str, dict, float, bool]


def test_bound_methods_share_what_is_read_off_their_code() -> None:
    class Kit:
        def search(self, query: str) -> str:
            return query

    first, second = function_of(Kit().search), function_of(Kit().search)
    assert first.spec().parameters is second.spec().parameters
    assert list(first.spec().parameters["properties"]) == ["query"]


def test_a_spec_is_made_once() -> None:
    made = Function(plan)
    assert made.spec() is made.spec()
