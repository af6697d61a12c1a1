"""`agentrt runs`: what another process has run, looked at and acted upon from here."""

from __future__ import annotations

import asyncio
import json
from types import ModuleType
from typing import Any

import pytest

from agentrt import Agent, _sync, tool
from agentrt.cli._runs import newest_runs
from agentrt.errors import ModelServerError
from agentrt.models.base import ModelRequest
from agentrt.run.background import RunHandle
from agentrt.storage.base import Storage
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing import FunctionModel, Gate, Reply, ScriptedModel, reply
from tests.cli.conftest import Command

pytestmark = pytest.mark.timeout(20)


def told(request: ModelRequest) -> str:
    """Answers with what the tools have said."""
    return " | ".join(message.content or "" for message in request.messages if message.role == "tool")


class Shop:
    """An agent whose tools need somebody. `ran` is what was really done."""

    def __init__(self, storage: Storage, module: ModuleType) -> None:
        self.ran: list[str] = []
        self.hang = False
        self.hanging: Any = Gate()
        self.calls: list[Any] = []

        @tool(requires_confirmation=True)
        def drop(item: str) -> str:
            self.ran.append(item)
            return f"dropped {item}"

        @tool(requires_user_input=True, user_input_fields=["to", "count"])
        def send(what: str, to: str, count: int) -> str:
            return f"sent {what} to {to}, {count!r} times"

        @tool(external_execution=True)
        def print_label(text: str) -> str:
            raise AssertionError("this is done elsewhere")

        @tool(effect="once")
        async def pay(amount: int) -> str:
            self.ran.append(f"paid {amount}")
            if self.hang:
                self.hanging.reached.set()
                await asyncio.Event().wait()
            return f"paid {amount}"

        def answer(request: ModelRequest) -> Reply | str:
            if request.messages[-1].role == "user" and self.calls:
                return reply("Let me see.", tool_calls=self.calls)
            return told(request) or "Hello"

        tools = [drop, send, print_label, pay]
        self.agent = Agent(name="shop", model=FunctionModel(answer), tools=tools, storage=storage)
        module.agent = self.agent  # pyright: ignore[reportAttributeAccessIssue]  modules take any attribute

    def run(self, *calls: Any, **options: Any) -> str:
        self.calls = list(calls)
        return self.agent.run("go", **options).run_id or ""

    def cut(self) -> str:
        """Begin a run whose process is gone while it pays."""
        self.calls, self.hang = [("pay", {"amount": 5})], True

        async def work() -> str:
            async with asyncio.timeout(5):
                handle = await self.agent.start("go", session_id="cut")
                await self.hanging.reached.wait()
                await handle.let_go()
            return handle.run_id

        run_id = _sync.call(work)
        self.hang = False
        return run_id


@pytest.fixture
def shop(storage: SqliteStorage, module: ModuleType) -> Shop:
    return Shop(storage, module)


DB = ("--db", "data.db")
ON_AGENT = ("--agent", "shop:agent", *DB)


# --- list and show ---------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_over_all_sessions(shop: Shop, agentrt: Command):
    ids = [shop.run(session_id=session) for session in ("a", "b", "a")]

    ended = agentrt("runs", "list", *DB)

    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines() if not line.startswith(" ")] == ids[::-1]


def test_a_list_is_narrowed_by_session_user_status_and_number(shop: Shop, agentrt: Command):
    one, two = shop.run(session_id="a", user_id="ann"), shop.run(session_id="b", user_id="bob")
    three = shop.run(("drop", {"item": "x"}), session_id="b", user_id="bob")

    def listed(*options: str) -> list[str]:
        return [
            json.loads(line)["run_id"] for line in agentrt("runs", "list", "--json", *DB, *options).out.splitlines()
        ]

    assert listed("--session", "a") == [one]
    assert listed("--user", "bob") == [three, two]
    assert listed("--user", "ann", "--session", "b") == []
    assert listed("--status", "paused") == [three]
    assert listed("--status", "completed", "--status", "paused", "--limit", "2") == [three, two]


async def test_the_newest_runs_are_found_though_their_session_is_not_the_one_used_last(tmp_path: Any):
    storage = SqliteStorage(db_file=tmp_path / "data.db")
    agent = Agent(model=FunctionModel(lambda request: "hi"), storage=storage)
    for session in ("a", "b", "c"):
        await agent.arun("go", session_id=session)
    await storage.replace_state("a", {"touched": True})

    found = await newest_runs(storage, limit=2)
    await storage.aclose()

    assert [run.session_id for run in found] == ["c", "b"]


def test_a_run_is_shown_with_what_it_waits_for_and_how_to_answer(shop: Shop, agentrt: Command):
    run_id = shop.run(("drop", {"item": "[b]x"}), session_id="monday", user_id="bob")

    out = agentrt("runs", "show", run_id, *DB).out

    assert f"Run {run_id}  PAUSED" in out
    assert "session monday · run 1 · user bob" in out
    assert "call_1  drop(item='[b]x') needs to be confirmed" in out
    assert f'agentrt runs decide {run_id} call_1 --agent MODULE:AGENT --confirm | --reject "why"' in out
    assert "user: go" in out
    assert "assistant: Let me see." in out
    assert "RunPaused" in out


def test_a_run_is_shown_as_json(shop: Shop, agentrt: Command):
    run_id = shop.run(("drop", {"item": "x"}))

    shown = json.loads(agentrt("runs", "show", run_id, "--json", *DB).out)

    assert shown["status"] == "PAUSED"
    assert [message["content"] for message in shown["input"]] == ["go"]
    assert [(wait["tool_call_id"], wait["call"]) for wait in shown["waits_for"]] == [("call_1", "drop(item='x')")]
    assert [event["seq"] for event in shown["events"]] == [1, 2, 3, 4]
    assert shown["usage"]["model_calls"] == 1


def test_a_run_that_was_cut_is_shown_as_far_as_its_journal_goes(shop: Shop, agentrt: Command):
    run_id = shop.cut()

    out = agentrt("runs", "show", run_id, *DB).out

    assert "its process is gone" in out
    assert "→ pay(" in out
    assert "call_1  pay(amount=5)  begun, no result" in out


def test_texts_of_others_do_not_reach_the_terminal_as_commands(shop: Shop, agentrt: Command):
    run_id = shop.run(("drop", {"item": "\x1b[2Jx"}))

    assert "\x1b" not in agentrt("runs", "show", run_id, *DB).out


# --- decide ----------------------------------------------------------------------------------------------------------


def test_a_confirmed_call_is_made_and_the_run_goes_on(shop: Shop, agentrt: Command):
    run_id = shop.run(("drop", {"item": "x"}), user_id="bob")

    ended = agentrt("runs", "decide", run_id, "call_1", "--confirm", *ON_AGENT)

    assert (ended.code, shop.ran) == (0, ["x"])
    assert "dropped x" in ended.out


def test_while_a_run_waits_for_more_the_exit_code_is_3(shop: Shop, agentrt: Command):
    run_id = shop.run(("drop", {"item": "x"}), ("drop", {"item": "y"}))

    first = agentrt("runs", "decide", run_id, "call_2", "--reject", "not today", *ON_AGENT)
    second = agentrt("runs", "decide", run_id, "call_1", "--confirm", "--json", *ON_AGENT)

    assert (first.code, second.code, shop.ran) == (3, 0, ["x"])
    assert "drop(item='x') needs to be confirmed" in first.out
    assert "call_2" not in first.out
    assert "not today" in json.loads(second.out)["content"]


@pytest.mark.parametrize(
    ("call", "options", "content"),
    [
        (("print_label", {"text": "x"}), ["--result", "printed"], "printed"),
        (("send", {"what": "a"}), ["--set", "to=bob", "--set", "count=3"], "sent a to bob, 3 times"),
    ],
)
def test_values_and_results_are_given(shop: Shop, agentrt: Command, call: Any, options: list[str], content: str):
    ended = agentrt("runs", "decide", shop.run(call), "call_1", "--json", *options, *ON_AGENT)

    assert (ended.code, json.loads(ended.out)["content"]) == (0, content)


@pytest.mark.parametrize(
    ("call", "options", "said"),
    [
        (("drop", {"item": "x"}), [], "Decide with --confirm"),
        (("drop", {"item": "x"}), ["--confirm", "--reject", "no"], "--reject stands alone"),
        (("drop", {"item": "x"}), ["--result", "x"], "makes its result itself: it needs to be confirmed"),
        (("drop", {"item": "x"}), ["--set", "item=y"], "has no field 'item'"),
        (("send", {"what": "a"}), ["--set", "to=bob"], "also needs count"),
        (("send", {"what": "a"}), ["--set", "to=bob", "--set", "count=many"], "field 'count': int expected"),
        (("print_label", {"text": "x"}), ["--confirm"], "nothing to confirm: it is to be executed outside"),
        (("send", {"what": "a"}), ["--set", "to"], "FIELD=VALUE"),
        (("send", {"what": "a"}), ["--set", "from=bob"], "its fields: what, to, count"),
    ],
)
def test_a_decision_that_does_not_fit_is_refused_and_changes_nothing(
    shop: Shop, agentrt: Command, call: Any, options: list[str], said: str
):
    run_id = shop.run(call)

    ended = agentrt("runs", "decide", run_id, "call_1", *options, *ON_AGENT)

    assert ended.code == 2
    assert said in ended.err
    assert json.loads(agentrt("runs", "show", run_id, "--json", *DB).out)["status"] == "PAUSED"


@pytest.mark.parametrize("call", [("print_label", {"text": "x"}), ("send", {"what": "a"}), ("drop", {"item": "x"})])
def test_whatever_is_waited_for_may_be_rejected(shop: Shop, agentrt: Command, call: Any):
    ended = agentrt("runs", "decide", shop.run(call), "call_1", "--reject", "not today", "--json", *ON_AGENT)

    assert (ended.code, shop.ran) == (0, [])
    assert "The user says: not today" in json.loads(ended.out)["content"]


def test_a_call_that_needs_a_yes_and_values_gets_both_or_neither(
    storage: SqliteStorage, agentrt: Command, module: ModuleType
):
    @tool(requires_confirmation=True, requires_user_input=True, user_input_fields=["count"])
    def order(count: int) -> str:
        return f"ordered {count}"

    def paused() -> str:
        model = ScriptedModel(reply(tool_calls=[("order", {})]), "done")
        agent = Agent(name="shop", model=model, tools=[order], storage=storage)
        module.agent = agent  # pyright: ignore[reportAttributeAccessIssue]
        return agent.run("go").run_id or ""

    run_id = paused()
    refused = agentrt("runs", "decide", run_id, "call_1", "--confirm", "--set", "count=many", *ON_AGENT)
    assert refused.code == 2
    assert json.loads(agentrt("runs", "show", run_id, "--json", *DB).out)["decisions"] == []

    ended = agentrt("runs", "decide", run_id, "call_1", "--confirm", "--set", "count=3", "--json", *ON_AGENT)
    assert (ended.code, json.loads(ended.out)["tools"][0]["result"]) == (0, "ordered 3")


def test_who_decided_what_is_kept_and_shown(shop: Shop, agentrt: Command):
    run_id = shop.run(("drop", {"item": "x"}), user_id="bob")
    agentrt("runs", "decide", run_id, "call_1", "--reject", "too dear", "--by", "the boss", *ON_AGENT)

    shown = agentrt("runs", "show", run_id, *DB).out
    (decision,) = json.loads(agentrt("runs", "show", run_id, "--json", *DB).out)["decisions"]

    assert "call_1  Reject: too dear by the boss" in shown
    assert (decision["decision"], decision["reason"], decision["by"]) == ("Reject", "too dear", "the boss")


def test_a_call_that_is_not_waited_for_is_answered_by_those_that_are(shop: Shop, agentrt: Command):
    ended = agentrt("runs", "decide", shop.run(("drop", {"item": "x"})), "nope", "--confirm", *ON_AGENT)

    assert ended.code == 2
    assert "call_1  drop(item='x') needs to be confirmed" in ended.err


def test_another_agents_run_is_not_gone_on_with(shop: Shop, agentrt: Command, module: ModuleType):
    module.other = Agent(name="other", model=ScriptedModel())  # pyright: ignore[reportAttributeAccessIssue]
    run_id = shop.run(("drop", {"item": "x"}))

    ended = agentrt("runs", "decide", run_id, "call_1", "--confirm", "-a", "shop:other", *DB)

    assert ended.code == 2
    assert "of agent 'shop', and this one is 'other'" in ended.err


# --- recover ---------------------------------------------------------------------------------------------------------


def test_recover_goes_on_asks_and_exits_with_3_until_it_is_answered(shop: Shop, agentrt: Command):
    run_id = shop.cut()

    first, second = (agentrt("runs", "recover", "shop:agent", *DB) for _ in range(2))
    assert (first.code, second.code) == (3, 3)
    for ended in (first, second):
        assert "call_1  pay(amount=5) was cut while it ran, and may have acted" in ended.out

    decided = agentrt("runs", "decide", run_id, "call_1", "--result", "paid it was", "--json", *ON_AGENT)
    assert json.loads(decided.out)["content"] == "paid it was"
    last = agentrt("runs", "recover", "shop:agent", *DB)
    assert (last.code, last.err) == (0, "Nothing to recover\n")
    assert shop.ran == ["paid 5"]


def test_a_call_that_was_cut_is_made_again_or_has_its_result_but_not_both(shop: Shop, agentrt: Command):
    run_id = shop.cut()
    agentrt("runs", "recover", "shop:agent", *DB)

    ended = agentrt("runs", "decide", run_id, "call_1", "--confirm", "--result", "paid it was", *ON_AGENT)

    assert (ended.code, "but not both" in ended.err) == (2, True)
    assert json.loads(agentrt("runs", "show", run_id, "--json", *DB).out)["decisions"] == []


def test_recover_takes_the_agents_own_storage(shop: Shop, agentrt: Command):
    shop.cut()
    answered = agentrt("runs", "recover", "shop:agent", "--json")

    assert answered.code == 3
    assert json.loads(answered.out)["waits_for"][0]["call"] == "pay(amount=5)"


def test_a_run_that_can_not_be_continued_is_exit_code_3(shop: Shop, agentrt: Command, module: ModuleType):
    shop.cut()
    model = FunctionModel(lambda request: ModelServerError("down", retryable=False))
    module.agent = shop.agent.copy(model=model, tools=[])  # pyright: ignore[reportAttributeAccessIssue]

    ended = agentrt("runs", "recover", "shop:agent", *DB)

    assert ended.code == 3
    assert "FAILED" in ended.out
    assert "down" in ended.out


def test_runs_of_agents_that_were_not_given_are_left_alone_and_named(shop: Shop, agentrt: Command, module: ModuleType):
    run_id = shop.cut()
    module.other = Agent(name="other", model=ScriptedModel())  # pyright: ignore[reportAttributeAccessIssue]

    ended = agentrt("runs", "recover", "shop:other", *DB)

    assert ended.code == 0
    assert f"Left alone: run {run_id} of agent 'shop'" in ended.err


# --- cancel and attach -----------------------------------------------------------------------------------------------


def held(shop: Shop) -> tuple[RunHandle[Any], Gate]:
    """A run that is being driven, halfway through its answer."""
    gate = Gate()
    agent = shop.agent.copy(model=ScriptedModel(reply("one two three four", gate=gate, gate_after=2)))

    async def work() -> RunHandle[Any]:
        async with asyncio.timeout(5):
            handle = await agent.start("go")
            await gate.reached.wait()
        return handle

    return _sync.call(work), gate


def test_a_run_that_is_being_driven_is_cancelled(shop: Shop, agentrt: Command):
    handle, _ = held(shop)

    ended = agentrt("runs", "cancel", handle.run_id, "--reason", "no longer needed", *DB)
    response = _sync.call(handle.result)

    assert (ended.code, ended.out) == (0, "Its process was told\n")
    assert response.status == "CANCELLED"


def test_a_run_that_is_paused_is_cancelled(shop: Shop, agentrt: Command):
    run_id = shop.run(("drop", {"item": "x"}))

    ended = agentrt("runs", "cancel", run_id, "--reason", "no longer needed", *DB)
    shown = json.loads(agentrt("runs", "show", run_id, "--json", *DB).out)

    assert (ended.code, ended.out) == (0, "Cancelled: it waits no more\n")
    assert (shown["status"], shown["waits_for"], shown["events"][-1]["content"]) == (
        "CANCELLED",
        [],
        "no longer needed",
    )


def test_a_run_that_has_ended_can_not_be_cancelled(shop: Shop, agentrt: Command):
    ended = agentrt("runs", "cancel", shop.run(), *DB)

    assert (ended.code, "there is nothing to cancel" in ended.err) == (1, True)


def test_a_run_is_followed_to_its_end(shop: Shop, agentrt: Command):
    handle, gate = held(shop)
    gate.open()

    ended = agentrt("runs", "attach", handle.run_id, *DB)

    assert ended.code == 0
    assert ended.out.startswith("one two three four\n")


def test_events_are_followed_as_json_lines_from_a_place_on(shop: Shop, agentrt: Command):
    run_id = shop.run()
    events = [json.loads(line) for line in agentrt("runs", "attach", run_id, "--json", *DB).out.splitlines()]
    later = agentrt("runs", "attach", run_id, "--json", "--after", f"{events[1]['seq']}:0", *DB).out.splitlines()

    assert [event["event"] for event in events][:1] == ["RunStarted"]
    assert [json.loads(line)["seq"] for line in later] == [event["seq"] for event in events[2:]]


def test_following_ends_at_a_pause_but_not_at_one_that_is_over(shop: Shop, agentrt: Command):
    run_id = shop.run(("drop", {"item": "x"}))

    paused = agentrt("runs", "attach", run_id, *DB)
    agentrt("runs", "decide", run_id, "call_1", "--confirm", *ON_AGENT)
    done = agentrt("runs", "attach", run_id, *DB)

    assert (paused.code, "Paused: drop(item='x')" in paused.out) == (3, True)
    assert (done.code, "dropped x" in done.out, "Paused" in done.out) == (0, True, False)


def test_a_failed_run_is_exit_code_1_when_it_is_followed(agentrt: Command, storage: SqliteStorage):
    model = FunctionModel(lambda request: ModelServerError("down", retryable=False))
    with pytest.raises(ModelServerError) as caught:
        Agent(name="a", model=model, storage=storage).run("go")
    assert caught.value.run_response is not None

    ended = agentrt("runs", "attach", caught.value.run_response.run_id or "", *DB)

    assert (ended.code, "down" in ended.out) == (1, True)


@pytest.mark.parametrize("arguments", [["show", "nope"], ["cancel", "nope"], ["attach", "nope"]])
def test_an_unknown_run_is_one_clear_panel(shop: Shop, agentrt: Command, arguments: list[str]):
    shop.run()
    ended = agentrt("runs", *arguments, *DB)

    assert ended.code == 1
    assert "There is no run 'nope'" in ended.err


def test_a_place_that_no_event_gave_is_a_wrong_option(shop: Shop, agentrt: Command):
    ended = agentrt("runs", "attach", shop.run(), "--after", "here", *DB)

    assert ended.code == 2
    assert "seq:offset" in ended.err
