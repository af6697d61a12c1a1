"""What every model's adapter makes of its provider's bytes, as checks that an adapter can prove itself by.

    @pytest.mark.parametrize("check", model_checks, ids=lambda check: check.__name__)
    async def test_my_model_keeps_the_contract(check):
        await check(MyDialect())

A `Dialect` writes answers as the provider would, and makes the model that reads them; each check serves such bytes over
HTTP on loopback and looks at the deltas. It raises `AssertionError` (or whatever the model raised) when the contract is
broken, and `NotSpoken` when it is about something that the dialect has no words for.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from agentrt import errors
from agentrt.models._attempt import attempt
from agentrt.models.base import (
    FinishDelta,
    Model,
    ModelDelta,
    ModelRequest,
    PartDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
    UsageDelta,
)
from agentrt.models.message import FinishReason, Message, ToolCall, Usage
from agentrt.storage.codec import dump_messages, load_messages
from agentrt.testing._loopback import Loopback, Reply

__all__ = ["Answer", "Dialect", "Heard", "ModelCheck", "NotSpoken", "conformance", "model_checks"]

SIGNATURE = "c2lnbmF0dXJlLW9mLXRoZS1yZWFzb25pbmc="
SECONDS = 20


class NotSpoken(Exception):
    """The dialect has no words for what is to be checked."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a provider answers. Streamed, each item of `text` and `reasoning` is a piece of its own.

    `signature` is what the provider wants back with the reasoning, unchanged.
    """

    text: Sequence[str] = ()
    refusal: str = ""
    reasoning: Sequence[str] = ()
    signature: str = ""
    calls: Sequence[ToolCall] = ()
    finish: FinishReason = "stop"
    usage: Usage = field(default_factory=lambda: Usage(input_tokens=12, output_tokens=3))


class Dialect(Protocol):
    """A provider's protocol, as a server would speak it. Raise `NotSpoken` for what can't be said in it."""

    name: str

    def model(self, base_url: str) -> Model:
        """The model whose adapter is to be checked; without retries."""
        ...

    def events(self, answer: Answer) -> list[bytes]:
        """The events of a streamed answer, each complete with its blank line."""
        ...

    def body(self, answer: Answer) -> bytes:
        """The body of the same answer in one piece."""
        ...

    def error(self, status: int, message: str) -> bytes:
        """The body of an HTTP answer with this status."""
        ...

    def error_event(self, status: int, message: str) -> bytes:
        """The event that says in a stream that the provider failed, in the sense of this status."""
        ...


# --- listening -------------------------------------------------------------------------------------------------------


@dataclass
class Heard:
    """The deltas of one answer, and what they add up to."""

    deltas: list[ModelDelta] = field(default_factory=list[ModelDelta])

    def _joined(self, kind: type[TextDelta | RefusalDelta | ReasoningDelta]) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, kind))

    @property
    def text(self) -> str:
        return self._joined(TextDelta)

    @property
    def refusal(self) -> str:
        return self._joined(RefusalDelta)

    @property
    def reasoning(self) -> str:
        return self._joined(ReasoningDelta)

    @property
    def calls(self) -> list[ToolCall]:
        calls: list[ToolCall] = []
        for delta in self.deltas:
            if isinstance(delta, ToolCallDelta):
                assert delta.index <= len(calls), f"call {delta.index} before call {len(calls)}"
                if delta.index == len(calls):
                    calls.append(ToolCall(id=delta.id, name=delta.name, arguments=""))
                call = calls[delta.index]
                call.name = call.name or delta.name
                call.arguments += delta.arguments
        return calls

    @property
    def usage(self) -> Usage | None:
        return next((delta.usage for delta in reversed(self.deltas) if isinstance(delta, UsageDelta)), None)

    @property
    def finish(self) -> FinishDelta:
        assert self.deltas and isinstance(self.deltas[-1], FinishDelta), "the last delta is no FinishDelta"
        assert sum(isinstance(delta, FinishDelta) for delta in self.deltas) == 1
        return self.deltas[-1]

    def message(self, model: Model) -> Message:
        """The assistant message, as it is kept."""
        parts = [delta.part for delta in self.deltas if isinstance(delta, PartDelta)]
        return Message(
            role="assistant",
            content=self.text or self.refusal or None,
            reasoning_content=self.reasoning or None,
            tool_calls=self.calls or None,
            provider=model.provider if parts else None,
            parts=parts or None,
        )


@dataclass
class Stage:
    """A model, the server it asks, and its dialect."""

    dialect: Dialect
    server: Loopback
    model: Model

    def stream(self, *pieces: Any, **reply: Any) -> None:
        self.server.replies.append(Reply(pieces=pieces, **reply))

    def whole(self, content: bytes, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.server.replies.append(
            Reply(pieces=[content], status=status, content_type="application/json", headers=named)
        )

    async def ask(self, *messages: Message, stream: bool = True, into: Heard | None = None) -> Heard:
        heard = Heard() if into is None else into
        async with aclosing(attempt(self.model, _request(messages, stream))) as deltas:
            async for delta in deltas:
                heard.deltas.append(delta)
        return heard

    async def answered(self, answer: Answer) -> list[Heard]:
        """What is heard of an answer in a stream, and in one piece."""
        events, body = self.dialect.events(answer), self.dialect.body(answer)
        self.stream(*events)
        self.whole(body)
        return [await self.ask(), await self.ask(stream=False)]

    async def fails(self, kind: type[errors.ModelError], *, stream: bool = True) -> tuple[errors.ModelError, Heard]:
        heard = Heard()
        try:
            await self.ask(stream=stream, into=heard)
        except kind as error:
            assert error.provider == self.model.provider and error.model_id == self.model.id
            return error, heard
        raise AssertionError(f"{kind.__name__} was not raised")

    def events_until(self, answer: Answer, mark: str) -> list[bytes]:
        """The events up to the one with `mark` in it."""
        events = self.dialect.events(answer)
        found = next(at for at, event in enumerate(events) if mark.encode() in event)
        return events[: found + 1]


def _request(messages: Sequence[Message], stream: bool) -> ModelRequest:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [ToolSpec(name=name, description="Look it up.", parameters=schema) for name in ("weather", "time")]
    return ModelRequest(messages=messages or [Message(role="user", content="hello")], tools=tools, stream=stream)


ModelCheck: TypeAlias = Callable[[Dialect], Awaitable[None]]
model_checks: list[ModelCheck] = []
"""All checks, for `pytest.mark.parametrize`."""


@asynccontextmanager
async def _staged(dialect: Dialect) -> AsyncGenerator[Stage, None]:
    async with Loopback() as server:
        model = dialect.model(server.url)
        try:
            yield Stage(dialect, server, model)
        finally:
            await model.aclose()


async def conformance(dialects: Sequence[Dialect]) -> str:
    """Return a Markdown table of all checks and what these dialects' adapters make of them.

    `yes`, `-` where the protocol has no words for it, else the error that shows how the contract is broken.
    """
    rows = [["", *(dialect.name for dialect in dialects)], ["---"] * (len(dialects) + 1)]
    for check in model_checks:
        rows.append([check.__name__.replace("_", " "), *[await _verdict(check, dialect) for dialect in dialects]])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


async def _verdict(check: ModelCheck, dialect: Dialect) -> str:
    try:
        await check(dialect)
    except NotSpoken:
        return "-"
    except Exception as error:  # whatever the adapter raised is what there is to tell
        return f"{type(error).__name__}: {error}".replace("|", "\\|").splitlines()[0]
    return "yes"


def _check(function: Callable[[Stage], Awaitable[None]]) -> Callable[[Stage], Awaitable[None]]:
    @functools.wraps(function)
    async def checked(dialect: Dialect) -> None:
        async with asyncio.timeout(SECONDS), _staged(dialect) as stage:
            await function(stage)

    model_checks.append(checked)
    return function


def _call(id: str, name: str = "weather", **arguments: str) -> ToolCall:
    return ToolCall(id=id, name=name, arguments=json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))


def _same_calls(found: Sequence[ToolCall], wanted: Sequence[ToolCall]) -> None:
    assert [(call.id, call.name) for call in found] == [(call.id, call.name) for call in wanted]
    assert [json.loads(call.arguments) for call in found] == [json.loads(call.arguments) for call in wanted]


# --- answers ---------------------------------------------------------------------------------------------------------

TEXT = Answer(text=["Half", " of it, ", "and the rest."])
TWO_CALLS = Answer(calls=[_call("call_a", city="Oslo"), _call("call_b", "time", city="Rome")], finish="tool_calls")
CALL_AFTER_TEXT = Answer(text=["Half", " a moment."], calls=[_call("call_a", city="Oslo")], finish="tool_calls")
REASONED = Answer(reasoning=["Two plus ", "two."], signature=SIGNATURE, text=["4"])
REASONED_CALL = Answer(
    reasoning=["Hm."], signature=SIGNATURE, calls=[_call("call_a", city="Oslo")], finish="tool_calls"
)
UNICODE = Answer(
    reasoning=["grübel 🤔"],
    signature=SIGNATURE,
    text=["héllo ", "🍸\u2028\x85x"],
    calls=[_call("call_a", city="São 🍸")],
    finish="tool_calls",
)


@_check
async def text(stage: Stage) -> None:
    streamed, whole = await stage.answered(TEXT)
    assert [delta.text for delta in streamed.deltas if isinstance(delta, TextDelta)] == list(TEXT.text)
    assert streamed.text == whole.text == "Half of it, and the rest."
    for heard in (streamed, whole):
        assert heard.finish.reason == "stop" and not heard.calls and not heard.reasoning


@_check
async def unicode_split_at_every_byte(stage: Stage) -> None:
    try:
        events = stage.dialect.events(UNICODE)
    except NotSpoken:
        events = stage.dialect.events(answer := Answer(text=UNICODE.text, calls=UNICODE.calls, finish="tool_calls"))
    else:
        answer = UNICODE
    stage.stream(*(bytes([one]) for event in events for one in event))
    heard = await stage.ask()
    assert (heard.text, heard.reasoning) == ("".join(answer.text), "".join(answer.reasoning))
    _same_calls(heard.calls, answer.calls)


@_check
async def what_only_keeps_the_connection_alive(stage: Stage) -> None:
    for idle in (b": keep-alive\n\n", b"event: ping\ndata:\n\n", b"data:\n\n", b"event: heartbeat\n\n", b"\n\n"):
        stage.stream(*(piece for event in stage.dialect.events(TEXT) for piece in (idle, event)))
        assert (await stage.ask()).text == "".join(TEXT.text)


@_check
async def lines_that_end_otherwise(stage: Stage) -> None:
    for end in (b"\r\n", b"\r"):
        stage.stream(*(event.replace(b"\n", end) for event in stage.dialect.events(TEXT)))
        assert (await stage.ask()).text == "".join(TEXT.text)


@_check
async def parallel_calls(stage: Stage) -> None:
    for heard in await stage.answered(TWO_CALLS):
        _same_calls(heard.calls, TWO_CALLS.calls)
        assert heard.finish.reason == "tool_calls" and not heard.text


@_check
async def calls_after_text(stage: Stage) -> None:
    for heard in await stage.answered(CALL_AFTER_TEXT):
        _same_calls(heard.calls, CALL_AFTER_TEXT.calls)
        assert heard.text == "Half a moment." and heard.finish.reason == "tool_calls"


@_check
async def reasoning(stage: Stage) -> None:
    for heard in await stage.answered(REASONED):
        assert (heard.reasoning, heard.text) == ("Two plus two.", "4")


@_check
async def reasoning_comes_back(stage: Stage) -> None:
    """What the provider needs back is in the next request, also after storage."""
    answer = REASONED_CALL
    stage.stream(*stage.dialect.events(answer))
    said = (await stage.ask()).message(stage.model)
    if SIGNATURE not in str(said.parts):
        raise NotSpoken("nothing is signed")
    (stored,) = load_messages(dump_messages([said]))
    stage.stream(*stage.dialect.events(TEXT))
    result = Message(role="tool", tool_call_id=said.tool_calls[0].id if said.tool_calls else "", content="rain")
    await stage.ask(Message(role="user", content="hello"), stored, result)
    sent = json.dumps(stage.server.bodies[-1])
    assert max(sent.index(SIGNATURE), sent.index("Oslo")) < sent.index("rain")


@_check
async def stop_reasons(stage: Stage) -> None:
    spoken = 0
    answers = [Answer(text=["So"], finish="stop"), Answer(text=["So"], finish="length"), TWO_CALLS]
    answers += [Answer(finish="content_filter"), Answer(refusal="No.", finish="refusal")]
    for answer in answers:
        try:
            heards = await stage.answered(answer)
        except NotSpoken:
            continue
        except errors.ContentFiltered:  # as good as the reason
            assert answer.finish == "content_filter"
            stage.server.replies.clear()
            continue
        spoken += 1
        for heard in heards:
            assert heard.finish.reason == answer.finish
            assert heard.refusal == answer.refusal
    assert spoken >= 3


@_check
async def usage(stage: Stage) -> None:
    used = Usage(input_tokens=120, cached_input_tokens=100, output_tokens=30, reasoning_tokens=10)
    for heard in await stage.answered(Answer(text=["So"], usage=used)):
        assert heard.usage == used


# --- failures --------------------------------------------------------------------------------------------------------


@_check
async def errors_before_the_stream(stage: Stage) -> None:
    kinds: list[tuple[int, type[errors.ModelError], bool]] = [
        (400, errors.ModelBadRequest, False),
        (401, errors.ModelAuthError, False),
        (403, errors.ModelAuthError, False),
        (404, errors.ModelNotFound, False),
        (429, errors.ModelRateLimited, True),
        (500, errors.ModelServerError, True),
        (503, errors.ModelOverloaded, True),
    ]
    for stream in (True, False):
        for status, kind, retryable in kinds:
            stage.whole(stage.dialect.error(status, "as it happens"), status, retry_after="7", x_request_id="req_1")
            error, heard = await stage.fails(kind, stream=stream)
            assert "as it happens" in str(error) and (error.status, error.retryable) == (status, retryable)
            assert (error.retry_after_s, error.request_id) == (7.0, "req_1") and not heard.deltas


@_check
async def an_error_at_the_start_of_a_stream(stage: Stage) -> None:
    stage.stream(stage.dialect.error_event(503, "too busy"))
    error, heard = await stage.fails(errors.ModelOverloaded)
    assert "too busy" in str(error) and error.retryable and "200" not in str(error) and not heard.text


@_check
async def an_error_in_the_stream(stage: Stage) -> None:
    stage.stream(*stage.events_until(TEXT, "Half"), stage.dialect.error_event(500, "it broke"))
    error, heard = await stage.fails(errors.ModelServerError)
    assert "it broke" in str(error) and heard.text == "Half"


@_check
async def a_page_in_place_of_an_answer(stage: Stage) -> None:
    for stream in (True, False):
        stage.stream(b"<html>Sign in</html>", content_type="text/html")
        error, _ = await stage.fails(errors.ModelResponseInvalid, stream=stream)
        assert "Sign in" in str(error)


@_check
async def broken_json_in_the_stream(stage: Stage) -> None:
    stage.stream(*stage.events_until(TEXT, "Half"), b'data: {"broken": \n\n', *stage.dialect.events(TEXT)[-1:])
    await stage.fails(errors.ModelResponseInvalid)


@_check
async def a_stream_cut_after_text(stage: Stage) -> None:
    for end in ("clean", "cut", "reset"):
        stage.stream(*stage.events_until(TEXT, "Half"), end=end)
        error, heard = await stage.fails(errors.ModelStreamInterrupted)
        assert error.retryable and heard.text in ("Half", "" if end == "reset" else "Half")


@_check
async def a_stream_cut_in_an_event(stage: Stage) -> None:
    for end in ("clean", "cut"):
        *before, last = stage.events_until(TEXT, "Half")
        stage.stream(*before, last[: len(last) // 2], end=end)
        _, heard = await stage.fails(errors.ModelStreamInterrupted)
        assert not heard.text


@_check
async def a_stream_cut_in_a_call(stage: Stage) -> None:
    """Also when the arguments happen to be complete: the provider has not said that the call is."""
    for end in ("clean", "cut"):
        stage.stream(*stage.events_until(TWO_CALLS, "Oslo"), end=end)
        await stage.fails(errors.ModelStreamInterrupted)


# --- time ------------------------------------------------------------------------------------------------------------


@_check
async def a_slow_stream_is_told_as_it_comes(stage: Stage) -> None:
    gate = asyncio.Event()
    head = stage.events_until(TEXT, "Half")
    stage.stream(*head, gate, *stage.dialect.events(TEXT)[len(head) :])
    heard = Heard()
    async with aclosing(attempt(stage.model, _request([], True))) as deltas:
        async for delta in deltas:
            heard.deltas.append(delta)
            if isinstance(delta, TextDelta):
                gate.set()  # the rest comes only when the first piece was read
    assert heard.text == "".join(TEXT.text) and heard.finish.reason == "stop"


@_check
async def silence_is_a_timeout(stage: Stage) -> None:
    stage.stream(*stage.dialect.events(TEXT))
    await stage.ask()  # the first request loads the SDK, which may take longer than these limits
    model = stage.model
    head = stage.events_until(TEXT, "Half")
    for pieces, option in (((), "first_token_timeout_s"), (head, "between_tokens_timeout_s"), (head, "timeout_s")):
        stage.model = model.copy(**{option: 0.2})
        stage.server.left.clear()
        stage.stream(*pieces, "leave")
        error, heard = await stage.fails(errors.ModelTimeout)
        assert option in str(error) and error.retryable
        assert heard.text == "Half" if option == "between_tokens_timeout_s" else heard.text in ("", "Half")
        await stage.server.left.wait()


@_check
async def closing_early_closes_the_connection(stage: Stage) -> None:
    stage.stream(*stage.events_until(TEXT, "Half"), "leave")
    before = asyncio.all_tasks()
    async with aclosing(stage.model.stream(_request([], True))) as deltas:
        async for delta in deltas:
            if isinstance(delta, TextDelta):
                break
    assert not asyncio.all_tasks() - before - stage.server.tasks
    await stage.server.left.wait()


@_check
async def cancelling_the_reader_closes_the_connection(stage: Stage) -> None:
    stage.stream(*stage.events_until(TEXT, "Half"), "leave")
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(stage.model.stream(_request([], True))) as deltas:
            async for delta in deltas:
                if isinstance(delta, TextDelta):
                    begun.set()

    reading = asyncio.ensure_future(read())
    await begun.wait()
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    await stage.server.left.wait()


@_check
async def the_connection_is_used_again(stage: Stage) -> None:
    connections: set[int] = set()
    for _ in range(3):
        stage.stream(*stage.dialect.events(TEXT))
        await stage.ask()
        connections |= {id(task) for task in stage.server.tasks}
    assert len(connections) == 1
