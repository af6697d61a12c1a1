"""A real uvicorn in this event loop, and an agent whose provider stands still in the middle of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from agentrt import Agent, RunStatus
from agentrt.models.openai import OpenAIChat
from agentrt.storage.sqlite import SqliteStorage
from tests.http_server import Server, chat_chunk, sse


class WebServer(uvicorn.Server):
    """uvicorn that says when it listens, and leaves the process's signals alone."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=1
        )
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    @property
    def url(self) -> str:
        port = self.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"


@asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[WebServer, None]:
    web = WebServer(app)
    task = asyncio.create_task(web.serve())
    try:
        await web.listening.wait()
        yield web
    finally:
        web.should_exit = True
        await task


def agent_of(provider: Server, folder: Path) -> Agent[Any]:
    return Agent(
        model=OpenAIChat(id="gpt-4.1", base_url=f"{provider.url}/v1", api_key="test"),
        storage=SqliteStorage(db_file=folder / "runs.db"),
        session_id="s",
    )


class StandingStill:
    """An agent that has streamed "Hello" and waits for the rest, and what must be left of it when its reader goes."""

    def __init__(self, provider: Server, folder: Path) -> None:
        self.provider = provider
        self.gate = provider.gate()
        provider.add(body=[sse(chat_chunk({"content": "Hello"}), done=False), self.gate])
        self.file = folder / "runs.db"
        self.agent = agent_of(provider, folder)

    async def check_ended(self, tasks: set[asyncio.Task[Any]], text: str | None = "Hello") -> None:
        """The run is stored, its connection is closed, and there are no tasks but these."""
        async with asyncio.timeout(5):
            await self.provider.until(lambda: self.provider.interrupted == 1)
            while others := asyncio.all_tasks() - tasks:
                await asyncio.wait(others)
        await self.check_stored(text)

    async def check_stored(self, text: str | None = "Hello") -> None:
        """The run is stored by now, with what its reader had of the answer (a plain run asks for it as a whole)."""
        assert self.agent.storage is not None
        runs = await self.agent.storage.list_runs("s")
        assert [run.status for run in runs] == [RunStatus.CANCELLED]
        stored = await self.agent.storage.load_run(runs[0].run_id)
        assert stored is not None
        messages = [(message.role, message.content, message.incomplete) for message in stored.messages]
        assert messages == [("user", "go", False), *([("assistant", text, True)] if text else [])]

    async def aclose(self) -> None:
        await self.agent.aclose()


async def read_until(text: str, response: httpx.Response) -> str:
    """Read a body until `text` has come."""
    received = ""
    async for piece in response.aiter_text():
        received += piece
        if text in received:
            break
    return received
