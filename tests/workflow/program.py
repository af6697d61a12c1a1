"""The processes that are killed: each task read from standard input, a JSON object, is done by a fork of this one.

`start` begins the run, `recover` goes on with it, saying yes to what is asked; either kills itself at the storage's
write number `write`, if it comes to it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from typing import Any

from agentrt import Agent, RunContext, Workflow, tool
from agentrt.models.base import ModelRequest
from agentrt.run.decisions import Confirm
from agentrt.runtime import Runtime
from agentrt.storage.base import Storage
from agentrt.testing import FunctionModel, Reply, reply
from tests.crash.databases import open_storage
from tests.crash.program import Killing
from tests.crash.scenarios import World


def job(storage: Any, world: World, name: str) -> Workflow:
    """Steps in turn and together, an agent by itself and in a step, something that is confirmed, and a failure."""

    async def act(what: str, ctx: RunContext) -> str:
        world.add(f"{what} {ctx.idempotency_key}", name)
        return f"did {what}"

    async def fail() -> None:
        world.add("fail", name)
        raise ValueError("as it does")

    @tool(effect="idempotent")
    async def note(what: str) -> str:
        world.add(f"note {what}", name)
        return f"noted {what}"

    def answer(request: ModelRequest) -> Reply | str:
        last = request.messages[-1]
        if last.role == "user":
            return reply("I note", tool_calls=[("note", {"what": last.content})])
        return f"{last.content}."

    class Job(Workflow):
        writer = Agent(name="writer", model=FunctionModel(answer), tools=[note])

        async def arun(self, items: list[str]) -> dict[str, Any]:
            self.session_state["seen"] = self.session_state.get("seen", 0) + len(items)

            async def with_agent(what: str) -> str:
                self.session_state.setdefault("asked", []).append(what)
                return (await self.writer.arun(what)).text()

            async with asyncio.TaskGroup() as group:
                tasks = {what: group.create_task(self.step("act", act, what)) for what in items}
                asked = group.create_task(self.step("ask", with_agent, "inner"))
            try:
                await self.step("fail", fail)
                failed = "no"
            except ValueError as error:
                failed = str(error)
            told = await self.writer.arun("outer")
            approved = await self.step("approve", act, "approved", requires_confirmation=True)
            done = {what: task.result() for what, task in tasks.items()}
            return {**done, "asked": asked.result(), "failed": failed, "told": told.text(), "approved": approved}

    return Job(storage=storage, session_id=name, session_state={"seen": 10})


async def start(storage: Any, world: World, name: str) -> None:
    await job(storage, world, name).arun(["a", "b"], run_id=name)


async def recover(storage: Any, world: World, name: str) -> None:
    async with Runtime(workflows=[job(storage, world, name)], storage=storage) as runtime:
        if await storage.load_run(name) is None:  # it was killed before it was there
            await start(storage, world, name)
        await runtime.recover()
        for asked in await runtime.requirements():
            await runtime.decide(asked.run_id, asked.tool_call_id, Confirm())
        await runtime.recover()


async def do(task: dict[str, Any]) -> None:
    storage: Storage = open_storage(task["url"])
    world = World(task["side"])
    killing: Any = Killing(storage, task["write"], task["when"]) if task["write"] else storage
    await {"start": start, "recover": recover}[task["how"]](killing, world, task["name"])
    await storage.aclose()


def serve() -> None:
    """Answer each task with the exit code of its process."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 0
            try:
                asyncio.run(do(json.loads(line)))
            except BaseException:
                traceback.print_exc()
                code = 1
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
