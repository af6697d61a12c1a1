"""Our messages, tools and output schemas in the form that `POST /chat/completions` takes. Nothing given is changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from agentrt.errors import ModelBadRequest
from agentrt.media import Audio, File
from agentrt.models._media import base64_text, data_url, has_media, media_bytes, mime_type
from agentrt.models.base import OutputSpec, ToolChoice, ToolSpec
from agentrt.models.message import Message, ToolCall
from agentrt.models.openai._strict import strict_schema
from agentrt.tools.arguments import normalize_arguments

Wire: TypeAlias = dict[str, Any]
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")


# --- messages --------------------------------------------------------------------------------------------------------


def wire_messages(messages: Sequence[Message], system_role: str = "system") -> list[Wire]:
    """The conversation. Reads the files of media that are given by path."""
    wire: list[Wire] = []
    shown: list[Any] = []  # what tools returned to be looked at: a tool message holds only text
    for message in messages:
        role = message.role
        if shown and role != "tool":
            wire.append({"role": "user", "content": shown})
            shown = []
        if role == "tool":
            wire.append({"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content or ""})
            if has_media(message):
                name = message.tool_name or "the tool"
                shown += [{"type": "text", "text": f"What {name} returned:"}, *_media_parts(message)]
        elif role == "assistant":
            answer: Wire = {"role": "assistant", "content": message.content}
            if message.tool_calls:
                answer["tool_calls"] = [_wire_call(call) for call in message.tool_calls]
            elif message.content is None:
                answer["content"] = ""
            wire.append(answer)
        elif role == "user":
            wire.append(_user(message))
        else:
            wire.append({"role": system_role, "content": message.content or ""})
    if shown:
        wire.append({"role": "user", "content": shown})
    return wire


def _wire_call(call: ToolCall) -> Wire:
    arguments = normalize_arguments(call.arguments).text  # a message of the caller's, or an old one, may hold anything
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _user(message: Message) -> Wire:
    wire: Wire = {"role": "user", "content": message.content or ""}
    if message.name:
        wire["name"] = _NOT_IN_NAMES.sub("_", message.name)[:64]
    if has_media(message):
        text = [{"type": "text", "text": message.content}] if message.content else []
        wire["content"] = [*text, *_media_parts(message)]
    return wire


def _media_parts(message: Message) -> list[Wire]:
    if message.videos:
        raise ModelBadRequest("OpenAI's chat completions take no videos; send frames of it as images")
    parts: list[Wire] = []
    for image in message.images or ():
        shown = {"url": data_url(image, "image/png")}
        if image.detail:
            shown["detail"] = image.detail
        parts.append({"type": "image_url", "image_url": shown})
    parts += [_audio(audio) for audio in message.audio or ()]
    parts += [_file(file) for file in message.files or ()]
    return parts


def _audio(audio: Audio) -> Wire:
    if audio.url is not None:
        raise ModelBadRequest("OpenAI's chat completions take no audio by URL; give Audio path= or data=")
    content = media_bytes(audio)
    kind = mime_type(audio, content, "audio/wav")
    return {
        "type": "input_audio",
        "input_audio": {
            "data": base64_text(content),
            "format": "mp3" if kind in ("audio/mpeg", "audio/mp3") else kind.rpartition("/")[2].removeprefix("x-"),
        },
    }


def _file(file: File) -> Wire:
    if file.url is not None:
        raise ModelBadRequest("OpenAI's chat completions take no files by URL; give File path= or data=")
    name = file.name or (str(file.path).replace("\\", "/").rpartition("/")[2] if file.path else "file")
    return {"type": "file", "file": {"filename": name, "file_data": data_url(file, "application/pdf")}}


# --- tools and output ------------------------------------------------------------------------------------------------

_strict_tools: dict[int, tuple[ToolSpec, Wire]] = {}
"""Strict forms by the identity of their `ToolSpec`, which is kept so that its id stays its own."""


def wire_tools(tools: Sequence[ToolSpec], *, strict: bool) -> list[Wire]:
    """The tools; in strict form where `ToolSpec.strict`, or else `strict`, says so and the schema can be expressed."""
    return [
        _strict_tool(tool) if (strict if tool.strict is None else tool.strict) else _wire_tool(tool, tool.parameters)
        for tool in tools
    ]


def _wire_tool(tool: ToolSpec, parameters: Wire) -> Wire:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def _strict_tool(tool: ToolSpec) -> Wire:
    known = _strict_tools.get(id(tool))
    if known is not None:
        return known[1]
    parameters = strict_schema(tool.parameters, optional_as_null=True)
    wire = _wire_tool(tool, tool.parameters if parameters is None else parameters)
    if parameters is not None:
        wire["function"]["strict"] = True
    if len(_strict_tools) >= 1024:
        _strict_tools.clear()
    _strict_tools[id(tool)] = (tool, wire)
    return wire


def wire_tool_choice(choice: ToolChoice) -> Any:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def wire_output(output: OutputSpec) -> Wire:
    """The `response_format` of a typed answer; strict where the schema can be expressed so."""
    if output.mode == "json":
        return {"type": "json_object"}
    # nothing may be null that the schema does not let be null: the answer is checked against the schema itself
    schema = strict_schema(output.schema, optional_as_null=False)
    return {
        "type": "json_schema",
        "json_schema": {
            "name": _NOT_IN_NAMES.sub("_", output.name)[:64],
            "schema": output.schema if schema is None else schema,
            "strict": schema is not None,
        },
    }
