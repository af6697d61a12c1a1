"""`OpenAIChat`: OpenAI's chat completions, and the many servers that speak the same protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

import anyio

from agentrt.errors import ConfigurationError, ModelStreamInterrupted
from agentrt.models._http import SDKModel, drain, is_event_stream, read_events, read_whole
from agentrt.models.base import Capabilities, ModelDelta, ModelRequest
from agentrt.models.openai._answer import AnswerReader
from agentrt.models.openai._capabilities import capabilities_of
from agentrt.models.openai._wire import reads_files, wire_messages, wire_output, wire_tool_choice, wire_tools

_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias")
_SENT = frozenset(
    {
        *_SAMPLING,
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


class OpenAIChat(SDKModel):
    """A model behind `POST /chat/completions`.

    Key, base URL, organization, project and proxies come from the options, else from the openai SDK's own environment
    variables. `client` may be any async client of that SDK, such as `AsyncAzureOpenAI`. `strict` asks for tool
    arguments that are sure to fit their schema, for each tool whose schema can be expressed so.
    """

    provider: ClassVar[str] = "openai"
    sdk: ClassVar[str] = "openai"
    environment: ClassVar[tuple[str, ...]] = (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "OPENAI_ADMIN_KEY",
        "OPENAI_CUSTOM_HEADERS",
    )

    id: str = "gpt-4.1"
    organization: str | None = None
    project: str | None = None
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
    reasoning_effort: str | None = None
    verbosity: str | None = None
    parallel_tool_calls: bool | None = None
    strict: bool = False
    user: str | None = None
    metadata: Mapping[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    # --- the client -----------------------------------------------------------------------------------------------

    def make_http_client(self) -> Any:
        from openai import DefaultAsyncHttpxClient

        return DefaultAsyncHttpxClient()

    def make_sdk_client(self, http_client: Any) -> Any:
        from openai import AsyncOpenAI

        return AsyncOpenAI(
            api_key=self.api_key,
            base_url=self.base_url,
            organization=self.organization,
            project=self.project,
            http_client=http_client,
        )

    def client_options(self) -> tuple[Hashable, ...]:
        return (self.base_url, self.api_key, self.organization, self.project)

    def capable(self) -> Capabilities:
        return self.capabilities or capabilities_of(self.id)

    # --- a call ---------------------------------------------------------------------------------------------------

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        source = self.source()
        body = await self._body(request)
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

    async def _body(self, request: ModelRequest) -> dict[str, Any]:
        row = self.capable()
        given = self.__dict__
        body: dict[str, Any] = {"model": self.id, "messages": await self._messages(request, row)}
        for name in given.keys() & _SENT:
            if given[name] is not None:
                body[name] = given[name]
        if not row.sampling and (refused := [name for name in _SAMPLING if name in body]):
            raise ConfigurationError(
                f"{self.id} takes no {' and no '.join(refused)}: leave it out, or say otherwise with "
                "capabilities=Capabilities(sampling=True, …)"
            )
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

    @staticmethod
    async def _messages(request: ModelRequest, row: Capabilities) -> list[dict[str, Any]]:
        if reads_files(request.messages):
            return await anyio.to_thread.run_sync(wire_messages, request.messages, row.system_role)
        return wire_messages(request.messages, row.system_role)
