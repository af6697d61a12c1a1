"""Asking at the terminal for what a run waits for."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from agentrt import Agent, tool
from agentrt.run.response import RunResponse, RunStatus, ToolExecution
from agentrt.testing import ScriptedModel, reply
from agentrt.utils._ask import UNKNOWN, decided


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@tool(requires_confirmation=True)
def drop(item: str, times: int = 1) -> str:
    """Drop something."""
    return f"dropped {item} {times} times"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts somebody at the terminal who types this."""

    def type_(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", Terminal(text))
        monkeypatch.setattr(sys, "stdout", Terminal())

    return type_


def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def shown(console: Console) -> str:
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]  it is the StringIO


# --- print_response --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "result"), [("y\n", "dropped x 1 times"), ("n\nnot today\n", "not today")])
def test_print_response_asks_at_a_terminal_and_goes_on(typed: Callable[[str], None], text: str, result: str):
    typed(text)
    screen = console()
    with ScriptedModel(reply(tool_calls=[("drop", {"item": "x"})]), "Done.") as model:
        Agent(model=model, tools=[drop]).print_response("go", console=screen)

    assert result in (model.last_request.messages[-1].content or "")
    assert shown(screen).index("Paused") < shown(screen).index("Done.")
    assert shown(screen).count("Message: go") == 1


async def test_aprint_response_does_so_too_with_what_was_given_to_the_run(typed: Callable[[str], None]):
    typed("y\n")
    screen = console()
    with ScriptedModel(reply(tool_calls=[("drop", {"item": "x"})]), "Done.") as model:
        await Agent(model=ScriptedModel()).aprint_response("go", model=model, tools=[drop], console=screen)

    assert "Done." in shown(screen)


def test_where_nobody_sits_it_shows_what_it_waits_for_and_stays_paused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    screen = console()
    agent = Agent(model=ScriptedModel(reply(tool_calls=[("drop", {"item": "x"})])), tools=[drop])
    agent.print_response("go", console=screen)

    assert agent.is_paused
    assert "Paused: drop(item='x') needs to be confirmed" in shown(screen)


def test_the_end_of_input_leaves_a_run_paused(typed: Callable[[str], None]):
    typed("")
    agent = Agent(model=ScriptedModel(reply(tool_calls=[("drop", {"item": "x"})])), tools=[drop])
    agent.print_response("go", console=console())

    assert agent.is_paused


# --- unknown outcomes ------------------------------------------------------------------------------------------------


def cut(**options: Any) -> RunResponse[Any]:
    tool = ToolExecution(tool_call_id="1", tool_name="pay", tool_args={"amount": 5}, unknown_outcome=True, **options)
    return RunResponse(status=RunStatus.PAUSED, tools=[tool])


@pytest.mark.parametrize(
    ("lines", "decision"),
    [
        (["a"], (True, None, None)),
        (["r", "paid 5"], (None, None, "paid 5")),
        (["s", ""], (False, UNKNOWN, None)),
        (["s", "pay tomorrow"], (False, "pay tomorrow", None)),
        (["", "y", "again"], (True, None, None)),
    ],
)
def test_what_became_of_a_call_that_was_cut_is_asked_for_without_a_default(
    lines: list[str], decision: tuple[bool | None, str | None, str | None]
):
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return lines[len(prompts) - 1]

    answered = decided(cut(), ask)

    assert answered is not None
    (call,) = answered.tools
    assert (call.confirmed, call.confirmation_note, call.result) == decision
    assert prompts[0].startswith("pay(amount=5) was cut while it ran, and may have acted.")


def test_a_call_that_is_rejected_is_asked_nothing_more_and_one_that_was_decided_nothing_at_all():
    fields: dict[str, Any] = {"requires_confirmation": True, "external_execution_required": True}
    rejected = ToolExecution(tool_call_id="1", tool_name="a", **fields)
    done = ToolExecution(tool_call_id="2", tool_name="b", confirmed=False, **fields)
    lines = iter(["n", ""])

    answered = decided(RunResponse(status=RunStatus.PAUSED, tools=[rejected, done]), lambda prompt: next(lines))

    assert answered is not None
    assert [call.confirmed for call in answered.tools] == [False, False]
    assert rejected.confirmed is None  # the response that was given is left as it was
