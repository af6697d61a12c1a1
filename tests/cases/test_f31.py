"""F31: event loops that come and go, and clients that stay. One process with all warnings as errors; see `loops.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.http_server import Reply, Request, Server, chat_stream, completion

ROOT = Path(__file__).parents[2]
MESSAGE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def answer(request: Request) -> Reply:
    if request.method == "GET":
        return Reply(json={})
    if "messages" in request.path:
        return Reply(json=MESSAGE)
    return Reply(body=chat_stream("hel", "lo")) if request.json.get("stream") else Reply(json=completion("hello"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with Server() as server:
        server.answer = answer
        done = subprocess.run(
            [sys.executable, "-W", "error", Path(__file__).with_name("loops.py"), server.url,
             tmp_path_factory.mktemp("loops")],
            cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=50,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        left = json.loads(done.stdout)
        server.wait_until(lambda: server.open_connections == 0)
    yield left | {"stderr": done.stderr}


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_three_loops_in_a_row_work_alike(found: dict[str, Any], provider: str) -> None:
    assert found[f"{provider} in a row"] == ["hello"] * 3
    assert found["a bare loop"] == "hello"


def test_streams_work_in_one_loop_after_the_other(found: dict[str, Any]) -> None:
    first, cut, last = found["streams in a row"]
    assert first == last == "hello" and "hello".startswith(cut)


def test_the_sync_call_works_inside_a_running_loop(found: dict[str, Any]) -> None:
    assert found["inside a running loop"] == ["hello"] * 3


def test_loops_in_several_threads_share_one_agent(found: dict[str, Any]) -> None:
    assert found["async in threads"] == found["sync in threads"] == ["hello"] * 8


def test_agents_that_come_and_go_leave_no_descriptor(found: dict[str, Any]) -> None:
    assert found["fifty agents"] == ["hello"]
    assert found["descriptors"] <= 2  # of the portal's own loop, which stays


def test_a_callers_client_is_used_and_left_open(found: dict[str, Any]) -> None:
    content, seen, is_closed, status = found["caller's client"]
    assert content == "hello" and seen == ["/chat/completions"]
    assert not is_closed and status == 200


def test_nothing_is_said_at_the_end(found: dict[str, Any]) -> None:
    assert found["stderr"] == ""
