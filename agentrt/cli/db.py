"""`agentrt db`: the tables that storages keep, and what in them is out of date."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from agentrt.cli._database import TABLE, database_of, newest_version, open_storage
from agentrt.cli._options import DbOption, TableOption, wait

db = typer.Typer(
    name="db", help="Look after the database: bring its tables up to date, delete old events.", no_args_is_help=True
)

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    if match is None:
        raise typer.BadParameter("an age is a number and one of s, m, h, d, w, as in 30d or 12h")
    try:
        return timedelta(**{UNITS[match[2]]: float(match[1])})
    except OverflowError:
        raise typer.BadParameter("that is longer than anything has lasted") from None


@db.command(epilog="[dim]agentrt db upgrade --db data.db   ·   agentrt db upgrade --db postgresql://me@host/app[/]")
def upgrade(db: DbOption = None, table: TableOption = None) -> None:
    """Make the tables, or bring them to this agentrt's version.

    [dim]All there are, without --table.[/]
    """
    wait(_upgrade, db, table)


async def _upgrade(db: str | None, table: str | None) -> None:
    database = database_of(db)
    before, newest = await database.tables(), newest_version()
    for name in [table] if table is not None else list(before) or [TABLE]:
        await database.migrate(name)
        match before.get(name):
            case None:
                done = f"made, version {newest}"
            case int(version) if version == newest:
                done = f"version {version}, up to date"
            case version:
                done = f"from version {version} to version {newest}"
        typer.echo(f"{database.where}, tables {name}: {done}")


@db.command(epilog="[dim]agentrt db prune --db data.db --older-than 30d[/]")
def prune(
    older_than: Annotated[
        timedelta,
        typer.Option(
            parser=age, metavar="AGE", show_default=False, help="How long ago their run ended: [cyan]30d[/], 12h, 2w."
        ),
    ],
    db: DbOption = None,
    table: TableOption = None,
) -> None:
    """Delete the events of runs that ended long ago. [dim]The runs stay, with their messages.[/]"""
    deleted = wait(_prune, db, table, older_than)
    typer.echo(f"{deleted} event{'' if deleted == 1 else 's'} deleted")


async def _prune(db: str | None, table: str | None, older_than: timedelta) -> int:
    storage = await open_storage(db, table, None)
    try:
        return await storage.prune(older_than=older_than)
    finally:
        await storage.aclose()
