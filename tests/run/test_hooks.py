"""An agent's hooks around a whole run: what they change is what is sent, stored and given; what they refuse is not."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agentrt import Agent, Message, RunContext, RunResponse, RunStatus, tool
from agentrt.errors import ConfigurationError, InputRefused, OutputRefused
from agentrt.run.run import new_id
from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, Gate, ScriptedModel, reply


@pytest.fixture(params=["in memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return InMemoryStorage() if request.param == "in memory" else SqliteStorage(db_file=tmp_path / "data.db")


def echo() -> FunctionModel:
    return FunctionModel(lambda request: f"You said {request.messages[-1].content}")


async def stored(storage: Storage, run_id: str | None) -> Any:
    run = await storage.load_run(run_id or "")
    assert run is not None
    return run


async def history(storage: Storage) -> list[tuple[str, str | None]]:
    """What the next run of session "s" is sent of the earlier ones."""
    model = ScriptedModel("ok")
    await Agent(model=model, storage=storage, add_history_to_messages=True).arun("next", session_id="s")
    return [(message.role, message.content) for message in model.last_request.messages[:-1]]


# --- before ----------------------------------------------------------------------------------------------------------


def mask_in_place(run_input: list[Message]) -> None:
    for message in run_input:
        message.content = (message.content or "").replace("1234", "****")


async def mask_returned(input: list[Message]) -> list[Message]:
    return [Message(role="user", content=(message.content or "").replace("1234", "****")) for message in input]


def mask_text(messages: list[Message]) -> str:
    return (messages[-1].content or "").replace("1234", "****")


class Mask:
    def __call__(self, run_input: list[Message]) -> None:
        mask_in_place(run_input)


class AsyncMask:
    async def check(self, run_input: list[Message]) -> None:
        mask_in_place(run_input)


@pytest.mark.parametrize("hook", [mask_in_place, mask_returned, mask_text, Mask(), AsyncMask()])
async def test_a_changed_input_is_what_is_sent_and_stored(storage: Storage, hook: Any) -> None:
    given = Message(role="user", content="My PIN is 1234")
    response = await Agent(model=echo(), storage=storage, pre_hooks=[hook]).arun([given], session_id="s")
    assert response.content == "You said My PIN is ****"
    assert given.content == "My PIN is 1234"
    assert (await stored(storage, response.run_id)).messages[0].content == "My PIN is ****"
    assert (await history(storage))[0] == ("user", "My PIN is ****")


async def test_a_changed_input_is_stored_before_a_model_is_asked(storage: Storage) -> None:
    gate = Gate()
    agent = Agent(model=ScriptedModel(reply("ok", gate=gate)), storage=storage, pre_hooks=[mask_text])
    running = asyncio.create_task(agent.arun("1234", run_id="r"))
    async with asyncio.timeout(5):
        await gate.reached.wait()
        assert [message.content for message in (await stored(storage, "r")).messages] == ["****"]
        gate.open()
        await running


async def test_a_hook_is_given_what_it_names() -> None:
    seen: list[Any] = []

    def look(input: list[Message], ctx: RunContext, agent: Agent[Any], session_state: dict[str, Any]) -> None:
        seen.extend([input[0].content, ctx.user_id, agent.name, dict(session_state), threading.current_thread().name])
        session_state["looked"] = True

    async def then(messages: Any, session_state: dict[str, Any]) -> None:
        seen.append(session_state["looked"])

    agent = Agent(name="ann", model=echo(), pre_hooks=[look, then], session_state={"n": 1})
    response = await agent.arun("hi", user_id="u")
    assert seen[:4] == ["hi", "u", "ann", {"n": 1}]
    assert "tool" in seen[4] and seen[5] is True  # a thread of the pool: the loop is not held up
    assert response.session_state == {"n": 1, "looked": True}


async def test_a_refused_input_fails_the_run_and_reaches_no_model(storage: Storage) -> None:
    def refuse(input: list[Message]) -> None:
        raise InputRefused("no secrets, please")

    model = echo()
    agent = Agent(model=model, storage=storage, pre_hooks=[refuse])
    with pytest.raises(InputRefused) as caught:
        await agent.arun("my secret", session_id="s")
    failed = caught.value.run_response
    assert failed is not None and caught.value.reason == "no secrets, please"
    run = await stored(storage, failed.run_id)
    assert (run.status, run.response["error"]) == (RunStatus.FAILED, "InputRefused: no secrets, please")
    assert model.requests == []
    assert await history(storage) == []


async def test_a_refused_input_stays_refused_when_the_run_is_continued(storage: Storage) -> None:
    allowed: list[int] = []

    def guard(input: list[Message]) -> None:
        if not allowed:
            raise InputRefused("not now")

    agent = Agent(model=echo(), storage=storage, pre_hooks=[guard], instructions="Be brief.")
    with pytest.raises(InputRefused):
        await agent.arun("hi", run_id="r", session_id="s")
    with pytest.raises(InputRefused):
        await agent.acontinue_run(run_id="r")
    with pytest.raises(InputRefused):
        await agent.arun("hi", run_id="r", session_id="s")
    allowed.append(1)
    response = await agent.acontinue_run(run_id="r")
    assert response.content == "You said hi"
    assert await history(storage) == [("user", "hi"), ("assistant", "You said hi")]


async def test_a_hook_that_fails_lets_nothing_through(storage: Storage) -> None:
    def broken(input: list[Message]) -> None:
        raise OSError("the moderation service is down")

    model = echo()
    with pytest.raises(OSError, match="moderation"):
        await Agent(model=model, storage=storage, pre_hooks=[broken]).arun("hi", session_id="s")
    assert model.requests == []
    assert await history(storage) == []


async def test_hooks_run_once_for_a_run_that_pauses(storage: Storage) -> None:
    calls: list[str] = []

    def before(input: list[Message]) -> str:
        calls.append("before")
        return f"{input[-1].content}, please"

    def after(response: RunResponse[Any]) -> None:
        calls.append("after")

    @tool(requires_confirmation=True)
    def act() -> str:
        return "acted"

    model = ScriptedModel(reply(tool_calls=[("act", {})]), "done")
    agent = Agent(model=model, tools=[act], storage=storage, pre_hooks=[before], post_hooks=[after])
    paused = await agent.arun("act", session_id="s")
    assert calls == ["before"]
    paused.tools_requiring_confirmation[0].confirmed = True
    response = await agent.acontinue_run(paused)
    assert (response.content, calls) == ("done", ["before", "after"])
    assert model.last_request.messages[0].content == "act, please"


async def test_hooks_of_a_run_that_was_cut_are_not_called_again(tmp_path: Path) -> None:
    calls: list[int] = []
    gate = Gate()

    def before(input: list[Message]) -> str:
        calls.append(1)
        return f"{input[-1].content}!"

    model = ScriptedModel(reply("never", gate=gate), "done")
    agent = Agent(model=model, storage=SqliteStorage(db_file=tmp_path / "data.db"), pre_hooks=[before])
    handle = await agent.start("go")
    async with asyncio.timeout(5):
        await gate.reached.wait()
        await handle.let_go()
        response = await agent.acontinue_run(run_id=handle.run_id)
    assert (response.content, len(calls)) == ("done", 1)
    assert model.last_request.messages[-1].content == "go!"


async def test_a_run_that_was_cut_in_a_hook_passes_the_hooks_again(tmp_path: Path) -> None:
    entered, hanging = asyncio.Event(), [True]

    async def before(input: list[Message]) -> str:
        entered.set()
        if hanging:
            await asyncio.Event().wait()
        return f"{input[-1].content}!"

    model = ScriptedModel("done")
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    agent = Agent(model=model, storage=storage, pre_hooks=[before], instructions="Be brief.")
    run_id = new_id()
    async with asyncio.timeout(5), agent.stream("go", run_id=run_id) as run:
        await entered.wait()
        run._run.let_go = True  # pyright: ignore[reportPrivateUsage]  its process ends here
        run._run.stop(None)  # pyright: ignore[reportPrivateUsage]
    hanging.clear()
    assert (await agent.acontinue_run(run_id=run_id)).content == "done"
    assert [message.content for message in model.last_request.messages] == ["Be brief.", "go!"]


async def test_hooks_are_not_called_for_somebody_elses_session(storage: Storage) -> None:
    calls: list[int] = []
    agent = Agent(model=echo(), storage=storage, pre_hooks=[lambda input: calls.append(1)])
    await agent.arun("hi", session_id="s", user_id="ada")
    with pytest.raises(Exception, match="another user"):
        await agent.arun("hi", session_id="s", user_id="bob")
    assert calls == [1]


@pytest.mark.parametrize(
    ("hook", "told"), [(Mask, "Mask is a class; give an instance"), ("mask", "A hook is a callable or has a method")]
)
@pytest.mark.parametrize("when", ["pre_hooks", "post_hooks"])
async def test_what_can_not_check_anything_is_refused_before_the_run(hook: Any, told: str, when: str) -> None:
    storage = InMemoryStorage()
    options: dict[str, Any] = {when: [hook]}
    with pytest.raises(ConfigurationError, match=told):
        await Agent(model=echo(), storage=storage, **options).arun("hi", run_id="r")
    assert await storage.load_run("r") is None


@pytest.mark.parametrize("returned", [True, 3, [], [None], {"a": 1}])
async def test_a_pre_hook_that_returns_no_messages_fails_the_run(returned: Any) -> None:
    model = echo()
    with pytest.raises((TypeError, ValueError)):
        await Agent(model=model, pre_hooks=[lambda input: returned]).arun("hi")
    assert model.requests == []


# --- after -----------------------------------------------------------------------------------------------------------


def shout_in_place(run_output: RunResponse[Any]) -> None:
    run_output.content = run_output.text().upper()


async def shout_returned(response: RunResponse[Any]) -> str:
    return response.text().upper()


class Shout:
    def check(self, run_response: RunResponse[Any]) -> RunResponse[Any]:
        shout_in_place(run_response)
        return run_response


@pytest.mark.parametrize("hook", [shout_in_place, shout_returned, Shout()])
async def test_a_changed_answer_is_what_is_given_and_stored(storage: Storage, hook: Any) -> None:
    parts = [{"type": "text", "text": "hello"}]
    agent = Agent(model=ScriptedModel(reply("hello", parts=parts)), storage=storage, post_hooks=[hook])
    response = await agent.arun("hi", session_id="s")
    assert response.content == "HELLO"
    run = await stored(storage, response.run_id)
    assert (run.response["content"], run.messages[-1].content, run.messages[-1].parts) == ("HELLO", "HELLO", None)
    assert await history(storage) == [("user", "hi"), ("assistant", "HELLO")]


async def test_an_unchanged_answer_keeps_what_its_provider_needs_back(storage: Storage) -> None:
    parts = [{"type": "text", "text": "hello"}]
    agent = Agent(model=ScriptedModel(reply("hello", parts=parts)), post_hooks=[lambda response: None])
    assert (await agent.arun("hi")).messages[-1].parts == parts


async def test_a_typed_answer_may_be_changed() -> None:
    class Price(BaseModel):
        amount: int

    def round_up(response: RunResponse[Price]) -> None:
        assert response.content is not None
        response.content.amount = 100

    agent = Agent(model=ScriptedModel('{"amount": 99}'), response_model=Price, post_hooks=[round_up])
    response = await agent.arun("hi")
    assert response.content == Price(amount=100)
    assert response.messages[-1].content == '{"amount": 100}'


async def test_a_refused_answer_is_no_part_of_the_history(storage: Storage) -> None:
    seen: list[Any] = []

    def refuse(response: RunResponse[Any]) -> None:
        seen.append((response.content, [message.content for message in response.messages]))
        raise OutputRefused("not our tone")

    agent = Agent(model=ScriptedModel(reply("go away", reasoning="hm")), storage=storage, post_hooks=[refuse])
    with pytest.raises(OutputRefused) as caught:
        await agent.arun("hi", session_id="s")
    failed = caught.value.run_response
    assert failed is not None
    assert seen == [("go away", ["hi", "go away"])]
    assert (failed.status, failed.content, failed.reasoning_content) == (RunStatus.FAILED, None, None)
    run = await stored(storage, failed.run_id)
    assert (run.status, run.response["error"]) == (RunStatus.FAILED, "OutputRefused: not our tone")
    assert "go away" not in str(run.messages) + str(run.response)
    assert await history(storage) == [("user", "hi")]


async def test_a_run_whose_answer_was_refused_may_be_continued_for_another(storage: Storage) -> None:
    def guard(response: RunResponse[Any]) -> None:
        if "bad" in response.text():
            raise OutputRefused("bad")

    agent = Agent(model=ScriptedModel("bad", "worse: bad", "good"), storage=storage, post_hooks=[guard])
    with pytest.raises(OutputRefused):
        await agent.arun("hi", run_id="r", session_id="s")
    with pytest.raises(OutputRefused):
        await agent.acontinue_run(run_id="r")
    assert (await agent.acontinue_run(run_id="r")).content == "good"
    assert await history(storage) == [("user", "hi"), ("assistant", "good")]


async def test_a_refused_answer_ends_its_stream_with_an_error() -> None:
    async def refuse(response: RunResponse[Any]) -> None:
        raise OutputRefused("no")

    agent = Agent(model=ScriptedModel("go away"), post_hooks=[refuse])
    async with agent.stream("hi") as run:
        events = [event async for event in run]
    assert [event.event for event in events] == ["RunStarted", "RunContent", "RunContent", "RunError"]
    assert (events[-1].content, events[-1].error_type) == ("OutputRefused: no", "OutputRefused")  # pyright: ignore


async def test_an_answer_is_not_given_when_the_run_is_cancelled_before_it_has_passed() -> None:
    entered = asyncio.Event()

    async def hang(response: RunResponse[Any]) -> None:
        entered.set()
        await asyncio.Event().wait()

    handle = await Agent(model=ScriptedModel("unchecked"), post_hooks=[hang]).start("hi")
    async with asyncio.timeout(5):
        await entered.wait()
        await handle.cancel()
        response = await handle.result()
    assert (response.status, response.content) == (RunStatus.CANCELLED, None)


async def test_hooks_run_in_order_and_the_next_sees_what_the_last_made() -> None:
    agent = Agent(
        model=echo(),
        pre_hooks=[lambda input: input[-1].content + "a", lambda input: input[-1].content + "b"],
        post_hooks=[lambda response: response.content + "c", lambda response: response.content + "d"],
    )
    assert (await agent.arun("x")).content == "You said xabcd"


@pytest.mark.parametrize("returned", [True, 3, ["text"]])
async def test_a_post_hook_that_returns_something_else_fails_the_run(returned: Any) -> None:
    with pytest.raises(TypeError, match="returns the response, a new content"):
        await Agent(model=ScriptedModel("hi"), post_hooks=[lambda response: returned]).arun("hi")


def test_hooks_work_in_sync_runs() -> None:
    agent = Agent(model=echo(), pre_hooks=[mask_text], post_hooks=[shout_in_place])
    assert agent.run("1234").content == "YOU SAID ****"
    assert list(agent.run("1234", stream=True))[-1].content == "YOU SAID ****"


# --- around a tool ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["tool", "agent"])
async def test_arguments_that_a_tools_hook_changes_are_used_and_recorded(storage: Storage, of: str) -> None:
    async def cap(function_name: str, function_call: Any, arguments: dict[str, Any]) -> Any:
        return await function_call(**{**arguments, "amount": min(arguments["amount"], 100)})

    def pay(amount: int, to: str) -> str:
        return f"paid {amount} to {to}"

    model = ScriptedModel(reply(tool_calls=[("pay", {"amount": 5000, "to": "bob"})]), "done")
    agent = (
        Agent(model=model, storage=storage, tools=[tool(tool_hooks=[cap])(pay)])
        if of == "tool"
        else Agent(model=model, storage=storage, tools=[pay], tool_hooks=[cap])
    )
    response = await agent.arun("pay bob")
    (recorded,) = (await stored(storage, response.run_id)).response["tools"]
    assert (recorded.result, recorded.tool_args) == ("paid 100 to bob", {"amount": 100, "to": "bob"})
    assert '"amount": 5000' in (response.messages[1].tool_calls or [])[0].arguments  # the model's own words stay
