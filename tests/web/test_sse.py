"""An agent behind Starlette and FastAPI, on a real server: whoever goes away, the run ends and nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse as FastAPIStreamingResponse
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.routing import Route

from agentrt import Agent, RunStatus
from agentrt.run.encoding import event_from_json
from agentrt.run.events import RunContent
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import ScriptedModel
from tests.http_server import Server, chat_stream
from tests.web.serving import StandingStill, agent_of, read_until, serving

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def still(server: Server, tmp_path: Path) -> AsyncIterator[StandingStill]:
    async with asyncio.timeout(20):
        work = StandingStill(server, tmp_path)
        yield work
        await work.aclose()


# --- generators as users write them ----------------------------------------------------------------------------------


async def with_stream(agent: Agent[Any]) -> AsyncIterator[str]:
    async with agent.stream("go") as run:
        async for event in run:
            yield event.to_sse()


async def with_arun(agent: Agent[Any]) -> AsyncIterator[str]:
    async for event in agent.arun("go", stream=True):
        yield event.to_sse()


async def with_awaited_arun(agent: Agent[Any]) -> AsyncIterator[str]:
    async for event in await agent.arun("go", stream=True):
        yield event.to_sse()


async def with_keep_alive(agent: Agent[Any]) -> AsyncIterator[str]:
    """A comment whenever nothing has come for a while, so that proxies keep the connection."""
    async with agent.stream("go") as run:
        while True:
            try:
                event = await asyncio.wait_for(anext(run), 0.05)
            except TimeoutError:
                yield ": still here\n\n"
            except StopAsyncIteration:
                break
            else:
                yield event.to_sse()


def with_sync_run(agent: Agent[Any]) -> Iterator[str]:
    for event in agent.run("go", stream=True):
        yield event.to_sse()


Body = Callable[[Agent[Any]], Any]
BODIES: list[Body] = [with_stream, with_arun, with_awaited_arun, with_keep_alive]


def starlette(agent: Agent[Any], body: Body) -> Any:
    async def endpoint(_: Any) -> StreamingResponse:
        return StreamingResponse(body(agent), media_type="text/event-stream")

    return Starlette(routes=[Route("/", endpoint)])


def fastapi(agent: Agent[Any], body: Body) -> Any:
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> FastAPIStreamingResponse:
        return FastAPIStreamingResponse(body(agent), media_type="text/event-stream")

    return app


def newer_asgi(agent: Agent[Any], body: Body) -> Any:
    """As servers of ASGI 2.4 have it: Starlette learns of a disconnect by a failing `send`, in no task group."""
    inner = starlette(agent, body)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gone = asyncio.Event()

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        async def send_or_fail(message: Any) -> None:
            if gone.is_set():
                raise OSError("the client is gone")
            await send(message)

        listener = asyncio.create_task(listen())
        try:
            with suppress(ClientDisconnect):
                await inner({**scope, "asgi": {**scope["asgi"], "spec_version": "2.4"}}, receive, send_or_fail)
        finally:
            listener.cancel()
            await asyncio.wait([listener])

    return app


APPS = [starlette, fastapi]


# --- the client goes away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("make_app", APPS)
async def test_a_client_that_disconnects_ends_the_run(still: StandingStill, make_app: Any, body: Body) -> None:
    async with serving(make_app(still.agent, body)) as web:
        tasks = asyncio.all_tasks()
        async with httpx.AsyncClient() as client, client.stream("GET", web.url) as response:
            received = await read_until("event: RunContent", response)
        await still.check_ended(tasks)
    assert "event: RunStarted\n" in received


async def test_a_server_that_learns_of_a_disconnect_late_ends_the_run_then(still: StandingStill) -> None:
    async with serving(newer_asgi(still.agent, with_keep_alive)) as web:
        tasks = asyncio.all_tasks()
        async with httpx.AsyncClient() as client, client.stream("GET", web.url) as response:
            await read_until("event: RunContent", response)
        await still.check_ended(tasks)


@pytest.mark.parametrize("body", [*BODIES, with_sync_run])
async def test_an_undisturbed_client_gets_every_event(server: Server, tmp_path: Path, body: Body) -> None:
    server.add(body=chat_stream("Hello", " there"))
    agent = agent_of(server, tmp_path)
    async with asyncio.timeout(10), serving(starlette(agent, body)) as web, httpx.AsyncClient() as client:
        response = await client.get(web.url)
    data = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    events = [event_from_json(line) for line in data]
    assert [event.event for event in events] == ["RunStarted", "RunContent", "RunContent", "RunCompleted"]
    assert "".join(event.content for event in events if isinstance(event, RunContent)) == "Hello there"
    await agent.aclose()


# --- the server goes away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [with_stream, with_arun, with_keep_alive])
async def test_a_server_that_shuts_down_ends_the_run(still: StandingStill, body: Body) -> None:
    tasks = asyncio.all_tasks()
    async with httpx.AsyncClient() as client:
        async with serving(starlette(still.agent, body)) as web:
            request = client.build_request("GET", web.url)
            response = await client.send(request, stream=True)
            await read_until("event: RunContent", response)
        await still.check_ended(tasks)
        await response.aclose()


@pytest.mark.parametrize("body", ["with_stream", "with_arun"])
async def test_a_server_process_that_is_terminated_stores_the_run(still: StandingStill, body: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.web.process",
        body,
        still.provider.url,
        str(still.file),
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    async with httpx.AsyncClient() as client:
        response = await client.send(client.build_request("GET", url), stream=True)
        await read_until("event: RunContent", response)
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
        await response.aclose()
    assert b"was never retrieved" not in errors and b"was destroyed" not in errors, errors.decode()
    await still.provider.until(lambda: still.provider.interrupted == 1)
    await still.check_stored()


# --- the generator's own code ----------------------------------------------------------------------------------------


async def test_an_exception_in_the_generator_ends_the_run(still: StandingStill) -> None:
    async def body(agent: Agent[Any]) -> AsyncIterator[str]:
        async with agent.stream("go") as run:
            async for event in run:
                yield event.to_sse()
                if isinstance(event, RunContent):
                    raise LookupError("the page's own mistake")

    async with serving(starlette(still.agent, body)) as web:
        tasks = asyncio.all_tasks()
        with pytest.raises(httpx.RemoteProtocolError):
            async with httpx.AsyncClient() as client:
                await client.get(web.url)
        await still.check_ended(tasks)


async def test_a_generator_that_returns_early_ends_the_run(still: StandingStill) -> None:
    async def body(agent: Agent[Any]) -> AsyncIterator[str]:
        async for event in agent.arun("go", stream=True):
            yield event.to_sse()
            if isinstance(event, RunContent):
                return

    async with serving(starlette(still.agent, body)) as web:
        tasks = asyncio.all_tasks()
        async with httpx.AsyncClient() as client:
            response = await client.get(web.url)
        await still.check_ended(tasks)
    assert response.text.count("event: ") == 2


async def test_a_failed_run_ends_the_body_cleanly_with_its_error(server: Server) -> None:
    agent = Agent(model=ScriptedModel(ValueError("no such thing")))
    async with asyncio.timeout(10), serving(starlette(agent, with_stream)) as web, httpx.AsyncClient() as client:
        response = await client.get(web.url)
    last = json.loads(response.text.strip().rpartition("data: ")[2])
    assert (last["event"], last["content"]) == ("RunError", "ValueError: no such thing")


# --- plain calls -----------------------------------------------------------------------------------------------------


async def test_requests_of_one_agent_have_a_session_each(tmp_path: Path) -> None:
    storage = SqliteStorage(db_file=tmp_path / "runs.db")
    agent = Agent(model=ScriptedModel(*["Hi"] * 5), storage=storage, add_history_to_messages=True)
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> dict[str, Any]:
        response = await agent.arun("Hello")
        return {"session": response.session_id, "messages": len(response.messages)}

    async with asyncio.timeout(10), serving(app) as web, httpx.AsyncClient() as client:
        answers = [response.json() for response in await asyncio.gather(*[client.get(web.url) for _ in range(5)])]
    assert len({answer["session"] for answer in answers}) == 5
    assert {answer["messages"] for answer in answers} == {2}
    assert {run.status for run in await storage.list_runs(answers[0]["session"])} == {RunStatus.COMPLETED}
    await storage.aclose()
