"""Our messages, tools and output schemas in the form that `POST /responses` takes. Nothing given is changed.

What the API answered is kept in `Message.parts`: in front `{"type": "response", "id": …}`, then its output items in
order. The text of a function call's arguments is left out of its item; the `ToolCall` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from agentrt.errors import ModelBadRequest
from agentrt.models._media import data_url
from agentrt.models.base import OutputSpec, ToolChoice, ToolSpec
from agentrt.models.message import Message, ToolCall
from agentrt.models.openai._wire import wire_output, wire_tool_choice, wire_tools
from agentrt.tools.arguments import normalize_arguments

PROVIDER = "openai"
"""Whose `Message.parts` these are. Chat completions have none, and leave these out."""

Item: TypeAlias = dict[str, Any]


# --- the conversation ------------------------------------------------------------------------------------------------


def instructions_and_rest(messages: Sequence[Message]) -> tuple[str | None, Sequence[Message]]:
    """The system messages at the front as one text, and the messages after them."""
    count = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    return "\n\n".join(message.content or "" for message in messages[:count]) or None, messages[count:]


def previous_response(messages: Sequence[Message]) -> tuple[str | None, int]:
    """The id of the newest stored response that is as it came, and where the messages after it begin."""
    for at in range(len(messages) - 1, -1, -1):
        parts = _parts(messages[at])
        if parts and parts[0]["type"] == "response" and _calls_as_they_came(messages[at]) is not None:
            return parts[0]["id"], at + 1
    return None, 0


def input_items(messages: Sequence[Message], start: int = 0) -> list[Item]:
    """The messages from `start` on. `start` is behind a stored response or 0."""
    items: list[Item] = []
    # a stored response knows its calls by its own ids
    ids = {call.id: item["call_id"] or call.id for item, call in _stored_calls(messages, start)}
    for message in messages[start:]:
        if message.role == "tool":
            call_id = message.tool_call_id or ""
            output = _result(message)
            items.append({"type": "function_call_output", "call_id": ids.get(call_id, call_id), "output": output})
        elif message.role == "assistant":
            items += _answer(message)
        elif message.role == "user":
            items.append({"role": "user", "content": _content(message)})
        else:
            items.append({"role": "system", "content": message.content or ""})
    return items


def _stored_calls(messages: Sequence[Message], start: int) -> list[tuple[Item, ToolCall]]:
    return (_calls_as_they_came(messages[start - 1]) or []) if start else []


def _parts(message: Message) -> list[Item]:
    return (message.parts or []) if message.provider == PROVIDER else []


def _calls_as_they_came(message: Message) -> list[tuple[Item, ToolCall]] | None:
    """The function calls of an answer, each item with its call; None when somebody has changed the answer since."""
    items = [part for part in _parts(message) if part["type"] == "function_call"]
    calls = message.tool_calls or []
    if [item["name"] for item in items] != [call.name for call in calls] or said(_parts(message)) != message.content:
        return None
    return list(zip(items, calls, strict=True))


def said(parts: Sequence[Item]) -> str | None:
    """The text of an answer's items, as its message has it; None for an answer of calls alone."""
    texts = [
        content.get("text") or content.get("refusal") or ""
        for part in parts
        if part["type"] == "message"
        for content in part["content"]
    ]
    called = any(part["type"] == "function_call" for part in parts)
    return "".join(texts) if any(texts) or not called else None


def _answer(message: Message) -> list[Item]:
    """An answer as the API wrote it, if it was this one and nobody has changed it; else its text and its calls.

    The API wants a reasoning item back with all that it led to, or not at all: so does an item that has an id.
    """
    calls = _calls_as_they_came(message)
    items = [part for part in _parts(message) if part["type"] != "response"]
    if calls is None or not items or any(_is_unreadable(item) for item in items):
        return _plain(message)
    called = iter(calls)
    items = [item | _call(next(called)[1]) if item["type"] == "function_call" else item for item in items]
    while items and items[-1]["type"] == "reasoning":  # nothing came of it: refused as the last item
        items.pop()
    return items


def _is_unreadable(item: Item) -> bool:
    """Reasoning that only the server knows which stored it; this request does not refer to what is stored."""
    return item["type"] == "reasoning" and not (item.get("encrypted_content") or item.get("content"))


def _plain(message: Message) -> list[Item]:
    items: list[Item] = []
    if message.content or not message.tool_calls:
        items.append({"role": "assistant", "content": message.content or ""})
    return items + [{"type": "function_call"} | _call(call) for call in message.tool_calls or ()]


def _call(call: ToolCall) -> Item:
    return {"call_id": call.id, "name": call.name, "arguments": normalize_arguments(call.arguments).text}


def _result(message: Message) -> str | list[Item]:
    text = message.content or ""
    shown = _media_items(message)
    return [{"type": "input_text", "text": text}, *shown] if shown else text


def _content(message: Message) -> str | list[Item]:
    shown = _media_items(message)
    if not shown:
        return message.content or ""
    return [*([{"type": "input_text", "text": message.content}] if message.content else []), *shown]


def _media_items(message: Message) -> list[Item]:
    if message.audio or message.videos:
        raise ModelBadRequest("OpenAI's Responses API takes images and files, no audio or videos")
    items: list[Item] = [
        {"type": "input_image", "image_url": data_url(image, "image/png"), "detail": image.detail or "auto"}
        for image in message.images or ()
    ]
    for file in message.files or ():
        if file.url is not None:
            items.append({"type": "input_file", "file_url": file.url})
            continue
        name = file.name or (str(file.path).replace("\\", "/").rpartition("/")[2] if file.path else "file.pdf")
        items.append({"type": "input_file", "filename": name, "file_data": data_url(file, "application/pdf")})
    return items


# --- tools and output ------------------------------------------------------------------------------------------------


def function_tools(tools: Sequence[ToolSpec], *, strict: bool) -> list[Item]:
    """The tools. `strict` is always said: this API takes it for true."""
    functions = [tool["function"] for tool in wire_tools(tools, strict=strict)]
    return [{"type": "function", "strict": False} | function for function in functions]


def tool_choice(choice: ToolChoice) -> Any:
    wire = wire_tool_choice(choice)
    return wire if isinstance(wire, str) else {"type": "function", "name": choice}


def text_format(output: OutputSpec) -> Item:
    """The `text.format` of a typed answer; strict where the schema can be expressed so."""
    wire = wire_output(output)
    return {"type": wire["type"]} | wire.get("json_schema", {})
