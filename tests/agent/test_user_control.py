"""The four ways in which people take part in a run, as the documentation that users come from writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pandas
import pytest
from pydantic import BaseModel
from rich.console import Console

from agentrt import Agent, RunResponse
from agentrt.errors import UserInputInvalid
from agentrt.run.events import BaseEvent
from agentrt.storage.base import Storage
from agentrt.storage.in_memory import InMemoryStorage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import ScriptedModel, reply
from agentrt.tools import tool
from agentrt.tools.function import UserInputField
from agentrt.tools.toolkit import Toolkit
from agentrt.tools.user_control_flow import UserControlFlowTools
from agentrt.utils import pprint

WAYS = ["plain", "streamed", "sync", "sync streamed"]


@pytest.fixture(params=["in memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return InMemoryStorage() if request.param == "in memory" else SqliteStorage(db_file=tmp_path / "data.db")


@dataclass
class Driver:
    """Runs an agent in one of the ways, and goes on with it in the same one."""

    way: str

    async def run(self, agent: Agent[Any], input: str) -> RunResponse[Any]:
        if self.way == "plain":
            return await agent.arun(input)
        if self.way == "sync":
            return agent.run(input)
        if self.way == "streamed":
            return self._last([event async for event in agent.arun(input, stream=True)], "RunStarted")
        return self._last(list(agent.run(input, stream=True)), "RunStarted")

    async def go_on(self, agent: Agent[Any], response: RunResponse[Any] | None = None, **given: Any) -> Any:
        if self.way == "plain":
            return await agent.acontinue_run(response, **given)
        if self.way == "sync":
            return agent.continue_run(response, **given)
        if self.way == "streamed":
            events: list[Any] = [event async for event in agent.acontinue_run(response, stream=True, **given)]
        else:
            events = list(agent.continue_run(response, stream=True, **given))
        return self._last(events, "RunContinued")

    def _last(self, events: list[Any], first: str) -> RunResponse[Any]:
        names = [event.event for event in events]
        last: BaseEvent = events[-1]
        assert names[0] == first or names == ["RunPaused"]  # of a run that stays paused
        assert last.event == ("RunPaused" if last.response.is_paused else "RunCompleted")  # pyright: ignore[reportAttributeAccessIssue]
        return last.response  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(params=WAYS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(request.param)


def told(model: ScriptedModel) -> list[str | None]:
    """The results that the model was told last."""
    return [message.content for message in model.last_request.messages if message.role == "tool"]


# --- confirmation ----------------------------------------------------------------------------------------------------


def wiping(done: list[str]) -> Any:
    @tool(requires_confirmation=True)
    def wipe_disk(name: str) -> str:
        """Wipe a disk.

        Args:
            name (str): The disk.
        """
        done.append(name)
        return f"{name} is wiped"

    return wipe_disk


@pytest.mark.parametrize("confirmed", [True, False])
async def test_a_call_that_needs_confirmation(driver: Driver, storage: Storage, confirmed: bool) -> None:
    done: list[str] = []
    model = ScriptedModel(reply(tool_calls=[("wipe_disk", {"name": "sda"})]), "Very well.")
    agent = Agent(model=model, tools=[wiping(done)], storage=storage)
    await driver.run(agent, "Wipe the disk")
    assert agent.is_paused and done == []
    for call in agent.run_response.tools_requiring_confirmation:
        assert f"{call.tool_name}({call.tool_args})" == "wipe_disk({'name': 'sda'})"
        call.confirmed = confirmed
        call.confirmation_note = None if confirmed else "not this one"
    response = await driver.go_on(agent)
    assert (response.content, response.is_paused, agent.is_paused) == ("Very well.", False, False)
    assert done == (["sda"] if confirmed else [])
    assert "sda is wiped" in str(told(model)) if confirmed else "not this one" in str(told(model))


async def test_a_toolkit_says_which_of_its_tools_need_confirmation(driver: Driver, storage: Storage) -> None:
    class Stocks(Toolkit):
        def __init__(self, **options: Any) -> None:
            super().__init__(name="stocks", tools=[self.get_price, self.get_name], **options)

        def get_price(self, symbol: str) -> float:
            return 1.5

        def get_name(self, symbol: str) -> str:
            return "Apple"

    calls = [("get_name", {"symbol": "AAPL"}), ("get_price", {"symbol": "AAPL"})]
    model = ScriptedModel(reply(tool_calls=calls), "It is 1.5.")
    agent = Agent(model=model, tools=[Stocks(requires_confirmation_tools=["get_price"])], storage=storage)
    paused = await driver.run(agent, "What is the price of Apple?")
    (waiting,) = paused.tools_requiring_confirmation
    assert waiting.tool_name == "get_price"
    waiting.confirmed = True
    response = await driver.go_on(agent, run_id=paused.run_id, updated_tools=paused.tools)
    assert response.content == "It is 1.5."
    assert told(model) == ["Apple", "1.5"]


# --- user input ------------------------------------------------------------------------------------------------------


async def test_a_call_whose_parameters_all_come_from_the_user(driver: Driver, storage: Storage) -> None:
    sent: list[Any] = []

    @tool(requires_user_input=True)
    def send_email(to: str, subject: str, body: str, copies: int) -> str:
        """Send an email.

        Args:
            to (str): The address to write to.
            subject (str): What it is about.
            body (str): The text.
            copies (int): How often to send it.
        """
        sent.append((to, subject, body, copies))
        return "sent"

    model = ScriptedModel(reply(tool_calls=[("send_email", {})]), "Done.")
    agent = Agent(model=model, tools=[send_email], storage=storage)
    await driver.run(agent, "Send an email, please")
    assert agent.is_paused
    for call in agent.run_response.tools_requiring_user_input:
        schema: list[UserInputField] = call.user_input_schema or []
        assert [f"{field.name} ({field.field_type.__name__}) -> {field.description}" for field in schema] == [
            "to (str) -> The address to write to.",
            "subject (str) -> What it is about.",
            "body (str) -> The text.",
            "copies (int) -> How often to send it.",
        ]
        for field, typed in zip(schema, ["a@b.c", "Hello", "Hi!", "2"], strict=True):
            assert field.value is None
            field.value = typed  # as input() gives it
    response = await driver.go_on(agent)
    assert (response.content, sent) == ("Done.", [("a@b.c", "Hello", "Hi!", 2)])
    assert response.tools[0].tool_args == {"to": "a@b.c", "subject": "Hello", "body": "Hi!", "copies": 2}


def sending(sent: list[Any]) -> Any:
    @tool(requires_user_input=True, user_input_fields=["to_address", "copies"])
    def send_email(subject: str, body: str, to_address: str, copies: int) -> str:
        """Send an email.

        Args:
            subject (str): What it is about.
            to_address (str): The address to write to.
        """
        sent.append((subject, body, to_address, copies))
        return "sent"

    return send_email


async def test_a_call_whose_parameters_come_partly_from_the_user(driver: Driver, storage: Storage) -> None:
    sent: list[Any] = []
    model = ScriptedModel(reply(tool_calls=[("send_email", {"subject": "Hello", "body": "Hi!"})]), "Done.")
    agent = Agent(model=model, tools=[sending(sent)], storage=storage)
    paused = await driver.run(agent, "Send an email with the subject 'Hello' and the body 'Hi!'")
    assert set(model.requests[0].tools[0].parameters["properties"]) == {"subject", "body"}
    (call,) = paused.tools_requiring_user_input
    fields = {field.name: field for field in call.user_input_schema or ()}
    assert {name: field.value for name, field in fields.items()} == {
        "subject": "Hello",
        "body": "Hi!",
        "to_address": None,
        "copies": None,
    }
    fields["to_address"].value, fields["copies"].value = "a@b.c", "1"
    response = await driver.go_on(agent, paused)
    assert (response.content, sent) == ("Done.", [("Hello", "Hi!", "a@b.c", 1)])


async def test_a_wrong_value_is_told_to_the_caller_and_the_run_stays_paused(driver: Driver, storage: Storage) -> None:
    sent: list[Any] = []
    model = ScriptedModel(reply(tool_calls=[("send_email", {"subject": "Hello", "body": "Hi!"})]), "Done.")
    agent = Agent(model=model, tools=[sending(sent)], storage=storage)
    paused = await driver.run(agent, "Send an email")
    fields = {field.name: field for field in paused.tools_requiring_user_input[0].user_input_schema or ()}
    fields["to_address"].value, fields["copies"].value = "a@b.c", "a few"
    with pytest.raises(UserInputInvalid, match="Tool 'send_email', field 'copies': int expected, not a few") as caught:
        await driver.go_on(agent, paused)
    assert (caught.value.tool, caught.value.field) == ("send_email", "copies")
    stored = await storage.load_run(paused.run_id or "")
    assert stored is not None and stored.status == "PAUSED" and sent == []
    fields["copies"].value = "3"
    response = await driver.go_on(agent, paused)
    assert (response.content, sent) == ("Done.", [("Hello", "Hi!", "a@b.c", 3)])


# --- input that the agent asks for -----------------------------------------------------------------------------------


class EmailTools(Toolkit):
    """Writes and reads email."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(name="EmailTools", tools=[self.send_email, self.get_emails], *args, **kwargs)  # noqa: B026  as users write it

    def send_email(self, subject: str, body: str, to_address: str) -> str:
        """Send an email.

        Args:
            subject (str): What it is about.
            body (str): The text.
            to_address (str): The address to write to.
        """
        return f"Sent to {to_address}: {subject}, {body}"

    def get_emails(self, date_from: str, date_to: str) -> list[dict[str, str]]:
        """Get the emails of some days.

        Args:
            date_from (str): The first day.
            date_to (str): The last day.
        """
        return [{"subject": "Hello", "date": date_from}, {"subject": "Bye", "date": date_to}]


def ask_for(**fields: str) -> Any:
    asked = [{"field_name": name, "field_type": kind, "field_description": name} for name, kind in fields.items()]
    return reply(tool_calls=[("get_user_input", {"user_input_fields": asked})])


async def test_the_agent_asks_for_what_it_needs_again_and_again(driver: Driver, storage: Storage) -> None:
    model = ScriptedModel(
        ask_for(subject="str", to_address="email"),
        ask_for(confirm="bool"),
        reply(tool_calls=[("send_email", {"subject": "Hi", "body": "How is Oslo?", "to_address": "a@b.c"})]),
        "It is sent.",
    )
    agent = Agent(model=model, tools=[EmailTools(), UserControlFlowTools()], markdown=True, storage=storage)
    typed = {"subject": "Hi", "to_address": "a@b.c", "confirm": "yes"}
    asked: list[str] = []
    run_response = await driver.run(agent, "Send an email that asks how Oslo is")
    while run_response.is_paused:
        for call in run_response.tools_requiring_user_input:
            input_schema: list[UserInputField] = call.user_input_schema or []
            for field in input_schema:
                asked.append(f"{field.name} ({field.field_type.__name__}) -> {field.description}")
                if field.value is None:
                    field.value = typed[field.name]
        run_response = await driver.go_on(agent, run_response)
        if not run_response.is_paused:
            shown = StringIO()
            pprint.pprint_run_response(run_response, console=Console(file=shown))
            assert "It is sent." in shown.getvalue()
            break
    assert asked == ["subject (str) -> subject", "to_address (str) -> to_address", "confirm (bool) -> confirm"]
    assert told(model) == [
        '{"subject": "Hi", "to_address": "a@b.c"}',
        '{"confirm": true}',
        "Sent to a@b.c: Hi, How is Oslo?",
    ]


# --- execution elsewhere ---------------------------------------------------------------------------------------------


class Listing(BaseModel):
    files: list[str]


RESULTS: dict[str, tuple[Any, str]] = {
    "text": ("a.txt b.txt", "a.txt b.txt"),
    "dict": ({"files": ["a.txt"]}, '{"files": ["a.txt"]}'),
    "list": (["a.txt", 3, None], '["a.txt", 3, null]'),
    "empty": ("", ""),
    "zero": (0, "0"),
    "pydantic": (Listing(files=["a.txt"]), '{"files": ["a.txt"]}'),
    "DataFrame": (pandas.DataFrame({"file": ["a.txt"], "size": [3]}), "DataFrame, 1 rows x 2 columns"),
}


@pytest.mark.parametrize(("result", "text"), RESULTS.values(), ids=RESULTS)
async def test_a_call_that_is_executed_elsewhere(driver: Driver, storage: Storage, result: Any, text: str) -> None:
    ran: list[str] = []

    @tool(external_execution=True)
    def list_files(folder: str) -> Any:
        """List the files of a folder.

        Args:
            folder (str): The folder.
        """
        ran.append(folder)
        return result

    model = ScriptedModel(reply(tool_calls=[("list_files", {"folder": "tmp"})]), "Those are all.")
    agent = Agent(model=model, tools=[list_files], storage=storage)
    run_response = await driver.run(agent, "What files are there?")
    assert run_response.is_paused and ran == []
    for call in run_response.tools_awaiting_external_execution:
        if call.tool_name == list_files.name:
            call.result = list_files.entrypoint(**call.tool_args)
    run_response = await driver.go_on(agent)
    assert (run_response.content, ran) == ("Those are all.", ["tmp"])
    assert (told(model)[0] or "").startswith(text)


# --- asked at once ---------------------------------------------------------------------------------------------------


async def test_a_call_may_wait_for_a_value_and_for_confirmation(driver: Driver, storage: Storage) -> None:
    sent: list[str] = []

    def send(to: str) -> str:
        sent.append(to)
        return "sent"

    decide: dict[str, Callable[[Any], None]] = {
        "confirmed": lambda call: setattr(call, "confirmed", True),
        "value": lambda call: setattr(call.user_input_schema[0], "value", "a@b.c"),
    }
    model = ScriptedModel(reply(tool_calls=[("send", {})]), "Done.")
    agent = Agent(
        model=model, tools=[tool(requires_confirmation=True, requires_user_input=True)(send)], storage=storage
    )
    response = await driver.run(agent, "Send it")
    for what in decide:
        assert response.is_paused and sent == []
        decide[what](response.tools[0])
        response = await driver.go_on(agent, response)
    assert (response.content, sent) == ("Done.", ["a@b.c"])
