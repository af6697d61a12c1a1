"""Reasoning that is written down: a plan in steps, made before the answer by the same model or by another one.

The steps go into the system message of the run, and into `response.reasoning_steps`; not into the session.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from agentrt.errors import OutputValidationError
from agentrt.models.base import Model, ModelRequest
from agentrt.models.message import Message
from agentrt.run.events import OutputPartial, ReasoningCompleted, ReasoningStarted, ReasoningStep
from agentrt.run.limits import last_turn
from agentrt.run.model_call import ask
from agentrt.run.output import Output
from agentrt.run.prepare import request_messages
from agentrt.run.response import Thought
from agentrt.run.run import Run

PROMPT = """\
Don't answer the user yet. Think about how to come to the answer, step by step, and write the steps down:
- First say in your own words what is wanted, and split it into parts.
- Then decide how to go about it; where there are several ways, weigh them.
- Work it out. In each step say what is to be done and why, and what comes of it as far as you can tell by yourself.
- Before the end, check what you found: by another way, or by looking for a case where it is wrong. Put mistakes right.
- The last step has next_action "final_answer".
Make at least {least} and at most {most} steps."""
GO_ON = "Go on with the next steps."
PLAN = """\
You have thought about this already, in the steps below. Use them, don't repeat them, and leave them when they turn out
to be wrong.

{steps}"""


@dataclass
class Step:
    title: Annotated[str, Field(description="What the step is about, in a few words")]
    reasoning: Annotated[str, Field(description="What you think, and why")]
    action: Annotated[str | None, Field(description="What is to be done")] = None
    result: Annotated[str | None, Field(description="What comes of it")] = None
    next_action: Annotated[
        Literal["continue", "validate", "final_answer"], Field(description="How to go on after this step")
    ] = "continue"
    confidence: Annotated[float | None, Field(description="How sure you are, from 0 to 1")] = None


@dataclass
class Plan:
    steps: list[Step]


async def reason(run: Run, model: Model) -> None:
    """Have `model` make the plan, and put it into the run's system message. Raises what its model calls raise."""
    run.fact(ReasoningStarted(model=f"{model.provider}:{model.id}"))
    planner = _Planner(run)
    try:
        await _plan(run, model, planner)
    except BaseException as error:
        told = f"{type(error).__name__}: {error}".rstrip(": ")
        run.fact(ReasoningCompleted(steps=len(planner.steps), error=told))
        raise
    if planner.steps:
        run.system = _with_plan(run.system, planner.steps)
    run.reasoned = True
    run.journal.add_step("prompt", lambda: {"system": run.system, "reasoned": True})
    run.fact(ReasoningCompleted(steps=len(planner.steps)))


async def _plan(run: Run, model: Model, planner: _Planner) -> None:
    definition = run.definition
    least, most = definition.reasoning_min_steps, definition.reasoning_max_steps
    output = Output.of(Plan, model)
    messages = _asked(run, output, PROMPT.format(least=least, most=most))
    while len(planner.steps) < most and last_turn(run) is None:
        request = ModelRequest(messages=messages, stream=run.stream)
        output.put_into(request, model.capable())
        before = len(planner.steps)
        answer = await ask(run, model, request, output, planner.partial)
        planner.take(output, answer.message, most)
        last = planner.steps[-1] if len(planner.steps) > before else None
        if last is None or (last.next_action in (None, "final_answer") and len(planner.steps) >= least):
            return
        said = replace(answer.message, parts=None, provider=None)
        messages = [*messages, said, Message(role="user", content=GO_ON)]


class _Planner:
    """Takes the steps of each answer, as they come in or at its end, and tells each once."""

    def __init__(self, run: Run) -> None:
        self.steps: list[Thought] = []
        self._run = run
        self._told = 0
        """How many steps of the answer that comes in were told."""

    def partial(self, event: OutputPartial) -> None:
        for part in event.parts:
            if part.path == ("steps", self._told) and len(self.steps) < self._run.definition.reasoning_max_steps:
                self._tell(part.value)
                self._told += 1

    def take(self, output: Output, message: Message, most: int) -> None:
        """Take what was not told yet. What is no plan is a step as it stands."""
        text = message.content or message.reasoning_content or ""
        try:
            plan: Plan = output.parse(text)
        except OutputValidationError:
            if not self._told and text.strip():
                self._add(Thought(reasoning=text))
        else:
            for step in plan.steps[self._told : self._told + most - len(self.steps)]:
                self._tell(step)
        self._told = 0

    def _tell(self, step: Step) -> None:
        self._add(Thought(**vars(step)))

    def _add(self, thought: Thought) -> None:
        self.steps.append(thought)
        self._run.custom(ReasoningStep(content=thought.text(), step=thought))


def _asked(run: Run, output: Output, prompt: str) -> list[Message]:
    """The conversation, with what is asked of the planner behind what its author tells the agent."""
    parts = [prompt]
    if run.tools:
        known = "\n".join(f"- {name}: {tool.spec().description}" for name, tool in run.tools.items())
        parts.append(f"For the answer there will be these tools, which you can't call yet:\n{known}")
    if output.prompt:
        parts.append(output.prompt)
    messages = request_messages(run)
    if run.system is not None:
        messages = messages[1:]
        parts.insert(0, run.system.content or "")
    return [Message(role="system", content="\n\n".join(parts)), *messages]


def _with_plan(system: Message | None, steps: list[Thought]) -> Message:
    told = PLAN.format(steps="\n".join(f"{number}. {step.text()}" for number, step in enumerate(steps, 1)))
    text = f"<reasoning>\n{told}\n</reasoning>"
    return Message(role="system", content=f"{system.content}\n\n{text}" if system is not None else text)
