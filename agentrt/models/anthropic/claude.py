"""Claude, at Anthropic and wherever else its Messages API is spoken."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Hashable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, ClassVar, Literal

from agentrt.errors import ConfigurationError, ModelStreamInterrupted
from agentrt.media import Audio, Image, Media, Video
from agentrt.models._http import SDKModel, drain, is_event_stream, read_events, read_whole
from agentrt.models.anthropic import _wire
from agentrt.models.anthropic._answer import Answer
from agentrt.models.anthropic._bedrock import EventStreamParser
from agentrt.models.base import Capabilities, ModelDelta, ModelRequest

SAMPLING_VERSION = "2023-06-01"
"""The last version of the API that takes temperature, top_p and top_k; newer ones refuse them for every model."""
STREAMED_TOKENS = 21_333
"""An answer that may become longer than this is streamed in any case: it can take longer than connections live."""

FAMILIES: tuple[tuple[tuple[int, int], int, Capabilities], ...] = (
    # from this version on; tokens of an answer when `max_tokens` is not given; what the models take
    ((4, 7), 16_384, Capabilities(json_mode=False, sampling=False)),
    ((4, 5), 16_384, Capabilities(json_mode=False)),
    ((4, 0), 16_384, Capabilities(json_mode=False, output_schema=False, output_schema_with_tools=False)),
    ((3, 5), 8_192, Capabilities(json_mode=False, output_schema=False, output_schema_with_tools=False)),
    ((0, 0), 4_096, Capabilities(json_mode=False, output_schema=False, output_schema_with_tools=False)),
)
OTHERS = (8_192, Capabilities(json_mode=False, output_schema=False, output_schema_with_tools=False))
"""For models that are not Claude, on servers that speak its API."""


class Claude(SDKModel):
    """A Claude model: `Claude(id="claude-sonnet-4-6")`.

    `client` takes any async client of the anthropic SDK (`AsyncAnthropicBedrock`, `AsyncAnthropicVertex`, …). The
    SDK's environment variables work (`ANTHROPIC_API_KEY`, `ANTHROPIC_BASE_URL`, …).
    """

    provider: ClassVar[str] = _wire.PROVIDER
    sdk: ClassVar[str] = "anthropic"
    environment: ClassVar[tuple[str, ...]] = (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_PROFILE",
        "ANTHROPIC_CONFIG_DIR",
    )

    id: str = "claude-sonnet-4-6"
    auth_token: str | None = None
    max_tokens: int | None = None
    """The most tokens of an answer, thinking included. Always sent; the default depends on the model's family."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | Sequence[str] | None = None
    stop_sequences: Sequence[str] | None = None
    """The provider's name for `stop`."""
    thinking: Mapping[str, Any] | int | None = None
    """As the API takes it, such as `{"type": "adaptive"}`; a number is a budget in tokens."""
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    parallel_tool_calls: bool | None = None
    """False: at most one call an answer."""
    metadata: Mapping[str, Any] | None = None
    cache_system_prompt: bool = False
    cache_tools: bool = False
    betas: Sequence[str] = ()

    # --- the client -----------------------------------------------------------------------------------------------

    def make_sdk_client(self, http_client: Any) -> Any:
        from anthropic import AsyncAnthropic

        if callable(self.api_key):
            raise ConfigurationError(
                "Claude takes api_key as text; for one that changes give it client=AsyncAnthropic(credentials=…)"
            )
        return AsyncAnthropic(
            api_key=self.api_key, auth_token=self.auth_token, base_url=self.base_url, http_client=http_client
        )

    def client_options(self) -> tuple[Hashable, ...]:
        return (self.base_url, self.api_key, self.auth_token)

    def takes_url(self, media: Media) -> bool:
        if isinstance(media, (Audio, Video)):
            return True  # refused
        elsewhere = type(self.client).__name__  # Bedrock and Vertex AI fetch nothing
        if "Bedrock" in elsewhere or "Vertex" in elsewhere:
            return False
        return isinstance(media, Image) or (media.url or "").partition("?")[0].endswith(".pdf")

    def capable(self) -> Capabilities:
        if self.capabilities is not None:
            return self.capabilities
        _, row = _family(self.id)
        # while it thinks, the API lets no tool be forced
        thinks = (self._thinking() or {"type": "disabled"})["type"] != "disabled"
        return replace(row, tool_choice=False) if thinks else row

    def takes_schema(self, schema: dict[str, Any]) -> bool:
        return _wire.closed_schema(schema) is not None

    # --- a call ---------------------------------------------------------------------------------------------------

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        source = self.source()
        body = self.body(await self.with_content(request, source))
        try:
            response = await self.post("/v1/messages", body, source, stream=body["stream"], headers=self._headers(body))
        except TypeError as error:
            if "authentication" not in str(error):
                raise
            raise self.no_key(str(error)) from error  # the SDK looks for credentials only when it sends
        answer = Answer(source)
        if not body["stream"] or not is_event_stream(response):
            for delta in answer.whole(await read_whole(response, source)):
                yield delta
            for delta in answer.finish():
                yield delta
            return
        amazon = "amazon" in response.headers.get("content-type", "")
        async with aclosing(read_events(response, source, EventStreamParser() if amazon else None)) as reads:
            try:
                async for events in reads:
                    for name, data in events:
                        for delta in answer.event(name, data):
                            yield delta
                    if answer.ended:
                        break
            except ModelStreamInterrupted:
                if not answer.stopped:
                    raise
            if not answer.stopped:
                raise source.interrupted()
            for delta in answer.finish():
                yield delta
            await drain(reads)

    def body(self, request: ModelRequest) -> dict[str, Any]:
        """The body of the request."""
        can = self.capable()
        sampling = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        refused = [name for name, value in sampling.items() if value is not None]
        if refused and not can.sampling:
            raise ConfigurationError(
                f"{self.id} takes no {' and no '.join(refused)}: leave it out, or say otherwise with "
                "capabilities=Capabilities(sampling=True, …)"
            )
        thinking = self._thinking()
        system, turns = _wire.conversation(request.messages)
        output_config: dict[str, Any] = {"effort": self.effort} if self.effort else {}
        if request.output is not None:
            native = can.output_schema and request.output.mode == "schema"
            schema = _wire.closed_schema(request.output.schema) if native else None
            if schema is None:
                system.append(_wire.output_instruction(request.output))
            else:
                output_config["format"] = {"type": "json_schema", "schema": schema}
        max_tokens = self.max_tokens or _family(self.id)[0] + (thinking or {}).get("budget_tokens", 0)
        stop = [self.stop] if isinstance(self.stop, str) else list(self.stop or ())
        stop += self.stop_sequences or ()
        tools = [_wire.tool(spec, strict=can.output_schema) for spec in request.tools]
        if tools and self.cache_tools:
            tools[-1]["cache_control"] = _wire.CACHED
        choice = _wire.tool_choice(request.tool_choice, parallel=self.parallel_tool_calls) if tools else None
        if not tools and (past := _wire.past_tools(turns)):
            tools, choice = past, {"type": "none"}
        options = sampling | {
            "stop_sequences": stop or None,
            "system": self._system(system),
            "tools": tools or None,
            "tool_choice": choice,
            "thinking": thinking,
            "output_config": output_config or None,
            "metadata": self.metadata,
        }
        body = {"model": self.id, "max_tokens": max_tokens, "messages": turns}
        body["stream"] = request.stream or max_tokens > STREAMED_TOKENS
        return body | {name: value for name, value in options.items() if value is not None}

    def _system(self, texts: list[str]) -> str | list[_wire.Block] | None:
        text = "\n\n".join(texts)
        if self.cache_system_prompt and text:
            return [{"type": "text", "text": text, "cache_control": _wire.CACHED}]
        return text or None

    def _thinking(self) -> dict[str, Any] | None:
        if self.thinking is None or isinstance(self.thinking, int):
            return {"type": "enabled", "budget_tokens": self.thinking} if self.thinking else None
        return dict(self.thinking)

    def _headers(self, body: Mapping[str, Any]) -> dict[str, str]:
        headers = {"anthropic-beta": ",".join(self.betas)} if self.betas else {}
        if not {"temperature", "top_p", "top_k"}.isdisjoint(body.keys() | (self.extra_body or {}).keys()):
            headers["anthropic-version"] = SAMPLING_VERSION
        return headers


def _family(model_id: str) -> tuple[int, Capabilities]:
    """The row for a model id, with any vendor's affixes. A Claude that names no version counts as the newest."""
    if "claude" not in model_id:
        return OTHERS
    found = re.search(r"claude-(?:[a-z]+-)?(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?", model_id)
    version = (int(found[1]), int(found[2] or 0)) if found else (99, 0)
    return next((tokens, row) for first, tokens, row in FAMILIES if version >= first)
