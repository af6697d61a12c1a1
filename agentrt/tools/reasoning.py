"""`ReasoningTools`: the model writes down what it thinks, between its other calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentrt.run.context import RunContext
from agentrt.run.events import ReasoningStep
from agentrt.run.response import NextAction, Thought
from agentrt.tools.function import Function
from agentrt.tools.toolkit import Toolkit

INSTRUCTIONS = """\
Use the tools think and analyze to work through the user's request before you answer it.
- think: a note to yourself before you act: what is wanted, what you know, what is missing, what you do next and why.
- analyze: a note after you acted: what came of it, whether that is right and enough, and how to go on.
- Think before the first other call, and analyze what matters of its results; for a simple question once is enough.
- Calls that don't need each other's results may be made together.
- The user is not shown the notes: what they need of them belongs in the answer.
- Answer once an analysis ends in final_answer."""

EXAMPLES = """\
Example, for "Is the train to Bergen cheaper than flying this Friday?":
1. think(title="Two prices", thought="I need both prices for Friday; neither depends on the other.",
   action="Look up train and flight together", confidence=0.9)
2. The calls that look them up.
3. analyze(title="Compared", result="Train 399, flight 749, both one way",
   analysis="Both are for this Friday and in one currency, so they can be compared.", next_action="final_answer",
   confidence=0.95)
4. The answer: the train is cheaper, 399 against 749.

Example, for "Why did order 17 fail?":
1. think(title="Look at the log", thought="The log should say why.", action="Read the log of order 17")
2. The call that reads it, which finds nothing.
3. analyze(title="Nothing there", result="The log is empty", analysis="It may not have got as far as the log.",
   next_action="continue", confidence=0.4)
4. think(title="Before the log", thought="Then the payment may have been refused.", action="Read the payments")"""


class ReasoningTools(Toolkit):
    """Lets the model note its thoughts: each call is a `ReasoningStep` event and one of `response.reasoning_steps`.

    `add_few_shot` shows it how, by `few_shot_examples` or examples that come with the kit. Further options are those
    of `Toolkit`.
    """

    def __init__(
        self,
        think: bool = True,
        analyze: bool = True,
        instructions: str | None = None,
        add_instructions: bool = False,
        add_few_shot: bool = False,
        few_shot_examples: str | None = None,
        *,
        name: str = "reasoning_tools",
        **options: Any,
    ) -> None:
        told = instructions or INSTRUCTIONS
        if add_few_shot:
            told = f"{told}\n\n{few_shot_examples or EXAMPLES}"
        chosen: dict[Callable[..., Any], bool] = {self.think: think, self.analyze: analyze}
        tools = [Function(entrypoint=tool, effect="idempotent") for tool, wanted in chosen.items() if wanted]
        told_at_all = add_instructions or add_few_shot
        super().__init__(name, tools, instructions=told, add_instructions=told_at_all, **options)

    async def think(
        self, ctx: RunContext, title: str, thought: str, action: str | None = None, confidence: float | None = None
    ) -> str:
        """Write down a thought before you act.

        Args:
            title: What it is about, in a few words.
            thought: What you think, and why.
            action: What you do next.
            confidence: How sure you are, from 0 to 1.
        """
        return _noted(ctx, Thought(title=title, reasoning=thought, action=action, confidence=confidence))

    async def analyze(
        self,
        ctx: RunContext,
        title: str,
        result: str,
        analysis: str,
        next_action: NextAction = "continue",
        confidence: float | None = None,
    ) -> str:
        """Write down what came of an action, and what follows from it.

        Args:
            title: What it is about, in a few words.
            result: What came of the action.
            analysis: What you make of it.
            next_action: Whether to go on, to check what you found, or to answer.
            confidence: How sure you are, from 0 to 1.
        """
        step = Thought(title=title, reasoning=analysis, result=result, next_action=next_action, confidence=confidence)
        return _noted(ctx, step)


def _noted(ctx: RunContext, step: Thought) -> str:
    ctx.emit(ReasoningStep(content=step.text(), step=step))
    return "Noted."
