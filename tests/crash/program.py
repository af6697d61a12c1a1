"""A process that is killed at one journal write: `python -m tests.crash.program start|recover URL SIDE [WRITE WHEN]`.

The agent has tools of each effect, some of which change the state. What a tool did to the world is a row in the file
SIDE. `start` kills itself before or after its storage's write number WRITE; `recover` goes on until nothing is open.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from typing import Any

from agentrt import Agent, RunContext, RunResponse, tool
from agentrt.models.base import ModelRequest
from agentrt.runtime import Runtime
from agentrt.storage.base import Storage
from agentrt.testing import FunctionModel, Reply, reply

RUN, SESSION = "run", "session"
FINAL = "all done"


class World:
    """What tools did, kept outside of the storage under test."""

    def __init__(self, side: str) -> None:
        self.side = side

    def add(self, what: str) -> None:
        with sqlite3.connect(self.side, isolation_level=None) as world:
            world.execute("CREATE TABLE IF NOT EXISTS acts (what TEXT)")
            world.execute("INSERT INTO acts VALUES (?)", (what,))

    def count(self) -> dict[str, int]:
        with sqlite3.connect(self.side) as world:
            world.execute("CREATE TABLE IF NOT EXISTS acts (what TEXT)")
            return dict(world.execute("SELECT what, count(*) FROM acts GROUP BY what").fetchall())


def agent(storage: Storage, world: World) -> Agent[Any]:
    @tool(effect="idempotent")
    async def note(item: str, session_state: dict[str, Any], ctx: RunContext) -> str:
        world.add(f"note {ctx.idempotency_key}")
        session_state.setdefault("items", []).append(item)
        return f"noted {item}"

    def unmarked(item: str, session_state: dict[str, Any]) -> str:
        world.add(f"unmarked {item}")
        session_state.setdefault("unmarked", []).append(item)
        return f"did {item}"

    @tool(effect="once")
    async def pay(amount: int) -> str:
        world.add(f"paid {amount}")
        return f"paid {amount}"

    @tool(effect="pure")
    def look(what: str) -> str:
        world.add(f"looked {what}")
        return f"saw {what}"

    return Agent(agent_id="a", model=FunctionModel(answer), tools=[note, unmarked, pay, look], storage=storage)


TURNS = [
    [("note", {"item": "a"}), ("look", {"what": "x"}), ("pay", {"amount": 5})],
    [("unmarked", {"item": "u"}), ("note", {"item": "b"})],
    [("pay", {"amount": 7})],
]


def answer(request: ModelRequest) -> Reply | str:
    """What the script says after so many turns of calls: the model remembers nothing else."""
    turn = sum(bool(message.tool_calls) for message in request.messages)
    return reply(f"turn {turn}", tool_calls=TURNS[turn]) if turn < len(TURNS) else FINAL


class Killing:
    """A storage whose process is killed at one of its writes."""

    def __init__(self, storage: Storage, write: int, when: str) -> None:
        self._storage, self._left, self._when = storage, write, when

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)
        if name not in ("begin", "commit", "claim"):
            return method

        async def killing(*args: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0 and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = await method(*args, **options)
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return killing


def open_storage(url: str) -> Storage:
    if url.startswith("postgres"):
        from agentrt.storage.postgres import PostgresStorage

        return PostgresStorage(table_name="crash", db_url=url)
    from agentrt.storage.sqlite import SqliteStorage

    return SqliteStorage(db_file=url)


async def start(storage: Any, world: World) -> None:
    """Run, and print each event as a reader sees it, so that it can be told what had been read at the kill."""
    handle = await agent(storage, world).start("go", run_id=RUN, session_id=SESSION)
    async for event in handle.events():
        print(event.event, event.cursor, flush=True)
    await handle.result()


async def recover(storage: Storage, world: World) -> RunResponse[Any] | None:
    """What a second process does: recover, answer what is asked by looking at the world, go on."""
    runtime = Runtime(agents=[agent(storage, world)], storage=storage)
    responses = await runtime.recover()
    response = responses[0] if responses else None
    while response is not None and response.is_paused:
        for call in response.tools_with_unknown_outcome:
            if world.count().get(f"paid {call.tool_args['amount']}"):
                call.result = f"paid {call.tool_args['amount']}"
            else:
                call.confirmed = True
        response = await runtime.agent("a").acontinue_run(response)
    return response


async def main(how: str, url: str, side: str, write: str = "0", when: str = "") -> None:
    storage, world = open_storage(url), World(side)
    if how == "start":
        await start(Killing(storage, int(write), when), world)
    else:
        response = await recover(storage, world)
        stored = await storage.load_run(RUN)
        events = await storage.load_events(RUN)
        session = await storage.load_session(SESSION)
        print(
            json.dumps(
                {
                    "recovered": response is not None,
                    "stored": stored.status if stored else None,
                    "content": (stored.response or {}).get("content") if stored else None,
                    "messages": [
                        {"role": m.role, "calls": [c.id for c in m.tool_calls or ()], "answers": m.tool_call_id}
                        for m in (stored.messages if stored else ())
                    ],
                    "results": [m.content for m in (stored.messages if stored else ()) if m.role == "tool"],
                    "state": session.state if session else None,
                    "facts": [(seq, json.loads(text)["event"]) for seq, text in events],
                    "world": world.count(),
                }
            )
        )
    await storage.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
