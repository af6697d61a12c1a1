"""Messages: what is sent to a model and what it answers, in no provider's dialect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from agentrt.media import Audio, File, Image, Video

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "other"]


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Usage:
    """Tokens. `input_tokens` includes cached ones, `output_tokens` includes reasoning, as providers bill them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    model_calls: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def add(self, other: Usage) -> None:
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_input_tokens += other.cached_input_tokens
        self.cache_write_tokens += other.cache_write_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.model_calls += other.model_calls


@dataclass(slots=True, kw_only=True)
class ToolCall:
    """One call that a model asked for.

    `arguments` is always the text of a JSON object once the engine has taken the call in, whatever the model wrote;
    `raw_arguments` keeps what it wrote when that was something else.
    """

    id: str
    name: str
    arguments: str = "{}"
    raw_arguments: str | None = None


@dataclass(slots=True, kw_only=True)
class Message:
    """One message of a conversation.

    `content` is its text. An assistant message may carry `tool_calls`; each is answered by one message of role
    `tool` with its `tool_call_id`. `parts` is what the provider named in `provider` needs back unchanged and in
    order (signed thinking, encrypted reasoning, ids); other providers' adapters leave it out.
    """

    role: Role
    content: str | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    tool_call_error: bool = False
    images: list[Image] | None = None
    audio: list[Audio] | None = None
    videos: list[Video] | None = None
    files: list[File] | None = None
    provider: str | None = None
    parts: list[dict[str, Any]] | None = None
    citations: list[dict[str, Any]] | None = None
    """What an answer rests on, in its provider's own form. Never sent."""
    refusal: bool = False
    incomplete: bool = False
    """True for what is not to be sent as it is: an answer that was cut off, an input that a hook refused."""
    cancelled: bool = False
    """True for an answer that was cut off because its run was cancelled: later runs are shown it, marked as such."""
    created_at: datetime = field(default_factory=utc_now)

    def __rich_repr__(self) -> Iterable[tuple[str, Any]]:
        """What `rich.pretty.pprint` shows: what there is of it, and not all that there is not."""
        return ((name, value) for name in FIELDS if (value := getattr(self, name)) not in (None, False))

    def model_dump(
        self, *, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None, exclude_none: bool = False
    ) -> dict[str, Any]:
        """Return the fields as a dict of plain values, as pydantic's method of that name does."""
        from dataclasses import asdict

        wanted = set(FIELDS if include is None else include) - set(exclude or ())
        unknown = wanted - set(FIELDS)
        if unknown:
            raise ValueError(f"Message has no field {', '.join(sorted(unknown))}; it has {', '.join(FIELDS)}")
        dump = {name: value for name, value in asdict(self).items() if name in wanted}
        return {name: value for name, value in dump.items() if value is not None} if exclude_none else dump

    @classmethod
    def of(cls, value: Message | Mapping[str, Any] | str) -> Message:
        """Return `value` as a Message: a text becomes a user message, a mapping is taken field by field.

        A mapping may use the chat-completions form of tool calls (`{"id", "function": {"name", "arguments"}}`).
        Raises `TypeError` or `ValueError` naming the field that is wrong.
        """
        if isinstance(value, Message):
            return value
        if isinstance(value, str):
            return cls(role="user", content=value)
        if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may be untyped
            raise TypeError(f"A message is a Message, a mapping or a str, not {type(value).__name__}")
        fields = dict(value)
        if fields.get("role") not in ("system", "user", "assistant", "tool"):
            raise ValueError(f"A message's role is system, user, assistant or tool, not {fields.get('role')!r}")
        unknown = fields.keys() - set(FIELDS)
        if unknown:
            raise ValueError(f"Message has no field {', '.join(sorted(unknown))}; it has {', '.join(FIELDS)}")
        if fields.get("tool_calls"):
            fields["tool_calls"] = [_tool_call(call) for call in fields["tool_calls"]]
        return cls(**fields)


FIELDS: tuple[str, ...] = tuple(Message.__dataclass_fields__)


def _tool_call(value: Any) -> ToolCall:
    if isinstance(value, ToolCall):
        return value
    function = value.get("function", value)
    arguments = function.get("arguments") or "{}"
    return ToolCall(id=value.get("id") or "", name=function.get("name") or "", arguments=arguments)
