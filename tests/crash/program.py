"""The processes that are killed: each task read from standard input is done by a fork of this one.

A task is `start` or `recover`, in one scenario, on one database. It kills itself before or after its storage's write
number `write`, if it comes to it. `recover` goes on until nothing is open. `many` runs many runs at once, is killed
after `seconds`, and `all` recovers what is left. `elsewhere` recovers on another machine, as far as it can tell.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from typing import Any

from agentrt import Agent
from agentrt.run.events import RunEvent
from agentrt.run.response import ToolExecution
from agentrt.runtime import Runtime
from agentrt.storage.base import Storage
from agentrt.testing import ScriptedModel
from tests.crash.databases import open_storage
from tests.crash.scenarios import EARLIER, World, agent


@dataclass
class Task:
    how: str
    scenario: str
    url: str
    side: str
    """The file of what tools did."""
    name: str
    """Of the run, and of its session."""
    write: int = 0
    when: str = ""
    after: str = ""
    """A reader's cursor."""
    seconds: float = 0.0


class Killing:
    """A storage whose process is killed at one of its writes."""

    def __init__(self, storage: Storage, write: int, when: str) -> None:
        self._storage, self._left, self._when = storage, write, when

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)
        if name not in ("begin", "commit", "claim", "add_evidence"):
            return method

        async def killing(*args: Any, **options: Any) -> Any:
            self._left -= 1
            is_it = self._left == 0
            if is_it and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = await method(*args, **options)
            if is_it:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return killing


async def earlier(storage: Storage, name: str) -> None:
    """The session has a history, which is nobody's to kill."""
    await Agent(agent_id="a", model=ScriptedModel("an earlier answer"), storage=storage).arun(EARLIER, session_id=name)


async def meanwhile(storage: Storage, name: str) -> None:
    """Somebody else's run changes the session while this one is paused."""
    other = Agent(agent_id="b", model=ScriptedModel("ok"), storage=storage)
    await other.arun("hello", session_id=name, session_state={"other": 1})


def line_of(event: RunEvent) -> str:
    return f"{event.event} {event.cursor} {json.dumps(event.content) if event.is_delta else 'null'}"


async def start(task: Task, storage: Storage, killing: Any, world: World) -> None:
    """Run, and print each event as a reader sees it, so that it can be told what had been read at the kill."""
    if task.scenario == "conversation":
        await earlier(storage, task.name)
    mine = agent(task.scenario, killing, world)
    handle = await mine.start("go", run_id=task.name, session_id=task.name)
    async for event in handle.events():
        print(line_of(event), flush=True)
    response = await handle.result()
    if response.is_paused:
        await meanwhile(storage, task.name)
        decide(response.tools, world.count(task.name))
        async for event in mine.acontinue_run(response, stream=True, stream_intermediate_steps=True):
            print(line_of(event), flush=True)


def decide(tools: list[ToolExecution], done: dict[str, int]) -> None:
    """Answer what is asked: whether a payment was made is looked up, all else is to be done."""
    for call in tools:
        if call.is_done:
            continue
        if call.unknown_outcome and done.get(f"paid {call.tool_args['amount']}"):
            call.result = f"paid {call.tool_args['amount']}"
        elif call.unknown_outcome or call.requires_confirmation:
            call.confirmed = True


async def recover(task: Task, killing: Any, world: World) -> None:
    """What a second process does: recover, answer what is asked by looking at the world, go on."""
    runtime = Runtime(agents=[agent(task.scenario, killing, world)], storage=killing)
    await runtime.recover()
    while (stored := await killing.load_run(task.name)) is not None and stored.status == "PAUSED":
        tools = (stored.response or {})["tools"]
        decide(tools, world.count(task.name))
        await runtime.agent("a").acontinue_run(run_id=task.name, updated_tools=tools)


async def describe(task: Task, storage: Storage, world: World) -> dict[str, Any]:
    """All there is to know about the run once it is over."""
    stored = await storage.load_run(task.name)
    if stored is None:
        return {"stored": None}
    runtime = Runtime(agents=[agent(task.scenario, storage, world)], storage=storage)
    session = await storage.load_session(task.name)
    content = (stored.response or {}).get("content")
    rest = runtime.attach(task.name, after=task.after or None, through_pauses=True)
    return {
        "stored": stored.status,
        "content": content if isinstance(content, str) or content is None else content.model_dump(),
        "messages": [
            {"role": m.role, "calls": [c.id for c in m.tool_calls or ()], "answers": m.tool_call_id}
            for m in stored.messages
        ],
        "results": [m.content for m in stored.messages if m.role == "tool"],
        "state": session.state if session else None,
        "facts": [(seq, json.loads(text)["event"]) for seq, text in await storage.load_events(task.name)],
        "said": "".join(m.content or "" for m in stored.messages if m.role == "assistant"),
        "rest": [line_of(event) async for event in rest],
        "world": world.count(task.name),
    }


async def many(task: Task, storage: Storage, world: World) -> None:
    """Run many at once, and print of each that it has begun, and that it is done."""
    await storage.load_session("")  # so that what is killed are runs, and not the making of tables
    timer = threading.Timer(task.seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()

    async def one(name: str) -> None:
        async for event in agent("parallel", storage, world).arun("go", run_id=name, session_id=name, stream=True):
            if event.event in ("RunStarted", "RunCompleted"):
                print(f"{event.event} {name}", flush=True)

    await asyncio.gather(*(one(f"{task.name}-{number}") for number in range(20)))


async def recover_all(storage: Storage, world: World) -> None:
    """Recover, saying yes to whatever is asked, and print what there is of each run."""
    runtime = Runtime(agents=[agent("parallel", storage, world)], storage=storage)
    for response in await runtime.recover():
        while response.is_paused:
            decide(response.tools, world.count(response.run_id or ""))
            response = await runtime.agent("a").acontinue_run(response)
        print(response.run_id, flush=True)


async def do(task: Task) -> None:
    storage, world = open_storage(task.url), World(task.side)
    killing = Killing(storage, task.write, task.when) if task.write else storage
    if task.how == "start":
        await start(task, storage, killing, world)
    elif task.how == "many":
        await many(task, storage, world)
    elif task.how in ("all", "elsewhere"):
        if task.how == "elsewhere":
            socket.gethostname = lambda: "elsewhere"
        await recover_all(storage, world)
    else:
        await recover(task, killing, world)
        print(json.dumps(await describe(task, storage, world)))
    await storage.aclose()


def serve() -> None:
    """Read tasks with the file for what they print, a line each; answer with the exit code."""
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
