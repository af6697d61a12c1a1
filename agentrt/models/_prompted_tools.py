"""Tool calls for a model that was never taught any: what it is asked, and what it may say.

Three short questions instead of one long protocol, because that is what a model of 135 million parameters can do:

1. *Which?* The last user message alone, and a sentence for the model to finish, "They want me to …", with one ending
   per tool (its description) and a few that mean an ordinary answer. Ended sentences are where small models are sure.
2. *With what?* The conversation, asking for the names of the parameters, held to the tool's JSON schema.
3. *So?* A fresh call and its result are told as something the assistant has done, and the user asks for the answer.
   Older ones are told as part of the question they answered, or the model would begin to write calls of its own.

Nothing here knows what runs the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from agentrt.models.base import ToolSpec
from agentrt.models.message import Message

ChatMessage = dict[str, str]

PLAIN_ANSWERS = (" explain something.", " write something.", " chat.")
"""Ends of the sentence that mean: no tool. Which ones is an experiment's result (33 of 37 questions went right)."""

QUESTION_CHARS = 1000
"""As much of a user message as is asked about in the first question."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The first question: `messages` end with a begun sentence, `endings` are all its ends and what they mean."""

    messages: list[ChatMessage]
    endings: Mapping[str, ToolSpec | None]

    @property
    def grammar(self) -> str:
        """The endings in GBNF, the notation of llama.cpp."""
        return "root ::= " + " | ".join(json.dumps(ending, ensure_ascii=False) for ending in self.endings)

    def meanings(self, text: str) -> list[ToolSpec | None]:
        """What an ending that begins with `text` may still mean; one thing is left once it is decided."""
        begun = text.lstrip()
        left: list[ToolSpec | None] = []
        for ending, tool in self.endings.items():
            if ending.lstrip().startswith(begun) and tool not in left:
                left.append(tool)
        return left


def decision(tools: Sequence[ToolSpec], question: str, *, must_call: bool = False) -> Decision:
    """Ask which of `tools` the user's message needs. With `must_call`, "none" is not among the answers."""
    endings: dict[str, ToolSpec | None] = {f" {_phrase(tool)} ({tool.name})": tool for tool in tools}
    if not must_call:
        endings |= dict.fromkeys(PLAIN_ANSWERS)
    messages = [
        {"role": "user", "content": f'"{question[-QUESTION_CHARS:]}"\n\nWhat should the assistant do?'},
        {"role": "assistant", "content": "They want me to"},
    ]
    return Decision(messages, endings)


def arguments_question(tool: ToolSpec, question: str) -> str:
    """Ask for the arguments of a call, as the last user message."""
    return f'"{question}"\n\nExtract {_names(tool.parameters)} as JSON.'


def output_question(schema: Mapping[str, Any], question: str) -> str:
    """Ask for an answer in JSON, as the last user message."""
    return f"{question}\n\nAnswer with {_names(schema)} as JSON."


def chat(messages: Sequence[Message], *, question: str | None = None) -> list[ChatMessage]:
    """Return the conversation in the roles that every chat template knows: system, user, assistant, taking turns.

    `question` stands in for the last message when that is the user's, and follows it otherwise.
    """
    turns: list[ChatMessage] = []
    calls = {call.id: call for message in messages for call in message.tool_calls or ()}
    last = len(messages) - 1
    fresh = next((index for index in range(last, -1, -1) if messages[index].role != "tool"), -1)
    for index, message in enumerate(messages):
        if message.role == "tool":
            call = calls.get(message.tool_call_id or "")
            name = message.tool_name or (call.name if call else "the tool")
            if index > fresh:
                told = (
                    f"I call {name}({call.arguments if call else ''}). The result is: {message.content or 'nothing'}."
                )
                _say(turns, "assistant", told, "\n")
            else:
                _say(turns, "user", f"({name} says: {message.content or 'nothing'})")
        elif index < last or question is None or message.role != "user":
            _say(turns, message.role, message.content)
    if question is None and 0 <= fresh < last:
        question = "So what is the answer?"
    _say(turns, "user", question)
    return turns


def grammar_schema(schema: Any) -> Any:
    """Return the schema without the patterns that llama.cpp's grammars lack, about which it complains on stderr."""
    if isinstance(schema, Mapping):
        items = cast("Mapping[str, Any]", schema).items()
        lacking = {key for key, value in items if key == "pattern" and isinstance(value, str) and "(?" in value}
        return {key: grammar_schema(value) for key, value in items if key not in lacking}
    if isinstance(schema, list):
        return [grammar_schema(item) for item in cast("list[Any]", schema)]
    return schema


def last_question(messages: Sequence[Message]) -> str:
    """The text of the last user message, "" when there is none."""
    return next((message.content or "" for message in reversed(messages) if message.role == "user"), "")


def calls_since_question(messages: Sequence[Message]) -> int:
    """How many assistant messages with tool calls follow the last user message."""
    count = 0
    for message in reversed(messages):
        if message.role == "user":
            break
        count += bool(message.tool_calls)
    return count


def _say(turns: list[ChatMessage], role: str, content: str | None, separator: str = "\n\n") -> None:
    if not content:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += separator + content
    else:
        turns.append({"role": role, "content": content})


def _phrase(tool: ToolSpec) -> str:
    """What a tool does, as the end of a sentence: its description's first sentence, else its name."""
    lines = tool.description.strip().splitlines()
    sentence = lines[0].split(". ")[0].rstrip(". ") if lines else ""
    if not sentence:
        return tool.name.replace("_", " ")
    return sentence if sentence[1:2].isupper() else sentence[0].lower() + sentence[1:]


def _names(schema: Mapping[str, Any]) -> str:
    properties: Mapping[str, Any] = schema.get("properties") or {}
    return ", ".join(_named(name, hint) for name, hint in properties.items()) or "the answer"


def _named(name: str, schema: Any) -> str:
    description = cast("Mapping[str, Any]", schema).get("description") if isinstance(schema, Mapping) else None
    return f"{name} ({str(description).strip().rstrip('.')})" if description else name
