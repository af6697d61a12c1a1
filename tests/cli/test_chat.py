from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from agentrt import Agent, tool
from agentrt.cli.chat import AnswerFailed, answer, chat_loop
from agentrt.errors import ModelOverloaded
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.testing import ScriptedModel, reply


def user(*lines: str | BaseException) -> Callable[[str], str]:
    """Somebody who types these lines and then ends the input."""
    left = iter(lines)

    def ask(prompt: str) -> str:
        line = next(left, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    return ask


def chat(agent: Agent[Any], *lines: str | BaseException, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=80)
    chat_loop(agent, console=console, ask=user(*lines), **options)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]  it is the StringIO


def test_each_turn_is_sent_the_turns_before():
    with ScriptedModel("Hello Bob", "Your name is Bob") as model:
        shown = chat(Agent(model=model), "I am Bob", "  ", "Who am I?", "/exit", "never")

    assert [message.content for message in model.last_request.messages] == ["I am Bob", "Hello Bob", "Who am I?"]
    assert "Hello Bob" in shown
    assert "Your name is Bob" in shown


def test_an_agent_that_wants_no_history_gets_none():
    model = ScriptedModel("a", "b")
    chat(Agent(model=model, add_history_to_messages=False), "one", "two")

    assert [message.content for message in model.last_request.messages] == ["two"]


def test_a_session_goes_on_where_it_was_left():
    model, storage = ScriptedModel("a", "b"), InMemoryStorage()
    for line in ("one", "two"):
        chat(Agent(model=model, storage=storage), line, session_id="monday", user_id="bob")

    assert [message.content for message in model.last_request.messages] == ["one", "a", "two"]


def test_the_end_of_input_ends_the_chat():
    assert "Ctrl-D" in chat(Agent(model=ScriptedModel()))


def test_help_and_unknown_commands_ask_no_model():
    shown = chat(Agent(model=ScriptedModel()), "/help", "/nope")

    assert "/exit" in shown
    assert "There is no command /nope" in shown


def test_ctrl_c_at_the_prompt_does_not_end_the_chat():
    with ScriptedModel("Hello") as model:
        assert "Hello" in chat(Agent(model=model), KeyboardInterrupt(), "hi")


def test_a_failed_answer_is_shown_once_and_the_chat_goes_on():
    with ScriptedModel(ModelOverloaded("busy", retryable=False), "Hello") as model:
        shown = chat(Agent(model=model), "hi", "again")

    assert shown.count("busy") == 1
    assert "Hello" in shown


@tool(requires_confirmation=True)
def delete(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


@pytest.mark.parametrize(("said", "told"), [(["y"], "deleted /tmp/x"), (["n", "it is mine"], "it is mine")])
def test_a_call_that_needs_confirmation_is_asked_about(said: list[str], told: str):
    with ScriptedModel(reply(tool_calls=[("delete", {"path": "/tmp/x"})]), "Done.") as model:
        chat(Agent(model=model, tools=[delete]), "clean up", *said)

    assert told in (model.last_request.messages[-1].content or "")


def test_a_run_that_is_left_undecided_stays_paused():
    agent = Agent(model=ScriptedModel(reply(tool_calls=[("delete", {"path": "x"})])), tools=[delete])
    console = Console(file=io.StringIO())

    assert answer(agent, "clean up", console=console, ask=user()).is_paused


def test_values_that_a_call_needs_are_asked_for():
    seen: list[Any] = []

    @tool(requires_user_input=True, user_input_fields=["to", "count"])
    def send(subject: str, to: str, count: int) -> str:
        """Send a mail."""
        seen.append((subject, to, count))
        return "sent"

    with ScriptedModel(reply(tool_calls=[("send", {"subject": "Hi"})]), "Done.") as model:
        chat(Agent(model=model, tools=[send]), "mail", "bob@example.com", "3")

    assert seen == [("Hi", "bob@example.com", 3)]


def test_a_value_that_does_not_fit_is_told_and_asked_for_again():
    @tool(requires_user_input=True, user_input_fields=["count"])
    def order(count: int) -> str:
        """Order."""
        return f"ordered {count}"

    with ScriptedModel(reply(tool_calls=[("order", {})]), "Done.") as model:
        shown = chat(Agent(model=model, tools=[order]), "order", "many", "3")

    assert "UserInputInvalid" in shown
    assert model.requests[-1].messages[-1].content == "ordered 3"


def test_answer_raises_what_it_has_shown():
    console = Console(file=io.StringIO(), width=80)
    with pytest.raises(AnswerFailed) as caught:
        answer(Agent(model=ScriptedModel(ModelOverloaded("busy", retryable=False))), "hi", console=console)

    assert isinstance(caught.value.__cause__, ModelOverloaded)


def test_an_agent_chats_by_cli_app():
    console = Console(file=io.StringIO(), width=80)
    with ScriptedModel("Hello") as model:
        Agent(model=model).cli_app(console=console, ask=user("hi"))

    assert "Hello" in console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]  it is the StringIO
