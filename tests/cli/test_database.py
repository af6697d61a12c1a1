"""Which database a command works on, and `agentrt db`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from agentrt import Agent, _sync
from agentrt.storage import _sql
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel
from tests.cli.conftest import Command
from tests.postgres_server import postgres_server


def agent() -> Agent[str]:
    return Agent(name="a", model=FunctionModel(lambda request: "hi"))


def keep_a_run(file: str | Path, table_name: str = "agent_sessions") -> str:
    storage = SqliteStorage(db_file=file, table_name=table_name)
    response = agent().copy(storage=storage).run("go")
    _sync.call(storage.aclose)
    return response.run_id or ""


def listed(agentrt: Command, *options: str) -> list[str]:
    return [json.loads(line)["run_id"] for line in agentrt("runs", "list", "--json", *options).out.splitlines()]


# --- which one -------------------------------------------------------------------------------------------------------


def test_a_database_is_a_file_a_url_or_what_the_environment_says(
    agentrt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run_id = keep_a_run(tmp_path / "data.db")

    assert listed(agentrt, "--db", "data.db") == [run_id]
    assert listed(agentrt, "--db", "sqlite:///data.db") == [run_id]
    monkeypatch.setenv("AGENTRT_DB", "data.db")
    assert listed(agentrt) == [run_id]


def test_an_agents_own_storage_counts_before_the_environment_and_an_option_before_both(
    agentrt: Command, tmp_path: Path, module: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    own, other = keep_a_run(tmp_path / "own.db"), keep_a_run(tmp_path / "other.db")
    module.agent = agent().copy(storage=SqliteStorage(db_file=tmp_path / "own.db"))  # pyright: ignore
    monkeypatch.setenv("AGENTRT_DB", "other.db")

    assert listed(agentrt, "--agent", "shop:agent") == [own]
    assert listed(agentrt, "--agent", "shop:agent", "--db", "other.db") == [other]


def test_the_only_tables_there_are_need_no_name_and_several_do(agentrt: Command, tmp_path: Path):
    chats = keep_a_run(tmp_path / "data.db", "chats")
    assert listed(agentrt, "--db", "data.db") == [chats]

    orders = keep_a_run(tmp_path / "data.db", "orders")
    ended = agentrt("runs", "list", "--db", "data.db")
    assert (ended.code, "--table chats | orders" in ended.err) == (2, True)
    assert listed(agentrt, "--db", "data.db", "--table", "orders") == [orders]


@pytest.mark.parametrize("command", [["runs", "list"], ["db", "prune", "--older-than", "1d"]])
def test_looking_makes_nothing(agentrt: Command, tmp_path: Path, command: list[str]):
    ended = agentrt(*command, "--db", "nope/data.db")

    assert (ended.code, "there is nothing of agentrt's there" in ended.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "export AGENTRT_DB=data.db"),
        (["--db", "mysql://host/data"], "sqlite:///… or postgresql://…"),
        (["--db", "postgresql://me:secret@host:port/data"], "its port is not a number"),
        (["--db", "data.db", "--table", "nope"], "no tables 'nope'; it has agent_sessions"),
        (["--agent", "shop:agent"], "in memory"),
    ],
)
def test_a_database_that_is_not_to_be_had_says_what_helps(
    agentrt: Command, tmp_path: Path, module: ModuleType, options: list[str], said: str
):
    from agentrt.storage.in_memory import InMemoryStorage

    module.agent = agent().copy(storage=InMemoryStorage())  # pyright: ignore[reportAttributeAccessIssue]
    keep_a_run(tmp_path / "data.db")
    ended = agentrt("runs", "list", *options)

    assert ended.code == 2
    assert said in ended.err
    assert "secret" not in ended.err


def test_a_file_of_another_kind_is_an_error(agentrt: Command, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be taken for something" * 20)
    ended = agentrt("runs", "list", "--db", "notes.txt")

    assert (ended.code, "file is not a database" in ended.err) == (1, True)


def test_tables_of_another_program_are_not_taken_for_agentrts(agentrt: Command, tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "data.db")) as connection:
        connection.execute("CREATE TABLE page_meta (name TEXT, value TEXT)")
        connection.execute("CREATE TABLE file_meta (size INT)")
    run_id = keep_a_run(tmp_path / "data.db")

    assert listed(agentrt, "--db", "data.db") == [run_id]


# --- db --------------------------------------------------------------------------------------------------------------


def test_upgrade_makes_the_tables_once(agentrt: Command, tmp_path: Path):
    first, second = (agentrt("db", "upgrade", "--db", "data.db") for _ in range(2))

    assert first.out == f"{tmp_path}/data.db, tables agent_sessions: made, version 2\n"
    assert second.out == f"{tmp_path}/data.db, tables agent_sessions: version 2, up to date\n"


def test_upgrade_brings_all_tables_from_version_to_version(
    agentrt: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for table in ("chats", "orders"):
        keep_a_run(tmp_path / "data.db", table)
    later = ("CREATE TABLE {t}_later (text TEXT)",)
    monkeypatch.setattr(_sql.Sql, "versions", (*_sql.Sql.versions, later))

    monkeypatch.setenv("COLUMNS", "400")  # a long path must not break the line in the middle of what is looked for
    refused = agentrt("runs", "list", "--db", "data.db", "--table", "chats")
    assert (refused.code, "agentrt db upgrade" in refused.err) == (2, True)
    upgraded = agentrt("db", "upgrade", "--db", "data.db")
    assert upgraded.out.count("from version 2 to version 3") == 2
    assert len(listed(agentrt, "--db", "data.db", "--table", "chats")) == 1


def test_prune_deletes_the_events_of_runs_that_ended_long_enough_ago(agentrt: Command, tmp_path: Path):
    run_id = keep_a_run(tmp_path / "data.db")

    assert agentrt("db", "prune", "--db", "data.db", "--older-than", "30d").out == "0 events deleted\n"
    assert agentrt("db", "prune", "--db", "data.db", "--older-than", "0s").out == "4 events deleted\n"
    shown = json.loads(agentrt("runs", "show", run_id, "--db", "data.db", "--json").out)
    assert (shown["events"], shown["content"]) == ([], "hi")


@pytest.mark.parametrize("age", ["30", "soon", "-1d", "1e9d"])
def test_an_age_that_is_none_is_a_wrong_option(agentrt: Command, age: str):
    ended = agentrt("db", "prune", "--db", "data.db", f"--older-than={age}")

    assert (ended.code, "as in 30d or 12h" in ended.err) == (2, True)


def test_postgres_is_upgraded_listed_and_pruned(agentrt: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AGENTRT_DB", postgres_server().new_database())

    assert agentrt("runs", "list").code == 2
    assert "tables other.chats: made, version 2" in agentrt("db", "upgrade", "--table", "other.chats").out
    assert "tables other.chats: version 2, up to date" in agentrt("db", "upgrade").out
    assert (agentrt("runs", "list").code, listed(agentrt)) == (0, [])
    assert "tables agent_sessions: made" in agentrt("db", "upgrade", "--table", "agent_sessions").out
    assert "--table" in agentrt("runs", "list").err
    assert agentrt("db", "prune", "--older-than", "1w", "--table", "agent_sessions").out == "0 events deleted\n"


def test_a_postgres_that_is_not_there_is_one_clear_panel(agentrt: Command):
    ended = agentrt("runs", "list", "--db", "postgresql://me:secret@127.0.0.1:1/data")

    assert (ended.code, "127.0.0.1:1/data can't be reached" in ended.err, "secret" in ended.err) == (1, True, False)
