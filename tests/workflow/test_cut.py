"""What is cut short, and what fails beside it: nothing goes on after the run's end, and all of it is gone on with."""

# pyright: reportCallIssue=false, reportArgumentType=false, reportReturnType=false, reportAttributeAccessIssue=false
# what an author writes is not what a caller gets
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunStatus, Workflow, tool, workflow
from agentrt.models.base import ModelRequest
from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, Gate, Reply, ScriptedModel, reply
from agentrt.workflow import step


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    made: Storage = InMemoryStorage() if request.param == "memory" else SqliteStorage(db_file=tmp_path / "data.db")
    yield made
    await made.aclose()


class Fails:
    """Fails the first time, once `after` is set."""

    def __init__(self, after: asyncio.Event) -> None:
        self.tried = 0
        self._after = after

    async def __call__(self) -> str:
        self.tried += 1
        if self.tried > 1:
            return "ok"
        await self._after.wait()
        raise ValueError("no")


def going(*but: asyncio.Task[Any] | None) -> list[asyncio.Task[Any]]:
    """The tasks that runs have left."""
    return [task for task in asyncio.all_tasks() if task not in (asyncio.current_task(), *but)]


# --- what the code has left under way --------------------------------------------------------------------------------


async def test_steps_that_nobody_waits_for_any_more_are_cut_when_the_code_fails(storage: Storage) -> None:
    running, did = asyncio.Event(), list[str]()
    fails = Fails(running)

    async def slow() -> str:
        running.set()
        await asyncio.Event().wait()
        did.append("went on")
        return "slow"

    @workflow(storage=storage)
    async def job() -> None:
        await asyncio.gather(step("slow", slow), step("fail", fails))

    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="no") as caught:
            await job.arun()
    assert (going(), did) == ([], [])
    assert [tool.elapsed_s for tool in caught.value.run_response.tools if tool.tool_name == "slow"] == [None]


async def test_a_step_that_is_not_awaited_ends_before_the_run_does(storage: Storage) -> None:
    left, release = list[asyncio.Task[str]](), asyncio.Event()

    async def note() -> str:
        await release.wait()
        return "noted"

    @workflow(storage=storage)
    async def job() -> str:
        left.append(asyncio.create_task(step("note", note)))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(release.set)
        return "over"

    async with asyncio.timeout(5):
        response = await job.arun()
    assert response.content == "over"
    assert [tool.result for tool in response.tools] == ["noted"]
    assert left[0].done()


async def test_a_step_that_is_not_awaited_may_wait_for_somebody(storage: Storage) -> None:
    left = set[asyncio.Task[Any]]()

    @workflow(storage=storage)
    async def job() -> str:
        left.add(asyncio.create_task(step("sign", external_execution=True)))
        await asyncio.sleep(0)
        return "over"

    async with asyncio.timeout(5):
        paused = await job.arun()
        assert paused.status is RunStatus.PAUSED
        assert going() == []
        paused.requirements[0].resolve("signed")
        response = await job.acontinue_run(paused)
    assert (response.content, [tool.result for tool in response.tools]) == ("over", ["signed"])


async def test_a_task_that_the_code_has_left_begins_nothing_once_the_run_is_over(storage: Storage) -> None:
    left, over = set[asyncio.Task[Any]](), asyncio.Event()
    model = ScriptedModel("never")
    agent = Agent(name="writer", model=model)

    @workflow(storage=storage)
    async def job() -> None:
        async def late(what: str) -> None:
            await over.wait()
            await (step("late", list[str]) if what == "step" else agent.arun("go"))

        left.update(asyncio.create_task(late(what)) for what in ("step", "agent"))

    async with asyncio.timeout(5):
        await job.arun()
        over.set()
        for error in await asyncio.gather(*left, return_exceptions=True):
            assert "is over: its code is to await the tasks" in str(error)
    assert model.requests == []


# --- runs of agents that were cut ------------------------------------------------------------------------------------


async def test_an_agents_run_that_was_cut_by_a_steps_time_goes_on_with_the_next_attempt(storage: Storage) -> None:
    gate = Gate()
    model = ScriptedModel(reply("never", gate=gate), "written")
    agent = Agent(name="writer", model=model)

    async def write() -> str:
        return (await agent.arun("go")).text()

    @workflow(storage=storage)
    async def job() -> str:
        return await step("write", write, timeout_s=0.1, retries=1)

    async with asyncio.timeout(5):
        response = await job.arun()
    assert response.content == "written"
    assert [member.status for member in response.member_responses] == [RunStatus.COMPLETED]


def charging(charged: list[str], gate: Gate) -> Agent[Any]:
    """An agent that charges, and then hangs at its first last word."""

    @tool
    async def charge() -> str:
        charged.append("charged")
        return "charged"

    return Agent(
        name="charger",
        model=ScriptedModel(reply(tool_calls=[("charge", {})]), reply("slow", gate=gate), "it is done"),
        tools=[charge],
    )


async def test_an_agents_run_that_another_ones_failure_has_cut_goes_on_where_it_was(storage: Storage) -> None:
    charged, gate = list[str](), Gate()
    agent, fails = charging(charged, gate), Fails(gate.reached)

    @workflow(storage=storage, session_id="s")
    async def job() -> list[str]:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(agent.arun("go"))
            group.create_task(step("fail", fails))
        return asked.result().text()

    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup):
            await job.arun(run_id="r")
        (child,) = await storage.list_runs("s/charger")
        assert (child.status, (child.response or {})["error"]) == (
            RunStatus.FAILED,
            "AgentRTError: Cut short by the code of its workflow, which may go on with it",
        )
        response = await job.arun(run_id="r")
    assert (response.content, charged) == ("it is done", ["charged"])
    assert response.total_usage.model_calls == 2
    (member,) = response.member_responses
    assert member.usage == response.total_usage


async def test_what_is_in_a_workflow_that_was_cut_goes_on_too(storage: Storage) -> None:
    charged, gate = list[str](), Gate()
    fails = Fails(gate.reached)

    class Inner(Workflow):
        agent = charging(charged, gate)
        session_state: dict[str, Any] = {"runs": 0}  # noqa: RUF012  an option

        async def arun(self) -> list[Any]:
            self.session_state["runs"] += 1
            return [await self.step("first", lambda: charged.append("stepped")), (await self.agent.arun("go")).text()]

    class Outer(Workflow):
        inner = Inner()

        async def arun(self) -> Any:
            async with asyncio.TaskGroup() as group:
                asked = group.create_task(self.inner.arun())
                group.create_task(self.step("fail", fails))
            return asked.result().content

    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup):
            await Outer(storage=storage, session_id="s").arun(run_id="r")
        response = await Outer(storage=storage, session_id="s").arun(run_id="r")
    assert (response.content, charged) == ([None, "it is done"], ["stepped", "charged"])
    session = await storage.load_session("s/Inner")
    assert session is not None and session.state == {"runs": 1}


async def test_an_agents_run_that_failed_and_goes_on_counts_once(storage: Storage) -> None:
    looked = list[str]()

    @tool
    async def look() -> str:
        looked.append("looked")
        return "seen"

    model = ScriptedModel(reply(tool_calls=[("look", {})]), ValueError("no network"), "fine")
    agent = Agent(name="looker", model=model, tools=[look])

    @workflow(storage=storage, session_id="s")
    async def job() -> str:
        return (await agent.arun("go")).text()

    with pytest.raises(ValueError, match="no network") as caught:
        await job.arun(run_id="r")
    assert caught.value.run_response.total_usage.model_calls == 1
    response = await job.arun(run_id="r")
    assert (response.content, looked) == ("fine", ["looked"])
    assert response.total_usage.model_calls == 2
    (member,) = response.member_responses
    assert member.usage == response.total_usage


async def test_an_agents_run_that_is_tried_again_in_its_step_counts_once(storage: Storage) -> None:
    model = ScriptedModel(reply("I look", tool_calls=[("look", {})]), ValueError("no network"), "fine")
    agent = Agent(name="looker", model=model, tools=[tool(lambda: "seen", name="look")])

    async def write() -> str:
        return (await agent.arun("go")).text()

    @workflow(storage=storage)
    async def job() -> str:
        return await step("write", write, retries=1)

    response = await job.arun()
    assert (response.content, response.total_usage.model_calls) == ("fine", 2)


async def test_who_is_waited_for_beside_a_failure_is_waited_for_again(storage: Storage) -> None:
    @tool(requires_confirmation=True)
    async def pay() -> str:
        return "paid"

    def answer(request: ModelRequest) -> Reply | str:
        last = request.messages[-1]
        return reply(tool_calls=[("pay", {})]) if last.role == "user" else last.content

    agent = Agent(name="payer", model=FunctionModel(answer), tools=[pay])
    asked = asyncio.Event()
    fails = Fails(asked)

    async def later() -> str:
        return await step("fail", fails)

    @workflow(storage=storage, session_id="s")
    async def job() -> list[str]:
        async def ask() -> str:
            async for event in agent.arun("pay", stream=True):
                if event.event == "RunPaused":
                    asked.set()
            return agent.run_response.text()

        async with asyncio.TaskGroup() as group:
            paid, done = group.create_task(ask()), group.create_task(step("later", later))
        return [paid.result(), done.result()]

    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup):
            await job.arun(run_id="r")
        paused = await job.arun(run_id="r")
        assert paused.status is RunStatus.PAUSED
        paused.requirements[0].confirm()
        response = await job.acontinue_run(paused)
    assert response.content == ["paid", "ok"]


# --- results ---------------------------------------------------------------------------------------------------------


async def test_what_the_code_makes_of_a_result_is_not_what_the_step_came_to(storage: Storage) -> None:
    @workflow(storage=storage)
    async def job(items: list[str]) -> list[list[str]]:
        found = await step("find", lambda: [["found"]])
        found[0].append(items.pop())
        await step("first", external_execution=True)
        await step("second", external_execution=True)
        return found

    response = await job.arun(["by the code"])
    for _ in range(2):
        assert response.status is RunStatus.PAUSED
        assert response.tools[0].result == [["found"]]
        response.requirements[0].resolve("yes")
        response = await job.acontinue_run(response)
    assert response.content == [["found", "by the code"]]
