"""One answer of the Messages API, streamed or whole, as deltas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentrt.models._failures import Source, request_id
from agentrt.models._surrogates import Halves
from agentrt.models.base import (
    CitationDelta,
    FinishDelta,
    ModelDelta,
    PartDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageDelta,
)
from agentrt.models.message import FinishReason, Usage
from agentrt.tools.arguments import normalize_arguments

FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
EVENTS = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    }
)
MALFORMED = (AttributeError, KeyError, TypeError)


@dataclass(slots=True)
class _Block:
    """A content block as far as it has come: what it started as, and the pieces of its text or its input."""

    value: dict[str, Any]
    kind: str
    call: int = -1
    pieces: list[str] = field(default_factory=list[str])


class Answer:
    """Takes the events of one answer, or the whole of it, and gives its deltas. Raises what an error in it means.

    `ended` says that the provider has sent the last event, `stopped` that it has said why it stopped: then the answer
    is complete as well.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.ended = False
        self.stopped = False
        self._halves = Halves()
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._usage: dict[str, Any] = {}
        self._stop: str | None = None
        self._explanation: str | None = None
        self._model_id: str | None = None

    def event(self, name: str, data: bytes) -> list[ModelDelta]:
        """The deltas of one event. Unknown events and blocks are no error: the API may add some."""
        try:
            event = self._halves.decode(data)
        except ValueError as error:
            if name and name not in EVENTS:
                return []  # a heartbeat of some proxy
            raise self._source.invalid("An event of the stream is not JSON", data) from error
        try:
            return self._halves.mend(list(self._event(event)))
        except MALFORMED as error:
            raise self._source.invalid("An event of the stream is not what the protocol says", data) from error

    def whole(self, content: bytes) -> list[ModelDelta]:
        """The deltas of an answer that came in one piece."""
        try:
            message = self._halves.decode(content)
        except ValueError as error:
            raise self._source.invalid("The provider's answer is not JSON", content) from error
        try:
            return self._halves.mend(list(self._message(message)))
        except MALFORMED as error:
            raise self._source.invalid("The provider's answer is not a message", content) from error

    def _event(self, event: Mapping[str, Any]) -> Iterator[ModelDelta]:
        kind = event.get("type")
        if kind == "content_block_delta":
            yield from self._delta(self._blocks[event["index"]], event["delta"])
        elif kind == "content_block_start":
            yield from self._start(event["index"], event["content_block"])
        elif kind == "message_start":
            self._model_id = event["message"].get("model")
            yield self._use(event["message"].get("usage"))
        elif kind == "message_delta":
            self._end(event["delta"])
            yield self._use(event.get("usage"))
        elif kind == "message_stop":
            self.stopped = self.ended = True
        elif kind == "error" or (kind is None and "error" in event):
            raise self._source.of_body(event)

    def _message(self, message: Mapping[str, Any]) -> Iterator[ModelDelta]:
        if message.get("error"):
            raise self._source.of_body(message)
        self._model_id = message.get("model")
        for index, block in enumerate(message["content"]):
            yield from self._start(index, block)
        self._end(message)
        yield self._use(message.get("usage"))

    def finish(self) -> Iterator[ModelDelta]:
        """Yield what can be said when all has been read: the parts to keep, and how the answer ended."""
        for block in self._blocks.values():
            yield from self._complete(block)
        if self._stop == "refusal" and self._explanation and not any(self._texts()):
            yield RefusalDelta(self._explanation)
        for part in self._parts():
            yield PartDelta(part)
        for block in self._blocks.values():
            yield from map(CitationDelta, block.value.get("citations") or ())
        reason: FinishReason = "tool_calls" if self._calls else "stop"
        if self._stop is not None:
            reason = FINISH.get(self._stop, "other")
        yield FinishDelta(reason, self._stop, self._model_id, request_id(self._source.headers))

    def _start(self, index: int, value: dict[str, Any]) -> Iterator[ModelDelta]:
        block = self._blocks[index] = _Block(value, value["type"])
        if block.kind == "tool_use":
            block.call = self._calls
            self._calls += 1
            yield ToolCallDelta(block.call, value.get("id") or "", value.get("name") or "")
        elif block.kind == "text" and value.get("text"):
            block.pieces.append(value["text"])
            yield TextDelta(value["text"])
        elif block.kind == "thinking" and value.get("thinking"):
            block.pieces.append(value["thinking"])
            yield ReasoningDelta(value["thinking"])

    def _delta(self, block: _Block, delta: Mapping[str, Any]) -> Iterator[ModelDelta]:
        kind = delta["type"]
        if kind == "text_delta":
            if text := delta["text"]:
                block.pieces.append(text)
                yield TextDelta(text)
        elif kind == "input_json_delta":
            if piece := delta["partial_json"]:
                block.pieces.append(piece)
                if block.call >= 0:
                    yield ToolCallDelta(block.call, arguments=piece)
        elif kind == "thinking_delta":
            if text := delta["thinking"]:
                block.pieces.append(text)
                yield ReasoningDelta(text)
        elif kind == "signature_delta":
            block.value["signature"] = delta["signature"]
        elif kind == "citations_delta":
            block.value["citations"] = [*(block.value.get("citations") or ()), delta["citation"]]

    def _complete(self, block: _Block) -> Iterator[ModelDelta]:
        """Put the pieces into the block, which is then as the API would have sent it in one piece."""
        if block.kind in ("text", "thinking"):
            block.value[block.kind] = self._halves.whole("".join(block.pieces))
        elif block.call >= 0:
            if not block.pieces and block.value.get("input"):
                text = json.dumps(block.value["input"], ensure_ascii=False)
                yield ToolCallDelta(block.call, arguments=self._halves.whole(text))
            block.value["input"] = {}  # the ToolCall has it
        elif block.pieces:
            block.value["input"] = normalize_arguments("".join(block.pieces)).values

    def _end(self, end: Mapping[str, Any]) -> None:
        if end.get("stop_reason"):
            self._stop = end["stop_reason"]
            details: dict[str, Any] = end.get("stop_details") or {}
            self._explanation = details.get("explanation")
            self.stopped = True

    def _use(self, usage: Mapping[str, Any] | None) -> UsageDelta:
        """Later counts are totals: they replace earlier ones, but for those they leave out."""
        self._usage |= {name: count for name, count in (usage or {}).items() if count is not None}
        read = self._usage.get("cache_read_input_tokens", 0)
        written = self._usage.get("cache_creation_input_tokens", 0)
        details: dict[str, Any] = self._usage.get("output_tokens_details") or {}
        return UsageDelta(
            Usage(
                input_tokens=self._usage.get("input_tokens", 0) + read + written,
                output_tokens=self._usage.get("output_tokens", 0),
                cached_input_tokens=read,
                cache_write_tokens=written,
                reasoning_tokens=details.get("thinking_tokens") or 0,
            )
        )

    def _texts(self) -> Iterator[str]:
        return (block.value["text"] for block in self._blocks.values() if block.kind == "text")

    def _parts(self) -> list[dict[str, Any]]:
        """The blocks in order, or none of them when text and calls alone say as much.

        A thinking block without its signature was cut off, and is refused when it comes back.
        """
        parts = [
            block.value
            for block in self._blocks.values()
            if (block.kind != "thinking" or block.value.get("signature"))
            and (block.kind != "text" or block.value["text"])
        ]
        kinds = [part["type"] for part in parts]
        texts = kinds.count("text")
        ordinary = texts <= 1 and kinds == ["text"] * texts + ["tool_use"] * (len(kinds) - texts)
        return [] if ordinary and all(_is_plain(part) for part in parts) else parts


def _is_plain(part: Mapping[str, Any]) -> bool:
    known = ("type", "text", "id", "name", "input")
    return all(name in known or value is None for name, value in part.items())
