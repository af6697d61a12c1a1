"""`@tool`, its options, and what it refuses."""

from __future__ import annotations

import functools
import gc
import inspect
import subprocess
import sys
import typing
import weakref
from datetime import date
from typing import Any

import pytest
from pydantic import Field

from agentrt.errors import ToolDefinitionError, UserInputInvalid
from agentrt.tools import Function, function_of, tool
from agentrt.tools.function import ToolOptions, UserInputField


def ping(text: str = "") -> str:
    """Ping."""
    return "pong" + text


def test_a_tool_is_called_like_its_function() -> None:
    for made in (tool(ping), tool()(ping), tool(name="other")(ping)):
        assert made("!") == "pong!"
        assert made.entrypoint is ping
        assert made.entrypoint(text="?") == "pong?"


def test_options_are_attributes_with_defaults() -> None:
    made = tool(requires_confirmation=True, timeout_s=3.0)(ping)
    assert (made.name, made.requires_confirmation, made.timeout_s) == ("ping", True, 3.0)
    assert (made.external_execution, made.effect, made.max_result_chars) == (False, None, 50_000)


def test_the_decorator_takes_what_a_function_has() -> None:
    assert set(typing.get_type_hints(ToolOptions)) | {"entrypoint"} == Function._option_names


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"retries": 2}, "retries=2 needs effect='idempotent' or effect='pure'"),
        ({"retries": 2, "effect": "once"}, "retries=2 needs"),
        ({"effect": "twice"}, "effect is 'once', 'idempotent' or 'pure', not 'twice'"),
        ({"name": "no spaces"}, "'no spaces' can't be a tool's name"),
        ({"name": "x" * 65}, "can't be a tool's name"),
        ({"timeout_s": 0}, "timeout_s is more than 0"),
        ({"cache_results": True, "effect": "once"}, "can't be cached"),
        ({"user_input_fields": ["text"]}, "needs requires_user_input=True"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_definition(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ToolDefinitionError, match=told):
        tool(**options)(ping)


def test_a_misspelt_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="did you mean 'requires_confirmation'"):
        tool(require_confirmation=True)(ping)  # pyright: ignore[reportCallIssue]  the point of the test


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(ToolDefinitionError, match="'<lambda>' can't be a tool's name"):
        function_of(lambda: 1)
    assert tool(name="one")(lambda: 1).name == "one"


def test_user_input_fields_that_do_not_exist_are_refused() -> None:
    made = tool(requires_user_input=True, user_input_fields=["to"])(ping)
    with pytest.raises(ToolDefinitionError, match="no parameter 'to' for user_input_fields; it takes 'text'"):
        made.spec()


def test_what_is_not_callable_is_refused() -> None:
    with pytest.raises(ToolDefinitionError, match="A tool is a callable, not 3"):
        Function(3)  # pyright: ignore[reportArgumentType]  the point of the test


def test_a_tool_may_be_given_more_options() -> None:
    made = tool(timeout_s=2.0)(tool(name="other")(ping))
    assert (made.name, made.timeout_s, made.entrypoint) == ("other", 2.0, ping)


def test_a_partial_in_a_class_is_no_method() -> None:
    class Kit:
        ping = tool(functools.partial(ping, "!"))

    assert Kit().ping() == "pong!"


def test_a_copy_has_its_own_options() -> None:
    made = tool(ping)
    changed = made.copy(name="other", requires_confirmation=True)
    assert (changed.spec().name, changed.requires_confirmation) == ("other", True)
    assert (made.spec().name, made.requires_confirmation) == ("ping", False)


def test_a_tool_made_in_a_function_goes_with_it() -> None:
    def make() -> weakref.ref[Any]:
        def inner(x: int) -> int:
            return x

        function_of(inner).spec()
        return weakref.ref(inner)

    gone = make()
    gc.collect()
    assert gone() is None


def test_user_input_field_is_where_it_is_in_the_other_api() -> None:
    assert UserInputField(name="to", field_type=str).value is None


def test_importing_tools_and_defining_one_loads_nothing_heavy() -> None:
    script = inspect.cleandoc("""
        import sys
        from agentrt.tools import Toolkit, tool
        @tool(requires_confirmation=True)
        def ping(text: str) -> str:
            '''Ping.

            Args:
                text: What to say.
            '''
        class Kit(Toolkit):
            @tool
            def search(self, query: str) -> str: ...
        Kit(requires_confirmation_tools=["search"])
        print(sorted({"pydantic", "griffe", "anyio", "pandas"} & set(sys.modules)))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "[]\n"


# --- what users give -------------------------------------------------------------------------------------------------


def order(
    day: typing.Literal["friday", "saturday"],
    seats: typing.Annotated[int, Field(ge=1, le=8)] = 2,
    dishes: list[str] | None = None,
    until: date | None = None,
    outside: bool = False,
) -> None: ...


def test_what_a_user_gives_is_read_as_the_tool_wants_it() -> None:
    made = tool(requires_user_input=True)(order)
    given = {"day": "friday", "seats": "3", "dishes": '["soup", "bread"]', "until": "2026-01-02", "outside": "yes"}
    assert made.validate_user_input(given) == {
        "day": "friday",
        "seats": 3,
        "dishes": ["soup", "bread"],
        "until": "2026-01-02",
        "outside": True,
    }


def test_what_is_left_out_is_not_asked_for_again() -> None:
    assert tool(requires_user_input=True)(order).validate_user_input({"seats": 4}) == {"seats": 4}


def test_a_user_may_type_a_list_as_json() -> None:
    given = tool(requires_user_input=True)(order).validate_user_input({"dishes": '["soup", "cake"]'})
    assert given == {"dishes": ["soup", "cake"]}


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("seats", "many", "Tool 'order', field 'seats': int expected, not many"),
        ("seats", 12, "less than or equal to 8"),
        ("day", "monday", "should be 'friday' or 'saturday'"),
        ("dishes", "soup and cake", "field 'dishes': list expected, not soup and cake"),
        ("dishes", ["soup", 3, {}], "field 'dishes': list expected, not .*at 2: Input should be a valid string"),
        ("until", "soon", "field 'until'"),
        ("price", 3, "Tool 'order' has no field 'price' for a user; it has 'day', 'seats'"),
    ],
)
def test_a_value_that_does_not_fit_names_tool_field_and_type(field: str, value: Any, told: str) -> None:
    with pytest.raises(UserInputInvalid, match=told) as caught:
        tool(requires_user_input=True)(order).validate_user_input({field: value})
    assert (caught.value.tool, caught.value.field) == ("order", field)


def test_only_fields_of_the_form_that_was_asked_can_be_given() -> None:
    made = tool(requires_user_input=True, user_input_fields=["day"])(order)
    asked = [field for field in made.user_input_schema({"seats": 2}) if field.value is None]
    with pytest.raises(UserInputInvalid, match="no field 'seats'"):
        made.validate_user_input({"seats": 3}, [field for field in asked if field.name == "day"])
