"""One answer of the Responses API, streamed or whole, as deltas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from agentrt.models.openai._answer import argument_text

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_INCOMPLETE: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_MALFORMED = (AttributeError, IndexError, KeyError, TypeError)


@dataclass(slots=True)
class _Progress:
    """What has been told of one output item."""

    call: int = -1
    told: bool = False
    sections: int = 0


class ResponseReader:
    """Takes the events of one answer, or the whole of it, and gives its deltas. Raises what an error in it means.

    `ended` says that the provider has sent the last event. `stored` says that the answer's id stands for it later.
    """

    def __init__(self, source: Source, *, stored: bool) -> None:
        self._source = source
        self._stored = stored
        self._halves = Halves()
        self._places: dict[str, int] = {}
        self._progress: dict[int, _Progress] = {}
        self._items: dict[int, dict[str, Any]] = {}
        self._calls = 0
        self._refused = False
        self._response: dict[str, Any] = {}
        self.ended = False

    def event(self, name: str, data: bytes) -> list[ModelDelta]:
        """The deltas of one event. Unknown events and items are no error: the API may add some."""
        if data.startswith(b"[DONE]"):
            return []
        try:
            event = self._halves.decode(data)
        except ValueError as error:
            if name == "error":
                raise self._source.of_body(data.decode("utf-8", "replace")) from None
            if name and not name.startswith("response."):
                return []  # a heartbeat of some proxy
            raise self._source.invalid("An event of the stream is not JSON", data) from error
        try:
            return self._halves.mend(list(self._event(event.get("type") or name, event)))
        except _MALFORMED as error:
            raise self._source.invalid("An event of the stream is not what the protocol says", data) from error

    def whole(self, content: bytes) -> list[ModelDelta]:
        """The deltas of an answer that came in one piece."""
        try:
            response = self._halves.decode(content)
        except ValueError as error:
            raise self._source.invalid("The provider's answer is not JSON", content) from error
        try:
            return self._halves.mend(list(self._end(response)))
        except _MALFORMED as error:
            raise self._source.invalid("The provider's answer is not a response", content) from error

    def _event(self, kind: str, event: dict[str, Any]) -> Iterator[ModelDelta]:
        if kind == "response.output_text.delta":
            yield from self._text(self._place(event), event["delta"])
        elif kind == "response.function_call_arguments.delta":
            yield from self._arguments(self._place(event), event["delta"])
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            yield from self._reasoning(self._place(event), event["delta"])
        elif kind == "response.refusal.delta":
            yield from self._refusal(self._place(event), event["delta"])
        elif kind in ("response.reasoning_summary_part.added", "response.reasoning_part.added"):
            yield from self._section(self._place(event))
        elif kind == "response.output_item.added":
            yield from self._open(self._place(event), event["item"])
        elif kind == "response.output_item.done":
            yield from self._item(self._place(event), event["item"])
        elif kind in _ENDS:
            yield from self._end(event["response"])
        elif kind == "error" or event.get("error"):
            raise self._source.of_body(event)

    def _place(self, event: dict[str, Any]) -> int:
        """Which output item an event is about. llama.cpp's server says it by the item's id alone."""
        index = event.get("output_index")
        if index is None:
            name = event.get("item_id") or event["item"]["id"]
            index = self._places.setdefault(name, len(self._places))
        return index

    # --- pieces ---------------------------------------------------------------------------------------------------

    def _at(self, index: int) -> _Progress:
        return self._progress.setdefault(index, _Progress())

    def _text(self, index: int, text: str) -> Iterator[ModelDelta]:
        if text:
            self._at(index).told = True
            yield TextDelta(text)

    def _refusal(self, index: int, text: str) -> Iterator[ModelDelta]:
        self._refused = True
        if text:
            self._at(index).told = True
            yield RefusalDelta(text)

    def _reasoning(self, index: int, text: str) -> Iterator[ModelDelta]:
        if text:
            self._at(index).told = True
            yield ReasoningDelta(text)

    def _section(self, index: int) -> Iterator[ModelDelta]:
        """A further part of a summary is a paragraph of its own."""
        self._at(index).sections += 1
        if self._at(index).sections > 1:
            yield ReasoningDelta("\n\n")

    def _arguments(self, index: int, text: str) -> Iterator[ModelDelta]:
        progress = self._at(index)
        if text and progress.call >= 0:  # else a custom tool's or a server's: kept in its item
            progress.told = True
            yield ToolCallDelta(progress.call, arguments=text)

    # --- items ----------------------------------------------------------------------------------------------------

    def _open(self, index: int, item: Mapping[str, Any]) -> Iterator[ModelDelta]:
        progress = self._at(index)
        if item["type"] == "function_call" and progress.call < 0:
            progress.call = self._calls
            self._calls += 1
            yield ToolCallDelta(progress.call, item.get("call_id") or "", item["name"])

    def _item(self, index: int, item: dict[str, Any]) -> Iterator[ModelDelta]:
        """A finished item: keep it, and tell what of it has not been told."""
        yield from self._open(index, item)
        progress = self._at(index)
        if not progress.told:
            yield from self._tell(index, item)
        self._items[index] = self._kept(item)

    def _tell(self, index: int, item: Mapping[str, Any]) -> Iterator[ModelDelta]:
        kind = item["type"]
        if kind == "function_call":
            yield from self._arguments(index, argument_text(item.get("arguments")))
        elif kind == "message":
            for content in item["content"]:
                yield from self._text(index, content.get("text") or "")
                if "refusal" in content:
                    yield from self._refusal(index, content["refusal"])
        elif kind == "reasoning":
            for section in item.get("summary") or item.get("content") or ():
                yield from self._section(index)
                yield from self._reasoning(index, section["text"])

    def _kept(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item as it can be sent back; the API refuses some of its own nulls."""
        kept = {name: value for name, value in item.items() if value is not None}
        if kept["type"] == "function_call":
            kept |= {"call_id": kept.get("call_id") or ""}
            kept.pop("arguments", None)
        elif kept["type"] == "message":
            kept["content"] = [self._whole(content) for content in kept["content"]]
        return kept

    def _whole(self, content: dict[str, Any]) -> dict[str, Any]:
        texts = {name: self._halves.whole(content[name]) for name in ("text", "refusal") if content.get(name)}
        return content | texts

    # --- the end --------------------------------------------------------------------------------------------------

    def _end(self, response: dict[str, Any]) -> Iterator[ModelDelta]:
        status = response.get("status")
        if response.get("error") or status in ("failed", "cancelled"):
            error = response.get("error") or {"message": f"The response was {status}"}
            raise self._source.of_body({"error": error})
        if status not in ("completed", "incomplete"):
            raise KeyError("status")
        for index, item in enumerate(response["output"] or ()):
            if index not in self._items:  # all of them in a whole answer; in a stream, those of a sparing server
                yield from self._item(index, item)
        self._response = response
        self.ended = True

    def finish(self) -> Iterator[ModelDelta]:
        """Yield what can be said when all has been read: the parts to keep, usage, and how the answer ended."""
        response = self._response
        for part in self._parts():
            yield PartDelta(part)
        for item in self._items.values():
            for content in item["content"] if item["type"] == "message" else ():
                yield from map(CitationDelta, content.get("annotations") or ())
        if usage := response.get("usage"):
            yield UsageDelta(_usage(usage))
        raw = response["status"]
        reason: FinishReason = "tool_calls" if self._calls else "refusal" if self._refused else "stop"
        if raw == "incomplete":
            details: dict[str, Any] = response.get("incomplete_details") or {}
            raw = details.get("reason") or raw
            reason = _INCOMPLETE.get(raw, "other")
        yield FinishDelta(reason, raw, response.get("model"), request_id(self._source.headers))

    def _parts(self) -> list[dict[str, Any]]:
        """The items in order, or none of them when text and calls alone say as much."""
        items = [self._items[index] for index in sorted(self._items)]
        if self._stored and (response_id := self._response.get("id")):
            return [{"type": "response", "id": response_id}, *items]
        kinds = [item["type"] for item in items]
        messages = kinds.count("message")
        ordinary = messages <= 1 and kinds == ["message"] * messages + ["function_call"] * (len(kinds) - messages)
        return [] if ordinary and all(_is_plain(item) for item in items) else items


def _is_plain(item: Mapping[str, Any]) -> bool:
    if item["type"] == "function_call":
        return item.keys() <= {"type", "id", "call_id", "name", "status"}
    return item.keys() <= {"type", "id", "role", "status", "content"} and not any(
        content.get("annotations") for content in item["content"]
    )


def _usage(usage: Mapping[str, Any]) -> Usage:
    read: dict[str, Any] = usage.get("input_tokens_details") or {}
    written: dict[str, Any] = usage.get("output_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("input_tokens") or 0,
        output_tokens=usage.get("output_tokens") or 0,
        cached_input_tokens=read.get("cached_tokens") or 0,
        cache_write_tokens=read.get("cache_write_tokens") or 0,
        reasoning_tokens=written.get("reasoning_tokens") or 0,
    )
