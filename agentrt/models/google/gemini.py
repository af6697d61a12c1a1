"""Gemini, at the Gemini API and on Vertex AI."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Hashable, Mapping, Sequence
from contextlib import aclosing
from functools import lru_cache
from typing import Any, ClassVar

from agentrt.errors import ConfigurationError, ModelStreamInterrupted, ModelUnavailable
from agentrt.media import Media
from agentrt.models._http import SDKModel, is_event_stream, read_events, read_whole
from agentrt.models.base import Capabilities, ModelDelta, ModelRequest
from agentrt.models.google import _wire
from agentrt.models.google._answer import Answer
from agentrt.models.google._client import GoogleSource, post

_GENERATION: dict[str, str] = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_output_tokens": "maxOutputTokens",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "response_modalities": "responseModalities",
}
"""The options that `generationConfig` has under other names."""


class Gemini(SDKModel):
    """A Gemini model: `Gemini(id="gemini-2.5-flash")`.

    With `vertexai=True` it is that of Vertex AI, with `project`, `location` and the credentials of Google Cloud. The
    SDK's environment variables work (`GEMINI_API_KEY`, `GOOGLE_API_KEY`, `GOOGLE_GENAI_USE_VERTEXAI`, …). `client`
    takes a `google.genai.Client`.
    """

    provider: ClassVar[str] = _wire.PROVIDER
    sdk: ClassVar[str] = "google-genai"
    environment: ClassVar[tuple[str, ...]] = (
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GOOGLE_GEMINI_BASE_URL",
        "GOOGLE_VERTEX_BASE_URL",
        "GOOGLE_GENAI_USE_VERTEXAI",
        "GOOGLE_GENAI_USE_ENTERPRISE",
        "GOOGLE_GENAI_API_VERSION",
        "GOOGLE_CLOUD_PROJECT",
        "GOOGLE_CLOUD_LOCATION",
        "GOOGLE_APPLICATION_CREDENTIALS",
    )

    id: str = "gemini-2.5-flash"
    vertexai: bool | None = None
    project: str | None = None
    location: str | None = None
    credentials: Any = None
    """Credentials of google.auth for Vertex AI; those of the environment else."""
    api_version: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_output_tokens: int | None = None
    """The most tokens of an answer, thoughts included."""
    max_tokens: int | None = None
    """Another name for `max_output_tokens`."""
    stop: str | Sequence[str] | None = None
    stop_sequences: Sequence[str] | None = None
    """The provider's name for `stop`."""
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_modalities: Sequence[str] | None = None
    thinking_budget: int | None = None
    """Tokens for thinking: 0 for none, -1 for as many as the model likes."""
    thinking_level: str | None = None
    """In place of a budget, for Gemini 3 and later: `"low"`, `"high"`, …"""
    include_thoughts: bool | None = None
    """True: summaries of the thoughts come as reasoning."""
    safety_settings: Sequence[Mapping[str, str]] | Mapping[str, str] | None = None
    """As the API takes them, or thresholds by category."""
    cached_content: str | None = None
    search: bool = False
    """Let the model search with Google."""
    url_context: bool = False
    """Let the model read URLs."""
    generation_config: Mapping[str, Any] | None = None
    """More of the API's `generationConfig`, by its own names."""
    labels: Mapping[str, str] | None = None

    # --- the client -----------------------------------------------------------------------------------------------

    def source(self) -> GoogleSource:
        return GoogleSource(self.provider, self.id)

    def make_sdk_client(self, http_client: Any) -> Any:
        if callable(self.api_key):
            raise ConfigurationError("Gemini takes api_key as text; Vertex AI takes credentials= that renew themselves")
        try:
            import google.genai as genai
        except ModuleNotFoundError as error:
            if error.name not in ("google", "google.genai"):
                raise
            raise ModelUnavailable("Gemini needs the google-genai package: pip install 'agentrt[google]'") from error
        options = genai.types.HttpOptions(
            base_url=self.base_url, api_version=self.api_version, httpx_async_client=http_client
        )
        try:
            return genai.Client(
                vertexai=self.vertexai,
                api_key=self.api_key,
                credentials=self.credentials,
                project=self.project,
                location=self.location,
                http_options=options,
            )
        except ValueError as error:
            raise self.no_key(str(error)) from error
        except Exception as error:
            if type(error).__name__ != "DefaultCredentialsError":
                raise
            raise ModelUnavailable(
                "Gemini on Vertex AI has no credentials: gcloud auth application-default login, or export "
                f"GOOGLE_APPLICATION_CREDENTIALS=… (and GOOGLE_CLOUD_PROJECT=…). google.auth says: {error}"
            ) from error

    def client_options(self) -> tuple[Hashable, ...]:
        given = (self.base_url, self.api_version, self.api_key, self.vertexai, self.project, self.location)
        return (*given, self.credentials)

    async def sdk_client(self) -> Any:
        if self.client is None:
            return await super().sdk_client()
        if not hasattr(self.client, "_api_client"):
            raise ConfigurationError(f"client= takes a google.genai.Client, not {type(self.client).__name__}")
        return self.client

    def takes_url(self, media: Media) -> bool:
        return media.url is not None and _wire.is_fetched_by_google(media.url)

    def capable(self) -> Capabilities:
        return self.capabilities or _family(self.id)

    # --- a call ---------------------------------------------------------------------------------------------------

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        source = self.source()
        body = self.body(await self.with_content(request, source))
        response = await self._post(body, source, stream=request.stream)
        answer = Answer(source)
        if not request.stream or not is_event_stream(response):
            for delta in answer.whole(await read_whole(response, source)):
                yield delta
            for delta in answer.finish():
                yield delta
            return
        async with aclosing(read_events(response, source)) as reads:
            try:
                async for events in reads:
                    for name, data in events:
                        for delta in answer.event(name, data):
                            yield delta
            except ModelStreamInterrupted:
                if not answer.finished:
                    raise
        if not answer.finished:
            raise source.interrupted()
        for delta in answer.finish():
            yield delta

    async def _post(self, body: dict[str, Any], source: GoogleSource, *, stream: bool) -> Any:
        client = await self.sdk_client()
        query = dict(self.extra_query or {}) | ({"alt": "sse"} if stream else {})
        return await post(
            client,
            "streamGenerateContent" if stream else "generateContent",
            self.id,
            body,
            source,
            headers=self.extra_headers,
            query=query,
            timeout_s=self.timeout_s,
        )

    def body(self, request: ModelRequest) -> dict[str, Any]:
        """The body of the request."""
        system, contents = _wire.conversation(request.messages, signed=_generation(self.id) >= 3)
        if system and self.capable().system_role == "user":
            text = {"text": "\n\n".join(system)}
            contents[0] = contents[0] | {"parts": [text, *contents[0]["parts"]]}
            system = []
        tools: list[dict[str, Any]] = []
        if request.tools:
            tools.append({"functionDeclarations": [_wire.declaration(spec) for spec in request.tools]})
        if self.search:
            tools.append({"googleSearch": {}})
        if self.url_context:
            tools.append({"urlContext": {}})
        choice = request.tool_choice if request.tools else None
        options: dict[str, Any] = {
            "systemInstruction": {"parts": [{"text": "\n\n".join(system)}]} if system else None,
            "tools": tools or None,
            "toolConfig": _wire.tool_config(choice) if choice is not None else None,
            "safetySettings": self._safety(),
            "generationConfig": self._generation_config(request) or None,
            "cachedContent": self.cached_content,
            "labels": self.labels,
        }
        body = {"contents": contents} | {name: value for name, value in options.items() if value is not None}
        body |= self.extra_body or {}
        return {name: value for name, value in body.items() if value is not None}

    def _generation_config(self, request: ModelRequest) -> dict[str, Any]:
        given = self.__dict__
        config = {wire: given[name] for name, wire in _GENERATION.items() if given.get(name) is not None}
        if self.max_tokens is not None:
            config.setdefault("maxOutputTokens", self.max_tokens)
        stop = [self.stop] if isinstance(self.stop, str) else list(self.stop or ())
        if stop := [*stop, *(self.stop_sequences or ())]:
            config["stopSequences"] = stop
        thinking = {
            "thinkingBudget": self.thinking_budget,
            "thinkingLevel": self.thinking_level,
            "includeThoughts": self.include_thoughts,
        }
        if thinking := {name: value for name, value in thinking.items() if value is not None}:
            config["thinkingConfig"] = thinking
        if request.output is not None:
            config |= _wire.output_config(request.output)
        return config | dict(self.generation_config or {})

    def _safety(self) -> list[dict[str, str]] | None:
        settings = self.safety_settings
        if isinstance(settings, Mapping):
            return [{"category": category, "threshold": threshold} for category, threshold in settings.items()]
        return None if settings is None else [dict(setting) for setting in settings]


@lru_cache(maxsize=256)
def _generation(model_id: str) -> float:
    """The version in a model's id; an id without one counts as of the second generation, which refuses least."""
    found = re.search(r"gemini-(\d+(?:\.\d+)?)", model_id)
    return float(found[1]) if found else 2.0


@lru_cache(maxsize=256)
def _family(model_id: str) -> Capabilities:
    """What is known of a family. Before Gemini 3, tools and a typed answer exclude each other."""
    if "gemma" in model_id:
        return Capabilities(
            tools=False, output_schema=False, json_mode=False, tool_choice=False, parallel_tool_calls=False,
            system_role="user",
        )  # fmt: skip
    if "image" in model_id:
        return Capabilities(tools=False, output_schema=False, json_mode=False, tool_choice=False)
    return Capabilities(output_schema_with_tools=_generation(model_id) >= 3)
