"""Models for tests: `ScriptedModel` says what is queued, `FunctionModel` what a function answers.

    model = ScriptedModel(reply(tool_calls=[("get_weather", {"city": "Rome"})]), "It is sunny in Rome.")
    response = await Agent(model=model, tools=[get_weather]).arun("How is the weather?")
    model.assert_done()

Neither holds anything of a run, so one model serves concurrent runs; the replies are then taken in the order in which
the calls are made. Both record what they were asked in `requests`.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import re
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar, Protocol, Self, TypeAlias

from agentrt.errors import ModelError
from agentrt.models import _guard
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
    UsageDelta,
)
from agentrt.models.message import FinishReason, Message, ToolCall, Usage


class ScriptError(ModelError, AssertionError):
    """A test's script does not fit the run: it ran out, or was not used up."""


# --- holding a model in mid-flight -----------------------------------------------------------------------------------


class Signal:
    """An event that any thread may set, and that any thread or event loop may wait for. Once set it stays set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        with self._lock:
            self._event.set()
            waiters, self._waiters = self._waiters, []
        for loop, woken in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

    def wait_in_thread(self, timeout_s: float = 5.0) -> None:
        """Block this thread; raises `TimeoutError`."""
        if not self._event.wait(timeout_s):
            raise TimeoutError(f"The signal was not set within {timeout_s:g} s")

    async def wait(self) -> None:
        woken = asyncio.Event()
        with self._lock:
            if self._event.is_set():
                return
            self._waiters.append((asyncio.get_running_loop(), woken))
        await woken.wait()


class Gate:
    """Holds a reply back until `open()`. `await gate.reached.wait()` says that the model call has come to it."""

    def __init__(self) -> None:
        self.reached = Signal()
        self.opened = Signal()

    def open(self) -> None:
        self.opened.set()

    async def wait(self) -> None:
        self.reached.set()
        await self.opened.wait()


class Waitable(Protocol):
    """A `Gate`, an `asyncio.Event`, an `anyio.Event`."""

    async def wait(self) -> Any: ...


# --- replies ---------------------------------------------------------------------------------------------------------

ScriptedCall: TypeAlias = "tuple[str, Mapping[str, Any] | str] | ToolCall"
"""A tool's name with its arguments (a text is sent as it is, however broken), or a `ToolCall` to choose the id too."""


@dataclass
class Reply:
    """One model answer, as `reply("Hello")` or `reply(tool_calls=[("add", {"a": 1, "b": 2})])`.

    `text` is streamed in pieces, word by word, unless it is given as a list of pieces. `usage` counts words when it
    is not given. Before the first delta come `delay_s` seconds; `gate` holds the answer back after `gate_after`
    deltas, `error` breaks it off after `error_after` of them.
    """

    text: str | Sequence[str] = ""
    _: KW_ONLY
    tool_calls: Sequence[ScriptedCall] = ()
    reasoning: str | Sequence[str] = ""
    refusal: str | Sequence[str] = ""
    parts: Sequence[dict[str, Any]] = ()
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    delay_s: float = 0.0
    gate: Waitable | None = None
    gate_after: int = 0
    error: Exception | None = None
    error_after: int = 0


reply = Reply


Answer: TypeAlias = "str | Reply | Exception | Sequence[ModelDelta | str]"
"""What a model call comes to: a text, a `Reply`, an error to raise, or the very deltas."""
Answering: TypeAlias = "Callable[[ModelRequest], Answer | Awaitable[Answer] | AsyncIterator[ModelDelta | str]]"
"""A function of the request: sync, async, or an async generator of deltas and texts."""


def _pieces(text: str | Sequence[str]) -> list[str]:
    if not isinstance(text, str):
        return [piece for piece in text if piece]
    words = re.findall(r"\S+\s*|\s+", text)
    if len(words) == 1 and len(text) > 1:
        middle = len(text) // 2
        return [text[:middle], text[middle:]]
    return words


def _words(request: ModelRequest) -> int:
    return sum(len((message.content or "").split()) for message in request.messages)


def _call_deltas(index: int, call: ScriptedCall, number: int) -> Iterator[ToolCallDelta]:
    if isinstance(call, ToolCall):
        call_id, name, arguments = call.id, call.name, call.arguments
    else:
        name, given = call
        call_id, arguments = f"call_{number}", given if isinstance(given, str) else json.dumps(given)
    yield ToolCallDelta(index=index, id=call_id, name=name)
    for piece in _pieces([arguments[:8], arguments[8:]]):
        yield ToolCallDelta(index=index, arguments=piece)


# --- the models ------------------------------------------------------------------------------------------------------


class _TestModel(Model):
    """Records requests and turns answers into deltas."""

    is_test_model: ClassVar[bool] = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.requests: list[ModelRequest] = []
        """What was asked, in order, as it was at the time of the call."""
        self._open: set[object] = set()
        self._numbers = itertools.count(1)

    def copy(self, **changes: Any) -> Self:
        """Return a copy that goes on with the same script and the same records."""
        twin = super().copy(**changes)
        twin.__dict__ = self.__dict__ | twin.__dict__
        return twin

    @property
    def open_streams(self) -> int:
        """How many answers are being streamed now; one that was closed or cancelled no longer counts."""
        return len(self._open)

    @property
    def last_request(self) -> ModelRequest:
        return self.requests[-1]

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        self.requests.append(_recorded(request))
        mark = object()
        self._open.add(mark)
        try:
            async with aclosing(await self._answered(request)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            self._open.discard(mark)

    def _next_answer(self, request: ModelRequest) -> Answer | Answering:
        raise NotImplementedError

    async def _answered(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        answer = self._next_answer(request)
        made = answer(request) if callable(answer) else answer
        if inspect.isawaitable(made):
            made = await made
        match made:
            case AsyncIterator():
                return self._finished(made)
            case Exception():
                raise made
            case str():
                return self._played(request, Reply(made))
            case Reply():
                return self._played(request, made)
            case _:
                return self._finished(_each(made))

    async def _finished(self, deltas: AsyncIterator[ModelDelta | str]) -> AsyncGenerator[ModelDelta, None]:
        """The deltas as given, with the end that their author need not write."""
        called, ended = False, False
        try:
            async for delta in deltas:
                delta = TextDelta(delta) if isinstance(delta, str) else delta
                called, ended = called or isinstance(delta, ToolCallDelta), isinstance(delta, FinishDelta)
                yield delta
        finally:
            if isinstance(deltas, AsyncGenerator):
                await deltas.aclose()
        if not ended:
            yield FinishDelta("tool_calls" if called else "stop", model_id=self.id)

    async def _played(self, request: ModelRequest, script: Reply) -> AsyncGenerator[ModelDelta, None]:
        if script.delay_s:
            await asyncio.sleep(script.delay_s)
        for count, delta in enumerate(self._all(request, script)):
            if script.gate is not None and count == script.gate_after:
                await script.gate.wait()
            # a break is always a break: at the latest, the word that the answer is complete does not come
            if script.error is not None and (count == script.error_after or isinstance(delta, FinishDelta)):
                raise script.error
            yield delta

    def _all(self, request: ModelRequest, script: Reply) -> Iterator[ModelDelta]:
        yield from map(ReasoningDelta, _pieces(script.reasoning))
        yield from map(TextDelta, _pieces(script.text))
        yield from map(RefusalDelta, _pieces(script.refusal))
        for index, call in enumerate(script.tool_calls):
            yield from _call_deltas(index, call, next(self._numbers))
        yield from map(PartDelta, script.parts)
        said = len("".join(_pieces(script.text)).split()) + len("".join(_pieces(script.reasoning)).split())
        yield UsageDelta(script.usage or Usage(input_tokens=_words(request), output_tokens=said))
        kind: FinishReason = "tool_calls" if script.tool_calls else "refusal" if script.refusal else "stop"
        yield FinishDelta(script.finish_reason or kind, model_id=self.id)


class ScriptedModel(_TestModel):
    """A model that gives queued replies, one a call, and complains when there are none left.

    A reply is a text, a `Reply`, an exception to raise, a list of deltas, or a function of the request to one of
    these. As a context manager it complains, on leaving without an error, about replies that were not asked for;
    `assert_done()` does so at once.
    """

    provider: ClassVar[str] = "scripted"

    id: str = "scripted"

    def __init__(self, *replies: Answer | Answering, **options: Any) -> None:
        super().__init__(**options)
        self._queue = deque(replies)

    def add(self, *replies: Answer | Answering) -> None:
        """Queue more replies."""
        self._queue.extend(replies)

    @property
    def remaining(self) -> int:
        return len(self._queue)

    def assert_done(self) -> None:
        """Raise `ScriptError` (an `AssertionError`) if replies are left."""
        if self._queue:
            raise ScriptError(
                f"{len(self._queue)} scripted replies were not asked for; the first is {self._queue[0]!r:.200}",
                provider=self.provider,
                model_id=self.id,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.assert_done()

    def _next_answer(self, request: ModelRequest) -> Answer | Answering:
        try:
            return self._queue.popleft()
        except IndexError:
            last = request.messages[-1] if request.messages else None
            raise ScriptError(
                f"The script has no reply left for call {len(self.requests)}, whose last message is "
                f"{last.role if last else None}: {last.content if last else None!r:.200}",
                provider=self.provider,
                model_id=self.id,
            ) from None


class FunctionModel(_TestModel):
    """A model that answers each request by `function`; see `Answering` for what that may be."""

    provider: ClassVar[str] = "function"

    id: str = "function"

    def __init__(self, function: Answering, **options: Any) -> None:
        super().__init__(**options)
        self._function = function

    def _next_answer(self, request: ModelRequest) -> Answer | Answering:
        return self._function


async def _each(deltas: Sequence[ModelDelta | str]) -> AsyncGenerator[ModelDelta | str, None]:
    for delta in deltas:
        yield delta


def _recorded(request: ModelRequest) -> ModelRequest:
    return replace(request, messages=[_snapshot(message) for message in request.messages], tools=tuple(request.tools))


def _snapshot(message: Message) -> Message:
    calls = [replace(call) for call in message.tool_calls] if message.tool_calls else message.tool_calls
    return replace(message, tool_calls=calls, parts=deepcopy(message.parts))


# --- keeping real models out -----------------------------------------------------------------------------------------


@contextmanager
def forbid_model_requests() -> Generator[None, None, None]:
    """Inside, a request to a model that is not made for tests raises `ConfigurationError`, in every thread.

    As a fixture for a whole suite, in `conftest.py`:

        @pytest.fixture(autouse=True)
        def no_real_models():
            with forbid_model_requests():
                yield
    """
    before = _guard.set_allowed(False)
    try:
        yield
    finally:
        _guard.set_allowed(before)


@contextmanager
def allow_model_requests() -> Generator[None, None, None]:
    """The exception from `forbid_model_requests`, for a test that means it."""
    before = _guard.set_allowed(True)
    try:
        yield
    finally:
        _guard.set_allowed(before)
