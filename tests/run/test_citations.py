"""What an answer rests on is kept as data, in the form of its provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent, RunResponse
from agentrt.models.anthropic import Claude
from agentrt.models.base import Model
from agentrt.models.google import Gemini
from agentrt.models.openai import OpenAIChat, OpenAIResponses
from agentrt.storage.sqlite import SqliteStorage
from tests.cases.kit import add_chat, add_claude, go, ways
from tests.http_server import Server

ANNOTATION = {"type": "url_citation", "url_citation": {"url": "https://example.com", "start_index": 0}}
CITED = {"type": "char_location", "cited_text": "noon", "document_index": 0}
CITING = {"type": "text", "text": "Noon.", "citations": [CITED]}
GROUNDING = {"webSearchQueries": ["tide"], "groundingChunks": [{"web": {"uri": "https://example.com"}}]}


def gemini_answer() -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": "Noon."}]}, "finishReason": "STOP", "groundingMetadata": GROUNDING}
    return {"candidates": [candidate]}


def response_of(annotation: dict[str, Any]) -> dict[str, Any]:
    content = [{"type": "output_text", "text": "Noon.", "annotations": [annotation]}]
    return {
        "id": "r",
        "model": "m",
        "status": "completed",
        "output": [{"type": "message", "id": "m", "content": content}],
    }


MODELS: list[Any] = [
    (OpenAIChat, lambda server, way: add_chat(server, way, "Noon.", annotations=[ANNOTATION]), [ANNOTATION]),
    (OpenAIResponses, lambda server, _: server.add(json=response_of(ANNOTATION)), [ANNOTATION]),
    (Claude, lambda server, way: add_claude(server, way, CITING), [CITED]),
    (Gemini, lambda server, _: server.add(json=gemini_answer()), [{"type": "groundingMetadata", **GROUNDING}]),
]


@ways
@pytest.mark.parametrize(("kind", "add", "citations"), MODELS)
async def test_citations_are_on_the_response_and_in_storage(
    server: Server, tmp_path: Path, way: str, kind: type[Model], add: Any, citations: list[Any]
):
    add(server, way)
    options: dict[str, Any] = {"id": "m", "api_key": "test", "base_url": server.url}
    storage = SqliteStorage(db_file=str(tmp_path / "runs.db"))
    agent = Agent(model=kind(**options), storage=storage)

    response = (await go(agent, way, "when?", run_id="r", session_id="s")).response
    again = await agent.arun("when?", run_id="r", session_id="s")
    await storage.aclose()

    assert response.content == "Noon."
    assert response.citations == again.citations == citations
    assert response.messages[-1].citations == citations
    assert RunResponse.from_json(response.to_json()).citations == citations
