"""`OpenAIResponses`: OpenAI's Responses API, with its reasoning kept between calls and its built-in tools."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from agentrt.errors import ModelBadRequest
from agentrt.media import Media
from agentrt.models._failures import Source
from agentrt.models._http import drain, is_event_stream, read_events, read_whole
from agentrt.models.base import ModelDelta, ModelRequest
from agentrt.models.message import Message
from agentrt.models.openai import _input
from agentrt.models.openai._capabilities import reasons
from agentrt.models.openai._client import OpenAIModel
from agentrt.models.openai._response import ResponseReader

_SENT = frozenset(
    {
        "max_tool_calls",
        "metadata",
        "prompt_cache_key",
        "safety_identifier",
        "service_tier",
        "temperature",
        "top_p",
        "truncation",
        "user",
    }
)
"""The options that are sent under their own names."""
REASONING = "reasoning.encrypted_content"


class OpenAIResponses(OpenAIModel):
    """A model behind `POST /responses`.

    By default nothing is stored at OpenAI: each request carries the conversation, with the model's reasoning, which is
    encrypted. With `store=True`, a request refers to the newest stored answer (`previous_response_id`) and carries only
    what came after it; what the model then sees is the conversation as OpenAI has it, however much of it is sent.
    """

    id: str = "gpt-4.1"
    store: bool = False
    """Have OpenAI keep answers, and refer to them in place of sending them again."""
    max_tokens: int | None = None
    """The answer's limit, reasoning included: `max_output_tokens`."""
    max_output_tokens: int | None = None
    """The provider's name for `max_tokens`."""
    temperature: float | None = None
    top_p: float | None = None
    reasoning: Mapping[str, Any] | None = None
    """As the API takes it; `reasoning_effort` and `reasoning_summary` are put into it."""
    reasoning_summary: str | None = None
    """`"auto"`, `"concise"` or `"detailed"`: without one, reasoning is not shown."""
    verbosity: str | None = None
    include: Sequence[str] = ()
    """More of an answer to be sent, by the API's names."""
    extra_tools: Sequence[Mapping[str, Any]] = ()
    """Tools that OpenAI runs, as the API takes them, such as `{"type": "web_search"}`."""
    max_tool_calls: int | None = None
    parallel_tool_calls: bool | None = None
    strict: bool = False
    """Ask for tool arguments that are sure to fit, for each tool whose schema can be expressed so."""
    truncation: str | None = None
    user: str | None = None
    metadata: Mapping[str, str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        source = self.source()
        response = await self._request(request, source)
        reader = ResponseReader(source, stored=self.store)
        if not request.stream or not is_event_stream(response):
            for delta in reader.whole(await read_whole(response, source)):
                yield delta
            for delta in reader.finish():
                yield delta
            return
        async with aclosing(read_events(response, source)) as reads:
            async for events in reads:
                for name, data in events:
                    for delta in reader.event(name, data):
                        yield delta
                if reader.ended:
                    break
            if not reader.ended:
                raise source.interrupted()
            for delta in reader.finish():
                yield delta
            await drain(reads)

    def takes_url(self, media: Media) -> bool:
        return True

    async def _request(self, request: ModelRequest, source: Source) -> Any:
        request = await self.with_content(request, source)
        body = self._body(request, refer=self.store)
        try:
            return await self.post("/responses", body, source, stream=request.stream)
        except ModelBadRequest as error:
            if error.code != "previous_response_not_found" or "previous_response_id" not in body:
                raise
        # it was kept for a month, or for another project's key: the conversation is here as well
        body = self._body(request, refer=False)
        return await self.post("/responses", body, source, stream=request.stream)

    def _body(self, request: ModelRequest, *, refer: bool) -> dict[str, Any]:
        row = self.capable()
        body: dict[str, Any] = {"model": self.id, "store": self.store}
        body |= {name: value for name, value in self.options().items() if name in _SENT and value is not None}
        if not row.sampling:
            self.refuse_sampling(body)
        if (limit := self.max_output_tokens or self.max_tokens) is not None:
            body["max_output_tokens"] = limit
        body |= self._conversation(request, refer=refer)
        include = list(self.include)
        if not self.store and reasons(self.id) and REASONING not in include:
            include.append(REASONING)
        if include:
            body["include"] = include
        if reasoning := self._reasoning():
            body["reasoning"] = reasoning
        text: dict[str, Any] = {"verbosity": self.verbosity} if self.verbosity else {}
        if request.output is not None:
            text["format"] = _input.text_format(request.output)
        if text:
            body["text"] = text
        if tools := [*_input.function_tools(request.tools, strict=self.strict), *map(dict, self.extra_tools)]:
            body["tools"] = tools
            if request.tool_choice is not None:
                body["tool_choice"] = _input.tool_choice(request.tool_choice)
            if self.parallel_tool_calls is not None and row.parallel_tool_calls:
                body["parallel_tool_calls"] = self.parallel_tool_calls
        if request.stream:
            body["stream"] = True
        return body

    def _conversation(self, request: ModelRequest, *, refer: bool) -> dict[str, Any]:
        messages: Sequence[Message] = request.messages
        body: dict[str, Any] = {}
        if request.output is None or request.output.mode != "json":
            # instructions are each request's own, also where the rest of the conversation is stored
            instructions, messages = _input.instructions_and_rest(messages)
            if instructions is not None:
                body["instructions"] = instructions
        # else they go with the input, because that is where the API wants to find the word JSON
        start = 0
        if refer:
            previous, start = _input.previous_response(messages)
            if previous is not None:
                body["previous_response_id"] = previous
        body["input"] = _input.input_items(messages, start)
        return body

    def _reasoning(self) -> dict[str, Any]:
        asked = {"effort": self.reasoning_effort, "summary": self.reasoning_summary}
        return dict(self.reasoning or {}) | {name: value for name, value in asked.items() if value is not None}
