"""A conversation in the terminal: one question after the other, Ctrl-C stops an answer and not the chat."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from agentrt import _sync
from agentrt.agent import Agent
from agentrt.errors import AgentRTError, DecisionRefused
from agentrt.run.response import RunResponse
from agentrt.run.stream import RunStream
from agentrt.utils._ask import Ask, at_terminal, decided
from agentrt.utils.pprint import ashow_run

HELP = """\
/help    show this
/exit    end the chat (also Ctrl-D)
Ctrl-C   stop the answer that is being given"""
ENDS = frozenset({"/exit", "/quit", "/bye", "exit", "quit", "bye"})


class AnswerFailed(Exception):
    """The run failed and that has been shown; the cause is what it raised."""


def answer(
    agent: Agent[Any],
    message: Any,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    console: Console | None = None,
    ask: Ask | None = None,
) -> RunResponse[Any]:
    """Ask once and print the answer as it comes. What a pause waits for is asked by `ask`, else of who sits at the
    terminal; where nobody does, the run stays paused. Raises `AnswerFailed`.
    """
    options: dict[str, Any] = {"user_id": user_id} if user_id is not None else {}
    if session_id is not None:
        options["session_id"] = session_id
    response = show(agent, agent.stream(message, **options), console)
    ask = ask or at_terminal()
    while response.is_paused and ask is not None and (answered := decided(response, ask)):
        try:
            response = show(agent, agent.acontinue_run(answered, stream=True), console)
        except AnswerFailed as failed:
            if not isinstance(failed.__cause__, DecisionRefused):  # else it is asked for again
                raise
    return response


def show(agent: Agent[Any], run: RunStream[Any], console: Console | None = None) -> RunResponse[Any]:
    """Drive a run and print it as it comes. Raises `AnswerFailed`."""
    shown: dict[str, Any] = {"markdown": agent.markdown, "show_tool_calls": agent.show_tool_calls, "console": console}
    try:
        return _sync.call(ashow_run, run, stream=True, **shown)
    except Exception as error:
        raise AnswerFailed from error


def chat_loop(
    agent: Agent[Any],
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    console: Console | None = None,
    ask: Ask | None = None,
) -> None:
    """Chat with `agent` until `/exit` or the end of input. Earlier turns are sent along, unless the agent says no."""
    console = console or Console()
    ask = ask or _terminal_input()
    agent = with_history(agent)
    session_id = session_id or agent.session_id or uuid4().hex
    _say(console, f"{agent.name or 'Agent'} · /help for help, Ctrl-D to end")
    try:
        while (message := _next(console, ask)) is not None:
            if message == "/help":
                _say(console, HELP)
            elif message.startswith("/"):
                _say(console, f"There is no command {message}; /help lists them")
            else:
                _turn(agent, message, session_id=session_id, user_id=user_id, console=console, ask=ask)
    finally:
        _sync.call(agent.aclose)


def with_history(agent: Agent[Any]) -> Agent[Any]:
    """Return the agent such that it is sent the conversation so far, unless its author has said no."""
    if "add_history_to_messages" in agent.options():
        return agent
    return agent.copy(add_history_to_messages=True)


def _turn(agent: Agent[Any], message: str, *, console: Console, **options: Any) -> None:
    try:
        answer(agent, message, console=console, **options)
    except KeyboardInterrupt:
        _say(console, "Stopped.")
    except AnswerFailed:
        pass  # the chat goes on
    except AgentRTError as error:
        show_error(error, console)


def show_error(error: Exception, console: Console) -> None:
    """Show an error that no run has shown."""
    console.print(Panel(Text(str(error)), title=Text(type(error).__name__), title_align="left", border_style="red"))


def _next(console: Console, ask: Ask) -> str | None:
    """The next thing that the user says; None when the user has ended the chat."""
    while True:
        try:
            message = ask("> ").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            _say(console, "\nCtrl-D or /exit ends the chat.")
            continue
        if message.lower() in ENDS:
            return None
        if message:
            return message


def _terminal_input() -> Ask:
    """`input` with line editing, and without a prompt when nobody sits there."""
    return at_terminal() or (lambda _: input())


def _say(console: Console, text: str) -> None:
    console.print(Text(text, style="dim"))
