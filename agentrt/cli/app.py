"""The commands. `run` and `chat` build an agent from their options, or take the user's own, and hand it on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from agentrt import __version__, _sync
from agentrt.cli._agent import make_agent
from agentrt.cli._options import (
    ASKS,
    FAILED,
    AgentArgument,
    DbOption,
    ModelOption,
    SessionOption,
    TableOption,
    UserOption,
)
from agentrt.cli.chat import AnswerFailed, answer, chat_loop, show_error, with_history
from agentrt.cli.db import db
from agentrt.cli.runs import runs
from agentrt.errors import AgentRTError, ConfigurationError, DecisionRefused

app = typer.Typer(
    help="Run LLM agents from the terminal.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(runs)
app.add_typer(db)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agentrt {__version__}")
        raise typer.Exit


@app.callback(epilog='[dim]agentrt run "Why is the sky blue?" -m openai:gpt-4.1   ·   agentrt chat my_app:agent[/]')
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


@app.command(
    epilog='[dim]agentrt run "Why is the sky blue?"   ·   agentrt run "What did I ask?" -d chats.db -s monday[/]'
)
def run(
    message: Annotated[str, typer.Argument(show_default=False, help="What to ask.")],
    agent: AgentArgument = None,
    model: ModelOption = None,
    session: SessionOption = None,
    user: UserOption = None,
    db: DbOption = None,
    table: TableOption = None,
) -> None:
    """Ask one question and print the answer.

    [dim]Exits with 3 while the run waits for somebody.[/]
    """
    chosen = with_history(make_agent(agent, model=model, db=db, table=table))
    try:
        response = answer(chosen, message, session_id=session, user_id=user)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        _sync.call(chosen.aclose)
    if response.is_paused:
        if chosen.storage is not None and chosen.storage.durable:
            typer.echo(f"To answer: agentrt runs show {response.run_id}", err=True)
        raise typer.Exit(ASKS)


@app.command(epilog="[dim]agentrt chat -m openai:gpt-4.1   ·   agentrt chat my_app:agent -d chats.db -s monday[/]")
def chat(
    agent: AgentArgument = None,
    model: ModelOption = None,
    session: SessionOption = None,
    user: UserOption = None,
    db: DbOption = None,
    table: TableOption = None,
) -> None:
    """Hold a conversation. [dim]Ctrl-C stops an answer, Ctrl-D ends the chat.[/]"""
    chat_loop(make_agent(agent, model=model, db=db, table=table), session_id=session, user_id=user)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. A failure is one panel on stderr and an exit code: 2 for what the user can set right."""
    try:
        app(arguments, prog_name="agentrt")
    except AnswerFailed as failed:
        sys.exit(_code(failed.__cause__))
    except AgentRTError as error:
        show_error(error, Console(stderr=True))
        sys.exit(_code(error))


def _code(error: BaseException | None) -> int:
    return 2 if isinstance(error, (ConfigurationError, DecisionRefused)) else FAILED
