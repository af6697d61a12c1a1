"""What a printed run is made of: blocks, each as a rich renderable and as plain text.

Texts of models, tools and users are never read as rich markup.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.json import JSON
from rich.markdown import Markdown
from rich.panel import Panel
from rich.text import Text

from agentrt.models.message import Message, Usage
from agentrt.run.decisions import open_kinds
from agentrt.run.response import RunResponse, Thought, ToolExecution
from agentrt.utils._clean import clean

ANSWER = "Response"
ARGUMENT_CHARS = 60
RESULT_CHARS = 300
RESULT_LINES = 4


@dataclass(kw_only=True)
class TextBlock:
    """A text under a title. `data` says that it is JSON; `note` stands on its lower border."""

    title: str
    style: str
    text: str = ""
    note: str = ""
    markdown: bool = False
    data: bool = False

    def body(self, text: str) -> RenderableType:
        if self.data:
            return JSON(text)
        return Markdown(text, hyperlinks=False) if self.markdown else Text(text)

    def panel(self, text: str | None = None) -> Panel:
        return Panel(
            self.body(self.text if text is None else text),
            title=Text(self.title),
            title_align="left",
            subtitle=Text(self.note, style="dim") if self.note else None,
            subtitle_align="right",
            border_style=self.style,
        )

    def plain_text(self) -> str:
        return self.text if self.title == ANSWER else f"{self.title}: {self.text}"

    def plain(self) -> str:
        note = f"\n({self.note})" if self.note else ""
        return f"{self.plain_text()}{note}"

    def stable(self) -> int:
        """How much of the text can no longer look different when more is written."""
        if self.data:
            return 0
        if not self.markdown:
            return self.text.rfind("\n") + 1
        starts = [token.map[0] for token in Markdown(self.text).parsed if token.level == 0 and token.map]
        lines = self.text.splitlines(keepends=True)
        return sum(map(len, lines[: starts[-1]])) if starts else 0


@dataclass(kw_only=True)
class ToolsBlock:
    """Tool calls that were made together, in the order of their start."""

    tools: dict[str, ToolExecution] = field(default_factory=dict[str, ToolExecution])
    progress: dict[str, str] = field(default_factory=dict[str, str])
    owner: str = ""
    title: str = "Tool calls"
    style: str = "yellow"

    @property
    def all_done(self) -> bool:
        return all(tool.is_done for tool in self.tools.values())

    def panel(self) -> Panel:
        return Panel(
            Group(*(self._line(tool) for tool in self.tools.values())),
            title=Text(self._full_title()),
            title_align="left",
            border_style=self.style,
        )

    def plain(self) -> str:
        lines: list[str] = []
        for tool in self.tools.values():
            lines.append(f"{self._full_title()}: {call_text(tool)}{_time(tool)}")
            lines += [f"  {line}" for line in self._outcome(tool).splitlines()]
        return "\n".join(lines)

    def _full_title(self) -> str:
        return f"{self.title} of {self.owner}" if self.owner else self.title

    def _line(self, tool: ToolExecution) -> Text:
        line = Text(call_text(tool)).append(_time(tool), style="dim")
        if outcome := self._outcome(tool):
            line.append("\n  " + outcome.replace("\n", "\n  "), style="red" if tool.tool_call_error else "dim")
        return line

    def _outcome(self, tool: ToolExecution) -> str:
        if not tool.is_done:
            return self.progress.get(tool.tool_call_id, "")
        return shorten(tool.error or str(tool.result) if tool.tool_call_error else str(tool.result))


Block = TextBlock | ToolsBlock

# --- making them -----------------------------------------------------------------------------------------------------


def message_block(message: Any) -> TextBlock:
    return TextBlock(title="Message", style="cyan", text=clean(message_text(message)))


def content_block(content: Any, *, markdown: bool) -> TextBlock:
    if isinstance(content, str):
        return TextBlock(title=ANSWER, style="blue", text=clean(content), markdown=markdown)
    return TextBlock(title=ANSWER, style="blue", text=clean(to_json(content)), data=True)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def step_block(step: Thought, *, full: bool, owner: str) -> TextBlock:
    """A step of reasoning: its title alone, or all of it."""
    confidence = f"{step.confidence:.0%} sure" if full and step.confidence is not None else ""
    text = step.text() if full else step.title or shorten(step.reasoning)
    title = f"Reasoning of {owner}" if owner else "Reasoning"
    return TextBlock(title=title, style="green", text=clean(text), note=confidence)


def error_block(message: str, kind: str) -> TextBlock:
    text = clean(message).removeprefix(f"{kind}: ")
    return TextBlock(title=kind or "Error", style="red", text=text)


def pause_block(response: RunResponse[Any]) -> TextBlock | None:
    """What a paused run waits for; None when it waits for nothing that is known here."""
    lines = [f"{call_text(tool)} {need}" for tool in response.tools_with_members if (need := need_text(tool))]
    return TextBlock(title="Paused", style="yellow", text="\n".join(lines)) if lines else None


_NEEDS = {
    "confirmation": "needs to be confirmed",
    "unknown_outcome": "was cut while it ran, and may have acted",
    "external_execution": "is to be executed outside",
}


def need_text(tool: ToolExecution) -> str:
    """What a call still waits for, as the end of a sentence; "" when it waits for nothing."""
    needs = [_NEEDS.get(kind) or f"needs a value for {', '.join(_empty_fields(tool))}" for kind in open_kinds(tool)]
    return clean(" and ".join(needs))


def _empty_fields(tool: ToolExecution) -> list[str]:
    return [field.name for field in tool.user_input_schema or () if field.value is None]


# --- texts -----------------------------------------------------------------------------------------------------------


def call_text(tool: ToolExecution) -> str:
    """A call as its author would write it: `get_weather(city='Rome')`."""
    arguments = ", ".join(f"{name}={shorten(repr(value), ARGUMENT_CHARS)}" for name, value in tool.tool_args.items())
    return clean(f"{tool.tool_name}({arguments})")


def shorten(text: str, chars: int = RESULT_CHARS) -> str:
    text = clean(text).strip()
    cut = "\n".join(text[:chars].split("\n")[:RESULT_LINES])
    return cut if cut == text else cut + "…"


def message_text(message: Any) -> str:
    """What a user said, from whatever an agent takes as its input."""
    if isinstance(message, str):
        return message
    if isinstance(message, Message):
        return message.content or ""
    if isinstance(message, Mapping) and "role" in message:
        return str(message.get("content") or "")  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    if isinstance(message, list) and message:
        return message_text(message[-1])
    return to_json(message)


def to_json(content: Any) -> str:
    """Typed content as indented JSON; what JSON does not know becomes its text."""
    if hasattr(content, "model_dump_json"):
        return content.model_dump_json(indent=2)
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        content = dataclasses.asdict(content)
    return json.dumps(content, indent=2, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)


def note(elapsed_s: float | None, usage: Usage | None, stop_reason: str | None = None) -> str:
    """`2.3 s · 120 tokens in, 31 out`."""
    parts: list[str] = []
    if stop_reason not in (None, "end", "tool", "refusal"):
        parts.append("ended by " + str(stop_reason).replace("_", " "))
    if elapsed_s is not None:
        parts.append(seconds(elapsed_s))
    if usage is not None and usage.total_tokens:
        parts.append(f"{usage.input_tokens} tokens in, {usage.output_tokens} out")
    return " · ".join(parts)


def seconds(elapsed_s: float) -> str:
    return f"{elapsed_s:.1f} s" if elapsed_s >= 0.1 else f"{elapsed_s * 1000:.0f} ms"


def _time(tool: ToolExecution) -> str:
    return f"  {seconds(tool.elapsed_s)}" if tool.elapsed_s is not None else ""
