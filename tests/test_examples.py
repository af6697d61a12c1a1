"""Each example runs as a user would run it, against a scripted provider; some on the real local model, too."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentrt.run.encoding import event_from_json
from tests import scripted_chat
from tests.http_server import Server
from tests.web.serving import serving

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
Run = Callable[..., str]


@pytest.fixture
def scripted(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """An empty working directory, and a model that answers from what it is asked."""
    monkeypatch.setenv("AGENTRT_MODEL", "openai:gpt-4.1")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    server.answer = scripted_chat.answer
    return server


@pytest.fixture
def run(scripted: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs an example as a script and returns what it printed."""

    def run(name: str, typed: str = "") -> str:
        monkeypatch.setattr(sys, "stdin", StringIO(typed))
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), EXAMPLES / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_example_has_a_test() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in tests] == []


def test_each_example_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+\.(?:py|ipynb))`", table)
    there = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert set(named) == there


def test_quickstart(run: Run, scripted: Server) -> None:
    out = run("quickstart.py")
    assert out.startswith("Model: openai:gpt-4.1, because AGENTRT_MODEL says so\n")
    assert "multiply(a=3417, b=289)" in out
    assert "3417 times 289 is 987513" in out
    assert "6 messages" in out or "8 messages" in out
    second_turn = next(body for body in scripted.bodies if body["messages"][-1]["content"] == "What was the result?")
    assert "987513" in str(second_turn["messages"])
    assert Path("tmp/quickstart.db").exists()


def test_events(run: Run) -> None:
    out = run("events.py")
    assert "→ multiply({'a': 3417, 'b': 289})\n← 3417 times 289 is 987513\n" in out
    assert "I was told: 3417 times 289 is 987513\n30 tokens\n" in out
    assert out.startswith("  [RunStarted at 1:0]\n")


def test_session_state(run: Run) -> None:
    lines = run("session_state.py").splitlines()
    assert [line for line in lines if line.startswith(("Ada: ", "Bob: "))] == [
        "Ada: {'shopping_list': ['milk']}",
        "Bob: {'shopping_list': ['milk']}",
        "Ada: {'shopping_list': ['milk', 'milk']}",
    ]


def test_shopping_list(run: Run, scripted: Server) -> None:
    lines = run("shopping_list.py").splitlines()
    assert [line for line in lines if line.startswith("State: ")] == [
        "State: {'shopping_list': ['milk']}",
        "State: {'shopping_list': ['milk']}",
        "State: {'shopping_list': []}",
        "State: {'shopping_list': []}",
    ]
    assert "It holds: ['milk']" in scripted.bodies[2]["messages"][0]["content"]
    assert "Nothing is on it" in str(scripted.bodies[-1]["messages"][-1])


def test_state_in_instructions(run: Run, scripted: Server) -> None:
    assert run("state_in_instructions.py").endswith("user: Say {city}\n assistant: I was told: Say {city}\n")
    told = scripted.bodies[0]["messages"][0]["content"]
    assert "called John and lives in Oslo" in told
    assert "The Tea House is open from 9 to 5" in told
    assert 'These stay: {"tea": 1}, {unknown}, and {city} with' in told


def test_state_on_run(run: Run, scripted: Server) -> None:
    assert [line for line in run("state_on_run.py").splitlines() if "-1: " in line] == [
        "john-1: {'user_name': 'John', 'age': 30}",
        "jane-1: {'user_name': 'Jane', 'age': 25}",
        "john-1: {'user_name': 'John', 'age': 31}",
    ]
    assert "called Jane and is 25 years old" in scripted.bodies[3]["messages"][0]["content"]


def test_stored_state(run: Run) -> None:
    first, second = run("stored_state.py"), run("stored_state.py")
    assert first.startswith("Found: {'shopping_list': ['milk'], 'visits': 0}\n")
    assert first.endswith("Left: {'shopping_list': ['milk'], 'visits': 1}\n")
    assert second.startswith("Found: {'shopping_list': ['milk'], 'visits': 1}\n")
    assert second.endswith("Left: {'shopping_list': ['milk'], 'visits': 2}\n")


def test_tools(run: Run) -> None:
    out = run("tools.py")
    assert re.search(r"current_time: \d{4}-\d\d-\d\dT", out)
    assert "  … 1 \n  … 2 \n  … 3 \n  count_to: 1 2 3 \n" in out
    assert "read_notes: The milk is in the fridge." in out
    assert "[audit] ledger_spend {'what': 'tea', 'amount': 3.5}" in out
    assert "ledger_spend: 3.50 for tea entered" in out


def test_run_options(run: Run, scripted: Server) -> None:
    out = run("run_options.py")
    assert "Ada: I was told: on its way\nBob: I was told: delivered\n" in out
    assert "I was told: Say hello | end\n" in out
    systems = [body["messages"][0]["content"] for body in scripted.bodies]
    assert "You help Ada with orders. Be brief." in systems
    assert "Answer in five words at most." in systems
    assert "Answer formally." in systems


@pytest.mark.parametrize(
    ("typed", "result"),
    [
        ("y\n", "The account of milk is deleted"),
        ("n\n", "the user rejected this call. The user says: not without asking the user first"),
    ],
)
def test_confirmation(run: Run, typed: str, result: str) -> None:
    out = run("confirmation.py", typed)
    assert "delete_account(name='milk')? [y/N] " in out
    assert result in out.splitlines()[-1]


@pytest.mark.parametrize(("typed", "result"), [("y\n", "There is no such file"), ("n\n", "rejected this call")])
def test_toolkit_confirmation(run: Run, typed: str, result: str) -> None:
    listed, _, deleted = run("toolkit_confirmation.py", typed).partition("delete_file({'name': 'milk'})? [y/N] ")
    assert listed.startswith("""['["notes.txt", "old.txt"]']\n""")
    assert result in deleted


def test_user_input(run: Run) -> None:
    out = run("user_input.py", "12 High Street\na few\n2\n")
    assert out.startswith("body: some body\naddress (str): Where it goes. copies (int): How many of it. Tool ")
    assert "field 'copies': int expected, not a few" in out
    assert "send_letter: 2 letters to 12 High Street are on their way: some body\n" in out


def test_dynamic_user_input(run: Run) -> None:
    out = run("dynamic_user_input.py", "sun\n")
    assert out.startswith("wish (str): What do you want? ")
    assert 'I was told: {"wish": "sun"}' in out


def test_external_execution(run: Run) -> None:
    out = run("external_execution.py", "y\n")
    assert out.startswith("Run 'echo done'? [y/N] ")
    assert "I was told: done" in out


def test_reasoning_tools(run: Run) -> None:
    out = run("reasoning_tools.py")
    assert "Reasoning: some title" in out
    assert out.endswith("- some title (None)\n")


def test_finance_agent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # nobody is there
    out = run("finance_agent.py")
    assert "get_current_stock_price: failed: Yahoo Finance could not be reached" in out


def test_research_team(run: Run) -> None:
    out = run("research_team.py")
    assert "Response of reporter: I was told: " in out
    assert out.endswith("Asked: reporter\n")


def test_metrics(run: Run) -> None:
    lines = run("metrics.py").splitlines()
    assert [re.sub(r"\d+\.\d+", "0.0", line) for line in lines] == [
        "call 1: 15 tokens, 0.0 s to the first token, 0.0 s in all",
        "call 2: 15 tokens, 0.0 s to the first token, 0.0 s in all",
        "get_weather: 0.0 s",
        "2 calls in 0.0 s: 24 tokens in, 6 out (0 from a cache, 0 for reasoning)",
        "$0.0 of the budget are used",
    ]
    assert lines[-1].startswith("$0.000096 ")


def test_chat_history(run: Run, scripted: Server) -> None:
    out = run("chat_history.py")
    assert "{'role': 'user', 'content': 'What is the capital of France?'}\n" in out
    assert "What is the capital of France?" in str(scripted.bodies[-1]["messages"][:-4])


def test_stored_chat(run: Run, scripted: Server) -> None:
    assert run("stored_chat.py").endswith("6 messages so far\n")
    asked = len(scripted.bodies)
    assert run("stored_chat.py").endswith("12 messages so far\n")
    assert "What is the capital of France?" in str(scripted.bodies[asked]["messages"][:-1])


def test_session_summary(run: Run) -> None:
    first, second = re.findall(r"^In short: (.*)", run("session_summary.py"), re.MULTILINE)
    assert first.startswith("I was told: ")
    assert second.startswith("I was told: ")


def test_agentic_memory(run: Run) -> None:
    out = run("agentic_memory.py")
    assert "Known of john: ['some memory']\n" in out
    assert "Known of mary: ['some memory']\n" in out


def test_parser_model(run: Run, scripted: Server) -> None:
    assert run("parser_model.py") == "some goal, in 1 days\n- some text\n- some text\n"
    thinking, parsing = scripted.bodies
    assert "response_format" not in thinking
    assert "Take the plan out of the text." in str(parsing["messages"])


def test_cache_workflow(run: Run, scripted: Server) -> None:
    out = run("cache_workflow.py")
    assert out.count("I was told: A joke about tea, please.\n") == 2
    assert len(scripted.bodies) == 1


def test_nightly_job(scripted: Server) -> None:
    command = [sys.executable, str(EXAMPLES / "nightly_job.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=50)
    first, _, second = done.stdout.partition("Process 2:\n")
    assert "fetched the tickets" in first
    assert first.endswith("ended with 1\n")
    assert "fetched the tickets" not in second
    assert "published: 17: I was told: Ticket 17: The parcel came broken. / 18: " in second
    assert len(scripted.bodies) == 3


def test_typed_output(run: Run) -> None:
    assert run("typed_output.py").splitlines() == ["bug: some title (urgent)", "['some text', 'some text']"]


def test_json_mode(run: Run, scripted: Server) -> None:
    assert run("json_mode.py").count("name='milk',") == 2
    assert [body["response_format"]["type"] for body in scripted.bodies] == ["json_schema", "json_object"]


def test_movie_script(run: Run) -> None:
    assert run("movie_script.py").splitlines() == [
        "title = 'some title'",
        "setting = 'some setting'",
        "characters.0 = Character(name='milk', wants='some wants')",
        "characters.1 = Character(name='milk', wants='some wants')",
        "storyline = 'some storyline'",
        "some title, with 2 characters",
    ]


def test_extract_many(run: Run, scripted: Server) -> None:
    lines = run("extract_many.py").splitlines()
    assert lines == ["500 orders, 1500 boxes, problems: {}", "7500 tokens used, 392500 left"]
    assert len(scripted.bodies) == 500


def test_sessions(run: Run) -> None:
    out = run("sessions.py")
    assert "      user: My name is Ada\n assistant: I was told: My name is Ada\n" in out
    assert "Session 'ada-1' belongs to another user\n" in out
    assert out.endswith("one session: True\n")


def test_memory(run: Run) -> None:
    out = run("memory.py")
    assert out.startswith("Memories about Ava:\n- ")
    assert "In short: I was told: <summary_so_far>" in out
    assert "I was told: Where should I go this winter?" in out
    assert out.endswith("Memories about Bob: []\n")


@pytest.mark.parametrize(
    ("name", "method", "path", "body"),
    [
        ("starlette_app.py", "GET", "/ask", None),
        ("fastapi_app.py", "POST", "/chats/friday/stream", {"message": "How much is 3417 times 289?"}),
    ],
)
async def test_a_web_service_streams_events(scripted: Server, name: str, method: str, path: str, body: Any) -> None:
    module = load(name)
    async with asyncio.timeout(10), serving(module.app) as web, httpx.AsyncClient() as client:
        response = await client.request(method, web.url + path, json=body)
    events = [event_from_json(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    assert [event.event for event in events if event.event != "RunContent"] == [
        "RunStarted",
        "ToolCallStarted",
        "ToolCallCompleted",
        "RunCompleted",
    ]
    assert events[-1].content == "I was told: 3417 times 289 is 987513"
    await module.agent.aclose()


async def test_a_web_service_answers_whole(scripted: Server) -> None:
    module = load("fastapi_app.py")
    async with asyncio.timeout(10), serving(module.app) as web, httpx.AsyncClient() as client:
        first = await client.post(f"{web.url}/chats/friday", json={"message": "How much is 3417 times 289?"})
        scripted.add(status=401, json={"error": {"message": "no such key"}})
        second = await client.post(f"{web.url}/chats/friday", json={"message": "And the half?"})
    assert first.json() == {"answer": "I was told: 3417 times 289 is 987513", "tokens": 30}
    assert (second.status_code, "no such key" in second.text) == (502, True)
    await module.agent.aclose()


# --- on the real model -----------------------------------------------------------------------------------------------


def on_the_local_model(name: str, folder: Path, **environment: str) -> str:
    own = {key: value for key, value in os.environ.items() if key != "AGENTRT_MODEL" and not key.startswith("OPENAI")}
    finished = subprocess.run(
        [sys.executable, EXAMPLES / name],
        cwd=folder,
        env={**own, **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_quickstart_on_the_local_model(tmp_path: Path) -> None:
    out = on_the_local_model("quickstart.py", tmp_path)
    assert out.startswith("Model: SmolLM2-135M-Instruct, in this process")
    assert "multiply(a=3417, b=289)" in out
    assert out.count("987513.") == 2  # the answer, and what is remembered of it


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_events_on_the_local_model(tmp_path: Path) -> None:
    out = on_the_local_model("events.py", tmp_path, AGENTRT_MODEL="local")
    assert "← 3417 times 289 is 987513\n" in out


def test_refund_approval(run: Run) -> None:
    out = run("refund_approval.py")
    assert "ann's run is PAUSED and waits for ['refund']" in out
    assert "waiting: refund" in out
    assert "a stranger: 403" in out
    assert "bob: {'status': 'COMPLETED'" in out


def test_team(run: Run) -> None:
    out = run("team.py")
    assert "outing calls delegate_to_member{'member': 'booker'" in out
    assert "outing/booker asks to call book_table: yes\n" in out
    assert "A table for 1 in Oslo is booked" in out
    assert re.search(r"\nbooker used \d+ of \d+ tokens\n", out)
