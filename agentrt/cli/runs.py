"""`agentrt runs`: what was run, what it waits for, and what can be done about it from another process."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import aclosing, nullcontext
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from agentrt.agent import Agent
from agentrt.cli import _show
from agentrt.cli._agent import check_agent, load_agent
from agentrt.cli._database import open_storage
from agentrt.cli._decisions import Given, decisions_about, find_call
from agentrt.cli._options import ASKS, FAILED, DbOption, JsonOption, OwnerOption, RunArgument, TableOption, wait
from agentrt.cli._recover import recover_all
from agentrt.cli._runs import asks, is_gone, load_run, newest_runs, told
from agentrt.cli.chat import show
from agentrt.run.attach import parse_cursor
from agentrt.run.decisions import Decision
from agentrt.run.encoding import event_from_json, plain_json
from agentrt.run.events import RunCompleted, RunEvent, RunPaused
from agentrt.run.response import RunStatus
from agentrt.runtime import Runtime
from agentrt.storage.base import Storage, StoredRun
from agentrt.utils._printer import Printer

T = TypeVar("T")

runs = typer.Typer(
    name="runs",
    help="Look at stored runs; decide what they wait for; recover, cancel and follow them.",
    no_args_is_help=True,
)


@runs.command("list", epilog="[dim]agentrt runs list --db data.db --status paused[/]")
def list_(
    session: Annotated[
        str | None, typer.Option("--session", "-s", metavar="ID", show_default=False, help="Of this session only.")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", "-u", metavar="ID", show_default=False, help="Of this user's sessions only.")
    ] = None,
    status: Annotated[
        list[RunStatus] | None,
        typer.Option(
            case_sensitive=False,
            metavar="STATUS",
            show_default=False,
            help="Only running, paused, completed, cancelled or failed ones; may be given several times.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="How many at most.")] = 20,
    agent: OwnerOption = None,
    db: DbOption = None,
    table: TableOption = None,
    json: JsonOption = False,
) -> None:
    """List runs, those begun last first."""

    async def work(storage: Storage) -> list[StoredRun]:
        return await newest_runs(storage, session_id=session, user_id=user, statuses=status or (), limit=limit)

    found = _with_storage(work, agent, db, table)
    for run in found:
        _say(run, json)
    if not found and not json:
        typer.echo("No runs", err=True)


@runs.command("show", epilog="[dim]agentrt runs show 3f2a… --db data.db --json | jq .usage[/]")
def show_(
    run_id: RunArgument,
    agent: OwnerOption = None,
    db: DbOption = None,
    table: TableOption = None,
    json: JsonOption = False,
) -> None:
    """Show a run: its state, what it waits for, its input, messages, tools and events."""

    async def work(storage: Storage) -> tuple[StoredRun, list[str]]:
        stored = await load_run(storage, run_id)
        return stored, [text for _, text in await storage.load_events(run_id)]

    stored, events = _with_storage(work, agent, db, table)
    if json:
        typer.echo(plain_json(_show.whole(stored, told(stored), events)))
    else:
        _show.show_run(Console(), stored, told(stored), [event_from_json(text) for text in events])


@runs.command(epilog="[dim]agentrt runs recover my_app:agent my_app:other --db data.db[/]")
def recover(
    agents: Annotated[
        list[str], typer.Argument(metavar="MODULE:AGENT", show_default=False, help="The agents whose runs go on.")
    ],
    db: DbOption = None,
    table: TableOption = None,
    json: JsonOption = False,
) -> None:
    """Go on with the runs whose process is gone.

    [dim]Exits with 3 while one asks, or could not be continued.[/]
    """
    result = wait(recover_all, [load_agent(place) for place in agents], db, table)
    for run in [*result.recovered, *result.asking]:
        _say(run, json)
    for run in result.left:
        typer.echo(f"Left alone: run {run.run_id} of agent {run.agent_id!r}, which was not given", err=True)
    if not (result.recovered or result.asking or result.left or json):
        typer.echo("Nothing to recover", err=True)
    if result.asking or any(run.status is RunStatus.FAILED or asks(run) for run in result.recovered):
        raise typer.Exit(ASKS)


@runs.command(epilog='[dim]agentrt runs cancel 3f2a… --db data.db --reason "no longer needed"[/]')
def cancel(
    run_id: RunArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept with the run.")] = "cancelled",
    agent: OwnerOption = None,
    db: DbOption = None,
    table: TableOption = None,
) -> None:
    """Stop a run: the process that drives it is told; one that is paused ends at once."""

    async def work(storage: Storage) -> tuple[StoredRun, bool, bool]:
        stored = await load_run(storage, run_id)
        gone = is_gone(stored)  # asked before: a process that hears of it may end at once
        return stored, gone, await Runtime(storage=storage).cancel(run_id, reason)

    stored, gone, done = _with_storage(work, agent, db, table)
    if not done:
        typer.echo(f"Run {run_id} is {stored.status.lower()}: there is nothing to cancel", err=True)
        raise typer.Exit(FAILED)
    if stored.status is RunStatus.PAUSED:
        typer.echo("Cancelled: it waits no more")
    elif gone:
        typer.echo("Its process is gone: it ends as cancelled when it is recovered")
    else:
        typer.echo("Its process was told")


@runs.command(epilog='[dim]agentrt runs decide 3f2a… call_1 -a my_app:agent --db data.db --reject "not today"[/]')
def decide(
    run_id: RunArgument,
    tool_call_id: Annotated[
        str,
        typer.Argument(metavar="TOOL_CALL_ID", show_default=False, help="Which call, as [cyan]runs show[/] names it."),
    ],
    agent: Annotated[
        str,
        typer.Option("--agent", "-a", metavar="MODULE:AGENT", show_default=False, help="The agent whose run it is."),
    ],
    confirm: Annotated[bool, typer.Option("--confirm", help="Run the call. One that was cut is run again.")] = False,
    reject: Annotated[
        str | None,
        typer.Option("--reject", metavar="WHY", show_default=False, help="Don't run the call, and tell the model why."),
    ] = None,
    result: Annotated[
        str | None,
        typer.Option("--result", metavar="TEXT", show_default=False, help="What came of it: it was made elsewhere."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", show_default=False, help="A value that it needs; one for each."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="WHO", show_default=False, help="Who decides; it is kept with the decision."),
    ] = None,
    db: DbOption = None,
    table: TableOption = None,
    json: JsonOption = False,
) -> None:
    """Answer what a run waits for, and go on with it.

    [dim]Exits with 3 while it waits for more.[/]
    """
    given = Given.of(confirm=confirm, reject=reject, result=result, values=values or ())
    owner = load_agent(agent)
    owner = owner.copy(storage=wait(open_storage, db, table, owner))
    try:
        stored = wait(load_run, owner.storage, run_id)
        check_agent(owner, stored)
        decisions = decisions_about(find_call(stored, tool_call_id), given)
        wait(_decide, owner, run_id, tool_call_id, decisions, by)
        run = owner.acontinue_run(run_id=run_id, user_id=stored.user_id, stream=True)
        if json:
            response = wait(run.run_to_end)
            typer.echo(plain_json(response))
        else:
            response = show(owner, run)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        wait(owner.aclose)
    if response.is_paused:
        raise typer.Exit(ASKS)


@runs.command(epilog="[dim]agentrt runs attach 3f2a… --db data.db --json --after 12:0[/]")
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
    """Follow a run: what has been, then what comes.

    [dim]Exits with 3 at a pause, with 1 at a failure.[/]
    """
    try:
        parse_cursor(after)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--after") from None
    read: list[RunEvent] = []

    async def work(storage: Storage) -> None:
        if is_gone(await load_run(storage, run_id)):
            typer.echo("Its process is gone; it goes on with agentrt runs recover", err=True)
        async with aclosing(Runtime(storage=storage).attach(run_id, after=after, through_pauses=True)) as events:
            with nullcontext() if json else Printer() as printer:
                async for event in events:
                    read[:] = [event]
                    is_over = isinstance(event, RunPaused) and not event.response.is_paused  # it went on since
                    if printer is None:
                        typer.echo(event.to_json())
                    elif not is_over:
                        printer.feed(event)
                    if isinstance(event, RunPaused) and not is_over:
                        return

    try:
        _with_storage(work, agent, db, table)
    except typer.Exit:
        if read:
            typer.echo(f"To go on from here: --after {read[0].cursor}", err=True)
        raise
    if read and isinstance(read[0], RunPaused):
        raise typer.Exit(ASKS)
    if read and not isinstance(read[0], RunCompleted):
        raise typer.Exit(FAILED)


async def _decide(agent: Agent[Any], run_id: str, tool_call_id: str, decisions: list[Decision], by: str | None) -> None:
    assert agent.storage is not None
    runtime = Runtime(agents=[agent], storage=agent.storage)
    for decision in decisions:
        await runtime.decide(run_id, tool_call_id, decision, by=by)


def _with_storage(
    work: Callable[[Storage], Coroutine[Any, Any, T]], agent: str | None, db: str | None, table: str | None
) -> T:
    async def opened() -> T:
        storage = await open_storage(db, table, load_agent(agent) if agent is not None else None)
        try:
            return await work(storage)
        finally:
            await storage.aclose()

    return wait(opened)


def _say(run: StoredRun, json: bool) -> None:
    if json:
        typer.echo(plain_json(_show.facts(run)))
    else:
        _show.show_line(Console(), run)
