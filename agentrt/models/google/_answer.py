"""One answer of Gemini, streamed or whole, as deltas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from agentrt import errors
from agentrt.models._failures import Source
from agentrt.models._surrogates import Halves
from agentrt.models.base import (
    CitationDelta,
    FinishDelta,
    ModelDelta,
    PartDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageDelta,
)
from agentrt.models.google._partial_call import PartialCall
from agentrt.models.message import FinishReason, Usage

FILTERED = frozenset(
    {
        "BLOCKLIST",
        "ESCALATION",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_SAFETY",
        "LANGUAGE",
        "MODEL_ARMOR",
        "PROHIBITED_CONTENT",
        "PUP_LIMITED_DISABLED",
        "RECITATION",
        "SAFETY",
        "SPII",
    }
)
BROKEN_CALLS = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"})
_MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)


@dataclass(slots=True)
class _Part:
    """A part of the answer as it will be sent back; a text that came in pieces is one part."""

    value: dict[str, Any]
    pieces: list[str] = field(default_factory=list[str])


class Answer:
    """Takes the chunks of one answer, or the whole of it, and gives its deltas. Raises what an error in it means.

    `finished` says that the provider has named a finish reason.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._halves = Halves()
        self._parts: list[_Part] = []
        self._calls = 0
        self._open: PartialCall | None = None
        self._citations: dict[str, dict[str, Any]] = {}
        self._reason: str | None = None
        self._explanation = ""
        self._usage: dict[str, Any] | None = None
        self._model_id: str | None = None
        self._response_id: str | None = None

    @property
    def finished(self) -> bool:
        return self._reason is not None

    def event(self, name: str, data: bytes) -> list[ModelDelta]:
        """The deltas of one event."""
        if data.startswith(b"[DONE]"):  # some proxies end every stream so
            return []
        try:
            chunk = self._halves.decode(data)
        except ValueError as error:
            if name not in ("", "message"):
                return []  # a heartbeat of some proxy
            raise self._source.invalid("An event of the stream is not JSON", data) from error
        try:
            return self._halves.mend(list(self._chunk(chunk)))
        except _MALFORMED as error:
            raise self._source.invalid("An event of the stream is not what the protocol says", data) from error

    def whole(self, content: bytes) -> list[ModelDelta]:
        """The deltas of an answer that came in one piece. A stream that is no event stream is a list of chunks."""
        try:
            body = self._halves.decode(content)
        except ValueError as error:
            raise self._source.invalid("The provider's answer is not JSON", content) from error
        try:
            chunks: list[Any] = cast("list[Any]", body) if isinstance(body, list) else [body]
            deltas = [delta for chunk in chunks for delta in self._chunk(chunk)]
        except _MALFORMED as error:
            raise self._source.invalid("The provider's answer is not a Gemini response", content) from error
        if not self.finished:
            raise self._source.invalid("The provider's answer has no finished candidate", content)
        return self._halves.mend(deltas)

    def _chunk(self, chunk: dict[str, Any]) -> Iterator[ModelDelta]:
        if chunk.get("error"):
            raise self._source.of_body(chunk)
        self._model_id = chunk.get("modelVersion") or self._model_id
        self._response_id = chunk.get("responseId") or self._response_id
        if usage := chunk.get("usageMetadata"):
            first, self._usage = self._usage is None, usage
            if first:  # what a call that is cut off has cost, as far as is known
                yield UsageDelta(_usage(usage))
        feedback: dict[str, Any] = chunk.get("promptFeedback") or {}
        if feedback.get("blockReason"):
            raise self._blocked(feedback)
        for candidate in (chunk.get("candidates") or ())[:1]:
            content: dict[str, Any] = candidate.get("content") or {}
            for part in content.get("parts") or ():
                yield from self._part(part)
            for name in ("groundingMetadata", "citationMetadata"):
                if candidate.get(name):
                    self._citations[name] = candidate[name]  # a later one says it all again
            if reason := candidate.get("finishReason"):
                self._reason = reason
                self._explanation = candidate.get("finishMessage") or ""

    def _part(self, part: dict[str, Any]) -> Iterator[ModelDelta]:
        call: dict[str, Any] | None = part.get("functionCall")
        if call is not None:
            if self._open is not None or "partialArgs" in call or "willContinue" in call:
                yield from self._piece(part, call)
                return
            yield self._call(call)
            self._parts.append(_Part(_named(part, call)))
        elif text := part.get("text"):
            yield ReasoningDelta(text) if part.get("thought") else TextDelta(text)
            self._text(part, text)
        elif part.keys() - {"text", "thought"}:
            self._parts.append(_Part(part))

    def _piece(self, part: dict[str, Any], call: Mapping[str, Any]) -> Iterator[ModelDelta]:
        """A piece of a call; the whole arguments with its last one."""
        if self._open is None:
            self._open = PartialCall(self._calls, _named(part, call))
            self._calls += 1
            self._parts.append(_Part(self._open.part))
            yield ToolCallDelta(self._open.index, call.get("id") or "", call["name"])
        self._open.add(part)
        if not call.get("willContinue"):
            arguments = self._halves.whole(json.dumps(self._open.arguments, ensure_ascii=False))
            yield ToolCallDelta(self._open.index, arguments=arguments)
            self._open = None

    def _call(self, call: Mapping[str, Any]) -> ToolCallDelta:
        index = self._calls
        self._calls += 1
        arguments = json.dumps(call.get("args") or {}, ensure_ascii=False)
        return ToolCallDelta(index, call.get("id") or "", call["name"], arguments)

    def _text(self, part: dict[str, Any], text: str) -> None:
        """Join the pieces of a text. One that is signed stands alone: its signature is for it as it is."""
        last = self._parts[-1] if self._parts else None
        open_text = last is not None and last.pieces and last.value.keys() <= {"text", "thought"}
        if last is None or not open_text or part.keys() - {"text", "thought"}:
            self._parts.append(_Part(part, [text]))
        elif bool(last.value.get("thought")) == bool(part.get("thought")):
            last.pieces.append(text)
        else:
            self._parts.append(_Part(part, [text]))

    def finish(self) -> Iterator[ModelDelta]:
        """Yield what can be said when all has been read: the parts to keep, usage, and how the answer ended."""
        if self._usage is not None:
            yield UsageDelta(_usage(self._usage))
        if self._reason in BROKEN_CALLS or (self._open is not None and self._reason == "STOP"):
            raise self._broken_call()
        for part in self._kept():
            yield PartDelta(part)
        for name, citation in self._citations.items():
            yield CitationDelta({"type": name, **citation})
        reason: FinishReason = "other"
        if self._reason == "STOP":
            reason = "tool_calls" if self._calls else "stop"
        elif self._reason == "MAX_TOKENS":
            reason = "length"
        elif self._reason in FILTERED:
            reason = "content_filter"
        yield FinishDelta(reason, self._reason, self._model_id, self._response_id)

    def _kept(self) -> list[dict[str, Any]]:
        """The parts in order, or none of them when text and calls alone say as much."""
        parts = [
            part.value | {"text": self._halves.whole("".join(part.pieces))} if part.pieces else part.value
            for part in self._parts
        ]
        kinds = ["call" if "functionCall" in part else "text" for part in parts if not part.get("thought")]
        ordinary = kinds == sorted(kinds, reverse=True) and all(_is_plain(part) for part in parts)
        return [] if ordinary else parts

    def _blocked(self, feedback: Mapping[str, Any]) -> errors.ModelError:
        reason: str = feedback["blockReason"]
        told = feedback.get("blockReasonMessage")
        text = f"The prompt was blocked ({reason})" + (f": {told}" if told else "")
        return self._failure(errors.ContentFiltered, text, reason, feedback)

    def _broken_call(self) -> errors.ModelError:
        told = self._explanation or f"The provider ended its answer with {self._reason}"
        failure = self._failure(errors.ToolUseFailed, told, self._reason, None)
        if isinstance(failure, errors.ToolUseFailed):
            failure.failed_generation = self._explanation or None
        return failure

    def _failure(self, kind: type[errors.ModelError], text: str, code: str | None, body: Any) -> errors.ModelError:
        return self._source.make(kind, text, code=code, body=body, request_id=self._response_id)


def _named(part: Mapping[str, Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a call without the arguments, which the `ToolCall` has."""
    kept = {key: value for key, value in call.items() if key not in ("args", "partialArgs", "willContinue")}
    return {**part, "functionCall": kept}


def _is_plain(part: Mapping[str, Any]) -> bool:
    call: Mapping[str, Any] | None = part.get("functionCall")
    if call is not None:
        return len(part) == len(call) == 1
    return part.keys() <= {"text", "thought"}


def _usage(usage: Mapping[str, Any]) -> Usage:
    """The parts of the prompt that tools added and the thoughts are counted beside the rest here; we count them in."""
    thoughts: int = usage.get("thoughtsTokenCount") or 0
    return Usage(
        input_tokens=(usage.get("promptTokenCount") or 0) + (usage.get("toolUsePromptTokenCount") or 0),
        output_tokens=(usage.get("candidatesTokenCount") or 0) + thoughts,
        cached_input_tokens=usage.get("cachedContentTokenCount") or 0,
        reasoning_tokens=thoughts,
    )
