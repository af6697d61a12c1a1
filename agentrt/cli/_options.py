"""The options that several commands have, and how a command ends."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, TypeVar

import typer

from agentrt import _sync

T = TypeVar("T")

FAILED: Final = 1
"""The exit code of what went wrong; 2 stands for what the user can set right, 130 for Ctrl-C."""
ASKS: Final = 3
"""The exit code while a run waits for somebody."""

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
        help="The model, as in [cyan]openai:gpt-4.1[/], [cyan]anthropic:claude-sonnet-4-6[/] or [cyan]local[/]. "
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
    typer.Option(
        "--db",
        "-d",
        metavar="FILE|URL",
        show_default=False,
        help="Where runs are kept: an SQLite file, or [cyan]postgresql://…[/] Else the agent's own storage; "
        "else $AGENTRT_DB.",
    ),
]
TableOption = Annotated[
    str | None,
    typer.Option(
        "--table",
        metavar="NAME",
        show_default=False,
        help="The [cyan]table_name[/] (or [cyan]schema.table_name[/]) of the storage, where a database holds several.",
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN_ID", show_default=False, help="Which run.")]
OwnerOption = Annotated[
    str | None,
    typer.Option(
        "--agent",
        "-a",
        metavar="MODULE:AGENT",
        show_default=False,
        help="The agent whose storage it is, in place of [cyan]--db[/].",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def wait(work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Run a command's async part. Ctrl-C cancels it and ends the command with the shell's code for that."""
    try:
        return _sync.call(work, *args)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
