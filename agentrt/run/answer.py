"""What a run's answer comes to: the model's last text, or the value it holds for a typed one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentrt.errors import ModelRefused, OutputTruncated, OutputValidationError
from agentrt.models.base import ModelAnswer, ModelRequest
from agentrt.models.message import Message
from agentrt.run.events import ModelCallReset, OutputPartial
from agentrt.run.limits import last_turn
from agentrt.run.model_call import ask
from agentrt.run.run import Run

if TYPE_CHECKING:
    from agentrt.run.output import Output

PARSER_PROMPT = (
    "You are given a text that somebody wrote. Put what it says into the form that is asked for. "
    "Take it from the text as it stands there; make nothing up and leave nothing out."
)


async def take_answer(run: Run, answer: ModelAnswer) -> bool:
    """Make the run's content of its last message; False when the model is to be asked again, and has been told why.

    Raises `ModelRefused`, `OutputTruncated`, `OutputValidationError` when a typed answer is not to be had.
    """
    text = answer.message.content or ""
    response, output = run.response, run.output
    if not run.definition.parse_response or (output is None and run.parser is None):
        response.content = text
        return True
    _check_end(answer, output, text)
    if run.parser is not None:
        response.content = await _parse_by_model(run, *run.parser, text)
    if output is None:
        return True
    try:
        response.content = output.parse(text)
    except OutputValidationError as error:
        if run.corrections >= run.definition.output_retries or run.limit_reached is not None:
            raise
        run.corrections += 1
        correction = Message(role="user", content=output.correction(error))
        run.messages.append(correction)
        run.journal.add_step("correction", lambda: {"message": correction})
        run.fact(ModelCallReset(index=run.model_calls + 1))
        return False
    return True


def _check_end(answer: ModelAnswer, output: Output | None, text: str) -> None:
    """Raise what an answer means that did not come to its own end."""
    facts: dict[str, Any] = {"provider": answer.answered.provider, "model_id": answer.answered.id}
    if answer.finish_reason == "refusal":
        refused = ModelRefused(f"The model refused to answer: {text}", **facts)
        refused.text = text
        raise refused
    if answer.finish_reason == "length" and not (output is not None and output.is_whole(text)):
        truncated = OutputTruncated(
            "The answer was truncated: the output-token limit was reached before it was complete; raise max_tokens",
            code=answer.raw_finish_reason,
            **facts,
        )
        truncated.text = text
        raise truncated


async def _parse_by_model(run: Run, model: Any, output: Output, text: str) -> Any:
    """Have the parser model put the answer's text into its type."""
    system = run.definition.parser_model_prompt or PARSER_PROMPT
    messages = [
        Message(role="system", content=f"{system}\n\n{output.prompt}" if output.prompt else system),
        Message(role="user", content=text),
    ]
    corrections = 0
    while True:
        last_turn(run)  # raises when no model call is left
        request = ModelRequest(messages=messages, stream=run.stream)
        output.put_into(request, model.capable())
        answer = await ask(run, model, request, output, _untold if corrections else run.delta)
        said = answer.message.content or ""
        _check_end(answer, output, said)
        try:
            return output.parse(said)
        except OutputValidationError as error:
            if corrections >= run.definition.output_retries or last_turn(run) is not None:
                raise
            corrections += 1
            told = Message(role="user", content=output.correction(error))
            messages = [*messages, replace(answer.message, parts=None, provider=None), told]


def _untold(_: OutputPartial) -> None:
    """No part of an answer is told twice."""
