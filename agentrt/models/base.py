"""The model port: what the engine asks of a model, and what an adapter gives back.

An adapter translates and nothing else. `Model.stream` turns a `ModelRequest` into deltas; the loop, retries, limits,
pausing and events belong to the engine.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from agentrt._options import Definition
from agentrt.models.message import FinishReason, Message, Usage

ToolChoice: TypeAlias = 'Literal["auto", "none", "required"] | str'
"""`"auto"`, `"none"`, `"required"`, or the name of the one tool that must be called."""


# --- what goes in ----------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class ToolSpec:
    """A tool as a model sees it. `parameters` is a JSON schema, shared between requests: never edit it."""

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool | None = None


@dataclass(slots=True, kw_only=True)
class OutputSpec:
    """A typed answer: the JSON schema that the answer's text must follow. The schema is shared: never edit it."""

    name: str
    schema: dict[str, Any]
    mode: Literal["schema", "json"] = "schema"


@dataclass(slots=True, kw_only=True)
class ModelRequest:
    """One model call. `messages` belong to the run: an adapter reads them and changes none.

    `stream` says whether anybody reads the deltas as they come; an adapter may then ask its provider for the whole
    answer at once and yield it as one delta a kind.
    """

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    tool_choice: ToolChoice | None = None
    output: OutputSpec | None = None
    stream: bool = True


# --- what comes out --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class TextDelta:
    """A piece of the answer; never empty."""

    text: str


@dataclass(slots=True)
class RefusalDelta:
    """A piece of a refusal, which the provider tells apart from an answer."""

    text: str


@dataclass(slots=True)
class ReasoningDelta:
    """A piece of the model's reasoning; never empty."""

    text: str


@dataclass(slots=True)
class ToolCallDelta:
    """A piece of a tool call.

    `index` counts the calls of this answer from 0 in the order they were opened: the adapter sorts out what its
    provider's indices and ids mean. `id` comes with the first delta of an index (it is "" when the provider gives
    none: the engine makes one up), and so does `name`, unless the provider sends it late; later deltas carry
    `arguments` text.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class PartDelta:
    """One whole opaque part of the answer, to be sent back unchanged and in order. See `Message.parts`."""

    part: dict[str, Any]


@dataclass(slots=True)
class CitationDelta:
    """What a part of the answer rests on, in the provider's own form."""

    citation: dict[str, Any]


@dataclass(slots=True)
class UsageDelta:
    """The usage of the whole call; the last one counts."""

    usage: Usage


@dataclass(slots=True)
class FinishDelta:
    """The provider said that the answer is complete. An adapter that never yields it must raise.

    `raw` is the provider's own word; `model_id` the model that answered and `request_id` its id, when it said so.
    `answered` is the model whose answer it is when another one was asked, one that `may_answer`: see `FallbackModel`.
    """

    reason: FinishReason
    raw: str | None = None
    model_id: str | None = None
    request_id: str | None = None
    answered: Model | None = None


ModelDelta: TypeAlias = (
    TextDelta | RefusalDelta | ReasoningDelta | ToolCallDelta | PartDelta | CitationDelta | UsageDelta | FinishDelta
)


# --- the port --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a model takes. What is missing is replaced by the engine (schema → output tool → JSON mode → prompt), never
    ignored."""

    tools: bool = True
    output_schema: bool = True
    output_schema_with_tools: bool = True
    json_mode: bool = True
    parallel_tool_calls: bool = True
    tool_choice: bool = True
    system_role: str = "system"
    max_tokens_name: str = "max_tokens"
    sampling: bool = True


class Model(Definition):
    """A model at a provider: a definition, with nothing of any run on it, safe to share between agents and loops.

    Subclasses name their `provider` and write `stream`. Options are keyword-only class attributes with a default;
    connections are made on first use, one set per event loop.
    """

    provider: ClassVar[str] = ""

    id: str
    max_retries: int = 2
    """How often the engine repeats a call that failed retryably before its first delta."""
    retry_delay_s: float = 0.5
    """The first wait between such attempts; doubled each time, unless the server says how long to wait."""
    max_retry_after_s: float = 60.0
    """A longer `retry-after` than this is not waited for: the error is raised at once."""
    timeout_s: float | None = None
    """A call, each attempt for itself, that is not complete after this many seconds ends with `ModelTimeout`."""
    first_token_timeout_s: float | None = None
    """The same for a streamed answer that has not begun. Without retries it is when a `FallbackModel` moves on."""
    between_tokens_timeout_s: float | None = None
    """The same for a streamed answer of which no more comes."""
    capabilities: Capabilities | None = None
    """What this model takes, when it is not what its family's row says."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        """Make the call; yield deltas and, last, a `FinishDelta`.

        Raises `ModelError` subclasses only. Closing the generator closes the connection. A stream that ends without
        the provider's word that it is complete raises `ModelStreamInterrupted`.
        """
        raise NotImplementedError

    def capable(self) -> Capabilities:
        """What this model takes: `capabilities` if given, else what is known of its family."""
        return self.capabilities or Capabilities()

    def takes_schema(self, schema: dict[str, Any]) -> bool:
        """Can an answer be held to this schema, where `capable()` says that it can be to one?"""
        return True

    def may_answer(self) -> Sequence[Model]:
        """The models one of which answers a call: it alone, unless it asks others."""
        return (self,)

    async def aclose(self) -> None:
        """Close the connections this model made on the running event loop. It may be used again afterwards."""


@dataclass(slots=True, kw_only=True)
class ModelAnswer:
    """A finished model call: the assistant message, the model that wrote it, and how it ended."""

    message: Message
    answered: Model
    finish_reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    raw_finish_reason: str | None = None
    model_id: str | None = None
    request_id: str | None = None
    time_to_first_token_s: float | None = None
    elapsed_s: float = 0.0
