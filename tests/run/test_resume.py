"""A run that was cut goes on, elsewhere: what was done is not done again, what is not known is said."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunContext, RunResponse, RunStatus, tool
from agentrt.errors import AlreadyContinued, ModelServerError, RunBusy, RunMismatch
from agentrt.run import owner
from agentrt.runtime import Runtime
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, ScriptedModel, reply


@pytest.fixture
def storage(tmp_path: Path) -> SqliteStorage:
    return SqliteStorage(db_file=tmp_path / "data.db")


class Cut:
    """A process that dies while a tool runs: its run is let go of, and its owner forgotten."""

    def __init__(self, storage: SqliteStorage, **options: Any) -> None:
        self.storage = storage
        self.ran: list[str] = []
        self.hanging = asyncio.Event()
        self.hang = True

        @tool(**options)
        async def act(session_state: dict[str, Any]) -> str:
            self.ran.append("act")
            session_state.setdefault("items", []).append(len(self.ran))
            if self.hang:
                self.hanging.set()
                await asyncio.Event().wait()
            return "acted"

        async def before(session_state: dict[str, Any]) -> str:
            self.ran.append("before")
            session_state.setdefault("items", []).append("before")
            return "done before"

        self.tools = [act, before]

    def agent(self, model: Any) -> Agent[Any]:
        return Agent(agent_id="a", model=model, tools=self.tools, storage=self.storage)

    async def cut(self) -> str:
        model = ScriptedModel(reply(tool_calls=[("before", {}), ("act", {})]))
        handle = await self.agent(model).start("go", session_id="s")
        async with asyncio.timeout(5):
            await self.hanging.wait()
            await handle.let_go()
        self.hang = False
        return handle.run_id

    async def recover(self) -> Any:
        model = FunctionModel(lambda request: " | ".join(m.content or "" for m in request.messages if m.role == "tool"))
        self.model = model
        async with asyncio.timeout(5):
            (response,) = await Runtime(agents=[self.agent(model)], storage=self.storage).recover()
        return response


async def test_an_unmarked_call_is_not_made_again_and_the_model_is_told(storage: SqliteStorage) -> None:
    cut = Cut(storage)
    await cut.cut()
    response = await cut.recover()
    assert cut.ran == ["before", "act"]
    assert response.status is RunStatus.COMPLETED
    assert response.content.startswith("done before | The outcome of this call is unknown")
    assert response.session_state == {"items": ["before"]}


@pytest.mark.parametrize("effect", ["idempotent", "pure"])
async def test_a_call_that_may_be_repeated_is_made_again_from_the_state_before_it(
    storage: SqliteStorage, effect: Any
) -> None:
    cut = Cut(storage, effect=effect)
    await cut.cut()
    response = await cut.recover()
    assert cut.ran == ["before", "act", "act"]
    assert response.content == "done before | acted"
    assert response.session_state == {"items": ["before", 3]}


async def test_a_call_that_acts_once_asks_and_goes_on_with_the_answer(storage: SqliteStorage) -> None:
    cut = Cut(storage, effect="once")
    run_id = await cut.cut()
    paused = await cut.recover()
    assert paused.is_paused and cut.ran == ["before", "act"]
    (open_call,) = paused.tools_with_unknown_outcome
    open_call.result = "it had acted"
    response = await cut.agent(cut.model).acontinue_run(paused)
    assert response.content == "done before | it had acted"
    assert cut.ran == ["before", "act"]
    assert response.run_id == run_id


async def test_the_author_of_a_tool_may_find_out_what_became_of_it(storage: SqliteStorage) -> None:
    cut = Cut(storage, on_unknown_outcome=lambda: "looked it up: it acted")
    await cut.cut()
    assert (await cut.recover()).content == "done before | looked it up: it acted"


async def test_a_failed_run_goes_on_from_its_last_step(storage: SqliteStorage) -> None:
    ran: list[int] = []

    def once() -> str:
        ran.append(1)
        return "done"

    model = ScriptedModel(reply(tool_calls=[("once", {})]), ModelServerError("down"), "fine now", max_retries=0)
    agent = Agent(model=model, tools=[once], storage=storage)
    with pytest.raises(ModelServerError):
        await agent.arun("go", run_id="r", session_id="s")
    response = await agent.acontinue_run(run_id="r")
    assert (response.content, ran) == ("fine now", [1])


async def test_an_answer_that_was_stored_before_the_run_was_cut_is_not_asked_for_again(storage: SqliteStorage) -> None:
    hanging = [True]

    async def look(ctx: RunContext, run_output: RunResponse[Any]) -> None:
        if hanging:
            ctx.emit("looking")  # which is stored at once, and with it what the model said
            await asyncio.Event().wait()

    model = ScriptedModel(reply("done", finish_reason="length"))
    agent = Agent(model=model, storage=storage, post_hooks=[look])
    handle = await agent.start("go")
    async with asyncio.timeout(5):
        async for event in handle.events():
            if event.event == "CustomEvent":
                break
        await handle.let_go()
    hanging.clear()
    response = await agent.acontinue_run(run_id=handle.run_id)
    assert (response.content, response.stop_reason, response.usage.model_calls) == ("done", "output_limit", 1)
    assert [message.role for message in response.messages] == ["user", "assistant"]


async def test_the_same_run_id_with_the_same_input_is_the_same_run(storage: SqliteStorage) -> None:
    model = ScriptedModel("first")
    agent = Agent(model=model, storage=storage)
    await agent.arun("go", run_id="r", session_id="s")
    again = await agent.arun("go", run_id="r", session_id="s")
    assert again.content == "first" and len(model.requests) == 1
    async with agent.stream("go", run_id="r", session_id="s") as run:
        assert [event.event async for event in run] == ["RunCompleted"]
    with pytest.raises(RunMismatch):
        await agent.arun("something else", run_id="r", session_id="s")


async def test_a_run_that_is_being_driven_is_busy(storage: SqliteStorage) -> None:
    cut = Cut(storage)
    model = ScriptedModel(reply(tool_calls=[("act", {})]))
    handle = await cut.agent(model).start("go", session_id="s", run_id="r")
    async with asyncio.timeout(5):
        await cut.hanging.wait()
    with pytest.raises(RunBusy):
        await cut.agent(model).arun("go", session_id="s", run_id="r")
    with pytest.raises(RunBusy):
        await cut.agent(model).acontinue_run(run_id="r")
    assert await Runtime(agents=[cut.agent(model)], storage=storage).recover() == []
    await handle.cancel()


async def test_two_that_continue_at_once_run_the_tool_once(storage: SqliteStorage) -> None:
    ran: list[int] = []

    @tool(requires_confirmation=True)
    def drop() -> str:
        ran.append(1)
        return "dropped"

    agent = Agent(model=ScriptedModel(reply(tool_calls=[("drop", {})]), "done"), tools=[drop], storage=storage)
    paused = await agent.arun("go")
    paused.tools_requiring_confirmation[0].confirmed = True
    other = Agent(model=ScriptedModel("done"), tools=[drop], storage=SqliteStorage(db_file=storage._file))
    outcomes = await asyncio.gather(agent.acontinue_run(paused), other.acontinue_run(paused), return_exceptions=True)
    assert ran == [1]
    assert sorted(type(outcome).__name__ in ("AlreadyContinued", "RunBusy") for outcome in outcomes) == [False, True]
    with pytest.raises(AlreadyContinued):
        await agent.acontinue_run(paused)


@pytest.mark.parametrize("ends", ["taken over", "let go"])
async def test_a_result_that_was_to_be_stored_with_the_next_model_call_is_kept(
    storage: SqliteStorage, ends: str
) -> None:
    acted, go_on, made, heard = asyncio.Event(), asyncio.Event(), 0, ""

    async def act() -> str:
        nonlocal made
        made += 1
        acted.set()
        with contextlib.suppress(asyncio.CancelledError):
            await go_on.wait()
        return "acted late"

    def answer(request: Any) -> Any:
        nonlocal heard
        heard = request.messages[-1].content
        return "done" if heard == "acted late" else reply(tool_calls=[("act", {})])

    agent = Agent(agent_id="a", model=FunctionModel(answer), tools=[act], storage=storage)
    async with asyncio.timeout(5):
        handle = await agent.start("go", run_id="r", session_id="s")
        await acted.wait()
        if ends == "let go":
            await handle.let_go()
        else:
            stored = await storage.load_run("r")
            assert stored is not None
            await storage.claim("r", epoch=stored.epoch, owner="gone", expect=[RunStatus.RUNNING], lease_s=0.0)
            go_on.set()
            with pytest.raises(RunBusy):
                await handle.result()
        owner.has_left("r")
        stored = await storage.load_run("r")
        assert stored is not None and [s.kind for s in stored.steps if s.number < 0] == ["evidence"]
        await storage.claim(
            "r", epoch=stored.epoch, owner=owner.this_process(), expect=[RunStatus.RUNNING], lease_s=0.0
        )
        assert (await agent.acontinue_run(run_id="r")).content == "done"
    assert (made, heard) == (1, "acted late")


async def test_a_late_owner_is_fenced_and_its_result_kept_as_evidence(storage: SqliteStorage) -> None:
    acted, go_on = asyncio.Event(), asyncio.Event()

    async def act(session_state: dict[str, Any]) -> str:
        session_state["late"] = True
        acted.set()
        await go_on.wait()
        return "acted late"

    def agent(model: Any) -> Agent[Any]:
        return Agent(agent_id="a", model=model, tools=[act], storage=storage)

    calling = ScriptedModel(reply(tool_calls=[("act", {})]))
    late = asyncio.create_task(agent(calling).arun("go", run_id="r", session_id="s"))
    async with asyncio.timeout(5):
        await acted.wait()
        stored = await storage.load_run("r")
        assert stored is not None
        await storage.claim("r", epoch=stored.epoch, owner="somebody", expect=[RunStatus.RUNNING], lease_s=0.0)
        go_on.set()
        with pytest.raises(RunBusy):
            await late
    owner.has_left("r")
    model = FunctionModel(lambda request: request.messages[-1].content or "")
    stored = await storage.load_run("r")
    assert stored is not None and [s.kind for s in stored.steps if s.number < 0] == ["evidence"]
    await storage.claim("r", epoch=stored.epoch, owner=owner.this_process(), expect=[RunStatus.RUNNING], lease_s=0.0)
    response = await agent(model).acontinue_run(run_id="r")
    assert response.content == "acted late"
    assert response.session_state == {}
