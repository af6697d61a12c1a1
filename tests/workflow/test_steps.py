"""Steps: done once, whatever happens in between; told apart; tried again; waiting for people."""

# pyright: reportCallIssue=false, reportArgumentType=false, reportReturnType=false, reportAttributeAccessIssue=false
# what an author writes is not what a caller gets
from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunContext, RunResponse, RunStatus, Workflow, tool, workflow
from agentrt.errors import (
    CodecError,
    ConfigurationError,
    DecisionRefused,
    LimitReached,
    RunMismatch,
    StepFailed,
    StepRejected,
    StepTimeout,
)
from agentrt.run.decisions import Confirm, Reject, Resolve
from agentrt.run.limits import RunLimits
from agentrt.runtime import Runtime
from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, Gate, ScriptedModel, reply
from agentrt.workflow import step


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    made: Storage = InMemoryStorage() if request.param == "memory" else SqliteStorage(db_file=tmp_path / "data.db")
    yield made
    await made.aclose()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    made = SqliteStorage(db_file=tmp_path / "data.db")
    yield made
    await made.aclose()


async def cut(definition: Workflow, hanging: asyncio.Event, *args: Any, **options: Any) -> str:
    """Run until something hangs, and let go of the run there, as a process does that is killed."""
    handle = await definition.start(*args, **options)
    async with asyncio.timeout(5):
        await hanging.wait()
        await handle.let_go()
    return handle.run_id


class Once:
    """Counts what is done; hangs at one of its calls until it is told not to."""

    def __init__(self, hang_at: str = "") -> None:
        self.did: Counter[str] = Counter()
        self.hanging = asyncio.Event()
        self._hang_at = hang_at

    async def __call__(self, what: str) -> str:
        self.did[what] += 1
        if what == self._hang_at:
            self._hang_at = ""
            self.hanging.set()
            await asyncio.Event().wait()
        return f"{what} {self.did[what]}"


# --- going on --------------------------------------------------------------------------------------------------------


async def test_what_was_done_before_the_cut_is_not_done_again(sqlite: SqliteStorage) -> None:
    act = Once("c")

    @workflow(storage=sqlite)
    async def job(items: list[str]) -> list[str]:
        return [await step("act", act, item) for item in items]

    run_id = await cut(job, act.hanging, ["a", "b", "c", "d"])
    (response,) = await Runtime(workflows=[job], storage=sqlite).recover()
    assert response.run_id == run_id
    assert response.content == ["a 1", "b 1", "c 2", "d 1"]
    assert act.did == {"a": 1, "b": 1, "c": 2, "d": 1}


async def test_the_same_call_goes_on_with_the_run_of_its_id_and_then_returns_what_came_of_it(
    sqlite: SqliteStorage,
) -> None:
    act = Once("b")

    @workflow(storage=sqlite, session_id="nightly")
    async def job(day: str) -> str:
        return await step("first", act, "a") + await step("second", act, "b") + day

    await cut(job, act.hanging, day="monday", run_id="r")
    for _ in range(2):
        response = await job.arun(day="monday", run_id="r")
        assert response.content == "a 1b 2monday"
    assert act.did == {"a": 1, "b": 2}
    with pytest.raises(RunMismatch):
        await job.arun(day="tuesday", run_id="r")


async def test_an_agents_run_that_was_cut_goes_on_and_one_that_had_ended_is_not_asked_again(
    sqlite: SqliteStorage,
) -> None:
    gate = Gate()
    model = ScriptedModel("one", reply("two", gate=gate), "two")

    class Asking(Workflow):
        agent = Agent(name="writer", model=model)

        async def arun(self) -> list[str]:
            return [(await self.agent.arun(text)).text() for text in ("first", "second")]

    asking = Asking(storage=sqlite)
    run_id = await cut(asking, _event_of(gate))
    response = await asking.acontinue_run(run_id=run_id)
    assert response.content == ["one", "two"]
    assert [request.messages[-1].content for request in model.requests] == ["first", "second", "second"]
    assert response.total_usage.model_calls == 2
    facts = [event.event async for event in asking.attach(run_id) if not event.is_delta]
    assert facts == [
        "WorkflowStarted",
        "RunStarted",
        "ModelCallStarted",
        "ModelCallCompleted",
        "RunCompleted",
        "RunStarted",
        "ModelCallStarted",
        "RunContinued",
        "RunContinued",
        "ModelCallReset",
        "ModelCallStarted",
        "ModelCallCompleted",
        "RunCompleted",
        "WorkflowCompleted",
    ]


def _event_of(gate: Gate) -> Any:
    return gate.reached


async def test_what_had_used_tokens_before_the_cut_counts_once(sqlite: SqliteStorage) -> None:
    act = Once("x")
    agent = Agent(name="writer", model=FunctionModel(lambda request: "one two three"))

    @workflow(storage=sqlite)
    async def job() -> str:
        async def write() -> str:
            return (await agent.arun("in a step")).text()

        await step("write", write)
        await agent.arun("by itself")
        return await step("act", act, "x")

    run_id = await cut(job, act.hanging)
    response = await job.acontinue_run(run_id=run_id)
    assert response.total_usage.model_calls == 2
    assert response.total_usage.output_tokens == 6


async def test_parallel_steps_keep_their_results_apart(sqlite: SqliteStorage) -> None:
    hanging, release = asyncio.Event(), asyncio.Event()
    did: list[int] = []

    async def square(number: int) -> int:
        did.append(number)
        if number == 3 and not release.is_set():
            hanging.set()
            await release.wait()
        return number * number

    @workflow(storage=sqlite)
    async def job(numbers: list[int]) -> list[int]:
        async with asyncio.TaskGroup() as group:
            # in another order than they are asked for
            tasks = {n: group.create_task(step("square", square, n)) for n in sorted(numbers, key=lambda n: n in did)}
        return [tasks[n].result() for n in numbers]

    run_id = await cut(job, hanging, [1, 2, 3, 4])
    release.set()
    response = await job.acontinue_run(run_id=run_id)
    assert response.content == [1, 4, 9, 16]
    assert sorted(did) == [1, 2, 3, 3, 4]


async def test_the_same_step_done_twice_is_two_steps(sqlite: SqliteStorage) -> None:
    act = Once("end")

    @workflow(storage=sqlite)
    async def job() -> list[str]:
        told = [await step("act", act, "same") for _ in range(3)]
        return [*told, await step("act", act, "end")]

    run_id = await cut(job, act.hanging)
    response = await job.acontinue_run(run_id=run_id)
    assert response.content == ["same 1", "same 2", "same 3", "end 2"]


async def test_the_code_begins_with_the_state_at_the_runs_start_and_steps_change_it_once(sqlite: SqliteStorage) -> None:
    act = Once("x")

    class Counting(Workflow):
        session_state: dict[str, Any] = {"code": 0, "items": []}  # noqa: RUF012  an option

        async def arun(self) -> str:
            self.session_state["code"] += 1

            async def note() -> None:
                self.session_state["items"].append("in a step")

            await self.step("note", note)
            self.session_state["items"].append("by the code")
            return await self.step("act", act, "x")

    counting = Counting(storage=sqlite, session_id="s")
    run_id = await cut(counting, act.hanging)
    response = await counting.acontinue_run(run_id=run_id)
    assert response.session_state == {"code": 1, "items": ["in a step", "by the code"]}
    session = await sqlite.load_session("s")
    assert session is not None and session.state == response.session_state


async def test_what_is_yielded_again_is_marked_and_told_once(sqlite: SqliteStorage) -> None:
    act = Once("x")

    class Telling(Workflow):
        agent = Agent(name="writer", model=ScriptedModel("written"))

        async def arun(self) -> AsyncIterator[Any]:
            yield RunResponse(content="one")
            async for event in self.agent.arun("go", stream=True):
                yield event
            yield RunResponse(content=await self.step("act", act, "x"))

    telling = Telling(storage=sqlite, session_id="s")
    await cut(telling, act.hanging, run_id="r")
    items = [item async for item in telling.arun(run_id="r")]
    assert [(item.content, item.repeated) for item in items] == [("one", True), ("written", True), ("x 2", None)]
    told = [event.content async for event in telling.attach("r") if event.event == "CustomEvent"]
    assert told == ["one", "x 2"]
    (whole,) = [item async for item in telling.arun(run_id="r")]
    assert (whole.content, whole.repeated) == ("x 2", True)


async def test_a_sync_workflow_has_steps_too(storage: Storage) -> None:
    class Sync(Workflow):
        agent = Agent(name="writer", model=FunctionModel(lambda request: "written"))

        def run(self, number: int) -> Iterator[Any]:
            doubled = self.step("double", lambda n: n * 2, number)
            yield doubled
            yield self.agent.run(str(doubled)).content
            if self.step("again", external_execution=True) == "yes":
                yield "again"

    sync = Sync(storage=storage)
    async with asyncio.timeout(5):
        *items, paused = [item async for item in sync.arun(number=2)]
        assert (items, paused.event, paused.run_id) == ([4, "written"], "RunPaused", sync.run_id)
        response = sync.run_response
        response.requirements[0].resolve("yes")
        done = await sync.acontinue_run(response)
    assert done.status is RunStatus.COMPLETED
    assert done.content == "writtenagain"


async def test_workers_that_share_a_queue_may_share_it_differently_the_second_time(sqlite: SqliteStorage) -> None:
    act = Once("e")

    @workflow(storage=sqlite)
    async def job(items: list[str]) -> dict[str, str]:
        left, done = list(items), dict[str, str]()

        async def worker() -> None:
            while left:
                item = left.pop(0)
                done[item] = await step("act", act, item)

        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(worker())
        return dict(sorted(done.items()))

    run_id = await cut(job, act.hanging, list("abcdef"))
    response = await job.acontinue_run(run_id=run_id)
    assert response.content == {"a": "a 1", "b": "b 1", "c": "c 1", "d": "d 1", "e": "e 2", "f": "f 1"}
    assert set(act.did.values()) == {1, 2} and act.did["e"] == 2


@pytest.mark.parametrize("how", ["step", "key"])
async def test_steps_alike_in_tasks_at_once_keep_apart_in_a_step_of_their_own_or_by_a_key(
    sqlite: SqliteStorage, how: str
) -> None:
    act, numbers = Once("end"), iter(range(9))
    used: list[tuple[str, int]] = []
    second_is_done = asyncio.Event()

    async def fetch(what: str) -> None:
        if what == "first":  # which takes longer, the first time
            await second_is_done.wait()

    async def use(what: str, number: int) -> None:
        used.append((what, number))
        second_is_done.set()

    @workflow(storage=sqlite)
    async def job() -> None:
        async def one(what: str) -> None:
            await step("fetch", fetch, what)
            number = await step("number", lambda: next(numbers), key=what if how == "key" else None)
            await step("use", use, what, number)

        async with asyncio.TaskGroup() as group:
            for what in ("first", "second"):
                group.create_task(step("one", one, what) if how == "step" else one(what))
        await step("end", act, "end")

    run_id = await cut(job, act.hanging)
    await job.acontinue_run(run_id=run_id)
    assert used == [("second", 0), ("first", 1)]


async def test_steps_with_the_same_arguments_may_run_at_once(sqlite: SqliteStorage) -> None:
    act, numbers = Once("end"), iter(range(9))

    @workflow(storage=sqlite)
    async def job() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step("number", lambda: next(numbers))) for _ in range(3)]
        await step("end", act, "end")
        return [task.result() for task in tasks]

    run_id = await cut(job, act.hanging)
    done = sorted((tool.tool_call_id, tool.result) for tool in await _stored(sqlite, run_id))
    numbered = [result for key, result in done if key.startswith("number:")]
    assert sorted(numbered) == [0, 1, 2]  # in whatever order the threads came to it
    assert (await job.acontinue_run(run_id=run_id)).content == numbered


async def _stored(storage: SqliteStorage, run_id: str) -> list[Any]:
    stored = await storage.load_run(run_id)
    assert stored is not None
    return [step.data["execution"] for step in stored.steps if step.kind == "tool"]


async def test_agents_that_are_asked_the_same_for_several_users_keep_to_them(sqlite: SqliteStorage) -> None:
    act, second_is_done = Once("end"), asyncio.Event()
    model = FunctionModel(lambda request: f"{request.messages[0].content}, dear {request.messages[-1].content}")
    agent = Agent(name="writer", model=model)

    @workflow(storage=sqlite)
    async def job() -> list[str | None]:
        async def ask(user: str) -> str | None:
            await step("look", act, user)
            if user == "ann" and not second_is_done.is_set():  # who comes second, the first time
                await second_is_done.wait()
            response = await agent.arun("mail", user_id=user)
            second_is_done.set()
            return response.user_id

        found = await asyncio.gather(ask("ann"), ask("bob"))
        await step("end", act, "end")
        return found

    run_id = await cut(job, act.hanging)
    assert (await job.acontinue_run(run_id=run_id)).content == ["ann", "bob"]
    assert len(model.requests) == 2


async def test_code_may_be_changed_while_its_run_waits(sqlite: SqliteStorage) -> None:
    act = Once()

    class First(Workflow):
        name = "job"

        async def arun(self, day: str, region: str) -> str:
            await self.step("one", act, day)
            await self.step("two", act, region)
            return await self.step("sign", external_execution=True)

    class Second(Workflow):
        name = "job"

        async def arun(self, day: str) -> list[str]:
            return [
                await self.step("new", act, day),
                await self.step("sign", external_execution=True),
                await self.step("one", act, day),
            ]

    paused = await First(storage=sqlite).arun("monday", region="north")
    async with Runtime(workflows=[Second()], storage=sqlite) as runtime:
        await runtime.decide(paused.run_id, paused.requirements[0].tool_call_id, Resolve("signed"))
        response = await runtime.continue_run(paused.run_id)
    assert response.content == ["monday 2", "signed", "monday 1"]


async def test_steps_are_begun_from_threads_of_the_codes_own(storage: Storage) -> None:
    class Sync(Workflow):
        agent = Agent(name="writer", model=FunctionModel(lambda request: f"{request.messages[-1].content}!"))

        def run(self, items: list[str]) -> list[str]:
            def ask(item: str) -> str:
                return self.agent.run(item).text()

            with ThreadPoolExecutor(2) as pool:
                return list(pool.map(lambda item: self.step("ask", ask, item), items))

    class Careless(Sync):
        def run(self, items: list[str]) -> list[str]:
            with ThreadPoolExecutor(2) as pool:
                return list(pool.map(lambda item: self.agent.run(item).text(), items))

    async with asyncio.timeout(5):
        response = await Sync(storage=storage).arun(["a", "b"])
        assert response.content == ["a!", "b!"]
        assert len(response.member_responses) == 2
        assert (await asyncio.to_thread(Sync(storage=storage).run, ["a"])).content == ["a!"]
        with pytest.raises(ConfigurationError, match="knows nothing of the run whose 'agent'"):
            await Careless(storage=storage).arun(["a"])


async def test_a_step_in_a_step_is_skipped_with_it(sqlite: SqliteStorage) -> None:
    act = Once("inner b")

    async def outer(what: str) -> str:
        return await step("one", act, f"inner {what}") + await step("two", act, "leaf")

    @workflow(storage=sqlite)
    async def job() -> list[str]:
        return [await step("outer", outer, what) for what in "ab"]

    run_id = await cut(job, act.hanging)
    response = await job.acontinue_run(run_id=run_id)
    assert response.content == ["inner a 1leaf 1", "inner b 2leaf 2"]
    assert act.did == {"inner a": 1, "inner b": 2, "leaf": 2}


# --- failures --------------------------------------------------------------------------------------------------------


async def test_a_run_that_failed_goes_on_with_the_step_that_failed(storage: Storage) -> None:
    did: list[str] = []

    async def act(what: str) -> str:
        did.append(what)
        if did.count("b") == 1 and what == "b":
            raise ValueError("no b")
        return what

    @workflow(storage=storage, session_id="s")
    async def job() -> list[str]:
        return [await step("act", act, what) for what in "abc"]

    with pytest.raises(ValueError, match="no b"):
        await job.arun(run_id="r")
    response = await job.arun(run_id="r")
    assert response.content == ["a", "b", "c"]
    assert did == ["a", "b", "b", "c"]


class Declined(Exception):
    """An error of a user's own."""


async def test_a_failure_that_the_code_has_dealt_with_is_the_same_failure_again(sqlite: SqliteStorage) -> None:
    act = Once("end")
    charged: list[str] = []

    async def charge(card: str) -> str:
        charged.append(card)
        if card == "first" and charged.count("first") == 1:
            raise Declined("first is declined")
        return f"charged {card}"

    @workflow(storage=sqlite)
    async def pay() -> str:
        try:
            paid = await step("charge", charge, "first")
        except Declined as error:
            paid = f"{error}, {await step('charge', charge, 'second')}"
        await step("act", act, "end")
        return paid

    run_id = await cut(pay, act.hanging)
    response = await pay.acontinue_run(run_id=run_id)
    assert response.content == "first is declined, charged second"
    assert charged == ["first", "second"]


async def test_a_failure_that_can_not_be_made_again_says_what_it_was(sqlite: SqliteStorage) -> None:
    act = Once("end")

    class Local(Exception):
        def __init__(self, what: object) -> None:
            super().__init__(what)

    async def fail() -> None:
        raise Local(object)

    @workflow(storage=sqlite)
    async def job() -> str:
        try:
            await step("fail", fail)
        except Exception as error:
            told = error
        await step("act", act, "end")
        return f"{type(told).__name__}: {told}"

    run_id = await cut(job, act.hanging)
    response = await job.acontinue_run(run_id=run_id)
    assert response.content.startswith(f"{StepFailed.__name__}: ")
    assert "Local: <class 'object'>" in response.content


async def test_a_step_is_tried_again_and_each_attempt_has_its_time() -> None:
    attempts: list[tuple[int, str | None]] = []

    async def act(ctx: RunContext) -> str:
        attempts.append((ctx.attempt, ctx.idempotency_key))
        if ctx.attempt == 1:
            raise OSError("no network")
        if ctx.attempt == 2:
            await asyncio.Event().wait()
        return "done"

    @workflow
    async def job(retries: int) -> str:
        return await step("act", act, retries=retries, timeout_s=0.02)

    assert (await job.arun(retries=2)).content == "done"
    assert [number for number, _ in attempts] == [1, 2, 3]
    assert len({key for _, key in attempts}) == 1
    with pytest.raises(StepTimeout, match=r"Step 'act' did not finish within 0\.02 s"):
        await job.arun(retries=1)


async def test_what_storage_can_not_hold_is_said_with_the_steps_name(sqlite: SqliteStorage) -> None:
    @workflow(storage=sqlite)
    async def job(how: str) -> object:
        if how == "result":
            return await step("make", lambda: object())
        if how == "key":
            return await step("use", lambda thing: 1, object(), key="the thing")
        return await step("use", lambda thing: 1, object())

    with pytest.raises(CodecError, match="Step 'make' left something that storage can't hold"):
        await job.arun(how="result")
    with pytest.raises(ConfigurationError, match=r"Step 'use' can't be told .* Give it a key"):
        await job.arun(how="argument")
    assert (await job.arun(how="key")).content == 1


async def test_steps_belong_into_the_code_of_a_workflow() -> None:
    with pytest.raises(ConfigurationError, match="Step 'act' is not in the code of a workflow"):
        step("act", len, "x")

    @workflow
    async def job() -> None:
        step("act")

    with pytest.raises(TypeError, match="Step 'act' takes a function"):
        await job.arun()

    @workflow
    async def called() -> None:
        await step("act", len("x"))

    with pytest.raises(TypeError, match=r"not 1: step\('act', function, \*arguments\)"):
        await called.arun()


async def test_a_step_that_is_cut_by_another_ones_failure_is_told_to_its_end_and_done_again(storage: Storage) -> None:
    act = Once("slow")

    async def fail() -> None:
        await act.hanging.wait()
        if act.did["slow"] == 1:
            raise ValueError("no")

    @workflow(storage=storage, session_id="s")
    async def job() -> str:
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(step("slow", act, "slow"))
            group.create_task(step("fail", fail))
        return slow.result()

    with pytest.raises(ExceptionGroup):
        await job.arun(run_id="r")
    async with job.stream(run_id="r") as run:
        events = [event.event async for event in run]
    assert (await run.result()).content == "slow 2"
    counts = Counter(events)
    assert (counts["WorkflowStepStarted"], counts["WorkflowStepCompleted"], events[-1]) == (2, 2, "WorkflowCompleted")


async def test_a_limit_of_time_ends_it() -> None:
    @workflow(limits=RunLimits(seconds=0.02))
    async def job() -> None:
        await asyncio.Event().wait()

    with pytest.raises(LimitReached, match="seconds"):
        await job.arun()


async def test_many_agents_runs_reach_no_limit() -> None:
    agent = Agent(name="writer", model=FunctionModel(lambda request: "ok"))

    @workflow
    async def job() -> int:
        return sum([len((await agent.arun(str(number))).text()) for number in range(60)])

    assert (await job.arun()).content == 120


# --- people ----------------------------------------------------------------------------------------------------------


class Publishing(Workflow):
    """A step that somebody confirms, after one that nobody needs to."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.did: list[str] = []

    async def write(self, topic: str) -> str:
        self.did.append("write")
        return f"about {topic}"

    async def publish(self, text: str) -> str:
        self.did.append("publish")
        return f"published {text}"

    async def arun(self, topic: str) -> str:
        text = await self.step("write", self.write, topic)
        try:
            return await self.step("publish", self.publish, text, requires_confirmation=True)
        except StepRejected as error:
            return f"not published: {error.reason}"


async def test_a_step_waits_for_somebody_and_is_done_when_it_is_confirmed(storage: Storage) -> None:
    publishing = Publishing(storage=storage)
    paused = await publishing.arun("hens")
    assert paused.status is RunStatus.PAUSED
    (asked,) = paused.requirements
    assert (asked.kind, asked.tool.tool_name, asked.tool.tool_args) == (
        "confirmation",
        "publish",
        {"text": "about hens"},
    )
    assert (await publishing.acontinue_run(paused)).status is RunStatus.PAUSED

    asked.confirm()
    response = await publishing.acontinue_run(paused)
    assert response.content == "published about hens"
    assert publishing.did == ["write", "publish"]


async def test_somebody_else_decides_in_another_process(sqlite: SqliteStorage) -> None:
    first = Publishing(storage=sqlite)
    paused = await first.arun("hens")
    async with Runtime(workflows=[Publishing()], storage=sqlite) as runtime:
        (asked,) = await runtime.requirements()
        with pytest.raises(DecisionRefused, match="can't be edited"):
            await runtime.decide(paused.run_id, asked.tool_call_id, Confirm(args={"text": "other"}))
        await runtime.decide(paused.run_id, asked.tool_call_id, Reject(reason="too short"), by="bob")
        (response,) = await runtime.recover()
    assert response.content == "not published: too short"
    assert first.did == ["write"]


async def test_steps_that_need_nobody_end_before_the_run_pauses(storage: Storage) -> None:
    ended = asyncio.Event()

    async def slow() -> str:
        await asyncio.sleep(0.1)  # longer than code that waits is given to begin something else
        ended.set()
        return "slow"

    async def quick() -> str:
        return "quick"

    @workflow(storage=storage)
    async def job() -> list[str]:
        async def two() -> str:
            return await step("slow", slow) + await step("quick", quick)

        async with asyncio.TaskGroup() as group:
            asked = group.create_task(step("sign", external_execution=True))
            done = group.create_task(two())
        return [asked.result(), done.result()]

    paused = await job.arun()
    assert ended.is_set()
    assert [tool.result for tool in paused.tools] == [None, "slow", "quick"]
    paused.requirements[0].resolve("signed")
    assert (await job.acontinue_run(paused)).content == ["signed", "slowquick"]


async def test_two_steps_wait_and_one_decision_is_not_enough(storage: Storage) -> None:
    @workflow(storage=storage)
    async def job() -> str:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step("sign", key=who, external_execution=True)) for who in ("ann", "bob")]
        return " ".join(task.result() for task in tasks)

    paused = await job.arun()
    first, second = paused.requirements
    second.resolve("bob's")
    still = await job.acontinue_run(paused)
    assert [asked.tool_call_id for asked in still.requirements] == [first.tool_call_id]
    still.requirements[0].resolve("ann's")
    assert (await job.acontinue_run(still)).content == "ann's bob's"


def paying(did: list[str]) -> Agent[Any]:
    @tool(requires_confirmation=True, allow_edits=True)
    async def pay(amount: int) -> str:
        did.append(f"paid {amount}")
        return f"paid {amount}"

    def answer(request: Any) -> Any:
        last = request.messages[-1]
        return reply(tool_calls=[("pay", {"amount": 5})]) if last.role == "user" else last.content

    return Agent(name="payer", model=FunctionModel(answer), tools=[pay])


async def test_what_an_agent_waits_for_pauses_the_workflow_and_is_decided_on_its_run(storage: Storage) -> None:
    did: list[str] = []

    class Paying(Workflow):
        agent = paying(did)

        async def arun(self) -> str:
            first = await self.step("prepare", lambda: did.append("prepared"))
            paid = await self.agent.arun("pay")
            assert not paid.is_paused
            return f"{first} {paid.text()}"

    async with Runtime(workflows=[Paying()], storage=storage) as runtime:
        handle = await runtime.start("Paying", None)
        paused = await handle.result()
        assert paused.status is RunStatus.PAUSED
        (asked,) = await runtime.requirements()
        assert asked.path == ("Paying", "payer")
        with pytest.raises(DecisionRefused, match="amount"):
            await runtime.decide(handle.run_id, asked.tool_call_id, Confirm(args={"amount": "many"}))
        await runtime.decide(handle.run_id, asked.tool_call_id, Confirm(args={"amount": 7}))
        response = await runtime.continue_run(handle.run_id)
    assert response.content == "None paid 7"
    assert did == ["prepared", "paid 7"]


async def test_an_agent_that_streams_in_a_sync_workflow_pauses_it(storage: Storage) -> None:
    did: list[str] = []
    agent = paying(did)

    @workflow(storage=storage)
    def job() -> Iterator[Any]:
        yield from agent.run("pay", stream=True)
        yield "over"

    items = [item async for item in job.arun()]
    assert [item.run_id for item in items if item.event == "RunPaused"] == [job.run_id]
    paused = items[-1].response
    assert paused.status is RunStatus.PAUSED
    paused.requirements[0].confirm()
    response = await job.acontinue_run(paused)
    assert (response.content, did) == ("over", ["paid 5"])


async def test_a_step_that_acts_once_asks_whether_it_has_acted(sqlite: SqliteStorage) -> None:
    act = Once("pay")

    @workflow(storage=sqlite)
    async def job() -> str:
        return await step("pay", act, "pay", effect="once")

    for decision, content, did in ((Resolve("it was paid"), "it was paid", 1), (Confirm(), "pay 2", 2)):
        act.__init__("pay")
        run_id = await cut(job, act.hanging)
        async with Runtime(workflows=[job], storage=sqlite) as runtime:
            (paused,) = await runtime.recover()
            (asked,) = paused.requirements
            assert (asked.kind, asked.tool.tool_args) == ("unknown_outcome", {"what": "pay"})
            await runtime.decide(run_id, asked.tool_call_id, decision)
            response = await runtime.continue_run(run_id)
        assert (response.content, act.did["pay"]) == (content, did)


async def test_a_paused_run_is_cancelled_with_what_it_waits_for(storage: Storage) -> None:
    class Paying(Workflow):
        agent = paying([])

        async def arun(self) -> str:
            return (await self.agent.arun("pay")).text()

    asking = Paying(storage=storage, session_id="s")
    paused = await asking.arun()
    assert await asking.cancel(paused.run_id)
    (child,) = await storage.list_runs("s/payer")
    assert child.status is RunStatus.CANCELLED


async def test_a_function_that_pauses_has_no_result_to_give() -> None:
    @workflow
    async def job() -> str:
        return await step("sign", external_execution=True)

    with pytest.raises(Exception, match="is paused, so there is no result") as caught:
        await job()
    assert caught.value.run_response.requirements


async def test_a_step_that_is_tried_again_tries_again_what_failed_in_it() -> None:
    agent = Agent(name="writer", model=ScriptedModel(ValueError("no model"), "written"))

    async def write() -> str:
        return (await agent.arun("go")).text()

    @workflow
    async def job() -> str:
        return await step("write", write, retries=1)

    assert (await job.arun()).content == "written"


async def test_agents_mapped_over_inputs_are_not_asked_again(sqlite: SqliteStorage) -> None:
    act = Once("end")
    model = FunctionModel(lambda request: f"{request.messages[-1].content}!")
    agent = Agent(name="writer", model=model)

    @workflow(storage=sqlite)
    async def job() -> dict[int, str]:
        found = {index: outcome.text() async for index, outcome in agent.map(["a", "b", "c"])}
        await step("end", act, "end")
        return dict(sorted(found.items()))

    run_id = await cut(job, act.hanging)
    response = await job.acontinue_run(run_id=run_id)
    assert response.content == {0: "a!", 1: "b!", 2: "c!"}
    assert len(model.requests) == 3


async def test_cancelled_after_what_runs_it_begins_no_more(storage: Storage) -> None:
    running, release = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        running.set()
        await release.wait()
        return "slow"

    @workflow(storage=storage)
    async def job() -> None:
        await step("slow", slow)
        await step("never", lambda: "never")

    handle = await job.start()
    async with asyncio.timeout(5):
        await running.wait()
        await job.cancel(handle.run_id, "enough", mode="after_tools")
        release.set()
        response = await handle.result()
    assert (response.status, [tool.result for tool in response.tools]) == (RunStatus.CANCELLED, ["slow", None])


async def test_a_step_that_acts_once_is_not_tried_again() -> None:
    @workflow
    async def job() -> None:
        await step("pay", lambda: None, effect="once", retries=1)

    with pytest.raises(ConfigurationError, match="Step 'pay' acts once"):
        await job.arun()
