"""The README's code runs as it stands there, against a scripted server in place of the provider."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections.abc import Iterator
from inspect import iscoroutine
from pathlib import Path
from typing import Any

import pytest

from tests.http_server import Reply, Request, Server, chat_chunk, chat_usage, completion, sse

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARGUMENTS = {"get_weather": {"city": "Oslo"}, "add_item": {"item": "milk"}, "delete_account": {"name": "Ada"}}


def blocks(language: str) -> Iterator[tuple[int, str]]:
    """The README's code blocks in a language, each with the number of lines before it."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE):
        yield README.count("\n", 0, match.start(1)), match[1]


def answer(request: Request) -> Reply:
    """Call the first tool that is offered, then repeat its result."""
    body: dict[str, Any] = request.json
    last = body["messages"][-1]
    if last["role"] == "user" and body.get("tools"):
        name = body["tools"][0]["function"]["name"]
        call = {"id": "call_1", "name": name, "arguments": json.dumps(ARGUMENTS[name])}
        whole = completion(tool_calls=[call])
    else:
        whole = completion(f"I was told: {last['content']}")
    return streamed(whole) if body.get("stream") else Reply(json=whole)


def streamed(whole: dict[str, Any]) -> Reply:
    choice = whole["choices"][0]
    delta = dict(choice["message"])
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(delta["tool_calls"])]
    chunks = (chat_chunk(delta), chat_chunk({}, choice["finish_reason"]), chat_chunk(None, usage=chat_usage()))
    return Reply(body=sse(*chunks))


def test_its_python_code_runs(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.chdir(tmp_path)
    server.answer = answer

    printed: list[str] = []
    namespace: dict[str, Any] = {"__name__": "readme"}
    for line, source in blocks("python"):
        code = compile("\n" * line + source, str(ROOT / "README.md"), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        waiting = eval(code, namespace)
        if iscoroutine(waiting):
            asyncio.run(asyncio.wait_for(waiting, 20))
        printed.append(capsys.readouterr().out)

    panels, plain, events, _, sessions, survived, errors = printed
    assert "18 °C and sunny in Oslo" in panels
    assert plain.count("I was told: 18 °C and sunny in Oslo") == 2
    assert [json.loads(line)["event"] for line in events.splitlines()][-1] == "RunCompleted"
    assert sessions == "{'items': ['milk', 'milk']}\n"
    assert survived == "I was told: Ada is gone\n"
    assert errors == ""
    assert server.requests


def test_it_opens_with_the_two_commands() -> None:
    first = next(blocks("sh"))[1]
    assert re.findall(r"^make (\w+)", first, re.MULTILINE) == ["run", "test"]


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make ([\w-]+)", README, re.MULTILINE)) <= targets


def test_its_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
