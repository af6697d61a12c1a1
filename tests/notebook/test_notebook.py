"""A real Jupyter kernel executes real notebooks: sync and async cells, one conversation, output that can be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from tests import scripted_chat
from tests.http_server import Server

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "notebook.ipynb"
SETUP = '''
from agentrt import Agent
from agentrt.testing import ScriptedModel, reply

def double(n: int) -> int:
    """Double a number."""
    return 2 * n
'''


def execute(notebook: Any, folder: Path, **environment: str) -> list[str]:
    """Execute a notebook; return what each code cell shows. An error in a cell is an error here."""
    own = {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.notebook.execute"],
        cwd=folder,
        env={**os.environ, **own, **environment},
        input=nbformat.writes(notebook),
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return [_shown(cell) for cell in nbformat.reads(done.stdout, as_version=4).cells if cell.cell_type == "code"]


def _shown(cell: Any) -> str:
    """Streams and values as text; what a later output replaced is not there, as in a notebook."""
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def cells(*sources: str) -> Any:
    return new_notebook(cells=[new_code_cell(source) for source in sources])


def test_sync_and_async_cells_are_one_conversation(tmp_path: Path) -> None:
    notebook = cells(
        SETUP,
        'agent = Agent(model=ScriptedModel(*"abcd"), add_history_to_messages=True)\nfirst = agent.run("1")',
        'second = await agent.arun("2")',
        'async for event in agent.arun("3", stream=True):\n    pass',
        'agent.print_response("4")',
        "print(len({first.session_id, second.session_id, agent.session_id}))\n"
        "print([message.content for message in agent.get_messages_for_session()])\n"
        "print(len(agent.model.last_request.messages))",
    )
    shown = execute(notebook, tmp_path)
    assert shown[-1].splitlines() == ["1", "['1', 'a', '2', 'b', '3', 'c', '4', 'd']", "7"]


def test_printing_is_readable(tmp_path: Path) -> None:
    notebook = cells(
        SETUP,
        'model = ScriptedModel(reply(tool_calls=[("double", {"n": 21})]), "It is **42**.", "Yes, 42.")\n'
        "agent = Agent(model=model, tools=[double])",
        'agent.print_response("Double 21", stream=True)',
        'await agent.aprint_response("Sure?", stream=True)',
    )
    *_, streamed, awaited = execute(notebook, tmp_path)
    assert streamed.count("Double 21") == 1
    assert streamed.count("double(n=21)") == 1
    assert streamed.count("It is **42**.") == 1
    assert awaited.count("Yes, 42.") == 1
    assert not any(sign in streamed + awaited for sign in ("\x1b[1A", "\x1b[2K", "None", "coroutine"))


def test_an_error_in_a_cell_leaves_the_kernel_in_order(tmp_path: Path) -> None:
    notebook = cells(
        SETUP,
        'agent = Agent(model=ScriptedModel(ValueError("broken"), "whole", "again"))\n'
        'try:\n    agent.run("1")\nexcept ValueError as error:\n    print(error, error.run_response.status)',
        'print(agent.run("2").content, (await agent.arun("3")).content)',
        "import asyncio\nprint([t.get_name() for t in asyncio.all_tasks() if t.get_name().startswith('agentrt')])",
    )
    *_, failed, worked, tasks = execute(notebook, tmp_path)
    assert failed == "broken FAILED\n"
    assert worked == "whole again\n"
    assert tasks == "[]\n"


def test_the_example(server: Server, tmp_path: Path) -> None:
    server.answer = scripted_chat.answer
    notebook = nbformat.read(EXAMPLE, as_version=4)
    shown = execute(
        notebook,
        tmp_path,
        AGENTRT_MODEL="openai:gpt-4.1",
        OPENAI_BASE_URL=f"{server.url}/v1",
        OPENAI_API_KEY="test",
    )
    _, plain, printed, awaited, streamed, messages = shown
    assert plain == "'I was told: 3417 times 289 is 987513'"
    assert "multiply(a=3417, b=289)" in printed
    assert awaited.startswith("I was told: 3417 times 289 is 987513 Usage(input_tokens=24, ")
    assert streamed.startswith("RunStarted \n") and "RunCompleted" in streamed
    assert messages.count("user: ") == 4
    assert all(cell.outputs == [] for cell in notebook.cells if cell.cell_type == "code")
