"""The page "User Control Flows"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentrt.agent import Agent
from agentrt.models.base import Model
from agentrt.models.openai import OpenAIChat
from agentrt.run.response import RunResponse
from agentrt.tools import tool
from agentrt.tools.function import UserInputField
from agentrt.tools.toolkit import Toolkit
from agentrt.tools.user_control_flow import UserControlFlowTools
from agentrt.tools.yfinance import YFinanceTools
from agentrt.utils import pprint
from tests.agno_docs.provider import Asked, Provider, Said, Think

Speaks = Callable[[Think], Provider]
Types = Callable[..., None]
GIVEN = {"what": "books", "to": "Noor"}


def calling(name: str, **arguments: Any) -> Think:
    """Calls a tool, and then says what it was told."""
    return lambda asked: asked.results[-1].text if asked.results else [(name, arguments)]


def fill(tools: list[Any]) -> list[tuple[str, str, str | None, Any]]:
    """Ask for what has no value; returns what was shown of each field."""
    shown: list[tuple[str, str, str | None, Any]] = []
    for waiting in tools:
        fields: list[UserInputField] = waiting.user_input_schema
        for field in fields:
            shown.append((field.name, field.field_type.__name__, field.description, field.value))
            if field.value is None:
                field.value = input(f"{field.name}: ")
    return shown


@pytest.mark.parametrize(("typed_answer", "ran"), [("y", ["archive"]), ("n", [])])
def test_a_call_waits_for_a_confirmation(provider: Speaks, typed: Types, typed_answer: str, ran: list[str]) -> None:
    provider(calling("delete_all", folder="archive"))
    done: list[str] = []

    @tool(requires_confirmation=True)
    def delete_all(folder: str) -> str:
        """Delete a folder."""
        done.append(folder)
        return "deleted"

    agent = Agent(model=OpenAIChat(id="gpt-4o"), tools=[delete_all])
    typed(typed_answer)
    agent.run("Delete my archive")
    assert agent.is_paused
    assert done == []
    for waiting in agent.run_response.tools_requiring_confirmation:
        assert (waiting.tool_name, waiting.tool_args) == ("delete_all", {"folder": "archive"})
        waiting.confirmed = input("y/n: ") == "y"
    response = agent.continue_run()
    assert not agent.is_paused
    assert done == ran
    assert ("deleted" in str(response.content)) is bool(ran)
    assert "reject" in str(response.content) or ran


@pytest.mark.parametrize("by", ["response", "run_id", "run_id and tools"])
async def test_a_run_is_continued_by_its_response_or_its_id_and_awaited(provider: Speaks, by: str) -> None:
    provider(calling("ring"))

    @tool(requires_confirmation=True)
    def ring() -> str:
        """Ring a bell."""
        return "ding"

    agent = Agent(model=OpenAIChat(id="gpt-4o"), tools=[ring])
    other = await agent.arun("Ring at once")
    paused = await agent.arun("Ring")
    assert other.is_paused
    assert paused.is_paused
    (waiting,) = paused.tools_requiring_confirmation
    waiting.confirmed = True
    given: dict[str, Any] = {"run_response": paused}
    if by != "response":
        given = {"run_id": paused.run_id}
    if by == "run_id and tools":
        await agent.arun("Ring later")
        given["updated_tools"] = paused.tools
    response = await agent.acontinue_run(**given)
    assert (response.run_id, response.content) == (paused.run_id, "ding")


def test_a_run_goes_on_waiting_until_it_is_decided(provider: Speaks) -> None:
    provider(calling("ring"))

    @tool(requires_confirmation=True)
    def ring() -> str:
        """Ring a bell."""
        return "ding"

    agent = Agent(model=OpenAIChat(id="gpt-4o"), tools=[ring])
    agent.run("Ring")
    assert agent.continue_run().is_paused
    assert agent.is_paused
    (waiting,) = agent.run_response.tools_requiring_confirmation
    waiting.confirmed = True
    assert agent.continue_run().content == "ding"
    assert not agent.is_paused


def test_a_stream_ends_at_the_pause_and_goes_on_as_one(provider: Speaks, model: Model) -> None:
    provider(calling("ring"))

    @tool(requires_confirmation=True)
    def ring() -> str:
        """Ring a bell."""
        return "ding dong"

    agent = Agent(model=model, tools=[ring])
    assert [event.event for event in agent.run("Ring", stream=True)][-1] == "RunPaused"
    assert agent.is_paused
    for waiting in agent.run_response.tools_requiring_confirmation:
        waiting.confirmed = True
    events = list(agent.continue_run(stream=True))
    assert "ding dong" in "".join(str(event.content) for event in events if event.event == "RunContent")
    assert (events[0].event, events[-1].event) == ("RunContinued", "RunCompleted")


async def test_a_rejected_call_is_told_with_the_reason_and_the_other_ones_are_made(provider: Speaks) -> None:
    def think(asked: Asked) -> Said:
        calls: Said = [("open_door", {"name": name}) for name in ("front", "cellar")]
        return " / ".join(turn.text for turn in asked.results) or calls

    provider(think)

    @tool(requires_confirmation=True)
    async def open_door(name: str) -> str:
        """Open a door."""
        return f"{name} is open"

    agent = Agent(model=OpenAIChat(id="gpt-4o"), tools=[open_door])
    await agent.arun("Open the doors")
    front, cellar = agent.run_response.tools_requiring_confirmation
    front.confirmed = True
    cellar.confirmed, cellar.confirmation_note = False, "there is a bear in it"
    told = str((await agent.acontinue_run()).content)
    assert "front is open" in told
    assert "cellar is open" not in told
    assert "there is a bear in it" in told


def test_a_toolkit_says_which_of_its_tools_wait_for_confirmation(
    provider: Speaks, capsys: pytest.CaptureFixture[str]
) -> None:
    provider(calling("get_current_stock_price", symbol="HENS"))
    agent = Agent(
        model=OpenAIChat(id="gpt-4o-mini"),
        tools=[YFinanceTools(requires_confirmation_tools=["get_current_stock_price"])],
    )
    agent.run("What do hens cost?")
    assert agent.is_paused
    for waiting in agent.run_response.tools_requiring_confirmation:
        waiting.confirmed = False
    response = agent.continue_run()
    pprint.pprint_run_response(response)
    shown = capsys.readouterr().out
    assert "get_current_stock_price(symbol='HENS')" in shown
    assert "reject" in shown


@pytest.mark.parametrize("fields", [None, []])
def test_all_arguments_come_from_the_user(provider: Speaks, typed: Types, fields: list[str] | None) -> None:
    provider(calling("send_parcel", to="nobody", what="made up", count=99))

    @tool(requires_user_input=True, user_input_fields=fields)
    def send_parcel(to: str, what: str, count: int) -> str:
        """Send a parcel.

        Args:
            to (str): Who gets it.
            what (str): What is in it.
            count (int): How many there are.
        """
        return f"{count} {what} to {to}"

    agent = Agent(model=OpenAIChat(id="gpt-4o"), tools=[send_parcel])
    typed("Noor", "books", "3")
    agent.run("Send a parcel")
    assert agent.is_paused
    assert fill(agent.run_response.tools_requiring_user_input) == [
        ("to", "str", "Who gets it.", None),
        ("what", "str", "What is in it.", None),
        ("count", "int", "How many there are.", None),
    ]
    response = agent.continue_run()
    assert response.content == "3 books to Noor"
    (sent,) = response.tools
    assert [field.value for field in sent.user_input_schema or ()] == ["Noor", "books", 3]


def test_some_arguments_come_from_the_user_and_the_agent_gives_the_rest(provider: Speaks, typed: Types) -> None:
    provider(calling("send_parcel", what="books"))

    @tool(requires_user_input=True, user_input_fields=["to"])
    def send_parcel(what: str, to: str) -> str:
        """
        Send a parcel.

        Args:
            what (str): What is in it.
            to (str): Who gets it.
        """
        return f"{what} to {to}"

    agent = Agent(model=OpenAIChat(id="gpt-4o"), tools=[send_parcel])
    typed("Noor")
    agent.run("Send my books")
    assert fill(agent.run_response.tools_requiring_user_input) == [
        ("what", "str", "What is in it.", "books"),
        ("to", "str", "Who gets it.", None),
    ]
    assert agent.continue_run().content == "books to Noor"


def test_an_agent_asks_for_what_it_needs_until_it_has_it(
    provider: Speaks, typed: Types, capsys: pytest.CaptureFixture[str]
) -> None:
    class Post(Toolkit):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(name="Post", tools=[self.send_parcel], *args, **kwargs)  # noqa: B026  as users write it

        def send_parcel(self, what: str, to: str) -> str:
            """Send a parcel.

            Args:
                what (str): What is in it.
                to (str): Who gets it.
            """
            return f"{what} to {to}"

    def think(asked: Asked) -> Said:
        asked_for = [turn for turn in asked.results if turn.tool == "get_user_input"]
        if len(asked_for) < 2:
            name = ("what", "to")[len(asked_for)]
            field = {"field_name": name, "field_type": "str", "field_description": f"The {name}"}
            return [("get_user_input", {"user_input_fields": [field]})]
        if asked.results[-1].tool == "get_user_input":
            told = " ".join(turn.text for turn in asked_for)
            return [
                ("send_parcel", {"what": "books" if "books" in told else "?", "to": "Noor" if "Noor" in told else "?"})
            ]
        return f"Sent: {asked.results[-1].text}"

    provider(think)
    agent = Agent(model=OpenAIChat(id="gpt-4o-mini"), tools=[Post(), UserControlFlowTools()], markdown=True)
    typed("books", "Noor")
    response: RunResponse[Any] = agent.run("Send a parcel")
    rounds = 0
    while response.is_paused:
        rounds += 1
        fill(response.tools_requiring_user_input)
        response = agent.continue_run(run_response=response)
    pprint.pprint_run_response(response)
    assert rounds == 2
    assert "Sent: books to Noor" in capsys.readouterr().out


def test_a_tool_is_executed_outside_and_its_result_given(provider: Speaks, capsys: pytest.CaptureFixture[str]) -> None:
    provider(calling("count_words", text="one two three"))

    @tool(external_execution=True)
    def count_words(text: str) -> str:
        """Count words.

        Args:
            text (str): The words

        Returns:
            str: How many there are
        """
        return str(len(text.split()))

    agent = Agent(model=OpenAIChat(id="gpt-4o-mini"), tools=[count_words], markdown=True)
    response = agent.run("How many words are in it?")
    assert response.is_paused
    for waiting in response.tools_awaiting_external_execution:
        assert waiting.tool_name == count_words.name
        waiting.result = count_words.entrypoint(**waiting.tool_args)
    response = agent.continue_run()
    pprint.pprint_run_response(response)
    assert response.content == "3"
    assert "count_words(text='one two three')" in capsys.readouterr().out


async def test_a_toolkit_says_which_of_its_tools_are_executed_outside(provider: Speaks) -> None:
    provider(calling("query", sql="SELECT 1"))

    class Database(Toolkit):
        def __init__(self, **options: Any) -> None:
            super().__init__(name="database", tools=[self.query], **options)

        def query(self, sql: str) -> str:
            """Ask the database."""
            raise AssertionError("not here")

    agent = Agent(model=OpenAIChat(id="gpt-4o-mini"), tools=[Database(external_execution_required_tools=["query"])])
    async for event in agent.arun("What is one?", stream=True):
        assert event.event != "ToolCallStarted"
    assert agent.is_paused
    (waiting,) = agent.run_response.tools_awaiting_external_execution
    assert waiting.tool_args == {"sql": "SELECT 1"}
    waiting.result = "one row"
    assert [event.content async for event in agent.acontinue_run(stream=True)][-1] == "one row"
