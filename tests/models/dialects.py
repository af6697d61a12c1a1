"""The protocols of our adapters, for `agentrt.testing.model_contracts`; and what the providers' SDKs make of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anthropic
import google.genai as genai
import openai

from agentrt.models.anthropic import Claude
from agentrt.models.base import Model
from agentrt.models.google import Gemini
from agentrt.models.message import FinishReason, Usage
from agentrt.models.openai import OpenAIChat, OpenAIResponses
from agentrt.testing.model_contracts import Answer, NotSpoken


@dataclass
class Told:
    """An answer as an SDK accumulates it."""

    text: str
    refusal: str
    calls: list[tuple[str, str, Any]]
    input_tokens: int
    output_tokens: int
    reasoning: str | None = None
    """None when the SDK keeps none."""


def data(value: Mapping[str, Any], event: str = "") -> bytes:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def dumps(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def pieces(arguments: str) -> list[str]:
    return [arguments[:3], arguments[3:]]


class ChatDialect:
    name = "chat"
    reasons: Mapping[FinishReason, str] = {"refusal": "stop"}

    def model(self, base_url: str) -> Model:
        return OpenAIChat(id="gpt-4.1", base_url=base_url, api_key="test", max_retries=0)

    def events(self, answer: Answer) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning_content": piece} for piece in answer.reasoning]
        deltas += [{"content": piece} for piece in answer.text]
        if answer.refusal:
            deltas.append({"refusal": answer.refusal})
        for index, call in enumerate(answer.calls):
            head = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
            deltas.append({"tool_calls": [head]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces(call.arguments)
            ]
        chunks = [self._chunk(delta) for delta in deltas]
        chunks.append(self._chunk({}, self.reasons.get(answer.finish, answer.finish)))
        return [*chunks, self._chunk(None, usage=self._usage(answer.usage)), b"data: [DONE]\n\n"]

    def _chunk(self, delta: dict[str, Any] | None, finish: str | None = None, **fields: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4.1"}
        return data(head | {"choices": choices} | fields)

    def body(self, answer: Answer) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.text) or None}
        if answer.reasoning:
            message["reasoning_content"] = "".join(answer.reasoning)
        if answer.refusal:
            message["refusal"] = answer.refusal
        if answer.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in answer.calls
            ]
        finish = self.reasons.get(answer.finish, answer.finish)
        return dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": "gpt-4.1",
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": self._usage(answer.usage),
            }
        )

    def _usage(self, usage: Usage) -> dict[str, Any]:
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }

    def error(self, status: int, message: str) -> bytes:
        return dumps({"error": {"message": message, "type": "some_error", "param": None, "code": None}})

    def error_event(self, status: int, message: str) -> bytes:
        return data({"choices": [], "error": {"message": message, "code": status}})

    async def told(self, base_url: str) -> Told:
        asked: Any = {"messages": [{"role": "user", "content": "hello"}], "stream_options": {"include_usage": True}}
        async with (
            openai.AsyncOpenAI(base_url=base_url, api_key="test") as client,
            client.chat.completions.stream(model="gpt-4.1", **asked) as stream,
        ):
            done = await stream.get_final_completion()
        message, usage = done.choices[0].message, done.usage
        assert usage is not None
        calls = [
            (call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()
        ]
        return Told(message.content or "", message.refusal or "", calls, usage.prompt_tokens, usage.completion_tokens)


class ResponsesDialect:
    name = "responses"

    def model(self, base_url: str) -> Model:
        return OpenAIResponses(id="gpt-5", base_url=base_url, api_key="test", max_retries=0)

    def events(self, answer: Answer) -> list[bytes]:
        response = self._response(answer)
        begun = response | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
        events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
        for index, item in enumerate(response["output"]):
            events += self._item_events(index, item, answer)
        events.append({"type": f"response.{response['status']}", "response": response})
        return [data(event | {"sequence_number": at}, event["type"]) for at, event in enumerate(events)]

    def _item_events(self, index: int, item: dict[str, Any], answer: Answer) -> list[dict[str, Any]]:
        at = {"output_index": index, "item_id": item["id"]}
        open_item = item | {name: [] for name in ("content", "summary") if name in item} | {"status": "in_progress"}
        middle: list[dict[str, Any]] = []
        if item["type"] == "function_call":
            open_item["arguments"] = ""
            middle = [{"type": "response.function_call_arguments.delta", "delta": piece} for piece in
                      pieces(item["arguments"])]  # fmt: skip
            middle.append({"type": "response.function_call_arguments.done", "arguments": item["arguments"]})
        elif item["type"] == "reasoning":
            part = {"type": "summary_text", "text": ""}
            middle.append({"type": "response.reasoning_summary_part.added", "summary_index": 0, "part": part})
            middle += [
                {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": piece}
                for piece in answer.reasoning
            ]
        else:
            part = item["content"][0]
            word, texts = ("refusal", [answer.refusal]) if answer.refusal else ("output_text", answer.text)
            empty = part | {"refusal" if answer.refusal else "text": ""}
            middle.append({"type": "response.content_part.added", "content_index": 0, "part": empty})
            middle += [
                {"type": f"response.{word}.delta", "content_index": 0, "delta": piece, "logprobs": []}
                for piece in texts
            ]
            middle.append({"type": "response.content_part.done", "content_index": 0, "part": part})
        return [
            {"type": "response.output_item.added", "output_index": index, "item": open_item},
            *(event | at for event in middle),
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]

    def _response(self, answer: Answer) -> dict[str, Any]:
        output: list[dict[str, Any]] = []
        if answer.reasoning:
            summary = [{"type": "summary_text", "text": "".join(answer.reasoning)}]
            output.append(
                {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": answer.signature}
            )
        if answer.text or answer.refusal:
            text = {"type": "output_text", "text": "".join(answer.text), "annotations": [], "logprobs": []}
            content = {"type": "refusal", "refusal": answer.refusal} if answer.refusal else text
            head = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
            output.append(head | {"content": [content]})
        for index, call in enumerate(answer.calls):
            head = {"type": "function_call", "id": f"fc_{index}", "call_id": call.id, "name": call.name}
            output.append(head | {"arguments": call.arguments, "status": "completed"})
        cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(answer.finish)
        used = answer.usage
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": "gpt-5",
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": cut} if cut else None,
            "error": None,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": used.input_tokens,
                "input_tokens_details": {"cached_tokens": used.cached_input_tokens},
                "output_tokens": used.output_tokens,
                "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
                "total_tokens": used.total_tokens,
            },
        }

    def body(self, answer: Answer) -> bytes:
        return dumps(self._response(answer))

    def error(self, status: int, message: str) -> bytes:
        return dumps({"error": {"message": message, "type": "some_error", "param": None, "code": None}})

    def error_event(self, status: int, message: str) -> bytes:
        code = {500: "server_error", 503: "server_is_overloaded"}[status]
        failed = self._response(Answer()) | {"status": "failed", "error": {"code": code, "message": message}}
        return data({"type": "response.failed", "sequence_number": 9, "response": failed}, "response.failed")

    async def told(self, base_url: str) -> Told:
        async with (
            openai.AsyncOpenAI(base_url=base_url, api_key="test") as client,
            client.responses.stream(model="gpt-5", input="hello") as stream,
        ):
            done = await stream.get_final_response()
        assert done.usage is not None
        calls: list[tuple[str, str, Any]] = []
        refusal = reasoning = ""
        for item in done.output:
            if item.type == "function_call":
                calls.append((item.call_id, item.name, json.loads(item.arguments)))
            elif item.type == "message":
                refusal += "".join(part.refusal for part in item.content if part.type == "refusal")
            elif item.type == "reasoning":
                reasoning += "".join(part.text for part in item.summary)
        used = done.usage
        return Told(done.output_text, refusal, calls, used.input_tokens, used.output_tokens, reasoning)


class ClaudeDialect:
    name = "claude"
    reasons: Mapping[FinishReason, str] = {
        "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refusal": "refusal"
    }  # fmt: skip
    types: Mapping[int, str] = {
        400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
        429: "rate_limit_error", 500: "api_error", 503: "overloaded_error",
    }  # fmt: skip

    def model(self, base_url: str) -> Model:
        return Claude(id="claude-sonnet-4-5", base_url=base_url, api_key="test", max_retries=0)

    def _blocks(self, answer: Answer) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Each content block as it starts, and its deltas."""
        if answer.finish not in self.reasons:
            raise NotSpoken(answer.finish)
        blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        if answer.reasoning:
            thinking = [{"type": "thinking_delta", "thinking": piece} for piece in answer.reasoning]
            thinking.append({"type": "signature_delta", "signature": answer.signature})
            blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, thinking))
        if answer.text:
            blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": one} for one in answer.text]))
        for call in answer.calls:
            start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            blocks.append(
                (start, [{"type": "input_json_delta", "partial_json": one} for one in pieces(call.arguments)])
            )
        return blocks

    def _message(self, answer: Answer) -> dict[str, Any]:
        usage = answer.usage
        message: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5",
            "stop_reason": self.reasons.get(answer.finish),
            "stop_sequence": None,
            "usage": {
                "input_tokens": usage.input_tokens - usage.cached_input_tokens,
                "cache_read_input_tokens": usage.cached_input_tokens,
                "output_tokens": usage.output_tokens,
                "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
            },
        }
        if answer.refusal:
            message["stop_details"] = {"type": "refusal", "explanation": answer.refusal}
        return message

    def events(self, answer: Answer) -> list[bytes]:
        message = self._message(answer)
        end = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details") if name in message}
        start = message | {"content": [], "stop_reason": None}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
        for index, (block, deltas) in enumerate(self._blocks(answer)):
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        events.append({"type": "message_delta", "delta": end, "usage": message["usage"]})
        events.append({"type": "message_stop"})
        return [data(event, event["type"]) for event in events]

    def body(self, answer: Answer) -> bytes:
        content: list[dict[str, Any]] = []
        for block, deltas in self._blocks(answer):
            for delta in deltas:
                for name in ("thinking", "signature", "text"):
                    if name in delta:
                        block[name] += delta[name]
            content.append(block)
        inputs = [json.loads(call.arguments) for call in answer.calls]
        for block, value in zip((one for one in content if one["type"] == "tool_use"), inputs, strict=True):
            block["input"] = value
        return dumps(self._message(answer) | {"content": content})

    def error(self, status: int, message: str) -> bytes:
        return dumps({"type": "error", "error": {"type": self.types[status], "message": message}})

    def error_event(self, status: int, message: str) -> bytes:
        return data({"type": "error", "error": {"type": self.types[status], "message": message}}, "error")

    async def told(self, base_url: str) -> Told:
        asked: Any = {"max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]}
        async with (
            anthropic.AsyncAnthropic(base_url=base_url, api_key="test") as client,
            client.messages.stream(model="claude-test", **asked) as stream,
        ):
            done = await stream.get_final_message()
        calls = [(block.id, block.name, block.input) for block in done.content if block.type == "tool_use"]
        return Told(
            text="".join(block.text for block in done.content if block.type == "text"),
            refusal=(done.stop_details.explanation or "") if done.stop_details else "",
            calls=calls,
            input_tokens=done.usage.input_tokens + (done.usage.cache_read_input_tokens or 0),
            output_tokens=done.usage.output_tokens,
            reasoning="".join(block.thinking for block in done.content if block.type == "thinking"),
        )


class GeminiDialect:
    name = "gemini"
    reasons: Mapping[FinishReason, str] = {
        "stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"
    }  # fmt: skip
    statuses: Mapping[int, str] = {
        400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE",
    }  # fmt: skip

    def model(self, base_url: str) -> Model:
        return Gemini(id="gemini-2.5-flash", base_url=base_url, api_key="test", max_retries=0)

    def _parts(self, answer: Answer) -> list[dict[str, Any]]:
        if answer.finish not in self.reasons:
            raise NotSpoken(answer.finish)
        parts: list[dict[str, Any]] = [{"thought": True, "text": piece} for piece in answer.reasoning]
        parts += [{"text": piece} for piece in answer.text]
        for call in answer.calls:
            function = {"id": call.id, "name": call.name, "args": json.loads(call.arguments)}
            parts.append({"functionCall": function})
        if answer.signature:  # beside what the thoughts led to
            parts[len(answer.reasoning)]["thoughtSignature"] = answer.signature
        return parts

    def _response(self, parts: list[dict[str, Any]], answer: Answer, finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
        if finish:
            candidate["finishReason"] = finish
        used = answer.usage
        usage = {
            "promptTokenCount": used.input_tokens,
            "cachedContentTokenCount": used.cached_input_tokens,
            "candidatesTokenCount": used.output_tokens - used.reasoning_tokens,
            "thoughtsTokenCount": used.reasoning_tokens,
            "totalTokenCount": used.total_tokens,
        }
        return {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": "gemini-2.5-flash",
            "responseId": "r",
        }

    def events(self, answer: Answer) -> list[bytes]:
        chunks = [self._response([part], answer, None) for part in self._parts(answer)]
        chunks.append(self._response([{"text": ""}], answer, self.reasons[answer.finish]))
        return [data(chunk) for chunk in chunks]

    def body(self, answer: Answer) -> bytes:
        return dumps(self._response(self._parts(answer), answer, self.reasons[answer.finish]))

    def error(self, status: int, message: str) -> bytes:
        return dumps({"error": {"code": status, "message": message, "status": self.statuses[status]}})

    def error_event(self, status: int, message: str) -> bytes:
        return data({"error": {"code": status, "message": message, "status": self.statuses[status]}})

    async def told(self, base_url: str) -> Told:
        """The SDK gives chunks, and leaves adding them up to its users."""
        client = genai.Client(api_key="test", http_options=genai.types.HttpOptions(base_url=base_url))
        told = Told("", "", [], 0, 0, "")
        async with client.aio as asking:
            stream = await asking.models.generate_content_stream(model="gemini-2.5-flash", contents="hello")
            async for chunk in stream:
                parts = chunk.candidates[0].content.parts if chunk.candidates and chunk.candidates[0].content else None
                for part in parts or ():
                    if part.function_call is not None:
                        function = part.function_call
                        told.calls.append((function.id or "", function.name or "", function.args))
                    elif part.thought:
                        told.reasoning = (told.reasoning or "") + (part.text or "")
                    else:
                        told.text += part.text or ""
                if (used := chunk.usage_metadata) is not None:
                    told.input_tokens = used.prompt_token_count or 0
                    told.output_tokens = (used.candidates_token_count or 0) + (used.thoughts_token_count or 0)
        return told


DIALECTS = [ChatDialect(), ResponsesDialect(), ClaudeDialect(), GeminiDialect()]
