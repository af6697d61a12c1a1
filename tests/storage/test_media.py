"""The bytes of images and the like are stored once, by their content."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import pytest

from agentrt import Agent, tool
from agentrt.media import Image
from agentrt.models.base import ModelRequest
from agentrt.models.message import Message
from agentrt.run.events import ToolCallCompleted
from agentrt.run.response import RunStatus
from agentrt.storage.base import RunChange, Step, Storage, StoredRun
from agentrt.storage.codec import dump_messages, load_messages, media_in
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.postgres import PostgresStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, ScriptedModel, reply
from tests.postgres_server import postgres_server

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 16
HASH = sha256(PICTURE).hexdigest()


class Database(Protocol):
    """A storage, and a look at what is in its tables."""

    @property
    def storage(self) -> Storage: ...

    async def rows(self, table: str) -> list[tuple[Any, ...]]: ...


class Sqlite:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.storage = SqliteStorage(db_file=file)

    async def rows(self, table: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.file)
        try:
            return connection.execute(f"SELECT * FROM agent_sessions{table}").fetchall()
        finally:
            connection.close()


class Postgres:
    def __init__(self) -> None:
        self.url = postgres_server().new_database()
        self.storage = PostgresStorage(db_url=self.url)

    async def rows(self, table: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(f"SELECT * FROM agent_sessions{table}")]
        finally:
            await connection.close()


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    return Sqlite(tmp_path / "data.db") if request.param == "sqlite" else Postgres()


@pytest.fixture
async def database(opened: Database) -> AsyncIterator[Database]:
    yield opened
    await opened.storage.aclose()


async def times_stored(database: Database) -> int:
    """How often the picture is anywhere: as bytes, or as base64 in a text."""
    coded = base64.b64encode(PICTURE).decode()
    tables = ("", "_runs", "_steps", "_events", "_deltas", "_media")
    values = [value for table in tables for row in await database.rows(table) for value in row]
    return sum(
        value.count(coded) if isinstance(value, str) else value.count(PICTURE)
        for value in values
        if isinstance(value, (str, bytes))
    )


def screenshot() -> Image:
    """Take a picture of the screen."""
    return Image(data=bytes(bytearray(PICTURE)))


async def test_fifty_turns_with_one_image_store_it_once(database: Database):
    pictures: list[bytes] = []

    def answer(request: ModelRequest) -> str:
        pictures[:] = [image.data or b"" for message in request.messages for image in message.images or ()]
        return "a cat"

    agent = Agent(
        model=FunctionModel(answer), storage=database.storage, add_history_to_messages=True, num_history_runs=100
    )

    for _ in range(50):
        await agent.arun("What is this?", images=[Image(data=bytes(bytearray(PICTURE)))], session_id="s")

    assert await times_stored(database) == 1
    assert pictures == [PICTURE] * 50


async def test_an_image_that_a_tool_returns_is_stored_once(database: Database):
    model = ScriptedModel(
        reply(tool_calls=[("screenshot", {}), ("screenshot", {})]), reply(tool_calls=[("screenshot", {})]), "a window"
    )
    agent = Agent(model=model, storage=database.storage, tools=[screenshot])

    response = await agent.arun("What is on the screen?", images=[screenshot()], session_id="s")

    assert await times_stored(database) == 1
    stored = await database.storage.load_run(response.run_id or "")
    assert stored is not None
    assert [message.images for message in stored.messages if message.role == "tool"] == [[screenshot()]] * 3


async def test_a_run_that_is_cut_has_its_images_when_it_goes_on(database: Database):
    model = ScriptedModel(reply(tool_calls=[("screenshot", {})]), reply(tool_calls=[("ask", {})]), "a window")

    @tool(requires_confirmation=True)
    def ask() -> str:
        """Ask the user."""
        return "yes"

    agent = Agent(model=model, storage=database.storage, tools=[screenshot, ask])

    paused = await agent.arun("What is on the screen?", session_id="s")
    steps = [row for row in await database.rows("_steps") if HASH in str(row)]
    assert steps
    assert await times_stored(database) == 1
    paused.requirements[0].confirm()
    await agent.acontinue_run(run_response=paused)

    assert [message.images for message in model.requests[-1].messages if message.images] == [[screenshot()]]


async def test_a_reader_from_afar_gets_the_images_of_the_events(database: Database):
    model = ScriptedModel(reply(tool_calls=[("screenshot", {})]), "a window")
    agent = Agent(model=model, storage=database.storage, tools=[screenshot])
    run = await agent.start("What is on the screen?", session_id="s")
    await run.result()

    events = await agent.sessions.aevents(run.run_id)

    completed = [event for event in events if isinstance(event, ToolCallCompleted)]
    assert [event.tool.images for event in completed] == [[screenshot()]]
    assert await times_stored(database) == 1


async def test_the_bytes_go_with_the_last_session_that_uses_them(database: Database):
    agent = Agent(model=FunctionModel(lambda request: "a cat"), storage=database.storage)
    for session_id in ("a", "b"):
        await agent.arun("What is this?", images=[screenshot()], session_id=session_id)

    await database.storage.delete_session("a")
    assert [row[0] for row in await database.rows("_media")] == [HASH]
    await database.storage.delete_session("b")

    assert (await database.rows("_media"), await database.rows("_media_uses")) == ([], [])


async def test_sessions_that_come_and_go_at_once_never_lose_each_others_images(database: Database):
    message = Message(role="user", content="What is this?", images=[screenshot()])

    async def come_and_go(number: int) -> None:
        for turn in range(5):
            run = StoredRun(run_id=f"{number}-{turn}", session_id=f"s{number}")
            await database.storage.begin(run)
            step = Step(number=1, kind="model", data={"message": message})
            await database.storage.commit(RunChange(run_id=run.run_id, session_id=run.session_id, steps=[step]))
            stored = await database.storage.load_run(run.run_id)
            assert stored is not None and stored.steps == [step]
            await database.storage.delete_session(run.session_id)

    async with asyncio.timeout(60):
        await asyncio.gather(*(come_and_go(number) for number in range(8)))

    assert await database.rows("_media") == []


async def test_nothing_is_stored_for_a_session_that_is_gone(database: Database):
    message = Message(role="user", content="What is this?", images=[screenshot()])
    with pytest.raises(Exception, match="There is no run"):
        await database.storage.commit(RunChange(run_id="r", session_id="s", messages=[message]))

    assert (await database.rows("_media"), await database.rows("_media_uses")) == ([], [])


async def test_tables_of_the_first_version_are_brought_up_to_date(database: Database):
    storage, message = database.storage, Message(role="user", content="What is this?", images=[screenshot()])
    await storage.begin(StoredRun(run_id="old", session_id="s"))
    await storage.commit(RunChange(run_id="old", session_id="s", status=RunStatus.COMPLETED, messages=[]))
    await storage.aclose()
    as_it_was = [
        "DROP TABLE agent_sessions_media",
        "DROP TABLE agent_sessions_media_uses",
        "UPDATE agent_sessions_meta SET value = '1' WHERE name = 'agentrt_schema'",
        f"UPDATE agent_sessions_runs SET messages = '{dump_messages([message])}'",
    ]
    if isinstance(database, Sqlite):
        with sqlite3.connect(database.file) as connection:
            connection.executescript(";".join(as_it_was))
        connection.close()
        reopened: Storage = SqliteStorage(db_file=database.file)
    else:
        assert isinstance(database, Postgres)
        connection = await asyncpg.connect(database.url)
        await connection.execute(";".join(as_it_was))
        await connection.close()
        reopened = PostgresStorage(db_url=database.url)

    opening = await reopened.begin(StoredRun(run_id="new", session_id="s", messages=[message]), history_runs=1)
    stored = await reopened.load_run("new")
    await reopened.aclose()

    assert opening.history == [[message]]
    assert stored is not None and stored.messages == [message]
    assert [row[0] for row in await database.rows("_media")] == [HASH]


async def test_in_memory_equal_images_are_one():
    storage = InMemoryStorage()
    agent = Agent(model=FunctionModel(lambda request: "a cat"), storage=storage)
    for session_id in ("a", "a", "b"):
        await agent.arun("What is this?", images=[screenshot()], session_id=session_id)

    messages = [run[0] for session_id in ("a", "b") for run in await storage.load_history(session_id)]
    assert len({id(image.data) for message in messages for image in message.images or ()}) == 1


async def test_a_text_that_looks_like_a_reference_is_a_text():
    message = Message(role="user", content=f'{{"$":"media","v":"{HASH}"}}', parts=[{"$": "media", "v": HASH}])
    text = dump_messages([message], media={})

    assert media_in([(text,)]) == set()
    assert load_messages(text, {}) == [message]


async def test_a_picture_given_as_a_path_or_a_url_is_kept_as_such():
    messages = [Message(role="user", images=[Image(path=Path("cat.png")), Image(url="https://example.com/cat.png")])]
    kept: dict[str, bytes] = {}

    assert load_messages(dump_messages(messages, media=kept), kept) == messages
    assert kept == {}
