"""What `agentrt runs recover` does: each storage's agents in a runtime of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agentrt.agent import Agent
from agentrt.cli._database import open_storage
from agentrt.cli._runs import asks, is_gone, load_run, unfinished_runs
from agentrt.run.response import RunStatus
from agentrt.runtime import Runtime
from agentrt.storage.base import Storage, StoredRun


@dataclass(slots=True)
class Recovered:
    recovered: list[StoredRun] = field(default_factory=list[StoredRun])
    """What was gone on with, as it is now."""
    asking: list[StoredRun] = field(default_factory=list[StoredRun])
    """What else needs somebody: it asked already, or could not even be taken over."""
    left: list[StoredRun] = field(default_factory=list[StoredRun])
    """What other agents have to go on with."""


async def recover_all(agents: list[Agent[Any]], db: str | None, table: str | None) -> Recovered:
    shared: Storage | None = None
    groups: dict[int, tuple[Storage, list[Agent[Any]]]] = {}
    for agent in agents:
        if db is None and agent.storage is not None:
            storage = await open_storage(None, table, agent)
        else:
            storage = shared = shared or await open_storage(db, table, None)
        groups.setdefault(id(storage), (storage, []))[1].append(agent)
    result = Recovered()
    try:
        for storage, own in groups.values():
            await _recover(storage, own, result)
    finally:
        for agent in agents:
            await agent.aclose()
        for storage, _ in groups.values():
            await storage.aclose()
    return result


async def _recover(storage: Storage, agents: list[Agent[Any]], result: Recovered) -> None:
    ids = {agent.agent_id or agent.name for agent in agents}
    async with Runtime(agents=agents, storage=storage) as runtime:
        responses = await runtime.recover()
        recovered = [await load_run(storage, response.run_id or "") for response in responses]
        result.recovered += recovered
        known = {run.run_id for run in recovered}
        for run in await unfinished_runs(storage, RunStatus.PAUSED):
            if run.agent_id in ids and run.run_id not in known and asks(run := await load_run(storage, run.run_id)):
                result.asking.append(run)
        running = await unfinished_runs(storage, RunStatus.RUNNING)
        for run in filter(is_gone, running):
            (result.asking if run.agent_id in ids else result.left).append(run)
