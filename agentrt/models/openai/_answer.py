"""Chat completions, whole or in chunks, as model deltas. What servers do differently is sorted out here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from agentrt.errors import ModelError, ModelResponseInvalid
from agentrt.models._failures import Source, request_id
from agentrt.models._surrogates import Halves
from agentrt.models.base import (
    CitationDelta,
    FinishDelta,
    ModelDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageDelta,
)
from agentrt.models.message import FinishReason, Usage

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What reading a body of another shape ends in."""


class AnswerReader:
    """Reads one answer: `event` for each event of a stream, or `completion` for a whole one; then `end`.

    Both raise what an error in the body means. `finished` says whether the provider has named a finish reason.
    """

    __slots__ = (
        "_annotations",
        "_answered",
        "_calls",
        "_halves",
        "_model_id",
        "_reason",
        "_refused",
        "_source",
        "_usage",
    )

    def __init__(self, source: Source) -> None:
        self._source = source
        self._calls = ToolCallSorter()
        self._reason: str | None = None
        self._model_id: str | None = None
        self._usage: dict[str, Any] | None = None
        self._annotations: list[dict[str, Any]] = []
        self._answered = False
        self._refused = False
        self._halves = Halves()

    @property
    def finished(self) -> bool:
        return self._reason is not None

    def event(self, name: str, data: bytes) -> list[ModelDelta]:
        """The deltas of one event."""
        try:
            chunk = self._halves.decode(data)
        except ValueError as error:
            if name == "error":
                raise self._source.of_body(data.decode("utf-8", "replace")) from None
            if name not in ("", "message"):
                return []  # a heartbeat of the server's own
            raise self._not_json(error, data) from error
        if name == "error":
            raise self._source.of_body(chunk)
        try:
            return self._chunk(chunk)
        except _MALFORMED as error:
            raise self._source.invalid("An event of the stream is not a chat completion chunk", data) from error

    def completion(self, content: bytes) -> list[ModelDelta]:
        """The deltas of a whole answer: one a kind and a call."""
        try:
            body = self._halves.decode(content)
        except ValueError as error:
            raise self._not_json(error, content) from error
        try:
            return self._completion(body)
        except _MALFORMED as error:
            raise self._source.invalid("The provider's answer is not a chat completion", content) from error

    def _not_json(self, error: ValueError, data: bytes) -> ModelError:
        return self._source.invalid(f"The provider's answer is not JSON ({error})", data)

    def _chunk(self, chunk: dict[str, Any]) -> list[ModelDelta]:
        choices: list[dict[str, Any]] | None = chunk.get("choices")
        if chunk.get("error") or chunk.get("object") == "error":
            raise self._source.of_body(chunk)
        if usage := chunk.get("usage"):
            self._usage = usage
        if not choices:
            return []
        choice = choices[0]
        self._answered = True
        if reason := choice.get("finish_reason"):
            self._finish(reason, choice, chunk)
        delta: dict[str, Any] | None = choice.get("delta") or choice.get("message")
        if not delta:
            return []
        deltas = self._message(delta)
        if calls := delta.get("tool_calls"):
            deltas += self._calls.fragments(calls)
        return self._halves.mend(deltas)

    def _completion(self, body: dict[str, Any]) -> list[ModelDelta]:
        if body.get("error") or body.get("object") == "error":
            raise self._source.of_body(body)
        choice: dict[str, Any] = body["choices"][0]
        self._answered = True
        self._usage = body.get("usage")
        self._finish(choice.get("finish_reason"), choice, body)
        message: dict[str, Any] = choice["message"]
        deltas = self._message(message)
        deltas += [self._calls.whole(call) for call in message.get("tool_calls") or ()]
        return self._halves.mend(deltas)

    def end(self) -> Iterator[ModelDelta]:
        """The usage and how the answer ended."""
        if not self._answered:
            raise self._source.make(ModelResponseInvalid, "The provider's answer ended without having any choices")
        yield from map(CitationDelta, self._annotations)
        if self._usage is not None:
            yield UsageDelta(_usage(self._usage))
        reason = _REASONS.get((self._reason or "").lower(), "other")
        if reason in ("stop", "other", "tool_calls"):  # a label alone decides nothing
            if self._calls.count:
                reason = "tool_calls"
            elif self._refused:
                reason = "refusal"
            elif reason == "tool_calls":
                reason = "other"
        yield FinishDelta(reason, self._reason, self._model_id, request_id(self._source.headers))

    def _finish(self, reason: str | None, choice: dict[str, Any], body: dict[str, Any]) -> None:
        self._reason = reason
        self._model_id = body.get("model") or None
        if reason == "error":
            error = choice.get("error") or {"message": "The provider ended its answer with finish_reason 'error'"}
            raise self._source.of_body({"error": error})

    def _message(self, message: dict[str, Any]) -> list[ModelDelta]:
        deltas: list[ModelDelta] = []
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            deltas.append(ReasoningDelta(reasoning))
        if content := message.get("content"):
            if isinstance(content, str):
                deltas.append(TextDelta(content))
            else:
                deltas += _parts(content)
        self._annotations += message.get("annotations") or ()
        if refusal := message.get("refusal"):
            self._refused = True
            deltas.append(RefusalDelta(refusal))
        return deltas


class ToolCallSorter:
    """Gives each fragment of a tool call to the call it belongs to, whatever the server's indices are worth.

    A known id belongs to its call and a new one opens a call. Without an id, a fragment belongs to the call that last
    opened with its index; an index that never opened, or none, means the newest call, unless the fragment has a name:
    then it opens one. A new id without a name is the belated id of such a call, if that has none yet.
    """

    __slots__ = ("_by_id", "_by_index", "_identified", "_named", "count")

    def __init__(self) -> None:
        self.count = 0
        self._by_id: dict[str, int] = {}
        self._by_index: dict[Any, int] = {}
        self._identified: list[bool] = []
        self._named: list[bool] = []

    def fragments(self, fragments: list[dict[str, Any]]) -> list[ModelDelta]:
        deltas: list[ModelDelta] = []
        for fragment in fragments:
            function: dict[str, Any] = fragment.get("function") or {}
            call_id = _id_text(fragment.get("id"))
            name: str = function.get("name") or ""
            arguments = argument_text(function.get("arguments"))
            call = self._call(call_id, fragment.get("index"), name)
            if call is None:
                deltas.append(self._open(call_id, fragment.get("index"), name, arguments))
            elif name and not self._named[call]:
                self._named[call] = True
                deltas.append(ToolCallDelta(call, "", name, arguments))
            elif arguments:
                deltas.append(ToolCallDelta(call, "", "", arguments))
        return deltas

    def whole(self, call: dict[str, Any]) -> ToolCallDelta:
        function: dict[str, Any] = call.get("function") or {}
        arguments = argument_text(function.get("arguments"))
        return self._open(_id_text(call.get("id")), None, function.get("name") or "", arguments)

    def _call(self, call_id: str, index: Any, name: str) -> int | None:
        if call_id and call_id in self._by_id:
            return self._by_id[call_id]
        if index is not None and index in self._by_index:
            call = self._by_index[index]
        else:
            call = self.count - 1 if self.count and not name else None
        if not call_id:
            return call
        if name or call is None or self._identified[call]:
            return None
        self._identify(call, call_id)
        return call

    def _identify(self, call: int, call_id: str) -> None:
        self._identified[call] = True
        self._by_id[call_id] = call

    def _open(self, call_id: str, index: Any, name: str, arguments: str) -> ToolCallDelta:
        call = self.count
        self.count += 1
        self._named.append(bool(name))
        self._identified.append(False)
        if call_id:
            self._identify(call, call_id)
        if index is not None:
            self._by_index[index] = call
        return ToolCallDelta(call, call_id, name, arguments)


def _id_text(call_id: Any) -> str:
    """An id as text: some servers count with numbers, from 0."""
    return "" if call_id is None else str(call_id)


def argument_text(arguments: Any) -> str:
    """Arguments as text: some servers send null, or the object itself."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments, ensure_ascii=False)


def _parts(content: Any) -> Iterator[ModelDelta]:
    """Content given as a list of parts."""
    for part in cast("list[Any]", content) if isinstance(content, list) else ():
        if isinstance(part, str):
            yield TextDelta(part)
        elif part.get("type") == "thinking":
            inner = part.get("thinking")
            texts = [inner] if isinstance(inner, str) else [piece.get("text", "") for piece in inner or ()]
            yield from (ReasoningDelta(text) for text in texts if text)
        elif part.get("refusal"):
            yield RefusalDelta(part["refusal"])
        elif part.get("text"):
            yield TextDelta(part["text"])


def _usage(usage: dict[str, Any]) -> Usage:
    read: dict[str, Any] = usage.get("prompt_tokens_details") or {}
    written: dict[str, Any] = usage.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cached_input_tokens=read.get("cached_tokens") or 0,
        reasoning_tokens=written.get("reasoning_tokens") or 0,
    )
