"""One model call: the request, its attempts, its deltas made into events and one assistant message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentrt.errors import ContentFiltered, ModelError, ModelStreamInterrupted, OutputTruncated, ToolUseFailed
from agentrt.models._attempt import attempt, wait_before_next
from agentrt.models.base import (
    CitationDelta,
    FinishDelta,
    Model,
    ModelAnswer,
    ModelRequest,
    PartDelta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageDelta,
)
from agentrt.models.message import Message, ToolCall, Usage
from agentrt.run.budget import Reservation
from agentrt.run.debug import line_of_message
from agentrt.run.events import (
    ModelCallCompleted,
    ModelCallStarted,
    OutputPartial,
    ReasoningContent,
    RunContent,
    ToolCallArguments,
)
from agentrt.run.limits import count
from agentrt.run.prepare import request_messages
from agentrt.run.run import Run, log, new_id
from agentrt.tools.arguments import normalize_arguments

if TYPE_CHECKING:
    from agentrt.run.output import Output

TOOL_USE_ATTEMPTS = 2
"""How often a model is asked again after its provider could not read the tool call that it wrote."""


async def call_model(run: Run, *, last_turn: bool) -> ModelAnswer:
    """Ask the model once, with retries, and return its answer. `last_turn` forbids tool calls.

    Raises `BudgetExceeded` when a budget has no room for it, `ModelError`; what had been streamed by then stays on
    the run as an incomplete message.
    """
    return await _call(run, run.model, _request(run, last_turn), _Draft(run, run.output, run.delta))


async def ask(
    run: Run, model: Model, request: ModelRequest, output: Output, on_partial: Callable[[OutputPartial], None]
) -> ModelAnswer:
    """Ask a model for something typed on the side: counted and told of as any call, but no message of the run.

    `on_partial` is told what is there of it when the run streams. Raises as `call_model`.
    """
    run.asides += 1
    return await _call(run, model, request, _Draft(run, output, on_partial, aside=True))


async def _call(run: Run, model: Model, request: ModelRequest, draft: _Draft) -> ModelAnswer:
    with Reservation(run.budgets, model, request) as reservation:
        return await _reserved(run, model, request, draft, reservation)


async def _reserved(
    run: Run, model: Model, request: ModelRequest, draft: _Draft, reservation: Reservation
) -> ModelAnswer:
    count(run, model_calls=1)
    run.offset = 0
    name = f"{model.provider}:{model.id}"
    run.fact(ModelCallStarted(index=run.model_calls, model=name))
    if run.debug is not None:
        for message in request.messages:
            run.debug.debug("%s", line_of_message(message))
    try:
        await run.journal.write()
        draft.started = time.perf_counter()
        answer = await _attempts(model, request, draft)
    except BaseException as error:
        # the partial answer stays on the run, marked; a cancelled call passes here too
        if (partial := draft.partial(error)) and not draft.aside:
            run.messages.append(partial)
        count(run, usage=draft.usage)
        if draft.may_have_used(error):
            reservation.took(draft.usage, partial)
        run.fact(
            ModelCallCompleted(
                index=run.model_calls,
                model=name,
                usage=draft.usage,
                elapsed_s=time.perf_counter() - draft.started,
                error=f"{type(error).__name__}: {error}".rstrip(": "),
            )
        )
        raise
    count(run, usage=answer.usage)
    reservation.took(answer.usage, answer.message, answer.answered)
    if (other := answer.answered) is not model:
        name = f"{other.provider}:{other.id}"
        if not draft.aside:
            run.response.model, run.response.model_provider = other.id, other.provider
    if draft.aside:
        run.journal.add_step("aside", lambda: {"usage": answer.usage})
    else:
        run.messages.append(answer.message)
        run.journal.add_step(
            "model",
            lambda: {"message": answer.message, "usage": answer.usage, "finish_reason": answer.finish_reason},
        )
    run.fact(
        ModelCallCompleted(
            index=run.model_calls,
            model=name,
            usage=answer.usage,
            finish_reason=answer.finish_reason,
            time_to_first_token_s=answer.time_to_first_token_s,
            elapsed_s=answer.elapsed_s,
        )
    )
    return answer


def _request(run: Run, last_turn: bool) -> ModelRequest:
    tools = [tool.spec() for tool in run.tools.values()]
    choice = run.definition.tool_choice if run.model_calls == run.asides else None
    if last_turn:
        choice = "none"
    request = ModelRequest(
        messages=request_messages(run), tools=tools, tool_choice=choice if tools else None, stream=run.stream
    )
    if run.output is not None:
        run.output.put_into(request, run.model.capable(), last_turn=last_turn)
    return request


async def _attempts(model: Model, request: ModelRequest, draft: _Draft) -> ModelAnswer:
    """Try until there is an answer. Repeats only while nothing has been delivered: a text is never streamed twice."""
    retries = tool_use_failures = 0
    while True:
        try:
            return await draft.fill(model, request)
        except ToolUseFailed as error:
            tool_use_failures += 1
            if draft.delivered or tool_use_failures > TOOL_USE_ATTEMPTS:
                raise
            request.messages = [*request.messages, _explain(error)]
        except ModelError as error:
            if draft.delivered:
                raise
            wait_s = wait_before_next(model, error, retries)
            retries += 1
            log.info("%s:%s failed (%s); trying again in %.2g s", model.provider, model.id, error, wait_s)
            await asyncio.sleep(wait_s)


def _explain(error: ToolUseFailed) -> Message:
    said = f"\nYou wrote: {error.failed_generation}" if error.failed_generation else ""
    return Message(
        role="user",
        content=f"Your tool call could not be read: {error.message}{said}\n"
        "Call the tool again with its name and arguments as one valid JSON object, or answer without it.",
    )


@dataclass(slots=True)
class _CallDraft:
    id: str
    name: str
    arguments: list[str] = field(default_factory=list[str])


class _Draft:
    """The answer as it comes in. A call of the tool that takes a typed answer is that answer's text."""

    __slots__ = ("aside", "asked", "calls", "citations", "delivered", "finish", "first_at", "on_partial", "output",
                 "output_partial", "parts", "reasoning", "refused", "run", "started", "text", "usage")  # fmt: skip

    def __init__(
        self, run: Run, output: Output | None, on_partial: Callable[[OutputPartial], None], *, aside: bool = False
    ) -> None:
        self.run = run
        self.aside = aside
        self.output = output
        self.output_partial = output.partial() if output is not None and run.stream else None
        self.on_partial = on_partial
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[_CallDraft] = []
        self.parts: list[dict[str, Any]] = []
        self.citations: list[dict[str, Any]] = []
        self.usage = Usage()
        self.finish: FinishDelta | None = None
        self.refused = False
        self.asked = False
        self.delivered = False
        self.started = time.perf_counter()
        self.first_at: float | None = None

    async def fill(self, model: Model, request: ModelRequest) -> ModelAnswer:
        """Make one attempt. Each delta that a reader could have seen sets `delivered`."""
        run, streaming = self.run, self.run.stream
        self.asked = True
        self.parts.clear()
        self.citations.clear()
        async with aclosing(attempt(model, request)) as deltas:
            async for delta in deltas:
                if isinstance(delta, (TextDelta, RefusalDelta)):
                    self._arrived()
                    self.refused = self.refused or isinstance(delta, RefusalDelta)
                    self._said(delta.text)
                elif isinstance(delta, ReasoningDelta):
                    self._arrived()
                    self.reasoning.append(delta.text)
                    if streaming:
                        run.delta(ReasoningContent(content=delta.text))
                elif isinstance(delta, ToolCallDelta):
                    self._arrived()
                    self._call(delta)
                elif isinstance(delta, PartDelta):
                    self.parts.append(delta.part)
                elif isinstance(delta, CitationDelta):
                    self.citations.append(delta.citation)
                elif isinstance(delta, UsageDelta):
                    self.usage = delta.usage
                else:
                    self.finish = delta
        if self.output_partial is not None and (event := self.output_partial.end()) is not None:
            self.on_partial(event)
        return self._answer(model)

    def _said(self, text: str) -> None:
        self.text.append(text)
        if not self.run.stream:
            return
        if not self.aside:
            self.run.delta(RunContent(content=text))
        if self.output_partial is not None and (event := self.output_partial.feed(text)) is not None:
            self.on_partial(event)

    def _arrived(self) -> None:
        if not self.delivered:
            self.delivered = True
            self.first_at = time.perf_counter()

    def _call(self, delta: ToolCallDelta) -> None:
        if delta.index == len(self.calls):
            # an id stands for one call of a run: by it is known what became of the call
            taken = any(call.id == delta.id for call in (*self.calls, *_calls_of(self.run)))
            self.calls.append(_CallDraft(f"call_{new_id()}" if taken or not delta.id else delta.id, delta.name))
        call = self.calls[delta.index]
        call.name = call.name or delta.name
        if self._takes_answer(call):
            text = "".join(call.arguments) + delta.arguments  # some came before the name
            call.arguments.clear()
            if text:
                self._said(text)
        elif delta.arguments:
            call.arguments.append(delta.arguments)
            if self.run.stream:
                event = ToolCallArguments(content=delta.arguments, tool_call_id=call.id, tool_name=call.name)
                self.run.delta(event)

    def _takes_answer(self, call: _CallDraft) -> bool:
        return self.output is not None and self.output.tool is not None and call.name == self.output.tool.name

    def may_have_used(self, error: BaseException) -> bool:
        """Is what ended the call no proof that its provider did no work for it?"""
        return self.delivered or self.usage.total_tokens > 0 or (self.asked and not isinstance(error, ModelError))

    def partial(self, error: BaseException) -> Message | None:
        """What there is of an answer that `error` cut off: its text; calls that were being written are not kept."""
        if not self.text and not self.reasoning:
            return None
        return Message(
            role="assistant",
            content="".join(self.text) or None,
            reasoning_content="".join(self.reasoning) or None,
            incomplete=True,
            cancelled=isinstance(error, asyncio.CancelledError),
        )

    def _answer(self, model: Model) -> ModelAnswer:
        """Return the finished answer, or raise what its end means."""
        finish = self.finish
        if finish is not None and finish.answered is not None:
            model = finish.answered
        facts: dict[str, Any] = {"provider": model.provider, "model_id": model.id}
        if finish is None:
            raise ModelStreamInterrupted("The answer ended before the model said that it was complete", **facts)
        if finish.reason == "content_filter":
            raise ContentFiltered("The provider's content filter withheld the answer", **facts)
        calls = [call for call in self.calls if not self._takes_answer(call)]
        if finish.reason == "length" and calls:
            names = ", ".join(call.name for call in calls)
            raise OutputTruncated(
                f"The output-token limit was reached while the call of {names} was being written, so it was not made; "
                "raise max_tokens",
                code=finish.raw,
                **facts,
            )
        self.usage.model_calls = 1
        message = Message(
            role="assistant",
            content="".join(self.text) if self.text or not calls else None,
            reasoning_content="".join(self.reasoning) or None,
            tool_calls=[_tool_call(call) for call in calls] or None,
            provider=model.provider if self.parts else None,
            parts=self.parts or None,
            citations=self.citations or None,
            refusal=self.refused,
        )
        now = time.perf_counter()
        reason = "stop" if finish.reason == "tool_calls" and self.calls and not calls else finish.reason
        return ModelAnswer(
            message=message,
            answered=model,
            finish_reason="refusal" if self.refused else reason,
            usage=self.usage,
            raw_finish_reason=finish.raw,
            model_id=finish.model_id,
            request_id=finish.request_id,
            time_to_first_token_s=self.first_at - self.started if self.first_at is not None else None,
            elapsed_s=now - self.started,
        )


def _calls_of(run: Run) -> Iterator[ToolCall]:
    return (call for message in run.messages for call in message.tool_calls or ())


def _tool_call(draft: _CallDraft) -> ToolCall:
    """The call as it is kept: arguments are always the text of a JSON object, what the model wrote is set aside."""
    raw = "".join(draft.arguments)
    arguments = normalize_arguments(raw)
    return ToolCall(
        id=draft.id,
        name=draft.name,
        arguments=arguments.text,
        raw_arguments=raw if arguments.problem is not None else None,
    )
