"""Sessions and "the newest run", per task and thread; nothing crosses between runs of one object."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agentrt import Agent, RunContext, tool
from agentrt.errors import AgentRTError, AmbiguousRun
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.testing import FunctionModel, ScriptedModel, reply


def echo(request: Any) -> str:
    return f"heard {request.messages[-1].content}"


def users_sent(model: FunctionModel) -> list[str | None]:
    return [m.content for m in model.last_request.messages if m.role == "user"]


def test_calls_in_one_thread_continue_one_session() -> None:
    model = FunctionModel(echo)
    agent = Agent(model=model, add_history_to_messages=True)
    agent.run("one")
    agent.run("two")
    assert users_sent(model) == ["one", "two"]
    assert len(agent.get_messages_for_session()) == 4


async def test_calls_in_one_task_continue_one_session_and_another_task_has_its_own() -> None:
    model = FunctionModel(echo)
    agent = Agent(model=model, add_history_to_messages=True)
    await agent.arun("one")
    await agent.arun("two")
    assert users_sent(model) == ["one", "two"]
    await asyncio.create_task(agent.arun("other"))
    assert users_sent(model) == ["other"]


def test_another_object_has_its_own_session() -> None:
    model = FunctionModel(echo)
    Agent(model=model, add_history_to_messages=True).run("one")
    Agent(model=model, add_history_to_messages=True).run("two")
    assert users_sent(model) == ["two"]


async def test_only_the_last_runs_are_sent() -> None:
    model = FunctionModel(echo)
    agent = Agent(model=model, add_history_to_messages=True, num_history_runs=2)
    for n in range(5):
        await agent.arun(f"q{n}")
    assert users_sent(model) == ["q2", "q3", "q4"]


async def test_session_ids_switch_sessions_and_their_state() -> None:
    model = FunctionModel(echo)
    agent = Agent(model=model, instructions="{name}", add_state_in_messages=True)
    await agent.arun("hi", session_id="a", user_id="u1", session_state={"name": "John"})
    await agent.arun("hi", session_id="b", user_id="u2", session_state={"name": "Jane"})
    await agent.arun("hi", session_id="a", user_id="u1")
    assert model.last_request.messages[0].content == "John"
    assert agent.session_state == {"name": "John"}


async def test_state_given_to_a_run_wins_over_the_stored_which_wins_over_the_initial() -> None:
    agent = Agent(model=FunctionModel(echo), session_id="s", session_state={"a": 0, "b": 0, "c": 0})
    await agent.arun("hi", session_state={"a": 1, "b": 1})
    await agent.arun("hi", session_state={"a": 2})
    assert agent.session_state == {"a": 2, "b": 1, "c": 0}


async def test_the_initial_state_is_never_changed() -> None:
    initial: dict[str, Any] = {"seen": []}

    def see(session_state: dict[str, Any]) -> str:
        session_state["seen"].append(1)
        return "ok"

    agent = Agent(
        model=FunctionModel(lambda r: "done" if r.messages[-1].role == "tool" else reply(tool_calls=[("see", {})])),
        tools=[see],
        session_state=initial,
    )
    await agent.arun("hi", session_id="a")
    await agent.arun("hi", session_id="b")
    assert initial == {"seen": []}
    assert agent.session_state == {"seen": [1]}


async def test_before_any_run_the_options_are_read_and_the_newest_run_is_an_error() -> None:
    agent = Agent(model=FunctionModel(echo), session_state={"k": 1}, session_id="s")
    assert (agent.session_state, agent.session_id) == ({"k": 1}, "s")
    with pytest.raises(AgentRTError, match="has not been run"):
        _ = agent.run_response


async def test_overlapping_runs_of_other_tasks_are_ambiguous() -> None:
    both = asyncio.Barrier(2)

    async def meet(request: Any) -> str:
        await both.wait()
        return "met"

    agent = Agent(model=FunctionModel(meet))
    await asyncio.gather(agent.arun("a"), agent.arun("b"))
    with pytest.raises(AmbiguousRun):
        _ = agent.run_response


async def test_a_run_of_another_task_that_overlapped_nothing_is_the_newest() -> None:
    agent = Agent(model=FunctionModel(echo))
    response = await asyncio.create_task(agent.arun("a"))
    assert agent.run_response is response


async def test_in_a_tool_the_agent_is_a_view_of_its_run() -> None:
    seen: list[Any] = []

    def look(agent: Agent[Any]) -> str:
        agent.session_state["n"] = agent.session_state.get("n", 0) + 1
        seen.append((agent.session_id, agent.user_id, agent.run_response.run_id, agent.name))
        return "ok"

    agent = Agent(
        name="ann",
        model=FunctionModel(lambda r: "done" if r.messages[-1].role == "tool" else reply(tool_calls=[("look", {})])),
        tools=[look],
    )
    response = await agent.arun("hi", session_id="s", user_id="u")
    assert seen == [("s", "u", response.run_id, "ann")]
    assert response.session_state == {"n": 1}


async def test_two_hundred_concurrent_runs_of_one_object_share_nothing() -> None:
    wrong: list[str] = []

    def check(tag: str, agent: Agent[Any], ctx: RunContext) -> None:
        facts = [ctx.user_id, ctx.session_id, ctx.session_state["tag"], ctx.dependencies["tag"], agent.user_id,
                 agent.session_id, agent.session_state["tag"]]  # fmt: skip
        wrong.extend(str(fact) for fact in facts if fact != tag)

    async def in_loop(tag: str, agent: Agent[Any], ctx: RunContext) -> str:
        check(tag, agent, ctx)
        await asyncio.sleep(0)
        check(tag, agent, ctx)
        ctx.session_state.setdefault("mine", []).append(tag)
        return tag

    def in_thread(tag: str, agent: Agent[Any], ctx: RunContext) -> str:
        check(tag, agent, ctx)
        agent.session_state["thread"] = threading.get_ident()
        check(tag, agent, ctx)
        return tag

    def answer(request: Any) -> Any:
        tag = request.messages[-1].content if request.messages[-1].role == "user" else None
        if tag:
            return reply(tool_calls=[("in_loop", {"tag": tag}), ("in_thread", {"tag": tag})])
        return " ".join(m.content or "" for m in request.messages)

    agent = Agent(
        model=FunctionModel(answer), tools=[in_loop, in_thread], instructions="{tag}", add_state_in_messages=True
    )

    async def one(n: int) -> None:
        tag = f"tag-{n}"
        response = await agent.arun(
            tag, user_id=tag, session_id=tag, session_state={"tag": tag}, dependencies={"tag": tag}
        )
        assert response.content == f"{tag} {tag}  {tag} {tag}"
        assert response.session_state is not None and response.session_state["mine"] == [tag]
        assert agent.run_response is response and agent.session_id == tag

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for n in range(200):
            group.create_task(one(n))
    assert wrong == []


async def test_a_sync_tool_may_run_another_agent() -> None:
    inner = Agent(model=FunctionModel(echo))

    def ask(question: str) -> str:
        return inner.run(question).content or ""

    outer = Agent(
        model=FunctionModel(
            lambda r: (
                r.messages[-1].content or ""
                if r.messages[-1].role == "tool"
                else reply(tool_calls=[("ask", {"question": "q"})])
            )
        ),
        tools=[ask],
    )
    async with asyncio.timeout(5):
        assert (await outer.arun("hi")).content == "heard q"


async def test_what_a_program_changes_in_the_state_is_given_to_the_next_run_of_that_session() -> None:
    storage = InMemoryStorage()
    agent = Agent(model=FunctionModel(echo), storage=storage, session_state={"items": ["a"]})
    first = await agent.arun("hi", session_id="s")
    agent.session_state["items"].append("b")
    agent.session_state["new"] = 1
    other = await agent.arun("hi", session_id="other")
    assert other.session_state == {"items": ["a"]}
    await agent.arun("hi", session_id="s")
    agent.session_state["items"].append("c")
    second = await agent.arun("hi", session_id="s", session_state={"new": 2})
    assert second.session_state == {"items": ["a", "c"], "new": 2}
    assert first.session_state == {"items": ["a"]}
    session = await storage.load_session("s")
    assert session is not None and session.state == second.session_state


async def test_what_is_changed_while_a_run_is_paused_is_given_to_the_run_after_it() -> None:
    @tool(requires_confirmation=True)
    def count(session_state: dict[str, Any]) -> str:
        session_state["n"] += 1
        return "ok"

    model = ScriptedModel(reply(tool_calls=[("count", {})]), "counted", "bye")
    agent = Agent(model=model, tools=[count], session_state={"n": 0})
    paused = await agent.arun("hi")
    agent.session_state["note"] = "looked at"
    paused.tools[0].confirmed = True
    assert (await agent.acontinue_run()).session_state == {"n": 1}
    assert agent.session_state == {"n": 1, "note": "looked at"}
    assert (await agent.arun("go on")).session_state == {"n": 1, "note": "looked at"}


async def test_a_change_of_the_state_is_given_once() -> None:
    agent = Agent(model=FunctionModel(echo), session_id="s", session_state={"n": 0})
    await agent.arun("hi")
    agent.session_state["n"] = 1
    await asyncio.create_task(agent.arun("hi", session_state={"n": 5}))
    assert (await agent.arun("hi")).session_state == {"n": 5}


async def test_a_state_that_is_set_counts_for_this_session_and_for_new_ones() -> None:
    agent = Agent(model=FunctionModel(echo), session_id="s", session_state={"n": 0})
    await agent.arun("hi")
    agent.session_state = {"n": 7}
    assert agent.session_state == {"n": 7}
    for session_id in ("s", "t"):
        response = await agent.arun("hi", session_id=session_id)
        assert response.session_state == {"n": 7}


async def test_a_state_can_be_filled_before_the_first_run() -> None:
    agent = Agent(model=FunctionModel(echo))
    agent.session_state["n"] = 1
    assert (await agent.arun("hi")).session_state == {"n": 1}


@pytest.mark.parametrize("awaited", [True, False])
async def test_a_tool_that_was_not_given_its_agent_reads_the_live_state_of_its_run(awaited: bool) -> None:
    def note(what: str) -> str:
        agent.session_state["notes"].append(what)
        return str(agent.session_state["notes"])

    async def anote(what: str) -> str:
        return note(what)

    model = ScriptedModel(reply(tool_calls=[("note", {"what": "a"})]), "ok")
    tools = [tool(name="note")(anote if awaited else note)]
    initial: dict[str, Any] = {"notes": []}
    agent = Agent(model=model, tools=tools, session_state=initial)
    response = await agent.arun("hi")
    assert response.tools[0].result == "['a']"
    assert response.session_state == {"notes": ["a"]}
    assert initial == {"notes": []}
