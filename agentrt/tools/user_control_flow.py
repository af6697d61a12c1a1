"""`UserControlFlowTools`: the agent itself asks its user for what it needs, field by field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from agentrt.errors import ToolArgumentsInvalid
from agentrt.run.response import UserInputField
from agentrt.tools.function import Function
from agentrt.tools.schema import ParameterSchema
from agentrt.tools.signature import Parameter
from agentrt.tools.toolkit import Toolkit

INSTRUCTIONS = """\
Use get_user_input to ask the user for what you need and don't know.
- Never make up a value that only the user can know, and don't ask for it in the text of an answer.
- Ask for all that is missing in one call: for each value a field with a short name, its type and a description.
- You are given the values by the names of the fields. Ask again if they leave something open.
- Don't ask for what you were told already."""

_ASKED = "user_input_fields"
_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        _ASKED: {
            "type": "array",
            "description": "What the user is asked for.",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "field_name": {"type": "string", "description": "A short name, as to_address."},
                    "field_type": {"type": "string", "enum": ["str", "int", "float", "bool", "list", "dict"]},
                    "field_description": {"type": "string", "description": "What the user is to give, in a sentence."},
                },
                "required": ["field_name", "field_type", "field_description"],
            },
        }
    },
    "required": [_ASKED],
}
_TYPES: dict[str, type[Any]] = {
    **dict.fromkeys(("int", "integer"), int),
    **dict.fromkeys(("float", "number", "double", "decimal"), float),
    **dict.fromkeys(("bool", "boolean"), bool),
    **dict.fromkeys(("list", "array", "tuple", "set"), list),
    **dict.fromkeys(("dict", "object", "map", "mapping"), dict),
}


class _Asked(TypedDict):
    """A field as the model asks for it. It may leave out or make up all but the name."""

    field_name: Annotated[str, Field(min_length=1)]
    field_type: NotRequired[Any]
    field_description: NotRequired[Any]


class _FormFunction(Function[..., Any]):
    """A tool whose form is not its own parameters but what the model's arguments say."""

    def user_input_schema(self, values: Mapping[str, Any]) -> list[UserInputField]:
        asked: list[_Asked] = self.validate({_ASKED: values[_ASKED]} if _ASKED in values else {})[_ASKED]
        names = [field["field_name"] for field in asked]
        if not names or _ASKED in names or len(set(names)) < len(names):
            raise ToolArgumentsInvalid(
                f"Tool {self.name!r}: {_ASKED!r} is wrong: it names one or more fields, each once, none {_ASKED!r}; "
                f"not {names!r}"
            )
        return [
            UserInputField(
                name=field["field_name"],
                field_type=_type(field.get("field_type")),
                description=str(description) if (description := field.get("field_description")) else None,
            )
            for field in asked
        ]

    def _form(self, fields: Iterable[UserInputField]) -> ParameterSchema:
        return ParameterSchema(self.name, [Parameter(field.name, field.field_type) for field in fields], {})


def _type(said: Any) -> type[Any]:
    """The type that the model's word for it stands for; a text for any other. Nothing of it is evaluated."""
    word = re.match(r"\w*", said.strip().lower()) if isinstance(said, str) else None
    return _TYPES.get(word[0], str) if word else str


class UserControlFlowTools(Toolkit):
    """Lets the agent ask its user for values when it needs them, as often as it needs them.

    The run pauses with `tools_requiring_user_input`; `user_input_schema` is the form that the model asked for. What the
    user gives is the call's result. Further options are those of `Toolkit`.
    """

    def __init__(
        self,
        *,
        instructions: str | None = None,
        add_instructions: bool = True,
        name: str = "user_control_flow_tools",
        **options: Any,
    ) -> None:
        ask = _FormFunction(
            entrypoint=self.get_user_input, parameters=_PARAMETERS, requires_user_input=True, effect="pure"
        )
        told = instructions or INSTRUCTIONS
        super().__init__(name, [ask], instructions=told, add_instructions=add_instructions, **options)

    def get_user_input(self, user_input_fields: list[_Asked], /, **given: Any) -> dict[str, Any]:
        """Ask the user for values. You get them by the names of the fields."""
        return {field["field_name"]: given.get(field["field_name"]) for field in user_input_fields}
