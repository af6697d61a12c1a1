"""The system message: what the author of an agent tells its model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from agentrt.errors import ConfigurationError
from agentrt.models.message import Message, utc_now
from agentrt.run.context import RunContext
from agentrt.run.memory import memory_sections
from agentrt.run.run import Run
from agentrt.tools.hooks import call_by_name, known_names
from agentrt.tools.results import to_text

_NAME = re.compile(r"\{\{([A-Za-z_][A-Za-z0-9_]*)\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")


async def system_message(run: Run) -> Message | None:
    """Render the system message, or None when there is nothing to say. Sections have tags when there are several."""
    definition = run.definition
    fill = _filler(run) if definition.add_state_in_messages else _as_is
    if definition.system_message is not None:
        text = fill(await _called(definition.system_message, run.context))
        asked = run.output.prompt if run.output is not None else None
        return Message(role="system", content=f"{text}\n\n{asked}" if asked else text)

    sections: list[tuple[str | None, str]] = []
    if definition.description:
        sections.append((None, fill(definition.description)))
    if definition.role:
        sections.append(("your_role", definition.role))
    for told in run.own_sections:
        sections += told(run)
    if instructions := await _instructions(run):
        sections.append(("instructions", fill(instructions)))
    for function_text in dict.fromkeys(tool.instructions for tool in run.tools.values() if tool.add_instructions):
        if function_text:
            sections.append(("tool_instructions", function_text))
    if additional := _additional(run):
        sections.append(("additional_information", additional))
    sections += await memory_sections(run)
    if definition.add_context and run.context.dependencies:
        sections.append(("context", to_text(run.context.dependencies)))
    if definition.enable_agentic_state:
        sections.append(("session_state", to_text(run.state)))
    if definition.expected_output:
        sections.append(("expected_output", fill(definition.expected_output)))
    if definition.success_criteria:
        sections.append(("success_criteria", definition.success_criteria))
    if run.output is not None and (text := run.output.prompt):
        sections.append(("output_format", text))
    if definition.additional_context:
        sections.append((None, fill(definition.additional_context)))
    if not sections:
        return None
    if len(sections) == 1:
        return Message(role="system", content=sections[0][1])
    return Message(
        role="system",
        content="\n\n".join(f"<{tag}>\n{text}\n</{tag}>" if tag else text for tag, text in sections),
    )


async def _instructions(run: Run) -> str:
    given = await _called(run.definition.instructions, run.context)
    if given is None:
        return ""
    if isinstance(given, str):
        return given
    if not isinstance(given, Iterable):
        raise ConfigurationError(f"instructions are a text, several, or a function that returns them, not {given!r}")
    lines: Sequence[str] = list(cast("Iterable[str]", given))
    return lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)


def _additional(run: Run) -> str:
    definition = run.definition
    lines: list[str] = []
    if definition.add_name_to_instructions and definition.name:
        lines.append(f"Your name is: {definition.name}.")
    if definition.markdown and run.output is None:
        lines.append("Use markdown to format your answers.")
    if definition.add_datetime_to_instructions:
        lines.append(f"The current time is {utc_now().isoformat(timespec='seconds')}.")
    return "\n".join(f"- {line}" for line in lines) if len(lines) > 1 else "".join(lines)


async def _called(value: Any, context: RunContext[Any]) -> Any:
    """Return `value`, or what it gives when it is a function: of `ctx`, `agent`, `session_state` … by name, awaited."""
    if not callable(value):
        return value
    result = call_by_name(value, known_names(context), (context.agent,))
    return await result if inspect.isawaitable(result) else result


def _as_is(text: str) -> str:
    return text


def _filler(run: Run) -> Callable[[str], str]:
    """Return what fills `{key}`: once, from the state and then the dependencies, by plain name and never deeper.

    The values inserted are not looked into, an unknown name or any other brace stays as it is, `{{key}}` is `{key}`.
    """
    dependencies: Any = run.context.dependencies
    values: dict[str, Any] = {}
    if isinstance(dependencies, Mapping):
        values.update(cast("Mapping[str, Any]", dependencies))
    values.update(run.state)

    def replace(match: re.Match[str]) -> str:
        literal, name = match.groups()
        if literal is not None:
            return "{" + literal + "}"
        return str(values[name]) if name in values else match.group()

    return lambda text: _NAME.sub(replace, text)
