"""A run from the outside: plain, streamed and sync give the same; what is stored; how it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunContext, RunLimits, RunResponse, RunStatus, tool
from agentrt.errors import CodecError, LimitReached, ModelRateLimited, ModelServerError, OutputTruncated
from agentrt.run.events import RunCompleted, RunError, ToolCallCompleted, ToolCallError, ToolCallStarted
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, ScriptedModel, reply


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def run_plain(agent: Agent[Any], **options: Any) -> RunResponse[Any]:
    return await agent.arun("hi", **options)


async def run_streamed(agent: Agent[Any], **options: Any) -> RunResponse[Any]:
    async with agent.stream("hi", **options) as run:
        async for _ in run:
            pass
        return await run.result()


async def run_sync(agent: Agent[Any], **options: Any) -> RunResponse[Any]:
    return await asyncio.to_thread(agent.run, "hi", **options)


ways = pytest.mark.parametrize("way", [run_plain, run_streamed, run_sync])


@ways
async def test_a_run_gives_the_models_answer(way: Any) -> None:
    response = await way(Agent(model=ScriptedModel("Good morning")))

    assert response.content == "Good morning"
    assert response.status is RunStatus.COMPLETED
    assert response.stop_reason == "end"
    assert [m.role for m in response.messages] == ["user", "assistant"]


@ways
async def test_tool_results_go_back_to_the_model_in_call_order(way: Any) -> None:
    model = ScriptedModel(reply(tool_calls=[("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})]), "3 and 7")
    response = await way(Agent(model=model, tools=[add]))

    assert response.content == "3 and 7"
    assert [m.content for m in model.last_request.messages if m.role == "tool"] == ["3", "7"]
    assert [t.result for t in response.tools] == ["3", "7"]
    assert response.usage.model_calls == 2


@ways
async def test_a_failing_model_raises_with_the_run_so_far(way: Any) -> None:
    model = ScriptedModel(
        reply(tool_calls=[("add", {"a": 1, "b": 2})]), ModelServerError("boom", status=500), max_retries=0
    )
    with pytest.raises(ModelServerError) as caught:
        await way(Agent(model=model, tools=[add]))

    response = caught.value.run_response
    assert response is not None
    assert response.status is RunStatus.FAILED
    assert [m.role for m in response.messages] == ["user", "assistant", "tool"]


async def test_a_stream_ends_cleanly_after_run_error_and_arun_stream_raises() -> None:
    def failing() -> Agent[Any]:
        return Agent(model=ScriptedModel(ModelServerError("boom"), max_retries=0))

    async with failing().stream("hi") as run:
        events = [event async for event in run]
    assert isinstance(events[-1], RunError)

    seen: list[str] = []
    with pytest.raises(ModelServerError):
        async for event in failing().arun("hi", stream=True):
            seen.append(event.event)
    assert seen[-1] == "RunError"


async def test_arun_stream_may_be_awaited_first() -> None:
    stream = await Agent(model=ScriptedModel("a b")).arun("hi", stream=True)
    assert "".join([e.content async for e in stream if e.event == "RunContent"]) == "a b"


async def test_every_start_has_its_end_and_facts_are_numbered_without_gaps() -> None:
    model = ScriptedModel(reply(tool_calls=[("add", {"a": 1, "b": 2}), ("nope", {})]), "done")
    async with Agent(model=model, tools=[add]).stream("hi", stream_intermediate_steps=True) as run:
        events = [event async for event in run]

    names = [event.event for event in events]
    assert names.count("ToolCallStarted") == names.count("ToolCallCompleted") + names.count("ToolCallError") == 2
    assert names.count("ModelCallStarted") == names.count("ModelCallCompleted") == 2
    assert names[0] == "RunStarted" and names[-1] == "RunCompleted"
    facts = [event.seq for event in events if not event.is_delta]
    assert facts == list(range(1, len(facts) + 1))


async def test_deltas_carry_the_last_fact_and_their_offset() -> None:
    async with Agent(model=ScriptedModel("one two three")).stream("hi") as run:
        deltas = [event async for event in run if event.is_delta]
    assert [d.cursor for d in deltas] == ["2:4", "2:8", "2:13"]


async def test_a_started_tool_call_event_keeps_what_was_true_then() -> None:
    model = ScriptedModel(reply(tool_calls=[("add", {"a": 1, "b": 2})]), "done")
    async with Agent(model=model, tools=[add]).stream("hi") as run:
        events = [event async for event in run]
    started = next(e for e in events if isinstance(e, ToolCallStarted))
    completed = next(e for e in events if isinstance(e, ToolCallCompleted))
    assert started.tool.result is None
    assert completed.tool.result == "3"


async def test_the_terminal_write_comes_before_the_terminal_event() -> None:
    storage = InMemoryStorage()
    agent = Agent(model=ScriptedModel("done"), storage=storage)
    async with agent.stream("hi") as run:
        async for event in run:
            if isinstance(event, RunCompleted):
                stored = await storage.load_run(run.run_id)
                assert stored is not None and stored.status is RunStatus.COMPLETED


async def test_an_unknown_tool_is_told_to_the_model_with_the_names_there_are() -> None:
    model = ScriptedModel(reply(tool_calls=[("ad", {})]), "sorry")
    await Agent(model=model, tools=[add]).arun("hi")
    assert "add" in (model.last_request.messages[-1].content or "")


@ways
async def test_a_tool_call_limit_answers_the_rest_and_ends(way: Any) -> None:
    ran: list[int] = []

    def step() -> str:
        ran.append(1)
        return "ok"

    model = FunctionModel(lambda request: reply(tool_calls=[("step", {})]))
    with pytest.raises(LimitReached) as caught:
        await way(Agent(model=model, tools=[step], tool_call_limit=2, tool_choice="step"))

    assert len(ran) == 2
    assert len(model.requests) <= 4
    assert model.requests[0].tool_choice == "step"
    assert model.requests[-1].tool_choice == "none"
    assert "tool_call_limit" in str(caught.value)
    response = caught.value.run_response
    assert response is not None
    assert [m.role for m in response.messages][-2:] == ["assistant", "tool"]


async def test_a_model_that_heeds_the_limit_gets_its_last_turn() -> None:
    model = ScriptedModel(reply(tool_calls=[("add", {"a": 1, "b": 2})] * 2), "three")
    response = await Agent(model=model, tools=[add], tool_call_limit=1).arun("hi")
    assert response.content == "three"
    assert response.stop_reason == "tool_call_limit"


async def test_the_last_allowed_model_call_is_made_without_tools() -> None:
    model = FunctionModel(
        lambda request: "enough" if request.tool_choice == "none" else reply(tool_calls=[("add", {"a": 1, "b": 2})])
    )
    response = await Agent(model=model, tools=[add], limits=RunLimits(model_calls=3)).arun("hi")
    assert (response.content, response.stop_reason, len(model.requests)) == ("enough", "model_call_limit", 3)


async def test_the_time_limit_cuts_tools_short_and_gives_a_last_turn() -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    model = ScriptedModel(reply(tool_calls=[("hang", {})]), "I had to stop")
    async with asyncio.timeout(5):
        response = await Agent(model=model, tools=[hang], limits=RunLimits(seconds=0.1)).arun("hi")
    assert (response.content, response.stop_reason) == ("I had to stop", "time_limit")


async def test_agents_that_call_each_other_without_end_meet_the_depth_limit() -> None:
    depths: list[int] = []

    async def again(ctx: RunContext) -> str:
        depths.append(len(ctx.path))
        return (await agent.arun("again")).content or ""

    agent: Agent = Agent(
        model=FunctionModel(lambda r: "done" if r.messages[-1].role == "tool" else reply(tool_calls=[("again", {})])),
        tools=[again],
        limits=RunLimits(depth=3),
    )
    response = await agent.arun("go")
    assert depths == [1, 2, 3]
    assert response.content == "done"


async def test_a_failure_before_the_first_delta_is_tried_again() -> None:
    model = ScriptedModel(ModelRateLimited("slow down"), "fine", retry_delay_s=0.001)
    response = await Agent(model=model).arun("hi")
    assert response.content == "fine"
    assert len(model.requests) == 2


async def test_a_failure_after_the_first_delta_is_not_tried_again_and_keeps_the_text_marked() -> None:
    model = ScriptedModel(reply("half of it", error=ModelServerError("cut"), error_after=1), "never")
    agent = Agent(model=model, add_history_to_messages=True)
    with pytest.raises(ModelServerError) as caught:
        await agent.arun("hi")
    assert len(model.requests) == 1
    response = caught.value.run_response
    assert response is not None
    assert response.messages[-1].incomplete and response.content == "half "

    await agent.arun("again")
    assert "half " not in [m.content for m in model.last_request.messages]


async def test_a_wait_longer_than_the_documented_maximum_is_not_waited_for() -> None:
    model = ScriptedModel(ModelRateLimited("slow down", retry_after_s=86400))
    with pytest.raises(ModelRateLimited, match="86400"):
        await Agent(model=model).arun("hi")


async def test_a_tool_call_cut_by_the_output_limit_is_not_made() -> None:
    ran: list[int] = []

    def write_page(html: str) -> str:
        ran.append(1)
        return html

    model = ScriptedModel(reply(tool_calls=[("write_page", '{"html": "<p>lo')], finish_reason="length"))
    with pytest.raises(OutputTruncated, match="max_tokens"):
        await Agent(model=model, tools=[write_page]).arun("hi")
    assert ran == []


async def test_a_text_cut_by_the_output_limit_says_so() -> None:
    response = await Agent(model=ScriptedModel(reply("so far", finish_reason="length"))).arun("hi")
    assert (response.content, response.stop_reason, response.finish_reason) == ("so far", "output_limit", "length")


async def test_a_tool_marked_stop_after_ends_the_run_with_its_result() -> None:
    @tool(stop_after_tool_call=True)
    def final() -> str:
        return "the end"

    response = await Agent(model=ScriptedModel(reply(tool_calls=[("final", {})])), tools=[final]).arun("hi")
    assert (response.content, response.stop_reason) == ("the end", "tool")


async def test_of_several_tools_that_stop_the_run_all_results_are_the_answer_and_one_that_fails_stops_nothing() -> None:
    @tool(stop_after_tool_call=True)
    def half(of: int) -> dict[str, float]:
        return {"half": 1 / of}

    turn = reply(tool_calls=[("half", {"of": 1}), ("half", {"of": 2})])
    response = await Agent(model=ScriptedModel(turn), tools=[half]).arun("hi")
    assert (response.content, response.stop_reason) == ('{"half": 1.0}\n\n{"half": 0.5}', "tool")

    turn = reply(tool_calls=[("half", {"of": 1}), ("half", {"of": 0})])
    response = await Agent(model=ScriptedModel(turn, "There is no half of nothing"), tools=[half]).arun("hi")
    assert (response.content, response.stop_reason) == ("There is no half of nothing", "end")


async def test_calls_that_share_state_run_in_order_and_others_together() -> None:
    together = asyncio.Barrier(2)
    order: list[int] = []

    async def meet() -> str:
        await together.wait()
        return "met"

    async def note(n: int, session_state: dict[str, Any]) -> str:
        at = len(session_state.setdefault("seen", []))
        await asyncio.sleep(0)
        session_state["seen"].insert(at, n)
        order.append(n)
        return "ok"

    calls = [("meet", {}), ("note", {"n": 1}), ("note", {"n": 2}), ("meet", {}), ("note", {"n": 3})]
    async with asyncio.timeout(5):
        response = await Agent(model=ScriptedModel(reply(tool_calls=calls), "ok"), tools=[meet, note]).arun("hi")
    assert order == [1, 2, 3]
    assert response.session_state == {"seen": [1, 2, 3]}
    assert [t.result for t in response.tools] == ["met", "ok", "ok", "met", "ok"]


async def test_a_timed_out_call_keeps_its_state_to_itself() -> None:
    @tool(timeout_s=0.05)
    async def slow(session_state: dict[str, Any]) -> str:
        session_state["half"] = True
        await asyncio.Event().wait()
        return "never"

    response = await Agent(model=ScriptedModel(reply(tool_calls=[("slow", {})]), "ok"), tools=[slow]).arun("hi")
    assert response.session_state == {}
    assert response.tools[0].tool_call_error


async def test_a_generator_tool_reports_progress_in_the_stream() -> None:
    async def count() -> Any:
        yield "one "
        yield "two"

    model = ScriptedModel(reply(tool_calls=[("count", {})]), "ok")
    async with Agent(model=model, tools=[count]).stream("hi") as run:
        events = [event async for event in run]
    assert [e.content for e in events if e.event == "ToolCallProgress"] == ["one ", "two"]
    assert next(e for e in events if isinstance(e, ToolCallCompleted)).content == "one two"


async def test_a_rejected_confirmation_reaches_the_model_and_an_accepted_call_runs_once() -> None:
    ran: list[int] = []

    @tool(requires_confirmation=True)
    def drop(x: int) -> str:
        ran.append(x)
        return f"dropped {x}"

    def read() -> str:
        ran.append(0)
        return "read"

    model = ScriptedModel(reply(tool_calls=[("drop", {"x": 1}), ("read", {}), ("drop", {"x": 2})]), "done")
    agent = Agent(model=model, tools=[drop, read])
    paused = await agent.arun("hi")
    assert paused.is_paused and agent.is_paused
    assert ran == [0]
    first, second = paused.tools_requiring_confirmation
    first.confirmed = True
    second.confirmed, second.confirmation_note = False, "not today"

    response = await agent.acontinue_run()
    assert ran == [0, 1]
    assert response.content == "done"
    results = [m.content or "" for m in model.last_request.messages if m.role == "tool"]
    assert results[0] == "dropped 1" and results[1] == "read" and "not today" in results[2]


async def test_an_undecided_call_keeps_the_run_paused() -> None:
    @tool(requires_confirmation=True)
    def drop() -> str:
        return "dropped"

    model = ScriptedModel(reply(tool_calls=[("drop", {})]))
    agent = Agent(model=model, tools=[drop])
    await agent.arun("hi")
    response = await agent.acontinue_run()
    assert response.is_paused
    assert len(model.requests) == 1


async def test_a_run_that_ended_is_not_continued() -> None:
    from agentrt.errors import AlreadyContinued, RunNotFound

    agent = Agent(model=ScriptedModel("done"))
    await agent.arun("hi")
    with pytest.raises(AlreadyContinued):
        await agent.acontinue_run()
    with pytest.raises(RunNotFound):
        await agent.acontinue_run(run_id="nope")


async def test_a_tool_error_is_on_the_record_and_in_the_event() -> None:
    def bad() -> str:
        raise ValueError

    model = ScriptedModel(reply(tool_calls=[("bad", {})]), "ok")
    async with Agent(model=model, tools=[bad]).stream("hi") as run:
        events = [event async for event in run]
    error = next(e for e in events if isinstance(e, ToolCallError))
    assert "ValueError" in error.content
    assert (await run.result()).tools[0].error == "ValueError"


async def test_a_value_that_storage_cannot_hold_names_tool_and_path_and_loses_nothing_else(tmp_path: Path) -> None:
    def put(session_state: dict[str, Any]) -> str:
        session_state["cart"] = [1, 2, object()]
        return "put"

    storage = SqliteStorage(db_file=tmp_path / "data.db")
    agent = Agent(model=ScriptedModel(reply(tool_calls=[("put", {})]), "ok"), tools=[put], storage=storage)
    with pytest.raises(CodecError, match=r"'put'.*session_state\[\"cart\"\]\[2\]") as caught:
        await agent.arun("hi", run_id="r")
    assert caught.value.path == 'session_state["cart"][2]'
    stored = await storage.load_run("r")
    assert stored is not None and stored.status is RunStatus.FAILED
    assert [m.content for m in stored.messages] == ["hi", None, "put"]
    await storage.aclose()
