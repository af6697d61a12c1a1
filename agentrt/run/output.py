"""Typed answers: how one is asked for, and the text that comes back made into a value."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from agentrt.errors import OutputValidationError
from agentrt.models.base import Capabilities, Model, ModelRequest, OutputSpec, ToolSpec
from agentrt.run.json_text import values_in
from agentrt.run.output_type import OutputType, output_type, unwrapped
from agentrt.run.partial import PartialOutput

TOOL = "final_answer"
"""The tool whose arguments are the answer, for a model that takes tools and no schema for its answer."""


@dataclass(slots=True)
class Output:
    """How a typed answer is asked for: by `spec` in the request, or by the `tool` that takes it, and by `prompt`."""

    type: OutputType
    spec: OutputSpec | None = None
    tool: ToolSpec | None = None
    prompt: str | None = None

    @classmethod
    def of(cls, given: Any, model: Model, tools: Collection[str] = (), *, use_json_mode: bool = False) -> Output:
        """Choose the best that the model takes: a schema, a tool that takes the answer, JSON mode, the prompt alone.

        `tools` are the names of the run's own. Raises `ConfigurationError` for a type that no model can be asked for.
        """
        of, capable = output_type(given), model.capable()
        if not use_json_mode:
            native = capable.output_schema and (capable.output_schema_with_tools or not tools)
            if native and model.takes_schema(of.schema):
                return cls(of, spec=OutputSpec(name=of.name, schema=of.schema))
            if capable.tools:
                name = TOOL
                while name in tools:
                    name += "_"
                tool = ToolSpec(name=name, description="Give the answer.", parameters=of.schema)
                asked = f"When you have the answer, call {name} with it, and with no other tool."
                return cls(of, tool=tool, prompt=asked)
        asked = "Answer with one JSON object that follows this JSON schema, and nothing else:\n" + json.dumps(of.schema)
        spec = OutputSpec(name=of.name, schema=of.schema, mode="json") if capable.json_mode and not tools else None
        return cls(of, spec=spec, prompt=asked)

    def put_into(self, request: ModelRequest, capable: Capabilities, *, last_turn: bool = False) -> None:
        """Ask for the answer in this request. `last_turn` says that no other tool may be called."""
        request.output = self.spec
        if self.tool is None:
            return
        only = last_turn or not request.tools or request.tool_choice == "none"
        if capable.tool_choice:
            request.tool_choice = self.tool.name if only else request.tool_choice or "required"
            request.tools = [*request.tools, self.tool]
        else:
            request.tool_choice = None if only else request.tool_choice
            request.tools = [self.tool] if only else [*request.tools, self.tool]

    def partial(self) -> PartialOutput:
        """What follows an answer while it comes in."""
        return PartialOutput(self.type)

    def parse(self, text: str) -> Any:
        """Return the value that `text` holds. Raises `OutputValidationError` with the text."""
        problem = "" if text.strip() else "It is empty"
        for value in values_in(text):
            for meant in self._meanings(value):
                try:
                    return self.type.check(meant)
                except ValueError as error:
                    problem = problem or str(error)
        if self.type.plain_words:
            try:
                return self.type.check(text.strip())
            except ValueError as error:
                problem = problem or str(error)
        problem = problem or "it holds no complete JSON value"
        raise OutputValidationError(f"The answer does not fit the response model: {problem}", text=text)

    def is_whole(self, text: str) -> bool:
        """Is the text nothing but one JSON value, from its first character to its last?"""
        try:
            json.loads(text, strict=False)
        except ValueError:
            return False
        return True

    def correction(self, error: OutputValidationError) -> str:
        """What a model is told whose answer can't be used."""
        how = f"Call {self.tool.name} again" if self.tool else "Give the whole answer again as one JSON object"
        return f"{error}\n{how}, with the answer put right and nothing else."

    def _meanings(self, value: Any) -> Iterator[Any]:
        """The values that one may stand for, likeliest first."""
        inner = unwrapped(value) if self.type.wrapped else value
        if inner is not value and isinstance(inner, str):
            yield from values_in(inner)
        yield inner
