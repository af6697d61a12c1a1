"""What other processes do to a workflow's run, and it in them: each has a storage of its own, on the same data."""

# pyright: reportCallIssue=false, reportReturnType=false, reportAttributeAccessIssue=false
# what an author writes is not what a caller gets
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from agentrt import Agent, RunStatus, Workflow, tool
from agentrt.errors import DecisionRefused, RunBusy, RunMismatch
from agentrt.models.base import ModelRequest
from agentrt.run.decisions import Confirm, Provide, Reject, Resolve
from agentrt.runtime import Runtime
from agentrt.storage.base import Storage
from agentrt.testing import FunctionModel, Reply, reply
from agentrt.workflow import step
from tests.run.conftest import OpenStorage


@pytest.fixture
async def two(same_place: OpenStorage) -> AsyncIterator[tuple[Storage, Storage]]:
    """The storages of two processes."""
    async with AsyncExitStack() as stack:
        one, other = same_place(), same_place()
        stack.push_async_callback(one.aclose)
        stack.push_async_callback(other.aclose)
        yield one, other


def answer(request: ModelRequest) -> Reply | str:
    last = request.messages[-1]
    return reply(tool_calls=[("pay", {"amount": 5})]) if last.role == "user" else last.content


def payer(**options: Any) -> Agent[Any]:
    @tool(requires_confirmation=True, allow_edits=True)
    async def pay(amount: int) -> str:
        return f"paid {amount}"

    return Agent(model=FunctionModel(answer), tools=[pay], **options)


class Waiting(Workflow):
    """Says when it waits, and waits until it is told not to."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.entered, self.release = asyncio.Event(), asyncio.Event()

    async def hold(self) -> str:
        self.entered.set()
        await self.release.wait()
        return "held"

    async def arun(self, day: str = "monday") -> str:
        first = await self.step("first", str.upper, day)
        return f"{first} {await self.step('hold', self.hold)}"


async def test_it_is_cancelled_by_its_id(two: tuple[Storage, Storage]) -> None:
    one, other = two
    waiting = Waiting(storage=one)
    handle = await waiting.start(session_id="s")
    async with asyncio.timeout(15):
        await waiting.entered.wait()
        async with Runtime(workflows=[Waiting()], storage=other) as runtime:
            assert await runtime.cancel(handle.run_id, "enough")
        response = await handle.result()
    assert (response.status, [tool.result for tool in response.tools]) == (RunStatus.CANCELLED, ["MONDAY", None])


async def test_its_events_are_read_while_they_come(two: tuple[Storage, Storage]) -> None:
    one, other = two
    waiting = Waiting(storage=one)
    handle = await waiting.start()
    async with asyncio.timeout(15):
        await waiting.entered.wait()
        seen: list[str] = []
        async for event in Waiting(storage=other).attach(handle.run_id):
            seen.append(event.event)
            if seen.count("WorkflowStepStarted") == 2:
                waiting.release.set()
    assert seen == [
        "WorkflowStarted",
        *("WorkflowStepStarted", "WorkflowStepCompleted") * 2,
        "WorkflowCompleted",
    ]


async def test_the_same_call_finds_it_busy_and_then_done(two: tuple[Storage, Storage]) -> None:
    one, other = two
    waiting = Waiting(storage=one, session_id="s")
    handle = await waiting.start(day="monday", run_id="r")
    elsewhere = Waiting(storage=other, session_id="s")
    async with asyncio.timeout(15):
        await waiting.entered.wait()
        with pytest.raises(RunBusy):
            await elsewhere.arun(day="monday", run_id="r")
        with pytest.raises(RunMismatch):
            await elsewhere.arun(day="tuesday", run_id="r")
        waiting.release.set()
        await handle.result()
        response = await elsewhere.arun(day="monday", run_id="r")
    assert (response.content, elsewhere.entered.is_set()) == ("MONDAY held", False)


async def test_it_goes_on_there_when_it_is_let_go_of_here(two: tuple[Storage, Storage]) -> None:
    one, other = two
    waiting, elsewhere = Waiting(storage=one), Waiting()
    elsewhere.release.set()
    async with asyncio.timeout(15):
        async with Runtime(workflows=[waiting], storage=one, grace_s=0) as runtime:
            handle = await runtime.start("Waiting", {"day": "monday"})
            await waiting.entered.wait()
        async with Runtime(workflows=[elsewhere], storage=other) as runtime:
            if one is other:  # it does not outlive a process, and so keeps no steps
                return
            (response,) = await runtime.recover()
    assert (response.run_id, response.content) == (handle.run_id, "MONDAY held")


# --- people ----------------------------------------------------------------------------------------------------------


class Paying(Workflow):
    """A step and two agents wait at once; one of the agents is in another workflow."""

    class Inner(Workflow):
        payer = payer()

        async def arun(self, what: str) -> str:
            return (await self.payer.arun(what)).text()

    inner = Inner()
    other = payer()

    async def arun(self) -> list[str]:
        async with asyncio.TaskGroup() as group:
            below = group.create_task(self.inner.arun("pay below"))
            asked = group.create_task(self.other.arun("pay"))
            signed = group.create_task(self.step("sign", external_execution=True))
        return [below.result().content, asked.result().text(), signed.result()]


async def test_what_it_waits_for_is_decided_one_by_one(two: tuple[Storage, Storage]) -> None:
    one, other = two
    paused = await Paying(storage=one).arun()
    assert paused.status is RunStatus.PAUSED
    async with Runtime(workflows=[Paying()], storage=other) as runtime:
        asked = {requirement.path: requirement for requirement in await runtime.requirements()}
        assert asked.keys() == {("Paying",), ("Paying", "other"), ("Paying", "Inner", "payer")}
        decisions = {
            ("Paying",): Resolve("signed"),
            ("Paying", "other"): Reject(reason="too much"),
            ("Paying", "Inner", "payer"): Confirm(args={"amount": 7}),
        }
        for path, decision in decisions.items():
            requirement = asked.pop(path)
            still = await runtime.continue_run(paused.run_id)
            assert still.status is RunStatus.PAUSED
            await runtime.decide(requirement.run_id, requirement.tool_call_id, decision, by="bob")
        response = await runtime.continue_run(paused.run_id)
    content: Any = response.content
    below, rejected, signed = content
    assert (below, signed) == ("paid 7", "signed")
    assert "too much" in rejected


async def test_a_decision_that_does_not_fit_is_refused_for_agents_that_the_code_refers_to(
    two: tuple[Storage, Storage],
) -> None:
    one, other = two
    agent = payer(name="payer")

    class Asking(Workflow):
        async def arun(self) -> str:
            async def ask() -> str:
                return (await agent.arun("pay")).text()

            return await step("ask", ask)

    paused = await Asking(storage=one).arun()
    async with Runtime(workflows=[Asking()], storage=other) as runtime:
        (asked,) = await runtime.requirements()
        with pytest.raises(DecisionRefused, match="amount"):
            await runtime.decide(paused.run_id, asked.tool_call_id, Confirm(args={"amount": "many"}))
        await runtime.decide(paused.run_id, asked.tool_call_id, Confirm())
        assert (await runtime.continue_run(paused.run_id)).content == "paid 5"


async def test_a_decision_that_does_not_fit_and_could_not_be_checked_leaves_it_waiting(
    two: tuple[Storage, Storage],
) -> None:
    one, other = two

    @tool(requires_user_input=True, user_input_fields=["to", "amount"])
    async def send(to: str, amount: int) -> str:
        return f"sent {amount} to {to}"

    def sending(request: ModelRequest) -> Reply | str:
        last = request.messages[-1]
        return reply(tool_calls=[("send", {})]) if last.role == "user" else last.content

    agents = {"sender": Agent(name="sender", model=FunctionModel(sending), tools=[send])}

    class Asking(Workflow):
        async def arun(self) -> str:
            return (await agents["sender"].arun("send")).text()

    paused = await Asking(storage=one).arun()
    async with Runtime(workflows=[Asking()], storage=other) as runtime:
        for said in ("many", "7"):
            (asked,) = await runtime.requirements()
            await runtime.decide(paused.run_id, asked.tool_call_id, Provide({"to": "ann", "amount": said}))
            response = await runtime.continue_run(paused.run_id)
            assert response.status is (RunStatus.PAUSED if said == "many" else RunStatus.COMPLETED)
    assert response.content == "sent 7 to ann"
