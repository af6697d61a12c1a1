"""Our messages, tools and output schemas in the form that `POST /v1/messages` takes. Pure functions of their input."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeGuard, cast

from agentrt.errors import ModelBadRequest
from agentrt.media import File, Media
from agentrt.models._media import base64_text, media_bytes, mime_type
from agentrt.models.base import OutputSpec, ToolChoice, ToolSpec
from agentrt.models.message import Message, ToolCall
from agentrt.tools.arguments import normalize_arguments

PROVIDER = "anthropic"
EMPTY_RESULT = "(no output)"
"""What the model is told of a tool that returned nothing: an empty failure is refused by the API."""
EMPTY_TURN = "(no message)"
"""The user turn that is put in front of a conversation without one: the API wants the first turn to be a user's."""

Block: TypeAlias = dict[str, Any]
THINKING = ("thinking", "redacted_thinking")
CACHED = {"type": "ephemeral"}


def filled(text: str | None) -> TypeGuard[str]:
    """Whether there is more in `text` than white space: the API refuses text blocks without."""
    return text is not None and bool(text.strip())


# --- messages --------------------------------------------------------------------------------------------------------


def conversation(messages: Sequence[Message]) -> tuple[list[str], list[Block]]:
    """Return the system texts, wherever they stood, and the turns: user and assistant by turns, none of them empty.

    A trailing assistant turn is kept as the beginning of the answer. `messages` and what they hold stay as they are.
    """
    system: list[str] = []
    turns = _Turns()
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
            turns.add("user", _user_blocks(message))
    return system, turns.finished()


class _Turns:
    """Builds the turns. The ids of the calls of the newest assistant turn tell where its results belong."""

    def __init__(self) -> None:
        self._turns: list[Block] = []
        self._calls: dict[str, str] = {}
        self._used: set[str] = set()

    def add(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self._turns and self._turns[-1]["role"] == role:
            self._turns[-1]["content"] += blocks
        else:
            self._turns.append({"role": role, "content": blocks})

    def answer(self, message: Message) -> None:
        if self._turns and self._turns[-1]["role"] == "user":
            self._order_results()
            self._calls = {}
        self.add("assistant", self._answer_blocks(message))

    def _answer_blocks(self, message: Message) -> list[Block]:
        """The blocks in the order the provider wrote them, when it was this one; else text, then calls."""
        calls = {call.id: call for call in message.tool_calls or ()}
        parts = (message.parts or []) if message.provider == PROVIDER else []
        text = message.content or ""
        # somebody may have changed the text since; what it says now is what counts
        original = bool(parts) and "".join(part["text"] for part in parts if part["type"] == "text") == text
        blocks: list[Block] = []
        for part in parts:
            if part["type"] == "tool_use":
                call = calls.pop(part["id"], None)
                if call is not None:
                    blocks.append(part | self._call(call))
            elif part["type"] != "text" or (original and filled(part["text"])):
                blocks.append(part)
        if not original and filled(text):
            blocks.append({"type": "text", "text": text})
        blocks += [{"type": "tool_use"} | self._call(call) for call in calls.values()]
        while blocks and blocks[-1]["type"] in THINKING:  # refused as the last block, and of no use there
            blocks.pop()
        return blocks

    def _call(self, call: ToolCall) -> Block:
        wire = wire_id(call.id)
        if wire in self._used:  # some servers count from "call_0" in each answer; here an id is used once
            wire = f"{wire}_{len(self._used)}"
        self._used.add(wire)
        self._calls[call.id] = wire
        return {"id": wire, "name": call.name, "input": normalize_arguments(call.arguments).values}

    def result(self, message: Message) -> None:
        call_id = message.tool_call_id or ""
        text = message.content if filled(message.content) else EMPTY_RESULT
        block: Block = {"type": "tool_result", "tool_use_id": self._calls.get(call_id) or wire_id(call_id)}
        pictures = _media_blocks(message)
        block["content"] = [{"type": "text", "text": text}, *pictures] if pictures else text
        if message.tool_call_error:
            block["is_error"] = True
        self.add("user", [block])

    def _order_results(self) -> None:
        """Put the results in front, in call order: they may come as separate records, with the user's words between."""
        rank = {wire: number for number, wire in enumerate(self._calls.values())}
        if rank:
            blocks: list[Block] = self._turns[-1]["content"]
            blocks.sort(key=lambda block: rank.get(block.get("tool_use_id", ""), len(rank)))

    def finished(self) -> list[Block]:
        turns = self._turns
        if turns and turns[-1]["role"] == "user":
            self._order_results()
        elif turns:
            _strip_end(turns)
        if not turns or turns[0]["role"] == "assistant":
            turns.insert(0, {"role": "user", "content": [{"type": "text", "text": EMPTY_TURN}]})
        return turns


def _strip_end(turns: list[Block]) -> None:
    """A prefill may not end in white space."""
    last = turns[-1]["content"][-1]
    if last["type"] == "text":
        turns[-1]["content"][-1] = last | {"text": last["text"].rstrip()}


def wire_id(call_id: str) -> str:
    """Return `call_id`, or for one with characters that the API refuses, always the same stand-in for it."""
    if call_id and re.fullmatch(r"[a-zA-Z0-9_-]+", call_id):
        return call_id
    return re.sub(r"[^a-zA-Z0-9_-]", "_", call_id) + f"_{zlib.crc32(call_id.encode(errors='replace')):08x}"


# --- media -----------------------------------------------------------------------------------------------------------


def _user_blocks(message: Message) -> list[Block]:
    blocks = _media_blocks(message)
    if filled(message.content):
        blocks.append({"type": "text", "text": message.content})
    return blocks


def _media_blocks(message: Message) -> list[Block]:
    if message.audio or message.videos:
        raise ModelBadRequest("Claude takes images and documents, not audio or video", provider=PROVIDER)
    blocks: list[Block] = [{"type": "image", "source": _source(image, "image/png")} for image in message.images or ()]
    return blocks + [_document(file) for file in message.files or ()]


def _document(file: File) -> Block:
    source = _source(file, "application/pdf")
    kind: str = source.get("media_type", "application/pdf")
    if kind != "application/pdf":
        try:
            text = base64.b64decode(source["data"]).decode()
        except UnicodeDecodeError:
            raise ModelBadRequest(f"Claude takes PDF and text documents, not {kind}", provider=PROVIDER) from None
        source = {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": "document", "source": source} | ({"title": file.name} if file.name else {})


def _source(media: Media, default_type: str) -> Block:
    if media.url is not None and not media.url.startswith("data:"):
        return {"type": "url", "url": media.url}
    if media.url is not None:
        head, _, encoded = media.url.partition(",")
        return {"type": "base64", "media_type": head[5:].partition(";")[0] or default_type, "data": encoded}
    content = media_bytes(media)
    return {
        "type": "base64",
        "media_type": mime_type(media, content, default_type),
        "data": base64_text(content),
    }


# --- tools and output ------------------------------------------------------------------------------------------------


def tool(spec: ToolSpec, *, strict: bool) -> Block:
    """Return the declaration; it is a strict one if the spec asks for it and `strict` says that the model can."""
    schema = spec.parameters
    if schema.get("type") != "object":
        schema = {"properties": dict[str, Any](), **schema, "type": "object"}
    block: Block = {"name": spec.name, "input_schema": schema}
    if filled(spec.description):
        block["description"] = spec.description
    if spec.strict and strict and (closed := closed_schema(schema)) is not None:
        block |= {"input_schema": closed, "strict": True}
    return block


def past_tools(turns: list[Block]) -> list[Block]:
    """A declaration for each tool that was called: the API refuses calls in the history of a request without tools."""
    names = {block["name"]: None for turn in turns for block in turn["content"] if block["type"] == "tool_use"}
    return [
        {"name": name, "description": "No longer available.", "input_schema": {"type": "object", "properties": {}}}
        for name in names
    ]


def tool_choice(choice: ToolChoice | None, *, parallel: bool | None) -> Block | None:
    if choice is None and parallel is not False:
        return None
    name = choice or "auto"
    kinds = {"auto": "auto", "none": "none", "required": "any"}
    block: Block = {"type": kinds[name]} if name in kinds else {"type": "tool", "name": name}
    if parallel is False and name != "none":
        block["disable_parallel_tool_use"] = True
    return block


def closed_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return `schema` in the dialect that the API guarantees, None when it can't be said there.

    It has no recursion, no untyped values, and no objects whose keys are free: the SDK's own translation would quietly
    make those empty objects.
    """
    from anthropic import transform_schema

    definitions: dict[str, Any] = schema.get("$defs", {})

    def sayable(node: Any, inside: tuple[str, ...]) -> bool:
        if isinstance(node, list):
            return all(sayable(one, inside) for one in cast("list[Any]", node))
        if not isinstance(node, dict):
            return True
        fields = cast("dict[str, Any]", node)
        if fields.get("additionalProperties", False) is not False:
            return False
        if isinstance(reference := fields.get("$ref"), str):
            name = reference.rpartition("/")[2]
            return name not in inside and sayable(definitions.get(name), (*inside, name))
        return all(sayable(value, inside) for key, value in fields.items() if key not in ("$defs", "default", "enum"))

    if not sayable(schema, ()):
        return None
    try:
        return transform_schema(_apart(schema))
    except ValueError:  # an untyped value
        return None


def _apart(node: Any) -> Any:
    """A copy in which references stand alone: what was said beside one would be lost."""
    if isinstance(node, list):
        return [_apart(one) for one in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    fields = {key: _apart(value) for key, value in cast("dict[str, Any]", node).items()}
    if isinstance(fields.get("$ref"), str) and fields.keys() - {"$ref", "$defs"}:
        fields["anyOf"] = [{"$ref": fields.pop("$ref")}]
    return fields


def output_instruction(output: OutputSpec) -> str:
    """What asks for a typed answer where the API can't guarantee it."""
    schema = json.dumps(output.schema, ensure_ascii=False)
    return f"Answer with a JSON value that follows this JSON schema, and with nothing else:\n{schema}"
