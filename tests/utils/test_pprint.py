from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from rich.console import Console

from agentrt import Agent
from agentrt.errors import ModelError
from agentrt.models.message import Message, Usage
from agentrt.run.events import (
    CustomEvent,
    ModelCallReset,
    ModelCallStarted,
    RunCancelled,
    RunCompleted,
    RunContent,
    RunError,
    RunPaused,
    RunStarted,
    ToolCallCompleted,
    ToolCallError,
    ToolCallProgress,
    ToolCallStarted,
)
from agentrt.run.response import RunResponse, RunStatus, ToolExecution, UserInputField
from agentrt.testing import ScriptedModel, reply
from agentrt.utils import pprint as pprint_module
from agentrt.utils._clean import Cleaner, clean
from agentrt.utils.pprint import apprint_run_response, ashow_run, pprint_run_response

Items = list[Any]


def plain(shown: Any, **options: Any) -> str:
    console = Console(file=io.StringIO(), force_terminal=False, width=80)
    pprint_run_response(shown, console=console, **options)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]  it is the StringIO


def tool(number: int = 1, **fields: Any) -> ToolExecution:
    return ToolExecution(tool_call_id=str(number), tool_name="get_weather", tool_args={"city": "Rome"}, **fields)


def completed(content: Any, **fields: Any) -> RunCompleted:
    response = RunResponse[Any](run_id="r", content=content, **fields)
    return RunCompleted(run_id="r", content=content, response=response)


def contents(*pieces: str) -> Items:
    return [RunContent(run_id="r", content=piece) for piece in pieces]


# --- plain text ------------------------------------------------------------------------------------------------------


def test_a_response_is_printed_with_its_tools_and_reasoning():
    response = RunResponse[str](
        content="It is **sunny**.", reasoning_content="I look it up.", tools=[tool(result="sunny", elapsed_s=0.5)]
    )
    assert plain(response) == (
        "Reasoning: I look it up.\n\nTool calls: get_weather(city='Rome')  0.5 s\n  sunny\n\nIt is **sunny**.\n\n"
    )


def test_time_and_tokens_are_printed_when_asked_for():
    response = RunResponse[str](content="Hi", elapsed_s=2.34, usage=Usage(input_tokens=120, output_tokens=31))

    assert plain(response, show_time=True) == "Hi\n(2.3 s · 120 tokens in, 31 out)\n\n"
    assert plain(RunResponse[str](content="Hi")) == "Hi\n\n"


def test_streamed_text_is_printed_once():
    events = [RunStarted(run_id="r"), ModelCallStarted(run_id="r"), *contents("Hel", "lo"), completed("Hello")]

    assert plain(events) == "Hello\n\n"


def test_a_cached_response_in_an_iterator_is_printed():
    def workflow() -> Iterator[RunResponse[str]]:
        yield RunResponse(run_id="r", content="from the cache")

    assert plain(workflow()) == "from the cache\n\n"


def test_text_before_and_after_a_tool_call_keeps_its_place():
    events = [
        *contents("Let me see."),
        ToolCallStarted(run_id="r", tool=tool()),
        ToolCallProgress(run_id="r", tool_call_id="1", tool_name="get_weather", content="asking"),
        ToolCallCompleted(run_id="r", tool=tool(result="sunny", elapsed_s=0.02)),
        *contents("Sun."),
        completed("Sun."),
    ]
    assert plain(events) == "Let me see.\n\nTool calls: get_weather(city='Rome')  20 ms\n  sunny\n\nSun.\n\n"


def test_the_answer_of_a_run_that_streamed_only_before_its_tool_call_is_printed():
    events = [*contents("Let me see."), ToolCallCompleted(run_id="r", tool=tool(result="sunny")), completed("Sun.")]

    assert plain(events).endswith("  sunny\n\nSun.\n\n")


def test_a_failed_tool_shows_its_error():
    failed = tool(result="told to the model", tool_call_error=True, error="ValueError: no such city")

    assert "  ValueError: no such city\n" in plain([ToolCallError(run_id="r", tool=failed)])


def test_a_long_result_is_cut():
    text = plain([ToolCallCompleted(run_id="r", tool=tool(result="x" * 5000))])

    assert len(text) < 500
    assert "…" in text


class City(BaseModel):
    name: str
    people: int


@dataclasses.dataclass
class Town:
    name: str
    mayor: City


@pytest.mark.parametrize(
    "content", [City(name="Rome", people=3), {"name": "Rome", "people": 3}], ids=["model", "mapping"]
)
def test_typed_content_is_printed_as_json(content: Any):
    assert plain([completed(content)]) == '{\n  "name": "Rome",\n  "people": 3\n}\n\n'


def test_a_dataclass_with_a_model_in_it_is_printed_as_json():
    text = plain(RunResponse[Town](content=Town("Ostia", City(name="Rome", people=3))))

    assert '"mayor": {' in text
    assert '"people": 3' in text


def test_a_paused_run_shows_what_it_waits_for():
    field = UserInputField(name="subject", field_type=str)
    response = RunResponse[str](
        run_id="r",
        status=RunStatus.PAUSED,
        tools=[
            tool(1, requires_confirmation=True),
            tool(2, requires_user_input=True, user_input_schema=[field]),
            tool(3, external_execution_required=True),
        ],
    )
    for shown in (response, [RunPaused(run_id="r", response=response)]):
        assert plain(shown) == (
            "Paused: get_weather(city='Rome') needs to be confirmed\n"
            "get_weather(city='Rome') needs a value for subject\n"
            "get_weather(city='Rome') is to be executed outside\n\n"
        )


def test_a_typed_answer_that_was_streamed_as_json_is_printed_once_with_its_note():
    shown = plain(
        [RunStarted(run_id="r"), *contents('{"city":', ' "Rome"}'), completed({"city": "Rome"}, elapsed_s=2.0)],
        show_time=True,
    )
    assert shown == '{"city": "Rome"}\n(2.0 s)\n\n'


def test_a_text_that_a_parser_model_made_an_object_of_is_followed_by_the_object():
    shown = plain([RunStarted(run_id="r"), *contents("It is ", "Rome."), completed({"city": "Rome"})])
    assert shown.startswith('It is Rome.\n\n{\n  "city": "Rome"\n}\n')


def test_an_error_is_printed_after_what_was_streamed():
    events = [*contents("Hel"), RunError(run_id="r", content="overloaded [503]", error_type="ModelOverloaded")]

    assert plain(events) == "Hel\n\nModelOverloaded: overloaded [503]\n\n"


def test_a_cancelled_run_says_so():
    events = [*contents("Hel"), RunCancelled(run_id="r", content="by its user")]

    assert plain(events) == "Hel\n\nCancelled: by its user\n"


def test_a_call_that_begins_anew_is_marked():
    events = [*contents("Hel"), ModelCallReset(run_id="r"), *contents("Hello"), completed("Hello")]

    assert plain(events) == "Hel\n\nThe connection broke; the answer begins anew:\nHello\n\n"


def test_a_member_shows_its_tools_but_not_its_text():
    events = [
        RunStarted(run_id="r"),
        RunContent(run_id="child", parent_run_id="r", path=("team", "Bob"), content="inner"),
        ToolCallCompleted(run_id="child", parent_run_id="r", path=("team", "Bob"), tool=tool(result="sunny")),
        completed("outer"),
    ]
    assert plain(events) == "Tool calls of Bob: get_weather(city='Rome')\n  sunny\n\nouter\n\n"


def test_a_custom_event_shows_its_content():
    assert plain([CustomEvent(content={"step": 1})]) == '{\n  "step": 1\n}\n\n'


def test_what_a_terminal_would_obey_is_taken_out():
    events = contents("[red]a[/red] \x1b[3", "1mb\x1b[0m \x1b]0;title\x07c\x00\r\n[/x]", "\x1b")

    assert plain([*events, completed("x")]) == "[red]a[/red] b c\n[/x]\n\n"


@pytest.mark.parametrize(
    ("dirty", "neat"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[2J\x1b[1;1Hx", "x"),
        ("\x1b]52;c;aGk=\x1b\\x", "x"),
        ("\x9b31mx", "x"),
        ("\x1bcx", "x"),
        ("äöü 漢字 🙂", "äöü 漢字 🙂"),
    ],
)
def test_cleaning_a_text_gives_the_same_in_one_piece_and_in_many(dirty: str, neat: str):
    cleaner = Cleaner()

    assert clean(dirty) == neat
    assert "".join(map(cleaner.feed, dirty)) == neat


async def test_async_iterators_and_awaitables_are_printed_too():
    async def events() -> AsyncIterator[Any]:
        for event in [*contents("Hel", "lo"), completed("Hello")]:
            yield event

    async def run() -> RunResponse[str]:
        return RunResponse(content="Hello")

    for shown in (events(), run(), RunResponse[str](content="Hello"), [completed("Hello")]):
        console = Console(file=io.StringIO(), width=80)
        await apprint_run_response(shown, console=console)
        assert console.file.getvalue() == "Hello\n\n"  # pyright: ignore[reportAttributeAccessIssue]


def test_the_module_is_reached_as_in_the_seed():
    from agentrt.utils import pprint

    assert pprint is pprint_module
    assert pprint.pprint_run_response is pprint_run_response


# --- a run that is driven --------------------------------------------------------------------------------------------


class FakeRun:
    def __init__(self, events: Items, result: RunResponse[str] | Exception) -> None:
        self._events = iter(events)
        self._result = result
        self.left = False

    async def __aenter__(self) -> FakeRun:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.left = True

    def __aiter__(self) -> FakeRun:
        return self

    async def __anext__(self) -> Any:
        for event in self._events:
            return event
        raise StopAsyncIteration

    async def result(self) -> RunResponse[str]:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


@pytest.mark.parametrize(
    "message", ["Hello?", Message(role="user", content="Hello?"), ["first", {"role": "user", "content": "Hello?"}]]
)
async def test_a_run_is_printed_with_its_message_and_returned(message: Any):
    console = Console(file=io.StringIO(), width=80)
    response = RunResponse[str](run_id="r", content="Hi")
    run = FakeRun([*contents("Hi"), completed("Hi")], response)

    assert await ashow_run(run, message=message, console=console, show_time=False) is response
    assert console.file.getvalue() == "Message: Hello?\n\nHi\n\n"  # pyright: ignore[reportAttributeAccessIssue]
    assert run.left


@pytest.mark.parametrize("events", [[], [RunError(run_id="r", content="no answer", error_type="ModelError")]])
async def test_a_run_that_fails_is_shown_once_and_raised(events: Items):
    console = Console(file=io.StringIO(), width=80)
    with pytest.raises(ModelError):
        await ashow_run(FakeRun(events, ModelError("no answer")), console=console)

    assert console.file.getvalue() == "ModelError: no answer\n\n"  # pyright: ignore[reportAttributeAccessIssue]


# --- a terminal ------------------------------------------------------------------------------------------------------


def terminal() -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, width=60, height=12, color_system=None, legacy_windows=False
    )


def rows(console: Console) -> list[str]:
    """The screen and all that has scrolled off it, as a terminal makes them of what was written."""
    lines, row, column = [""], 0, 0
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    for part in re.findall(r"\x1b\[\??[\d;]*[A-Za-z]|\n|\r|[^\x1b\n\r]+", text):
        if part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            column = 0
        elif part.startswith("\x1b"):
            count = int(re.sub(r"\D", "", part) or 1)
            if part.endswith("A"):
                row -= count
                assert row >= 0
            elif part.endswith("K"):
                lines[row] = ""
            else:
                assert part in ("\x1b[?25l", "\x1b[?25h"), part
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return lines


def test_a_terminal_shows_panels():
    console = terminal()
    pprint_run_response([*contents("[red]Hel", "lo"), completed("[red]Hello")], console=console)

    assert [row.rstrip() for row in rows(console) if row.strip()] == [
        "╭─ Response " + "─" * 47 + "╮",
        "│ [red]Hello" + " " * 46 + " │",
        "╰" + "─" * 58 + "╯",
    ]


@pytest.mark.parametrize("markdown", [False, True])
def test_a_long_answer_is_written_once_and_never_over_more_than_the_window(markdown: bool):
    from agentrt.utils._blocks import TextBlock
    from agentrt.utils._screens import LiveScreen

    console = terminal()
    screen = LiveScreen(console, stream=True)
    block = TextBlock(title="Response", style="blue", markdown=markdown)
    screen._live.start()
    for number in range(60):
        block.text += f"line {number}\n\n"
        screen.show(block)
        screen._paint()
    screen._stopping.set()
    screen.done(block)
    screen._live.stop()

    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert max(part.count("\x1b[1A") for part in text.split("line")) < console.height
    shown = [row.strip("│ ").strip() for row in rows(console) if "line" in row]
    assert shown == [f"line {number}" for number in range(60)]
    assert sum("Response" in row for row in rows(console)) == 1
    assert sum("╰" in row for row in rows(console)) == 1


def test_what_a_tool_prints_stands_above_the_panels(capsys: pytest.CaptureFixture[str]):
    console = terminal()

    def events() -> Iterator[Any]:
        yield ToolCallStarted(run_id="r", tool=tool())
        print("printed by a tool")
        yield ToolCallCompleted(run_id="r", tool=tool(result="sunny"))

    pprint_run_response(events(), console=console)
    shown = [row.strip() for row in rows(console) if row.strip()]
    assert shown[0] == "printed by a tool"
    assert "get_weather(city='Rome')" in shown[2]
    assert capsys.readouterr().out == ""


# --- agents ----------------------------------------------------------------------------------------------------------


def get_weather(city: str) -> str:
    """The weather of a city."""
    return "sunny"


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_prints_its_message_tools_and_answer(stream: bool):
    console = Console(file=io.StringIO(), width=80)
    with ScriptedModel(reply("Let me see.", tool_calls=[("get_weather", {"city": "Rome"})]), "It is sunny.") as model:
        Agent(model=model, tools=[get_weather]).print_response("Weather?", stream=stream, console=console)

    text = re.sub(r"[\d.]+ m?s", "1 s", console.file.getvalue())  # pyright: ignore[reportAttributeAccessIssue]
    assert text == (
        "Message: Weather?\n\nLet me see.\n\nTool calls: get_weather(city='Rome')  1 s\n  sunny\n\nIt is sunny.\n"
        "(1 s · 6 tokens in, 6 out)\n\n"
    )


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, "Reasoning: Plan\n\n"),
        ({"show_reasoning": False}, ""),
        ({"show_full_reasoning": True}, "Reasoning: Plan\nLook it up\nAction: look\n(50% sure)\n\n"),
    ],
)
def test_an_agents_reasoning_steps_are_printed_by_title_or_in_full(options: dict[str, Any], shown: str):
    console = Console(file=io.StringIO(), width=80)
    said = '"title": "Plan", "reasoning": "Look it up", "action": "look"'
    step = f'{{{said}, "confidence": 0.5, "next_action": "final_answer"}}'
    agent = Agent(model=ScriptedModel("3"), reasoning_model=ScriptedModel(f'{{"steps": [{step}]}}'))
    agent.print_response("How many?", stream=True, console=console, **options)

    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert text.startswith(f"Message: How many?\n\n{shown}3\n")


async def test_an_agent_prints_typed_content_from_async_code():
    console = Console(file=io.StringIO(), width=80)
    agent = Agent(model=ScriptedModel('{"name": "Rome", "people": 3}'), response_model=City)
    await agent.aprint_response("Which?", console=console)

    assert '{\n  "name": "Rome",\n  "people": 3\n}' in console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
