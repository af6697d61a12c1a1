"""The script of F31: event loops that come and go. Run with `-W error`; prints what it found as JSON.

python loops.py http://127.0.0.1:1234 folder
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from agentrt import Agent
from agentrt.models.anthropic import Claude
from agentrt.models.openai import OpenAIChat
from agentrt.storage.sqlite import SqliteStorage

URL, FOLDER = sys.argv[1], Path(sys.argv[2])
found: dict[str, Any] = {}


def make_agent(provider: str = "openai", **options: Any) -> Agent[Any]:
    if provider == "openai":
        return Agent(model=OpenAIChat(id="m", base_url=URL, api_key="test"), **options)
    return Agent(model=Claude(id="claude-test", base_url=URL, api_key="test"), **options)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def loops_in_a_row() -> None:
    for provider in ("openai", "anthropic"):
        agent = make_agent(provider, storage=SqliteStorage(db_file=FOLDER / "a.db"))
        found[f"{provider} in a row"] = [asyncio.run(agent.arun("hi")).content for _ in range(3)]


def streams_in_a_row() -> None:
    agent = make_agent()

    async def read(all_of_it: bool) -> str:
        text = ""
        async for event in agent.arun("hi", stream=True):
            text += event.content if event.event == "RunContent" else ""
            if text and not all_of_it:
                break
        return text

    found["streams in a row"] = [asyncio.run(read(True)), asyncio.run(read(False)), asyncio.run(read(True))]


def inside_a_running_loop() -> None:
    agent = make_agent()

    async def cell() -> list[Any]:
        response = agent.run("hi")
        texts = [event.content for event in agent.run("hi", stream=True) if event.event == "RunContent"]
        return [response.content, "".join(texts), (await agent.arun("hi")).content]

    found["inside a running loop"] = asyncio.run(cell())


def in_threads() -> None:
    agent = make_agent()
    with ThreadPoolExecutor(4) as executor:
        found["async in threads"] = list(executor.map(lambda _: asyncio.run(agent.arun("hi")).content, range(8)))
        found["sync in threads"] = list(executor.map(lambda _: agent.run("hi").content, range(8)))


def many_agents() -> None:
    async def fifty() -> list[Any]:
        return [(await make_agent().arun("hi")).content for _ in range(50)]

    make_agent().run("hi")
    asyncio.run(fifty())
    before = descriptors()
    contents = asyncio.run(fifty())
    contents += [make_agent().run("hi").content for _ in range(50)]
    contents += [asyncio.run(make_agent().arun("hi")).content for _ in range(10)]
    found["fifty agents"] = sorted(set(contents))
    found["descriptors"] = descriptors() - before


def a_client_of_the_callers() -> None:
    async def main() -> list[Any]:
        seen: list[str] = []

        async def note(request: httpx2.Request) -> None:
            seen.append(request.url.path)

        async with httpx2.AsyncClient(event_hooks={"request": [note]}) as client:
            agent = Agent(model=OpenAIChat(id="m", base_url=URL, api_key="test", http_client=client))
            content = (await agent.arun("hi")).content
            await agent.aclose()
            return [content, list(seen), client.is_closed, (await client.get(URL)).status_code]

    found["caller's client"] = asyncio.run(main())


def inside_a_loop_that_is_stopped_and_closed() -> None:
    agent = make_agent()
    loop = asyncio.new_event_loop()
    found["a bare loop"] = loop.run_until_complete(agent.arun("hi")).content
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


for part in (
    loops_in_a_row,
    streams_in_a_row,
    inside_a_running_loop,
    in_threads,
    many_agents,
    a_client_of_the_callers,
    inside_a_loop_that_is_stopped_and_closed,
):
    part()
print(json.dumps(found))
