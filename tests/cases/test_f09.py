"""F09: HTTP failures: what is retried, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from agentrt import Agent, RunStatus, errors
from tests.cases.kit import add_chat, add_claude, all_ways, call, claude, go, openai, text_block, ways
from tests.http_server import Server


def refusal(status: int, message: str = "no", code: str | None = None, **headers: str) -> dict[str, Any]:
    error = {"message": message, **({"code": code} if code else {})}
    return {"status": status, "json": {"error": error}, "headers": {k.replace("_", "-"): v for k, v in headers.items()}}


@pytest.mark.parametrize("wait", [lambda: "1", lambda: formatdate(time.time() + 1, usegmt=True)], ids=["s", "date"])
async def test_the_wait_that_the_server_asks_for_is_kept(server: Server, wait: Callable[[], str]) -> None:
    server.add(**refusal(429, retry_after=wait()))
    add_chat(server, "streamed", "Fine")
    outcome = await go(Agent(model=openai(server)), "streamed")

    assert outcome.response.content == "Fine"
    first, second = server.requests
    assert 0.95 <= second.time - first.time < 5


@pytest.mark.parametrize(
    "headers",
    [{"retry_after": "86400"}, {"retry_after_ms": "86400000"}, {"retry_after": "Wed, 21 Oct 2099 07:28:00 GMT"}],
)
@ways
async def test_a_wait_of_a_day_is_named_and_not_slept(server: Server, way: str, headers: dict[str, str]) -> None:
    server.add(**refusal(429, "slow down", **headers))
    outcome = await go(Agent(model=openai(server)), way)

    assert isinstance(outcome.error, errors.ModelRateLimited)
    assert outcome.error.retry_after_s and outcome.error.retry_after_s >= 86399
    assert "asks to wait" in str(outcome.error) and "max_retry_after_s=60" in str(outcome.error)
    assert len(server.requests) == 1


@pytest.mark.parametrize("value", ["soon", "-5", "", "nan", "inf"])
async def test_a_wait_that_makes_no_sense_is_no_failure_of_its_own(server: Server, value: str) -> None:
    server.add(**refusal(429, "slow down", retry_after=value))
    add_chat(server, "plain", "Fine")
    outcome = await go(Agent(model=openai(server)), "plain")

    assert outcome.response.content == "Fine" and len(server.requests) == 2


@all_ways
async def test_overload_is_tried_again(server: Server, way: str) -> None:
    server.add(**refusal(529))
    server.add(**refusal(503))
    add_chat(server, way, "Fine")
    outcome = await go(Agent(model=openai(server)), way)

    assert outcome.response.content == "Fine" and len(server.requests) == 3
    assert outcome.names.count("ModelCallStarted") == outcome.names.count("ModelCallCompleted")


@ways
async def test_anthropics_overload_is_tried_again(server: Server, way: str) -> None:
    server.add(status=529, json={"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    add_claude(server, way, text_block("Fine"))

    assert (await go(Agent(model=claude(server)), way)).response.content == "Fine"


FINAL = [
    (refusal(400, "bad schema", "invalid_request_error"), errors.ModelBadRequest, "bad schema"),
    (refusal(401, "wrong key"), errors.ModelAuthError, "wrong key"),
    (refusal(403, "not allowed"), errors.ModelAuthError, "not allowed"),
    (refusal(404, "no such model"), errors.ModelNotFound, "no such model"),
    (refusal(402, "pay first"), errors.ModelQuotaExceeded, "pay first"),
    (refusal(422, "unprocessable"), errors.ModelBadRequest, "unprocessable"),
    (refusal(429, "quota", "insufficient_quota"), errors.ModelQuotaExceeded, "quota"),
    (refusal(429, "quota", "insufficient_quota", retry_after="1"), errors.ModelQuotaExceeded, "quota"),
    ({"status": 400, "json": {"error": "plain words"}}, errors.ModelBadRequest, "plain words"),
    ({"status": 400, "json": {"detail": [{"loc": ["body"], "msg": "field required"}]}}, errors.ModelBadRequest,
     "field required"),
    ({"status": 400, "json": {"object": "error", "message": "too long by far"}}, errors.ModelBadRequest, "too long"),
    ({"status": 400, "json": [{"error": {"code": 400, "message": "in a list"}}]}, errors.ModelBadRequest, "in a list"),
    ({"status": 400, "body": b"", "headers": {"content-type": "text/plain"}}, errors.ModelBadRequest, "400"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "kind", "message"), FINAL)
@ways
async def test_what_waiting_does_not_mend_is_asked_once(
    server: Server, way: str, reply: dict[str, Any], kind: type[errors.ModelError], message: str
) -> None:
    server.add(**reply)
    outcome = await go(Agent(model=openai(server)), way)

    assert isinstance(outcome.error, kind) and message in str(outcome.error)
    assert message in (outcome.response.error or "") and outcome.response.status is RunStatus.FAILED
    assert len(server.requests) == 1


@all_ways
async def test_the_last_of_three_failures_is_the_error(server: Server, way: str) -> None:
    for number in (1, 2, 3):
        server.add(**refusal(500, f"failure {number}"))
    outcome = await go(Agent(model=openai(server)), way)

    assert isinstance(outcome.error, errors.ModelServerError)
    assert outcome.error.status == 500 and "failure 3" in str(outcome.error)
    assert outcome.error.body == {"error": {"message": "failure 3"}}
    assert len(server.requests) == 3


@pytest.mark.parametrize("kind", ["text/html", "application/json", "text/event-stream", "text/plain"])
@all_ways
async def test_a_page_of_html_is_an_error_that_shows_it(server: Server, way: str, kind: str) -> None:
    server.add(body=b"<html><body>Please log in</body></html>", headers={"content-type": kind})
    outcome = await go(Agent(model=openai(server, max_retries=0)), way)

    assert isinstance(outcome.error, errors.ModelError)
    assert outcome.response.status is RunStatus.FAILED
    assert "Please log in" in str(outcome.error) or kind in ("text/event-stream", "text/plain")


async def test_a_failure_after_tools_keeps_what_they_did(server: Server) -> None:
    def ping() -> str:
        return "pong"

    add_chat(server, "plain", calls=[call("c1", "ping")])
    server.add(**refusal(400, "bad history"))
    outcome = await go(Agent(model=openai(server), tools=[ping]), "plain")

    assert [m.role for m in outcome.response.messages] == ["user", "assistant", "tool"]
    assert outcome.response.tools[0].result == "pong"
