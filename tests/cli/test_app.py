from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from agentrt import __version__

ROOT = Path(__file__).parents[2]

AGENTS = """
import asyncio
from agentrt import Agent, tool
from agentrt.errors import ModelOverloaded
from agentrt.testing import FunctionModel, reply

def echo(request):
    return " then ".join(message.content for message in request.messages if message.role == "user")

async def endless(request):
    yield "Started"
    await asyncio.Event().wait()

agent = Agent(model=FunctionModel(echo))
failing = Agent(model=FunctionModel(lambda request: ModelOverloaded("busy", retryable=False)))
slow = Agent(model=FunctionModel(endless))

@tool(requires_confirmation=True)
def drop() -> str:
    return "dropped"

careful = Agent(model=FunctionModel(lambda request: reply(tool_calls=[("drop", {})])), tools=[drop])
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_app.py").write_text(AGENTS)
    (tmp_path / "broken.py").write_text("import no_such_module")
    return tmp_path


def start(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.endswith("_API_KEY") and name != "AGENTRT_MODEL"
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", "from agentrt.cli import main; main()", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=clean | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "PYTHONUTF8": "1"} | dict(env or {}),
    )


def agentrt(
    folder: Path, *arguments: str, typed: str = "", env: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    with start(folder, *arguments, env=env) as process:
        out, err = process.communicate(typed, timeout=30)
    return process.returncode, out, err


def test_help_names_the_commands(folder: Path):
    code, out, err = agentrt(folder, "--help")

    assert (code, err) == (0, "")
    assert "Ask one question" in out
    assert "Hold a conversation" in out


def test_version_is_printed(folder: Path):
    assert agentrt(folder, "--version") == (0, f"agentrt {__version__}\n", "")


def test_run_prints_the_answer_of_the_users_agent(folder: Path):
    code, out, err = agentrt(folder, "run", "[b]Hello", "my_app:agent")

    assert (code, err) == (0, "")
    assert out.startswith("[b]Hello\n(")


def test_a_session_in_a_file_is_gone_on_with(folder: Path):
    options = ("my_app:agent", "--db", "chats/monday.db", "--session", "monday", "--user", "bob")
    agentrt(folder, "run", "one", *options)
    _, out, _ = agentrt(folder, "chat", *options, typed="two\n/exit\n")

    assert "one then two" in out
    assert (folder / "chats/monday.db").exists()


def test_a_run_that_waits_asks_nobody_who_is_no_terminal_and_exits_with_3(folder: Path):
    code, out, err = agentrt(folder, "run", "go", "my_app:careful", "--db", "data.db", typed="y\n")

    assert (code, "Paused: drop() needs to be confirmed" in out) == (3, True)
    assert "agentrt runs show " in err


def test_a_failed_run_is_shown_without_a_traceback(folder: Path):
    code, out, err = agentrt(folder, "run", "hi", "my_app:failing")

    assert (code, err) == (1, "")
    assert "ModelOverloaded" in out
    assert "busy" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["my_app:nope"], "no agent 'nope'; it has agent, failing, slow, careful"),
        (["my_app:number"], "int"),
        (["nowhere:agent"], "no module nowhere"),
        (["broken:agent"], "no_such_module"),
        (["my_app"], "module:variable"),
    ],
)
def test_an_agent_that_is_not_there_is_one_clear_panel(folder: Path, arguments: list[str], said: str):
    code, out, err = agentrt(folder, "run", "hi", *arguments)

    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["--model", "opnai:gpt-4.1"], {}, "did you mean"),
        (["--model", "openai:gpt-4.1"], {}, "OPENAI_API_KEY"),
        ([], {"AGENTRT_MODEL": "anthropic:claude-sonnet-4-5"}, "ANTHROPIC_API_KEY"),
    ],
)
def test_a_model_that_is_not_to_be_had_says_what_helps(
    folder: Path, arguments: list[str], env: dict[str, str], said: str
):
    code, out, err = agentrt(folder, "run", "hi", *arguments, env=env)

    assert code == 2
    assert said in out
    assert "Traceback" not in out + err


def test_a_key_that_is_set_is_not_spent_without_being_told(monkeypatch: pytest.MonkeyPatch):
    from agentrt.cli import _agent
    from agentrt.errors import ModelUnavailable

    monkeypatch.delenv("AGENTRT_MODEL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-found")
    monkeypatch.setattr(_agent, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match="--model openai"):
        _agent.default_model_name()


def test_ctrl_c_ends_a_run_and_a_chat_goes_on_after_it(folder: Path):
    with start(folder, "chat", "my_app:slow") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("hi\n")
        process.stdin.flush()
        text = ""
        while "Started" not in text:
            text += process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate("/help\n", timeout=30)

    assert (process.returncode, err) == (0, "")
    assert "Stopped." in out
    assert "/exit" in out


def test_ctrl_c_ends_agentrt_run_with_the_shells_code_for_it(folder: Path):
    with start(folder, "run", "hi", "my_app:slow") as process:
        assert process.stdout is not None
        text = ""
        while "Started" not in text:
            text += process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (130, "")
