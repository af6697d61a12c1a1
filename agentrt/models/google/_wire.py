"""Our messages, tools and output schemas in the form that `generateContent` takes. Pure functions of their input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeGuard

import jiter

from agentrt.media import Media
from agentrt.models._media import base64_text, media_bytes, media_of, mime_type
from agentrt.models.base import OutputSpec, ToolChoice, ToolSpec
from agentrt.models.google._schema import gemini_schema
from agentrt.models.message import Message, ToolCall
from agentrt.tools.arguments import normalize_arguments

PROVIDER = "google"
EMPTY_TURN = "(no message)"
"""The user turn that is put in front of a conversation without one: calls must follow a user's turn."""
FOREIGN_CALL = "skip_thought_signature_validator"
"""What Google's documentation wants in place of the signature of a call that another model made."""

Part: TypeAlias = dict[str, Any]
Content: TypeAlias = dict[str, Any]


def filled(text: str | None) -> TypeGuard[str]:
    """Whether there is more in `text` than white space."""
    return text is not None and bool(text.strip())


# --- messages --------------------------------------------------------------------------------------------------------


def conversation(messages: Sequence[Message], *, signed: bool = False) -> tuple[list[str], list[Content]]:
    """Return the system texts, wherever they stood, and the turns: user and model by turns, none of them empty.

    `signed` says that the model refuses calls without any signature. `messages` and what they hold stay as they are.
    """
    system: list[str] = []
    turns = _Turns(signed)
    for message in messages:
        if message.role == "system":
            if filled(message.content):
                system.append(message.content)
        elif message.role == "assistant":
            if not message.incomplete:
                turns.answer(message)
        elif message.role == "tool":
            turns.result(message)
        else:
            turns.said(message)
    return system, turns.finished()


class _Turns:
    """Builds the turns. The calls of the newest model turn tell where its results belong, and under which id."""

    def __init__(self, signed: bool) -> None:
        self._signed = signed
        self._turns: list[Content] = []
        self._calls: dict[str, tuple[ToolCall, str | None]] = {}
        self._results: dict[str, Part] = {}
        self._after: list[Part] = []

    def said(self, message: Message) -> None:
        self._after += _user_parts(message)

    def answer(self, message: Message) -> None:
        self._close()
        if self._turns and self._turns[-1]["role"] == "user":
            self._calls = {}
        self._add("model", self._answer_parts(message))

    def result(self, message: Message) -> None:
        call_id = message.tool_call_id or ""
        call, wire_id = self._calls.get(call_id, (None, None))
        name = message.tool_name or (call.name if call is not None else "tool")
        text = message.content or ""
        told = {"error": text} if message.tool_call_error else {"result": _value(text)}
        response: Part = {"name": name, "response": told} | ({"id": wire_id} if wire_id else {})
        self._results[call_id] = {"functionResponse": response}
        if media := media_of(message):
            self._after += [{"text": f"What {name} returned:"}, *map(_media_part, media)]

    def _close(self) -> None:
        """Add the user's turn: the results in call order, then all else, whenever it came."""
        rank = {call_id: number for number, call_id in enumerate(self._calls)}
        ordered = sorted(self._results.items(), key=lambda item: rank.get(item[0], len(rank)))
        self._add("user", [part for _, part in ordered] + self._after)
        self._results, self._after = {}, []

    def _add(self, role: str, parts: list[Part]) -> None:
        if parts and self._turns and self._turns[-1]["role"] == role:
            self._turns[-1]["parts"] += parts
        elif parts:
            self._turns.append({"role": role, "parts": parts})

    def finished(self) -> list[Content]:
        self._close()
        if not self._turns or self._turns[0]["role"] == "model":
            self._turns.insert(0, {"role": "user", "parts": [{"text": EMPTY_TURN}]})
        return self._turns

    def _answer_parts(self, message: Message) -> list[Part]:
        """The parts as Gemini wrote them, when it was it and the calls are still those; else text, then calls."""
        calls = message.tool_calls or []
        text = message.content or ""
        parts = (message.parts or []) if message.provider == PROVIDER else []
        named = [part["functionCall"] for part in parts if "functionCall" in part]
        if not parts or [call["name"] for call in named] != [call.name for call in calls]:
            plain: list[Part] = [{"text": text}] if filled(text) else []
            return plain + self._unsigned(calls)
        # somebody may have changed the text since; what it says now is what counts
        original = "".join(part["text"] for part in parts if _is_text(part)) == text
        found: list[Part] = [] if original or not filled(text) else [{"text": text}]
        waiting = iter(calls)
        for part in parts:
            if "functionCall" in part:
                found.append(part | {"functionCall": self._call(next(waiting), part["functionCall"])})
            elif original or not _is_text(part):
                found.append(part)
        return found

    def _unsigned(self, calls: Sequence[ToolCall]) -> list[Part]:
        parts: list[Part] = [{"functionCall": self._call(call, {"name": call.name})} for call in calls]
        if parts and self._signed:
            parts[0]["thoughtSignature"] = FOREIGN_CALL
        return parts

    def _call(self, call: ToolCall, named: Part) -> Part:
        self._calls[call.id] = (call, named.get("id"))
        return named | {"args": normalize_arguments(call.arguments).values}


def _is_text(part: Part) -> bool:
    return "text" in part and not part.get("thought")


def _value(text: str) -> Any:
    """What a tool returned: data, if `text` is exactly how data is told; else the text."""
    if text[:1] in '{["-0123456789tfn':
        try:
            value = jiter.from_json(text.encode(), allow_inf_nan=False)
        except ValueError:
            return text
        if json.dumps(value, ensure_ascii=False) == text:
            return value
    return text


def _user_parts(message: Message) -> list[Part]:
    parts = [_media_part(medium) for medium in media_of(message)]
    if filled(message.content):
        parts.append({"text": message.content})
    return parts


# --- media -----------------------------------------------------------------------------------------------------------

DEFAULT_TYPES = {"Image": "image/png", "Audio": "audio/wav", "Video": "video/mp4", "File": "application/pdf"}


def is_fetched_by_google(url: str) -> bool:
    """Whether Gemini itself reads what is at `url`: its own files, those of Cloud Storage, videos of YouTube."""
    _, _, rest = url.partition("://")
    host = rest.partition("/")[0].removeprefix("www.")
    return (
        url.startswith("gs://")
        or host in ("youtube.com", "youtu.be", "m.youtube.com")
        or (host.endswith("generativelanguage.googleapis.com") and "/files/" in rest)
    )


def _media_part(media: Media) -> Part:
    default = DEFAULT_TYPES.get(type(media).__name__, "application/octet-stream")
    if media.url is not None and media.url.startswith("data:"):
        head, _, encoded = media.url.partition(",")
        return {"inlineData": {"mimeType": head[5:].partition(";")[0] or default, "data": encoded}}
    if media.url is not None:
        kind = mime_type(media, b"", "video/mp4" if "youtu" in media.url else default)
        return {"fileData": {"fileUri": media.url, "mimeType": kind}}
    content = media_bytes(media)
    return {"inlineData": {"mimeType": mime_type(media, content, default), "data": base64_text(content)}}


# --- tools and output ------------------------------------------------------------------------------------------------

_declared: dict[int, tuple[ToolSpec, Part]] = {}
"""Declarations by the identity of their `ToolSpec`, which is kept so that its id stays its own."""


def declaration(spec: ToolSpec) -> Part:
    known = _declared.get(id(spec))
    if known is not None:
        return known[1]
    declared: Part = {"name": spec.name, "description": spec.description or spec.name}
    if spec.parameters.get("properties") or spec.parameters.get("$ref"):
        declared["parametersJsonSchema"] = gemini_schema(spec.parameters)
    if len(_declared) >= 1024:
        _declared.clear()
    _declared[id(spec)] = (spec, declared)
    return declared


def tool_config(choice: ToolChoice) -> Part:
    modes = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
    if choice in modes:
        return {"functionCallingConfig": {"mode": modes[choice]}}
    return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [choice]}}


def output_config(output: OutputSpec) -> Part:
    """What `generationConfig` says for a typed answer."""
    schema = {"responseJsonSchema": gemini_schema(output.schema)} if output.mode == "schema" else {}
    return {"responseMimeType": "application/json"} | schema
