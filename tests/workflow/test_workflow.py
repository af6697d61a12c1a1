"""Workflows: what their authors write, how it is called, what is a run of its own."""

# pyright: reportCallIssue=false, reportReturnType=false, reportAttributeAccessIssue=false
# what an author writes is not what a caller gets
from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import agentrt
from agentrt import Agent, RunContext, RunResponse, RunStatus, Workflow, workflow
from agentrt.errors import AgentRTError, ConfigurationError
from agentrt.run.events import CustomEvent
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, Gate, ScriptedModel, reply
from agentrt.utils.pprint import pprint_run_response


def echo(name: str = "echo", **options: Any) -> Agent[Any]:
    """An agent that says what it was told last."""
    return Agent(name=name, model=FunctionModel(lambda request: f"{request.messages[-1].content}!"), **options)


class Riddles(Workflow):
    """Remembers what its agent said to each question."""

    writer = Agent(name="writer", model=ScriptedModel("What has keys", "What has teeth"))

    def run(self, topic: str) -> Iterator[Any]:
        if known := self.session_state.get(topic):
            yield RunResponse(run_id=self.run_id, content=known)
            return
        yield from self.writer.run(f"A riddle about {topic}", stream=True)
        self.session_state[topic] = self.writer.run_response.content


def printed(given: Any) -> str:
    console = Console(file=StringIO(), width=80)
    pprint_run_response(given, markdown=True, show_time=True, console=console)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]  a StringIO


# --- a generator -----------------------------------------------------------------------------------------------------


def test_the_second_run_prints_what_the_first_one_has_put_by_and_asks_no_model() -> None:
    model = ScriptedModel("What has keys")
    riddles = Riddles()
    with Riddles.writer.override(model=model):
        first = printed(riddles.run(topic="pianos"))
        second = printed(riddles.run(topic="pianos"))
    assert "What has keys" in first
    assert "What has keys" in second
    assert len(model.requests) == 1
    assert riddles.session_state == {"pianos": "What has keys"}


def test_what_is_yielded_is_what_the_caller_gets() -> None:
    class Counting(Workflow):
        def run(self, upto: int) -> Iterator[Any]:
            for number in range(upto):
                yield RunResponse(content=number)
            yield {"plain": "data"}

    *responses, last = Counting(session_id="s").run(upto=2)
    assert [response.content for response in responses] == [0, 1]
    assert {response.session_id for response in responses} == {"s"}
    assert last == {"plain": "data"}


async def test_the_other_way_to_call_it_is_there() -> None:
    riddles = Riddles()
    with Riddles.writer.override(model=ScriptedModel("What has keys")):
        events = [item async for item in riddles.arun("pianos")]
    assert [event.event for event in events if not event.is_delta][-1] == "RunCompleted"
    assert riddles.run_response.content == "What has keys"


def test_an_async_workflow_is_called_from_sync_code() -> None:
    class Shouting(Workflow):
        agent = echo()

        async def arun(self, text: str) -> AsyncIterator[str]:
            yield "so "
            yield (await self.agent.arun(text)).text()

    shouting = Shouting()
    assert list(shouting.run("hey")) == ["so ", "hey!"]
    assert shouting.run_response.content == "so hey!"


def test_leaving_the_iterator_cancels_the_run_and_closes_the_generator() -> None:
    closed = threading.Event()

    class Endless(Workflow):
        def run(self) -> Iterator[int]:
            try:
                while True:
                    yield from range(100)
            finally:
                closed.set()

    endless = Endless()
    for item in endless.run():
        if item == 3:
            break
    assert closed.wait(5)
    assert endless.run_response.status is RunStatus.CANCELLED


def test_what_its_code_raises_is_raised_and_stored() -> None:
    class Broken(Workflow):
        def run(self) -> Iterator[str]:
            yield "so far"
            raise ValueError("no more")

    broken = Broken()
    items: list[str] = []
    with pytest.raises(ValueError, match="no more") as caught:
        for item in broken.run():
            items.append(item)
    assert items == ["so far"]
    assert caught.value.run_response.status is RunStatus.FAILED  # pyright: ignore[reportAttributeAccessIssue]
    assert broken.run_response.error == "ValueError: no more"


# --- a plain function ------------------------------------------------------------------------------------------------


async def test_what_is_returned_is_the_content_of_the_response() -> None:
    class Adding(Workflow):
        async def arun(self, a: int, b: int = 1) -> int:
            return a + b

    response = await Adding().arun(a=2)
    assert (response.content, response.status, response.agent_name) == (3, RunStatus.COMPLETED, "Adding")


def test_a_response_that_is_returned_gives_its_content() -> None:
    class Asking(Workflow):
        agent = echo()

        def run(self, text: str) -> RunResponse:
            return self.agent.run(text)

    response = Asking().run("hey")
    assert response.content == "hey!"
    assert response.agent_name == "Asking"
    assert [member.content for member in response.member_responses] == ["hey!"]
    assert response.total_usage.model_calls == 1
    assert response.usage.model_calls == 0


async def test_arguments_that_do_not_fit_are_refused_before_anything_is_run() -> None:
    class Adding(Workflow):
        async def arun(self, a: int) -> int:
            return a

    with pytest.raises(TypeError, match="'b'"):
        Adding().arun(a=1, b=2)
    with pytest.raises(ConfigurationError, match="has no code"):
        Workflow().arun()
    with pytest.raises(TypeError, match="did you mean 'session_id'"):
        Adding(sessionid="s")


def test_code_may_be_inherited_and_called_by_its_heir() -> None:
    class Greeting(Workflow):
        def run(self, name: str) -> Iterator[str]:
            yield f"Hello {name}"

    class Long(Greeting):
        def run(self, name: str) -> Iterator[str]:
            yield from super().run(name)
            yield ", how are you?"

    assert "".join(Long().run("Ann")) == "Hello Ann, how are you?"


def test_a_constructor_of_ones_own_may_set_attributes() -> None:
    class With(Workflow):
        def __init__(self, agent: Agent[Any], **options: Any) -> None:
            self.greeting = "Hello"
            super().__init__(**options)
            self.agent = agent

        def run(self, name: str) -> RunResponse:
            return self.agent.run(f"{self.greeting} {name}")

    made = With(echo(), name="with")
    assert made.run("Ann").content == "Hello Ann!"
    assert made.copy(name="other").run("Bob").agent_name == "other"


def test_a_parameter_with_the_name_of_an_option_gets_it_too() -> None:
    class Telling(Workflow):
        def run(self, session_id: str, stream: bool = False) -> str:
            return f"{session_id} {self.session_id} {stream}"

    assert Telling().run(session_id="s", stream=True).content == "s s True"


# --- runs at once ----------------------------------------------------------------------------------------------------


async def test_runs_at_once_have_nothing_in_common() -> None:
    gate, entered = asyncio.Event(), asyncio.Semaphore(0)

    class Noting(Workflow):
        agent = echo()

        async def arun(self, text: str) -> dict[str, Any]:
            self.text = text
            self.session_state["text"] = text
            mine = await self.agent.arun(text)
            entered.release()
            await gate.wait()
            return {
                "text": self.text,
                "state": self.session_state["text"],
                "newest": self.agent.run_response.content,
                "run": self.run_id == mine.parent_run_id,
            }

    one, other = Noting(), Noting()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        runs = [group.create_task(w.arun(f"{name}{n}")) for name, w in (("a", one), ("b", other)) for n in range(5)]
        for _ in runs:
            await entered.acquire()
        gate.set()
    for index, run in enumerate(runs):
        text = f"{'ab'[index // 5]}{index % 5}"
        assert run.result().content == {"text": text, "state": text, "newest": f"{text}!", "run": True}
    assert not hasattr(one, "text")


async def test_200_runs_at_once_have_nothing_in_common(tmp_path: Path) -> None:
    class Noting(Workflow):
        agent = echo()

        def run(self, text: str) -> Iterator[Any]:
            self.text = self.session_state["text"] = text
            yield self.agent.run(text).content
            yield [self.text, self.session_state, self.agent.run_response.content, self.step("shout", str.upper, text)]

    async with asyncio.timeout(60):
        storage = SqliteStorage(db_file=tmp_path / "data.db")
        noting = Noting(storage=storage)

        async def one(number: int) -> list[Any]:
            return [item async for item in noting.arun(f"v{number}")]

        found = await asyncio.gather(*(one(number) for number in range(200)))
        await storage.aclose()
    for number, items in enumerate(found):
        text = f"v{number}"
        assert items == [f"{text}!", [text, {"text": text}, f"{text}!", text.upper()]]


async def test_agents_without_a_name_have_that_of_their_attribute() -> None:
    other = ScriptedModel("uno")

    class Two(Workflow):
        first = Agent(model=ScriptedModel("one", "two"), add_history_to_messages=True)
        second = Agent(model=other, add_history_to_messages=True)

        async def arun(self) -> list[Any]:
            answers = [await self.first.arun("go"), await self.second.arun("go"), await self.first.arun("on")]
            return [(answer.agent_name, len(answer.messages)) for answer in answers]

    async with Two().stream() as run:
        paths = {event.path async for event in run}
    assert (await run.result()).content == [("first", 2), ("second", 2), ("first", 2)]
    assert paths == {("Two",), ("Two", "first"), ("Two", "second")}
    assert (Two.first.name, Two.second.name) == (None, None)
    assert [len(request.messages) for request in other.requests] == [1]


async def test_an_agent_has_no_newest_run_before_it_ran_in_this_run() -> None:
    class Looking(Workflow):
        agent = echo()

        async def arun(self) -> str:
            try:
                return self.agent.run_response.text()
            except AgentRTError as error:
                return str(error)

    await Looking.agent.arun("outside")
    assert "There is no run_response yet" in (await Looking().arun()).content


# --- sessions --------------------------------------------------------------------------------------------------------


async def test_what_a_program_changes_in_the_state_between_runs_counts_for_this_instance_alone() -> None:
    class Counter(Workflow):
        session_state: dict[str, Any] = {"n": 0}  # noqa: RUF012  an option

        async def arun(self) -> int:
            self.session_state["n"] += 1
            return self.session_state["n"]

    counter = Counter()
    counter.session_state["n"] = 10
    assert (await counter.arun()).content == 11
    counter.session_state["n"] = 20
    assert (await counter.arun()).content == 21
    assert (await Counter().arun()).content == 1


async def test_a_session_keeps_its_state_and_its_agents_conversations() -> None:
    class Chat(Workflow):
        session_state: dict[str, Any] = {"turns": 0}  # noqa: RUF012  an option
        agent = Agent(name="talker", model=FunctionModel(lambda r: str(len(r.messages))), add_history_to_messages=True)

        async def arun(self, text: str) -> str:
            self.session_state["turns"] += 1
            return (await self.agent.arun(text)).text()

    storage = InMemoryStorage()
    first = await Chat(storage=storage).arun("one", session_id="s", user_id="ann")
    second = await Chat(storage=storage).arun("two", session_id="s", user_id="ann")
    elsewhere = await Chat(storage=storage).arun("three", session_id="t", user_id="ann")
    assert (first.content, second.content, elsewhere.content) == ("1", "3", "1")
    assert second.session_state == {"turns": 2}
    assert Chat.session_state is not None
    history = await storage.load_history("s")
    assert [[(m.role, m.content) for m in run] for run in history] == [
        [("user", "one"), ("assistant", "1")],
        [("user", "two"), ("assistant", "3")],
    ]
    agents = await storage.load_session("s/talker")
    assert agents is not None and agents.user_id == "ann"


async def test_an_agent_with_a_storage_of_its_own_is_kept_there() -> None:
    own = InMemoryStorage()

    class Asking(Workflow):
        agent = echo(storage=own, session_id="mine")

        async def arun(self) -> str:
            return (await self.agent.arun("hey")).text()

    await Asking().arun()
    assert len(await own.list_runs("mine")) == 1


# --- events ----------------------------------------------------------------------------------------------------------


async def test_its_events_are_its_own_and_those_of_its_agents_with_their_path() -> None:
    class Two(Workflow):
        name = "two"
        agent = echo("first")
        second = echo("second")

        async def arun(self, text: str) -> str:
            told = await self.agent.arun(text)
            size = await self.step("measure", len, told.text())
            return f"{(await self.second.arun(told.text())).text()} {size}"

    async with Two().stream("hey", stream_intermediate_steps=True) as run:
        events = [event async for event in run]
        response = await run.result()
    facts = [(event.event, event.path) for event in events if not event.is_delta]
    calls = ("RunStarted", "ModelCallStarted", "ModelCallCompleted", "RunCompleted")
    assert facts == [
        ("WorkflowStarted", ("two",)),
        *((name, ("two", "first")) for name in calls),
        ("WorkflowStepStarted", ("two",)),
        ("WorkflowStepCompleted", ("two",)),
        *((name, ("two", "second")) for name in calls),
        ("WorkflowCompleted", ("two",)),
    ]
    assert [event.seq for event in events if not event.is_delta] == list(range(1, 13))
    assert "".join(event.content for event in events if event.event == "RunContent") == "hey!hey!!"
    assert response.content == events[-1].content == "hey!! 4"


async def test_what_is_yielded_is_an_event_once_and_agents_events_are_not_told_twice() -> None:
    class Mixed(Workflow):
        agent = echo()

        async def arun(self) -> AsyncIterator[Any]:
            yield "text"
            yield CustomEvent(name="mine", content=1)
            async for event in self.agent.arun("hey", stream=True):
                yield event
            yield RunResponse(content={"a": 1})

    mixed = Mixed()
    events = [event async for event in mixed.arun(stream=True)]
    told = [(event.event, event.content) for event in events if not event.is_delta]
    assert told == [
        ("WorkflowStarted", "{}"),
        ("CustomEvent", "text"),
        ("CustomEvent", 1),
        ("RunStarted", None),
        ("RunCompleted", "hey!"),
        ("CustomEvent", {"a": 1}),
        ("WorkflowCompleted", {"a": 1}),
    ]


async def test_a_background_run_is_read_by_whoever_attaches() -> None:
    class Asking(Workflow):
        agent = echo()

        async def arun(self, text: str) -> str:
            return (await self.agent.arun(text)).text()

    asking = Asking()
    handle = await asking.start(text="hey")
    events = [event async for event in handle.events()]
    assert events[-1].event == "WorkflowCompleted"
    assert events[-1].content == "hey!"
    again = [event async for event in asking.attach(handle.run_id)]
    assert [event.to_json() for event in again] == [event.to_json() for event in events]


async def test_cancelling_cancels_what_its_agents_do() -> None:
    gate = Gate()
    storage = InMemoryStorage()

    class Waiting(Workflow):
        agent = Agent(name="slow", model=ScriptedModel(reply("never", gate=gate)))

        async def arun(self) -> str:
            return (await self.agent.arun("go")).text()

    waiting = Waiting(storage=storage)
    handle = await waiting.start(session_id="s")
    async with asyncio.timeout(5):
        await gate.reached.wait()
        assert await waiting.cancel(handle.run_id, "enough")
        response = await handle.result()
    assert response.status is RunStatus.CANCELLED
    (child,) = await storage.list_runs("s/slow")
    assert child.status is RunStatus.CANCELLED


async def test_who_reads_what_it_yields_is_told_that_it_was_cancelled() -> None:
    class Endless(Workflow):
        async def arun(self) -> AsyncIterator[str]:
            yield "one"
            await asyncio.Event().wait()

    endless, items = Endless(), list[Any]()
    async with asyncio.timeout(5):
        async for item in endless.arun(run_id="r"):
            items.append(item)
            if item == "one":
                await endless.cancel("r", "enough")
    assert (items[0], items[1].event, items[1].content) == ("one", "RunCancelled", "enough")


async def test_it_is_called_from_sync_code_in_a_running_loop() -> None:
    class Asking(Workflow):
        agent = echo()

        async def arun(self, text: str) -> str:
            return (await self.agent.arun(text)).text()

    riddles = Riddles()
    with Riddles.writer.override(model=ScriptedModel("What has keys")):
        assert printed(riddles.run("pianos")).startswith("What has keys")
    assert printed(riddles.run("pianos")).startswith("What has keys")
    assert Asking().run("hey").content == "hey!"


async def test_what_is_returned_is_printed_without_the_steps_to_it() -> None:
    class Asking(Workflow):
        agent = echo()

        async def arun(self, text: str) -> str:
            told = await self.agent.arun(text)
            return await self.step("shout", str.upper, told.text())

    for way in ("async", "sync"):
        console = Console(file=StringIO(), width=80)
        if way == "async":
            await Asking().aprint_response("hey", console=console, show_time=False)
        else:
            Asking().print_response("hey", console=console, show_time=False)
        shown = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]  a StringIO
        assert shown.splitlines()[0] == "HEY!"


def test_texts_that_are_yielded_are_printed_as_one() -> None:
    class Telling(Workflow):
        agent = echo()

        def run(self) -> Iterator[Any]:
            yield "One, "
            yield "two"
            yield from self.agent.run("three", stream=True)

    assert printed(Telling().run()).startswith("One, two\n\nthree!")


async def test_print_response_shows_what_comes() -> None:
    console = Console(file=StringIO(), width=80)
    with Riddles.writer.override(model=ScriptedModel("What has keys")):
        await Riddles().aprint_response("pianos", console=console)
    assert "What has keys" in console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]  a StringIO


# --- functions -------------------------------------------------------------------------------------------------------


async def test_a_function_is_a_workflow() -> None:
    agent = echo()

    @workflow(name="greet")
    async def greet(name: str, ctx: RunContext, session_state: dict[str, Any]) -> str:
        """Say hello."""
        session_state["greeted"] = name
        return (await agent.arun(f"{ctx.path[-1]} {name}")).text()

    response = await greet.arun(name="Ann")
    assert (response.content, response.session_state) == ("greet Ann!", {"greeted": "Ann"})
    assert await greet("Bob", None, {}) == "greet Bob!"  # type: ignore[arg-type]
    assert (greet.__doc__, greet.agent_id) == ("Say hello.", "greet")


def test_a_sync_function_is_one_too() -> None:
    @workflow
    def double(number: int) -> int:
        return number * 2

    @workflow
    def count(upto: int) -> Iterator[int]:
        yield from range(upto)

    assert double(4) == 8
    assert double.run(number=4).content == 8
    assert list(count(3)) == [0, 1, 2]


def test_the_decorator_is_found_whatever_was_imported_first() -> None:
    from agentrt.workflow import Workflow as there
    from agentrt.workflow import workflow as decorator

    assert agentrt.workflow is decorator is workflow
    assert there is Workflow


async def test_one_workflow_calls_another() -> None:
    class Inner(Workflow):
        agent = echo()

        async def arun(self, text: str) -> str:
            return (await self.agent.arun(text)).text()

    class Outer(Workflow):
        inner = Inner()

        async def arun(self) -> list[str]:
            first = await self.inner.arun("one")
            second = await self.inner.arun("two")
            return [first.content, second.content, self.inner.run_response.content]

    async with Outer(name="outer").stream() as run:
        paths = {event.path async for event in run}
        response = await run.result()
    assert response.content == ["one!", "two!", "two!"]
    assert paths == {("outer",), ("outer", "Inner"), ("outer", "Inner", "echo")}
