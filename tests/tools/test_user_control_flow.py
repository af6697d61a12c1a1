"""`UserControlFlowTools`: a form is made from what the model asks for, whatever it writes there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentrt import Agent
from agentrt.errors import ToolArgumentsInvalid, UserInputInvalid
from agentrt.testing import ScriptedModel, reply
from agentrt.tools.user_control_flow import INSTRUCTIONS, UserControlFlowTools


def asking() -> Any:
    return UserControlFlowTools().functions["get_user_input"]


def form(*fields: Any) -> Any:
    return asking().user_input_schema({"user_input_fields": list(fields)})


def test_a_form_has_the_fields_that_the_model_asks_for() -> None:
    (to, copies) = form(
        {"field_name": "to_address", "field_type": "str", "field_description": "Whom to write to"},
        {"field_name": "copies", "field_type": "int", "field_description": "How many"},
    )
    assert (to.name, to.field_type, to.description, to.value) == ("to_address", str, "Whom to write to", None)
    assert (copies.name, copies.field_type.__name__, copies.value) == ("copies", "int", None)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("str", str), ("string", str), ("int", int), ("Integer", int), ("number", float), ("float", float),
        ("boolean", bool), ("list[str]", list), ("array", list), ("dict[str, int]", dict), ("object", dict),
        ("date", str), ("", str), (None, str), (7, str), ({"type": "integer"}, str), (["int"], str),
        ("__import__('os').system('true')", str), ("builtins.int", str),
    ],
)  # fmt: skip
def test_field_types_come_from_a_closed_list_whatever_the_model_writes(said: Any, meant: type[Any]) -> None:
    assert form({"field_name": "x", "field_type": said})[0].field_type is meant


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "'user_input_fields' is missing"),
        ({"user_input_fields": []}, "names one or more fields"),
        ({"user_input_fields": "the address"}, "'user_input_fields' is wrong"),
        ({"user_input_fields": ["to"]}, "'user_input_fields.0' is wrong"),
        ({"user_input_fields": [{"field_type": "str"}]}, "'user_input_fields.0.field_name' is missing"),
        ({"user_input_fields": [{"field_name": ""}]}, "'user_input_fields.0.field_name' is wrong"),
        ({"user_input_fields": [{"field_name": "a"}, {"field_name": "a"}]}, "each once"),
        ({"user_input_fields": [{"field_name": "user_input_fields"}]}, "none 'user_input_fields'"),
    ],
)
def test_a_malformed_request_says_what_is_wrong(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ToolArgumentsInvalid, match=told):
        asking().user_input_schema(arguments)


def test_a_list_that_was_written_as_text_is_read() -> None:
    text = json.dumps([{"field_name": "to"}])
    assert [field.name for field in asking().user_input_schema({"user_input_fields": text})] == ["to"]


def test_values_are_read_by_the_types_of_the_form() -> None:
    asked = form({"field_name": "n", "field_type": "int"}, {"field_name": "names", "field_type": "list"})
    assert asking().validate_user_input({"n": "3", "names": '["a"]'}, asked) == {"n": 3, "names": ["a"]}
    with pytest.raises(UserInputInvalid, match="field 'n': int expected, not three") as caught:
        asking().validate_user_input({"n": "three"}, asked)
    assert (caught.value.tool, caught.value.field) == ("get_user_input", "n")


async def test_the_values_are_the_result_and_any_name_may_be_asked_for() -> None:
    names = ["self", "ctx", "agent", "given", "e-mail address"]
    model = ScriptedModel(
        reply(tool_calls=[("get_user_input", {"user_input_fields": [{"field_name": name} for name in names]})]), "done"
    )
    agent = Agent(model=model, tools=[UserControlFlowTools()])
    response = await agent.arun("hi")
    (call,) = response.tools_requiring_user_input
    for field in call.user_input_schema or ():
        field.value = field.name.upper()
    response = await agent.acontinue_run(response)
    assert response.content == "done"
    assert json.loads(model.last_request.messages[-1].content or "") == {name: name.upper() for name in names}
    assert response.tools[0].tool_args["self"] == "SELF"


async def test_a_malformed_request_is_told_to_the_model_which_asks_again() -> None:
    model = ScriptedModel(
        reply(tool_calls=[("get_user_input", {"user_input_fields": [{"name": "to"}]})]),
        reply(tool_calls=[("get_user_input", {"user_input_fields": [{"field_name": "to"}]})]),
    )
    response = await Agent(model=model, tools=[UserControlFlowTools()]).arun("hi")
    assert "'user_input_fields.0.field_name' is missing" in (model.last_request.messages[-1].content or "")
    assert response.is_paused
    assert [field.name for field in response.tools_requiring_user_input[0].user_input_schema or ()] == ["to"]


async def test_it_takes_the_options_of_every_kit() -> None:
    fields = [{"field_name": "to"}]
    model = ScriptedModel(reply(tool_calls=[("my_get_user_input", {"user_input_fields": fields})]), "done")
    response = await Agent(model=model, tools=[UserControlFlowTools(prefix="my_")]).arun("hi")
    (call,) = response.tools_requiring_user_input
    assert [field.name for field in call.user_input_schema or ()] == ["to"]


@pytest.mark.parametrize(
    ("kit", "told"),
    [
        (UserControlFlowTools(), INSTRUCTIONS),
        (UserControlFlowTools(instructions="Ask politely."), "Ask politely."),
        (UserControlFlowTools(add_instructions=False), None),
    ],
)
async def test_the_model_is_told_how_to_ask(kit: UserControlFlowTools, told: str | None) -> None:
    model = ScriptedModel("hi")
    await Agent(model=model, tools=[kit]).arun("hi")
    first = model.last_request.messages[0]
    assert (first.content if first.role == "system" else None) == told
    (spec,) = model.last_request.tools
    assert list(spec.parameters["properties"]) == ["user_input_fields"]
