"""A web server process of its own, for tests that terminate it: `python -m tests.web.process BODY PROVIDER FILE`."""

from __future__ import annotations

import asyncio
import sys

import uvicorn

from agentrt import Agent
from agentrt.models.openai import OpenAIChat
from agentrt.storage.sqlite import SqliteStorage
from tests.web import test_sse


class _Server(uvicorn.Server):
    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        print(f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}", flush=True)


def main(body: str, provider: str, file: str) -> None:
    agent = Agent(
        model=OpenAIChat(id="gpt-4.1", base_url=f"{provider}/v1", api_key="test"),
        storage=SqliteStorage(db_file=file),
        session_id="s",
    )
    app = test_sse.starlette(agent, getattr(test_sse, body))
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
    asyncio.run(_Server(config).serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
