"""`agentrt runs`: what was run, what it waits for, and what can be done about it from another process."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any

import typer
from rich.console import Console

from agentrt import _sync
from agentrt.agent import Agent
from agentrt.cli import _show
from agentrt.cli._agent import check_agent, load_agent
from agentrt.cli._database import open_storage
from agentrt.cli._decisions import Decision, apply, find_call
from agentrt.cli._options import (
    ASKS,
    FAILED,
    DbOption,
    JsonOption,
    OwnerOption,
    RunArgument,
    TableOption,
    wait,
)
from agentrt.cli._recover import recover_all
from agentrt.cli._runs import is_gone, load_run, newest_runs, told
from agentrt.cli.chat import show
from agentrt.run.attach import parse_cursor
from agentrt.run.encoding import event_from_json, plain_json
from agentrt.run.events import RunCompleted, RunEvent, RunPaused
from agentrt.run.response import RunStatus
from agentrt.runtime import Runtime
from agentrt.utils._printer import Printer

runs = typer.Typer(name="runs", help="Look at stored runs; decide what they wait for; recover, cancel and follow them.")


def _agent(place: str | None) -> Agent[Any] | None:
    return load_agent(place) if place is not None else None


@runs.command(
    "list", epilog="[dim]agentrt runs list --db data.db --status paused   ·   agentrt runs list -a my_app:agent[/]"
)
def list_(
    session: Annotated[
        str | None, typer.Option("--session", "-s", metavar="ID", show_default=False, help="Of this session only.")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", "-u", metavar="ID", show_default=False, help="Of this user's sessions only.")
    ] = None,
    status: Annotated[
        list[RunStatus] | None,
        typer.Option(case_sensitive=False, show_default=False, help="Only these; may be given several times."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    agent: OwnerOption = None,
    db: DbOption = None,
    table: TableOption = None,
    json: JsonOption = False,
) -> None:
    """List runs, those begun last first."""

    async def work() -> None:
        storage = await open_storage(db, table, _agent(agent))
        try:
            found = await newest_runs(storage, session_id=session, user_id=user, statuses=status or (), limit=limit)
        finally:
            await storage.aclose()
        console = Console()
        for run in found:
            if json:
                typer.echo(_show.json_line(_show.facts(run)))
            else:
                _show.show_line(console, run)
        if not found and not json:
            typer.echo("No runs", err=True)

    wait(work)


@runs.command(
    "show",
    epilog="[dim]agentrt runs show 3f2a… --db data.db   ·   agentrt runs show 3f2a… --db data.db --json | jq .usage[/]",
)
def show_(
    run_id: RunArgument,
    agent: OwnerOption = None,
    db: DbOption = None,
    table: TableOption = None,
    json: JsonOption = False,
) -> None:
    """Show a run: its state, what it waits for, its input, messages, tools and events."""

    async def work() -> None:
        storage = await open_storage(db, table, _agent(agent))
        try:
            stored = await load_run(storage, run_id)
            events = [text for _, text in await storage.load_events(run_id)]
        finally:
            await storage.aclose()
        if json:
            typer.echo(_show.json_line(_show.whole(stored, told(stored), events)))
        else:
            _show.show_run(Console(), stored, told(stored), [event_from_json(text) for text in events])

    wait(work)


@runs.command(
    epilog="[dim]agentrt runs recover my_app:agent my_app:other   ·   agentrt runs recover my_app:agent --db data.db[/]"
)
def recover(
    agents: Annotated[
        list[str], typer.Argument(metavar="MODULE:AGENT…", show_default=False, help="The agents whose runs go on.")
    ],
    db: DbOption = None,
    table: TableOption = None,
    json: JsonOption = False,
) -> None:
    """Go on with the runs whose process is gone. [dim]Exits with 3 while a run asks what became of a call that was cut, or
    could not be continued.[/]"""
    result = wait(recover_all, [load_agent(place) for place in agents], db, table)
    console = Console()
    for run in result.recovered:
        if json:
            typer.echo(_show.json_line(_show.facts(run)))
        else:
            _show.show_line(console, run)
    if not json:
        for run in result.asking:
            _show.show_line(console, run)
        if not result.recovered and not result.asking:
            typer.echo("Nothing to recover", err=True)
    for run in result.left:
        typer.echo(f"Left alone: run {run.run_id} of agent {run.agent_id!r}, which was not given", err=True)
    if result.asking or any(run.status is not RunStatus.COMPLETED for run in result.recovered):
        raise typer.Exit(ASKS)


@runs.command(epilog='[dim]agentrt runs cancel 3f2a… --db data.db --reason "no longer needed"[/]')
def cancel(
    run_id: RunArgument,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the run.")] = "cancelled",
    agent: OwnerOption = None,
    db: DbOption = None,
    table: TableOption = None,
) -> None:
    """Ask the process that drives a run to stop it."""

    async def work() -> None:
        async with Runtime(storage=await open_storage(db, table, _agent(agent))) as runtime:
            stored = await load_run(runtime.storage, run_id)
            if await runtime.cancel(run_id, reason):
                gone = is_gone(stored)
                typer.echo(
                    "Its process is gone: it will end as cancelled when it is recovered" if gone else "Told its process"
                )
                return
            stored = await load_run(runtime.storage, run_id)
        what = "reject what it waits for" if stored.status is RunStatus.PAUSED else "there is nothing to cancel"
        typer.echo(f"Run {run_id} is {stored.status.lower()}: {what}", err=True)
        raise typer.Exit(FAILED)

    wait(work)


@runs.command(
    epilog='[dim]agentrt runs decide 3f2a… call_1 -a my_app:agent --confirm   ·   … --reject "not today"   ·   '
    "… --set to=bob@example.com --set count=3[/]"
)
def decide(
    run_id: RunArgument,
    tool_call_id: Annotated[
        str,
        typer.Argument(metavar="TOOL_CALL_ID", show_default=False, help="Which call, as [cyan]runs show[/] names it."),
    ],
    agent: Annotated[
        str,
        typer.Option(
            "--agent",
            "-a",
            metavar="MODULE:AGENT",
            show_default=False,
            help="The agent whose run it is, to go on with it.",
        ),
    ],
    confirm: Annotated[bool, typer.Option("--confirm", help="Run the call. One that was cut is run again.")] = False,
    reject: Annotated[
        str | None,
        typer.Option("--reject", metavar="WHY", show_default=False, help="Don't run the call; the model is told why."),
    ] = None,
    result: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", show_default=False, help="What came of a call that was made elsewhere, or was cut."
        ),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", show_default=False, help="A value that the call needs; one for each."
        ),
    ] = None,
    db: DbOption = None,
    table: TableOption = None,
    json: JsonOption = False,
) -> None:
    """Answer what a run waits for, and go on with it. [dim]Exits with 3 while it waits for more.[/]"""
    decision = Decision.of(confirm=confirm, reject=reject, result=result, values=values or ())
    owner = load_agent(agent)
    storage = wait(open_storage, db, table, owner)
    owner = owner.copy(storage=storage)
    try:
        stored = wait(load_run, storage, run_id)
        check_agent(owner, stored)
        tool = find_call(stored, tool_call_id)
        apply(decision, tool)
        going_on: dict[str, Any] = {"run_id": run_id, "updated_tools": [tool], "user_id": stored.user_id}
        if json:
            response = _sync.call(lambda: owner.acontinue_run(**going_on))
            typer.echo(plain_json(response))
        else:
            response = show(owner, owner.acontinue_run(**going_on, stream=True))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        _sync.call(owner.aclose)
    if response.is_paused:
        raise typer.Exit(ASKS)


@runs.command(
    epilog="[dim]agentrt runs attach 3f2a… --db data.db   ·   agentrt runs attach 3f2a… --db data.db --json --after 12:0[/]"
)
def attach(
    run_id: RunArgument,
    after: Annotated[
        str | None,
        typer.Option(metavar="CURSOR", show_default=False, help="Only what comes after this place, as in 12:0."),
    ] = None,
    agent: OwnerOption = None,
    db: DbOption = None,
    table: TableOption = None,
    json: JsonOption = False,
) -> None:
    """Follow a run from its start: what has been, then what comes. [dim]Leaving does not stop it. Exits with 3 when it
    pauses, with 1 when it fails or is cancelled.[/]"""
    try:
        parse_cursor(after)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--after") from None
    last: RunEvent | None = None

    async def work() -> None:
        nonlocal last
        async with Runtime(storage=await open_storage(db, table, _agent(agent))) as runtime:
            if is_gone(await load_run(runtime.storage, run_id)):
                typer.echo("Its process is gone; waiting for agentrt runs recover", err=True)
            async with aclosing(runtime.attach(run_id, after=after)) as events:
                if json:
                    async for last in events:
                        typer.echo(last.to_json())
                else:
                    with Printer() as printer:
                        async for last in events:
                            printer.feed(last)

    try:
        wait(work)
    except typer.Exit:
        if last is not None:
            typer.echo(f"Go on with: --after {last.cursor}", err=True)
        raise
    if isinstance(last, RunPaused):
        raise typer.Exit(ASKS)
    if not isinstance(last, RunCompleted):
        raise typer.Exit(FAILED)
