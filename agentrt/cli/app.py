"""The commands. Each one builds an agent from its options, or takes the user's own, and hands it on."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from agentrt import __version__, _sync
from agentrt.cli._agent import make_agent
from agentrt.cli.chat import AnswerFailed, answer, chat_loop, show_error, with_history
from agentrt.errors import AgentRTError, ConfigurationError

app = typer.Typer(
    help="Run LLM agents from the terminal.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AgentArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODULE:AGENT",
        show_default=False,
        help="Your own agent: the variable [cyan]agent[/] in [cyan]my_app.py[/] is [cyan]my_app:agent[/].",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="PROVIDER:ID",
        show_default=False,
        help="The model, as in [cyan]openai:gpt-4.1[/], [cyan]anthropic:claude-sonnet-4-5[/] or [cyan]local[/]. "
        "Else $AGENTRT_MODEL; else the local model, if it is installed.",
    ),
]
SessionOption = Annotated[
    str | None,
    typer.Option(
        "--session", "-s", metavar="ID", show_default=False, help="The conversation to go on with; needs [cyan]--db[/]."
    ),
]
UserOption = Annotated[
    str | None, typer.Option("--user", "-u", metavar="ID", show_default=False, help="Whose conversation it is.")
]
DbOption = Annotated[
    str | None,
    typer.Option("--db", "-d", metavar="FILE", show_default=False, help="Keep conversations in this SQLite file."),
]


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
) -> None:
    """Ask one question and print the answer."""
    chosen = with_history(make_agent(agent, model=model, db=db))
    try:
        answer(chosen, message, session_id=session, user_id=user)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        _sync.call(chosen.aclose)


@app.command(epilog="[dim]agentrt chat -m openai:gpt-4.1   ·   agentrt chat my_app:agent -d chats.db -s monday[/]")
def chat(
    agent: AgentArgument = None,
    model: ModelOption = None,
    session: SessionOption = None,
    user: UserOption = None,
    db: DbOption = None,
) -> None:
    """Hold a conversation. [dim]Ctrl-C stops an answer, Ctrl-D ends the chat.[/]"""
    chat_loop(make_agent(agent, model=model, db=db), session_id=session, user_id=user)


def main() -> None:
    """Run the command line. A failure is one panel on stderr and an exit code: 2 for what the user can set right."""
    try:
        app(prog_name="agentrt")
    except AnswerFailed as failed:
        sys.exit(_code(failed.__cause__))
    except AgentRTError as error:
        show_error(error, Console(stderr=True))
        sys.exit(_code(error))


def _code(error: BaseException | None) -> int:
    return 2 if isinstance(error, ConfigurationError) else 1
