"""Each adapter keeps the contract of `agentrt.testing.model_contracts`, and hears what the provider's own SDK hears."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agentrt.testing._loopback import Loopback, Reply
from agentrt.testing.model_contracts import (
    CALL_AFTER_TEXT,
    REASONED,
    REASONED_CALL,
    TEXT,
    TWO_CALLS,
    UNICODE,
    Answer,
    ModelCheck,
    NotSpoken,
    model_checks,
)
from tests.models.collect import collect
from tests.models.dialects import DIALECTS

dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


@pytest.fixture(autouse=True)
def few_certificates(monkeypatch: pytest.MonkeyPatch, one_certificate: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))


REFUSED = Answer(refusal="I can't help with that.", finish="refusal")
ANSWERS = {
    "text": TEXT,
    "calls": TWO_CALLS,
    "both": CALL_AFTER_TEXT,
    "reasoned": REASONED,
    "tools": REASONED_CALL,
    "unicode": UNICODE,
    "refused": REFUSED,
    "cut": Answer(text=["Cut"], finish="length"),
}


@dialects
@pytest.mark.parametrize("check", model_checks, ids=lambda check: check.__name__)
async def test_the_adapter_keeps_the_contract(check: ModelCheck, dialect: Any):
    try:
        await check(dialect)
    except NotSpoken as reason:
        pytest.skip(f"not in this protocol: {reason}")


@dialects
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole events", "byte by byte"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_it_hears_what_the_providers_own_sdk_hears(dialect: Any, answer: Answer, bytewise: bool):
    if dialect.name in ("chat", "responses") and answer.finish == "length":
        pytest.skip("the SDK raises, or keeps nothing")
    if dialect.name == "gemini" and answer.refusal:
        pytest.skip("not in this protocol")
    async with asyncio.timeout(20), Loopback() as server:
        events = dialect.events(answer)
        pieces = [bytes([one]) for event in events for one in event] if bytewise else events
        for _ in range(2):
            server.replies.append(Reply(pieces=pieces))
        model = dialect.model(server.url)
        ours = await collect(model)
        sdks = await dialect.told(server.url)
        await model.aclose()

    assert (ours.text, ours.refusal) == (sdks.text, sdks.refusal)
    assert [(id, name, json.loads(arguments)) for id, name, arguments in ours.calls] == sdks.calls
    assert ours.usage is not None
    assert (ours.usage.input_tokens, ours.usage.output_tokens) == (sdks.input_tokens, sdks.output_tokens)
    assert sdks.reasoning is None or ours.reasoning == sdks.reasoning
