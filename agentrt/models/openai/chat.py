"""`OpenAIChat`: OpenAI's chat completions, and the many servers that speak the same protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from agentrt.errors import ModelStreamInterrupted
from agentrt.models._http import drain, is_event_stream, read_events, read_whole
from agentrt.models.base import ModelDelta, ModelRequest
from agentrt.models.message import Message
from agentrt.models.openai._answer import AnswerReader
from agentrt.models.openai._client import SAMPLING, OpenAIModel
from agentrt.models.openai._wire import wire_messages, wire_output, wire_tool_choice, wire_tools

_SENT = frozenset(
    {
        *SAMPLING,
        "max_completion_tokens",
        "metadata",
        "prompt_cache_key",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "user",
        "verbosity",
    }
)
"""The options that are sent under their own names."""


class OpenAIChat(OpenAIModel):
    """A model behind `POST /chat/completions`.

    `strict` asks for tool arguments that are sure to fit their schema, for each tool whose schema can be expressed so.
    """

    id: str = "gpt-4.1"
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    """The answer's limit, under whichever name the model takes it."""
    max_completion_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    verbosity: str | None = None
    parallel_tool_calls: bool | None = None
    strict: bool = False
    user: str | None = None
    metadata: Mapping[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    # --- a call ---------------------------------------------------------------------------------------------------

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        source = self.source()
        body = self._body(await self.with_content(request, source))
        response = await self.post("/chat/completions", body, source, stream=request.stream)
        reader = AnswerReader(source)
        if not request.stream or not is_event_stream(response):
            for delta in reader.completion(await read_whole(response, source)):
                yield delta
            for delta in reader.end():
                yield delta
            return
        done = False
        async with aclosing(read_events(response, source)) as reads:
            try:
                async for events in reads:
                    for name, data in events:
                        if data.startswith(b"[DONE]"):
                            done = True
                            break
                        for delta in reader.event(name, data):
                            yield delta
                    if done:
                        break
            except ModelStreamInterrupted:
                if not reader.finished:
                    raise
            if not (done or reader.finished):
                raise source.interrupted()
            for delta in reader.end():
                yield delta
            if done:
                await drain(reads)

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        row = self.capable()
        given = self.__dict__
        body: dict[str, Any] = {"model": self.id, "messages": self.conversation(request.messages, row.system_role)}
        for name in given.keys() & _SENT:
            if given[name] is not None:
                body[name] = given[name]
        if not row.sampling:
            self.refuse_sampling(body)
        if self.max_tokens is not None:
            body[row.max_tokens_name] = self.max_tokens
        if request.tools:
            body["tools"] = wire_tools(request.tools, strict=self.strict)
            if request.tool_choice is not None:
                body["tool_choice"] = wire_tool_choice(request.tool_choice)
            if self.parallel_tool_calls is not None and row.parallel_tool_calls:
                body["parallel_tool_calls"] = self.parallel_tool_calls
        if request.output is not None:
            body["response_format"] = wire_output(request.output)
        if request.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        return body

    def conversation(self, messages: Sequence[Message], system_role: str) -> list[dict[str, Any]]:
        """The messages as this server takes them."""
        return wire_messages(messages, system_role)
