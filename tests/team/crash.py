"""A team whose process is killed: each task read from standard input is done by a fork of this one.

`start` runs the team and confirms what it waits for, `recover` goes on until nothing is open. The models remember
nothing: what they say next depends on the messages alone; that they were asked is noted beside what tools did.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sqlite3
import sys
import traceback
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from tempfile import TemporaryDirectory
from typing import Any

from agentrt import Agent, RunContext, Team, tool
from agentrt.models.base import ModelRequest
from agentrt.run.events import RunEvent
from agentrt.run.response import RunResponse
from agentrt.runtime import Runtime
from agentrt.storage import postgres, sqlite  # noqa: F401  so that forks need not import them
from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.testing import FunctionModel, reply
from tests.crash.databases import open_storage
from tests.team.kit import ask


class World:
    """What was done, kept outside of the storage under test."""

    def __init__(self, file: str) -> None:
        self.file = file

    def add(self, what: str) -> None:
        with sqlite3.connect(self.file, isolation_level=None) as world:
            world.execute("CREATE TABLE IF NOT EXISTS acts (what TEXT)")
            world.execute("INSERT INTO acts VALUES (?)", (what,))

    def count(self) -> dict[str, int]:
        with sqlite3.connect(self.file) as world:
            world.execute("CREATE TABLE IF NOT EXISTS acts (what TEXT)")
            return dict(world.execute("SELECT what, count(*) FROM acts GROUP BY what").fetchall())


@dataclass
class Task:
    how: str
    url: str
    side: str
    """The file of what was done."""
    name: str
    """Of the run, and of its session."""
    write: int = 0
    when: str = ""
    after: str = ""


class Killing:
    """A storage whose process is killed at one of its writes, of which several may be under way."""

    def __init__(self, storage: Storage, write: int, when: str) -> None:
        self._storage, self._write, self._when = storage, write, when
        self._numbers = itertools.count(1)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)
        if name not in ("begin", "commit", "claim", "add_evidence"):
            return method

        async def killing(*args: Any, **options: Any) -> Any:
            here = next(self._numbers) == self._write
            if here and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = await method(*args, **options)
            if here:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return killing


def line_of(event: RunEvent) -> dict[str, Any]:
    text = event.content if event.is_delta else None
    return {"event": event.event, "cursor": event.cursor, "who": event.path[-1], "text": text}


def team(storage: Any, world: World) -> Team[Any]:
    """The leader asks ann and a team of bob's in one turn, then cid, who must not act before that is confirmed."""

    @tool(effect="idempotent")
    async def note(item: str, ctx: RunContext, team: Team[Any]) -> str:
        world.add(f"note {ctx.idempotency_key}")
        team.session_state.setdefault("items", []).append(item)
        return f"noted {item}"

    @tool(effect="once")
    async def pay(amount: int) -> str:
        world.add(f"paid {amount}")
        return f"paid {amount}"

    @tool(requires_confirmation=True)
    async def drop(what: str) -> str:
        world.add(f"dropped {what}")
        return f"dropped {what}"

    def speaking(name: str, *turns: Any) -> FunctionModel:
        def answer(request: ModelRequest) -> Any:
            turn = sum(bool(message.tool_calls) for message in request.messages)
            world.add(f"asked {name} {turn}")
            return turns[turn] if turn < len(turns) else f"{name} is done"

        return FunctionModel(answer)

    def calling(name: str, **arguments: Any) -> Any:
        return reply(tool_calls=[(name, arguments)])

    ann = Agent(name="ann", model=speaking("ann", calling("note", item="a")), tools=[note])
    bob = Agent(name="bob", model=speaking("bob", calling("pay", amount=5)), tools=[pay])
    cid = Agent(name="cid", model=speaking("cid", calling("drop", what="it")), tools=[drop])
    inner = Team(name="inner", members=[bob], model=speaking("inner", ask("bob")))
    model = speaking("team", ask("ann", "inner"), ask("cid"))
    return Team(name="team", members=[ann, inner, cid], model=model, storage=storage)


def decide(response: RunResponse[Any], world: World) -> None:
    for requirement in response.requirements:
        if requirement.kind == "unknown_outcome" and world.count().get("paid 5"):
            requirement.resolve("paid 5")
        else:
            requirement.confirm()


async def start(task: Task, killing: Any, world: World) -> None:
    mine = team(killing, world)
    handle = await mine.start("go", run_id=task.name, session_id=task.name)
    async for event in handle.events():
        print(json.dumps(line_of(event)), flush=True)
    response = await handle.result()
    while response.is_paused:
        decide(response, world)
        async for event in mine.acontinue_run(response, stream=True, stream_intermediate_steps=True):
            print(json.dumps(line_of(event)), flush=True)
        response = mine.run_response


async def recover(task: Task, killing: Any, world: World) -> None:
    mine = team(killing, world)
    runtime = Runtime(teams=[mine], storage=killing)
    await runtime.recover()
    while (stored := await killing.load_run(task.name)) is not None and stored.status == "PAUSED":
        response = await mine.sessions.aget_run(task.name)
        decide(response, world)
        await mine.acontinue_run(response)


async def describe(task: Task, storage: Storage, world: World) -> dict[str, Any]:
    """All there is to know about the run once it is over."""
    stored = await storage.load_run(task.name)
    if stored is None:
        return {"stored": None}
    session = await storage.load_session(task.name)
    runtime = Runtime(teams=[team(storage, world)], storage=storage)
    root = await runtime.sessions.aget_run(task.name)
    runs: list[RunResponse[Any]] = []
    todo = [root]
    while todo:
        response = await runtime.sessions.aget_run(todo.pop().run_id or "")
        runs.append(response)
        todo += response.member_responses
    return {
        "stored": stored.status,
        "content": root.content,
        "state": session.state if session else None,
        "results": [message.content for message in stored.messages if message.role == "tool"],
        "statuses": {run.agent_name: run.status for run in runs},
        "calls": [root.total_usage.model_calls, sum(run.usage.model_calls for run in runs)],
        "facts": [
            (seq, (fact := json.loads(text))["event"], fact["path"][-1])
            for seq, text in await storage.load_events(task.name)
        ],
        "rest": [
            line_of(event) async for event in runtime.attach(task.name, after=task.after or None, through_pauses=True)
        ],
        "unfinished": [run.run_id for run in await storage.list_unfinished()],
        "world": world.count(),
    }


async def do(task: Task) -> None:
    storage, world = open_storage(task.url), World(task.side)
    killing = Killing(storage, task.write, task.when) if task.write else storage
    if task.how == "start":
        await start(task, killing, world)
    else:
        await recover(task, killing, world)
        print(json.dumps(await describe(task, storage, world)))
    await storage.aclose()


async def rehearse() -> None:
    """Do once what forks will do, so that they need not load and make again what it takes."""
    storage = InMemoryStorage()
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        world = World(f"{folder}/world.db")
        task = Task("start", "", world.file, "run")
        await start(task, storage, world)
        print(json.dumps(await describe(task, storage, world)))


def serve() -> None:
    """Read tasks with the file for what they print, a line each; answer with the exit code."""
    asyncio.run(rehearse())
    for line in sys.stdin:
        given = json.loads(line)
        pid = os.fork()
        if pid == 0:
            out = os.open(given.pop("out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            code = 0
            try:
                asyncio.run(do(Task(**given)))
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def task_line(task: Task, out: str) -> str:
    return json.dumps({**asdict(task), "out": out}) + "\n"


if __name__ == "__main__":
    serve()
