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
ANSWERS = [TEXT, TWO_CALLS, CALL_AFTER_TEXT, REASONED, REASONED_CALL, REFUSED, Answer(text=["Cut"], finish="length")]


@dialects
@pytest.mark.parametrize("check", model_checks, ids=lambda check: check.__name__)
async def test_the_adapter_keeps_the_contract(check: ModelCheck, dialect: Any):
    try:
        await check(dialect)
    except NotSpoken as reason:
        pytest.skip(f"not in this protocol: {reason}")


@dialects
@pytest.mark.parametrize("answer", ANSWERS, ids=["text", "calls", "both", "reasoned", "tools", "refused", "cut"])
async def test_it_hears_what_the_providers_own_sdk_hears(dialect: Any, answer: Answer):
    if dialect.name in ("chat", "responses") and answer.finish == "length":
        pytest.skip("the SDK raises, or keeps nothing")
    if dialect.name == "gemini" and answer.refusal:
        pytest.skip("not in this protocol")
    async with asyncio.timeout(20), Loopback() as server:
        for _ in range(2):
            server.replies.append(Reply(pieces=dialect.events(answer)))
        model = dialect.model(server.url)
        ours = await collect(model)
        sdks = await dialect.told(server.url)
        await model.aclose()

    assert (ours.text, ours.refusal) == (sdks.text, sdks.refusal)
    assert [(id, name, json.loads(arguments)) for id, name, arguments in ours.calls] == sdks.calls
    assert ours.usage is not None
    assert (ours.usage.input_tokens, ours.usage.output_tokens) == (sdks.input_tokens, sdks.output_tokens)
    assert sdks.reasoning is None or ours.reasoning == sdks.reasoning
