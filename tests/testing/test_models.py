from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from agentrt.errors import ConfigurationError, ModelError, ModelRateLimited
from agentrt.models import _guard
from agentrt.models.base import (
    FinishDelta,
    Model,
    ModelDelta,
    ModelRequest,
    PartDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageDelta,
)
from agentrt.models.message import Message, ToolCall, Usage
from agentrt.testing import (
    FunctionModel,
    Gate,
    ScriptedModel,
    ScriptError,
    Signal,
    allow_model_requests,
    forbid_model_requests,
    reply,
)


def ask(text: str = "hello") -> ModelRequest:
    return ModelRequest(messages=[Message(role="user", content=text)])


async def answer(model: Model, request: ModelRequest | None = None) -> list[ModelDelta]:
    async with asyncio.timeout(5), aclosing(model.stream(request or ask())) as deltas:
        return [delta async for delta in deltas]


def text_of(deltas: Sequence[ModelDelta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


async def test_a_text_comes_in_several_deltas_and_ends():
    deltas = await answer(ScriptedModel("Hello there,\n  world "))

    assert text_of(deltas) == "Hello there,\n  world "
    assert sum(isinstance(delta, TextDelta) for delta in deltas) == 3
    assert deltas[-1] == FinishDelta("stop", model_id="scripted")


async def test_even_one_word_comes_in_two_deltas():
    deltas = await answer(ScriptedModel("Hello"))

    assert [delta.text for delta in deltas if isinstance(delta, TextDelta)] == ["He", "llo"]


async def test_pieces_are_streamed_as_they_are_given():
    deltas = await answer(ScriptedModel(reply(["a b", "", "c"])))

    assert [delta.text for delta in deltas if isinstance(delta, TextDelta)] == ["a b", "c"]


async def test_tool_calls_get_ids_that_stay_unique_over_the_models_calls():
    model = ScriptedModel(
        reply(tool_calls=[("add", {"a": 1}), ("broken", "{oops")]),
        reply(tool_calls=[("add", {"a": 2}), ToolCall(id="mine", name="sub", arguments="{}")]),
    )
    calls = [delta for _ in range(2) for delta in await answer(model) if isinstance(delta, ToolCallDelta)]

    assert [(call.index, call.id, call.name) for call in calls if call.name] == [
        (0, "call_1", "add"),
        (1, "call_2", "broken"),
        (0, "call_3", "add"),
        (1, "mine", "sub"),
    ]
    assert "".join(call.arguments for call in calls if call.index == 1) == "{oops{}"


async def test_reasoning_parts_usage_and_finish_reason_come_as_scripted():
    usage = Usage(input_tokens=5, output_tokens=7)
    deltas = await answer(
        ScriptedModel(reply("x", reasoning="let me see", parts=[{"id": 1}], usage=usage, finish_reason="length"))
    )

    assert "".join(delta.text for delta in deltas if isinstance(delta, ReasoningDelta)) == "let me see"
    assert PartDelta({"id": 1}) in deltas
    assert UsageDelta(usage) in deltas
    assert deltas[-1] == FinishDelta("length", model_id="scripted")


async def test_tool_calls_end_with_the_reason_tool_calls():
    assert (await answer(ScriptedModel(reply(tool_calls=[("f", {})]))))[-1] == FinishDelta(
        "tool_calls", model_id="scripted"
    )


async def test_an_exception_is_raised_before_any_delta():
    model = ScriptedModel(ModelRateLimited("slow down", retry_after_s=7))

    with pytest.raises(ModelRateLimited):
        await answer(model)


@pytest.mark.parametrize(("after", "text"), [(0, ""), (2, "one two "), (99, "one two three")])
async def test_an_error_breaks_the_answer_off(after: int, text: str):
    seen: list[ModelDelta] = []
    with pytest.raises(ModelError, match="cut"):
        async for delta in ScriptedModel(reply("one two three", error=ModelError("cut"), error_after=after)).stream(
            ask()
        ):
            seen.append(delta)

    assert text_of(seen) == text
    assert not any(isinstance(delta, FinishDelta) for delta in seen)


async def test_a_gate_holds_an_answer_until_it_is_opened_from_any_thread():
    gate = Gate()
    model = ScriptedModel(reply("one two three", gate=gate, gate_after=1))
    task = asyncio.create_task(answer(model))
    async with asyncio.timeout(5):
        await gate.reached.wait()
        assert model.open_streams == 1
        await asyncio.to_thread(gate.open)
        assert text_of(await task) == "one two three"
    assert model.open_streams == 0


async def test_an_answer_that_is_cancelled_is_no_longer_open():
    gate = Gate()
    model = ScriptedModel(reply("one two", gate=gate))
    task = asyncio.create_task(answer(model))
    async with asyncio.timeout(5):
        await gate.reached.wait()
        task.cancel()
        await asyncio.wait([task])

    assert task.cancelled()
    assert model.open_streams == 0


def test_a_signal_wakes_loops_and_threads():
    signal = Signal()

    async def main() -> None:
        async with asyncio.timeout(5):
            loop_waits = asyncio.create_task(signal.wait())
            thread_waits = asyncio.create_task(asyncio.to_thread(signal.wait_in_thread))
            await asyncio.sleep(0)
            await asyncio.to_thread(signal.set)
            await asyncio.gather(loop_waits, thread_waits)
            await signal.wait()

    asyncio.run(main())
    assert signal.is_set()


async def test_a_reply_can_be_a_function_of_the_request():
    async def later(request: ModelRequest) -> str:
        return f"async {request.messages[-1].content}"

    model = ScriptedModel(lambda request: f"sync {request.messages[-1].content}", later)

    assert text_of(await answer(model, ask("a"))) == "sync a"
    assert text_of(await answer(model, ask("b"))) == "async b"


async def test_requests_are_kept_as_they_were():
    model = ScriptedModel("one", "two")
    messages = [Message(role="assistant", tool_calls=[ToolCall(id="1", name="f")])]
    request = ModelRequest(messages=messages)
    await answer(model, request)
    assert messages[0].tool_calls
    messages[0].tool_calls[0].name = "changed"
    messages.append(Message(role="user", content="more"))
    await answer(model, request)

    first, second = model.requests
    assert first.messages[0].tool_calls == [ToolCall(id="1", name="f")]
    assert len(first.messages) == 1
    assert second is model.last_request
    assert len(second.messages) == 2


async def test_a_script_that_runs_out_says_which_call_had_no_reply():
    model = ScriptedModel("one")
    await answer(model)

    with pytest.raises(AssertionError, match="no reply left for call 2, whose last message is user: 'again'"):
        await answer(model, ask("again"))


async def test_a_script_that_is_not_used_up_is_complained_about():
    model = ScriptedModel("one", "two")
    with pytest.raises(ScriptError, match="1 scripted replies were not asked for; the first is 'two'"), model:
        await answer(model)

    model = ScriptedModel("one")
    await answer(model)
    model.assert_done()


def test_leaving_with_an_error_hides_it_behind_no_complaint():
    with pytest.raises(KeyError), ScriptedModel("unused"):
        raise KeyError


async def test_concurrent_calls_each_get_one_whole_reply():
    model = ScriptedModel(*(f"answer {number}" for number in range(50)))
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(answer(model) for _ in range(50)))

    assert sorted(map(text_of, answers)) == sorted(f"answer {number}" for number in range(50))
    model.assert_done()


async def test_a_copy_goes_on_with_the_same_script():
    model = ScriptedModel("one", "two")
    await answer(model.copy(id="other"))

    assert model.remaining == 1
    assert len(model.requests) == 1


async def test_a_function_model_answers_every_call():
    model = FunctionModel(lambda request: reply(tool_calls=[("echo", {"text": request.messages[-1].content})]))

    for text in ("a", "b"):
        deltas = await answer(model, ask(text))
        assert (
            "".join(delta.arguments for delta in deltas if isinstance(delta, ToolCallDelta)) == f'{{"text": "{text}"}}'
        )


async def test_a_function_model_streams_the_deltas_of_an_async_generator_and_closes_it():
    closed = False

    async def deltas(request: ModelRequest) -> AsyncIterator[ModelDelta | str]:
        nonlocal closed
        try:
            yield "one "
            yield TextDelta("two")
            yield ToolCallDelta(0, "c1", "f", "{}")
        finally:
            closed = True

    model = FunctionModel(deltas)
    assert await answer(model) == [
        TextDelta("one "),
        TextDelta("two"),
        ToolCallDelta(0, "c1", "f", "{}"),
        FinishDelta("tool_calls", model_id="function"),
    ]

    closed = False
    async with aclosing(model.stream(ask())) as stream:
        await anext(stream)
    assert closed


async def test_a_list_of_deltas_is_an_answer():
    deltas = await answer(ScriptedModel([TextDelta("one"), FinishDelta("length")]))

    assert deltas == [TextDelta("one"), FinishDelta("length")]


class RealModel(Model):
    provider = "real"
    id: str = "big"


def test_real_requests_are_forbidden_inside_and_allowed_again_after():
    with forbid_model_requests():
        with pytest.raises(ConfigurationError, match=r"real:big.*forbidden"):
            _guard.check(RealModel())
        _guard.check(ScriptedModel())
        with allow_model_requests():
            _guard.check(RealModel())
        with pytest.raises(ConfigurationError):
            _guard.check(RealModel())
    _guard.check(RealModel())


def test_importing_the_models_loads_no_sdk():
    code = (
        "import sys, agentrt.testing; "
        "heavy = ('openai', 'anthropic', 'rich', 'structlog', 'typer', 'httpx2', 'pydantic'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert out.stdout.strip() == "[]"
