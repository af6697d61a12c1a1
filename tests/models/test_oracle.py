"""Of the same bytes, what a provider's own SDK accumulates is what we keep: all that an answer may hold beside text.

`test_conformance.py` compares text, calls, reasoning and refusals in all protocols, and `test_claude.py` each block.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from agentrt.models.base import CitationDelta, PartDelta, ToolCallDelta
from agentrt.models.google import Gemini
from agentrt.models.openai import OpenAIChat, OpenAIResponses
from tests.http_server import Server, chat_chunk, chat_usage, sse
from tests.models.collect import Collected, collect
from tests.models.dialects import data

bytewise = pytest.mark.parametrize("bytewise", [False, True], ids=["whole events", "byte by byte"])
OPTIONS: dict[str, Any] = {"api_key": "test", "max_retries": 0}


@pytest.fixture(autouse=True)
def few_certificates(monkeypatch: pytest.MonkeyPatch, one_certificate: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))


@pytest.fixture
async def client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=server.url, **OPTIONS) as client:
        yield client


def twice(server: Server, body: bytes, bytewise: bool) -> None:
    for _ in range(2):
        server.add(body=[bytes([one]) for one in body] if bytewise else body)


def calls_of(heard: Collected) -> list[tuple[str, str, Any]]:
    return [(id, name, json.loads(arguments)) for id, name, arguments in heard.calls]


# --- Responses -------------------------------------------------------------------------------------------------------

CITED = {"type": "url_citation", "url": "https://tides.example", "title": "Tides 🌊", "start_index": 0, "end_index": 4}
FILED = {"type": "file_citation", "file_id": "file_1", "filename": "tides.txt", "index": 2}


def text(said: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"type": "output_text", "text": said, "annotations": list(annotations), "logprobs": []}


def message(id: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "id": id, "role": "assistant", "status": "completed", "content": list(content)}


def call(number: int, **arguments: Any) -> dict[str, Any]:
    said = json.dumps(arguments, ensure_ascii=False)
    head = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": "lookup"}
    return head | {"arguments": said, "status": "completed"}


def reasoning(*sections: str) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": section} for section in sections]
    return {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "gAAAA"}


SEARCH = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "tide", "queries": ["tide"]},
}
CODE = {
    "type": "code_interpreter_call",
    "id": "ci_1",
    "status": "completed",
    "code": "print('é')",
    "container_id": "cntr_1",
    "outputs": [{"type": "logs", "logs": "é\n"}],
}
RESPONSES: dict[str, list[dict[str, Any]]] = {
    "reasoning and calls": [reasoning("Look **it** up.", "Then tell."), call(1, q="té 🍵"), call(2, n=[1, 2.5, None])],
    "server tools and citations": [SEARCH, CODE, message("msg_1", text("Noon 🌊", CITED, FILED))],
    "several messages": [message("msg_1", text("Wait.")), SEARCH, message("msg_2", text("High "), text("at noon."))],
    "a refusal": [message("msg_1", {"type": "refusal", "refusal": "I can't help with thät."})],
}


def responses_stream(items: list[dict[str, Any]]) -> bytes:
    """The events of an answer of these items, each text in halves."""
    used = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
    used |= {"input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 2}}
    answer = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5", "status": "completed"}
    answer |= {"output": items, "usage": used, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    begun = answer | {"status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(items):
        events += [event | {"output_index": index, "item_id": item["id"]} for event in item_events(item)]
    events.append({"type": "response.completed", "response": answer})
    return b"".join(data(event | {"sequence_number": at}, event["type"]) for at, event in enumerate(events))


def item_events(item: dict[str, Any]) -> list[dict[str, Any]]:
    opened = {**item, **{name: [] for name in ("content", "summary") if name in item}, "status": "in_progress"}
    middle: list[dict[str, Any]] = []
    if item["type"] == "function_call":
        opened["arguments"] = ""
        kind = "response.function_call_arguments"
        middle = [{"type": f"{kind}.delta", "delta": piece} for piece in halves(item["arguments"])]
        middle.append({"type": f"{kind}.done", "arguments": item["arguments"], "name": item["name"]})
    for at, section in enumerate(item.get("summary", ())):
        kind, place = "response.reasoning_summary", {"summary_index": at}
        middle.append({"type": f"{kind}_part.added", "part": section | {"text": ""}} | place)
        middle += [{"type": f"{kind}_text.delta", "delta": piece} | place for piece in halves(section["text"])]
        middle.append({"type": f"{kind}_part.done", "part": section} | place)
    for at, part in enumerate(item.get("content", ())):
        name = "refusal" if part["type"] == "refusal" else "text"
        kind, place = f"response.{part['type']}", {"content_index": at, "logprobs": []}
        empty = part | {name: ""} | ({"annotations": []} if name == "text" else {})
        middle.append({"type": "response.content_part.added", "part": empty} | place)
        middle += [{"type": f"{kind}.delta", "delta": piece} | place for piece in halves(part[name])]
        for number, annotation in enumerate(part.get("annotations", ())):
            said = {"annotation": annotation, "annotation_index": number}
            middle.append({"type": f"{kind}.annotation.added"} | said | place)
        middle.append({"type": "response.content_part.done", "part": part} | place)
    return [
        {"type": "response.output_item.added", "item": opened},
        *middle,
        {"type": "response.output_item.done", "item": item},
    ]


def halves(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]


def unparsed(value: Any) -> Any:
    """Without what the SDK adds of its own."""
    if isinstance(value, list):
        return [unparsed(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, dict):
        return value
    return {key: unparsed(item) for key, item in value.items() if key not in ("parsed", "parsed_arguments")}  # pyright: ignore


@bytewise
@pytest.mark.parametrize("name", RESPONSES)
async def test_responses(server: Server, client: openai.AsyncOpenAI, name: str, bytewise: bool) -> None:
    twice(server, responses_stream(RESPONSES[name]), bytewise)
    async with client.responses.stream(model="gpt-5", input="hello") as stream:
        theirs = await stream.get_final_response()
    items = [unparsed(item.to_dict()) for item in theirs.output]

    heard = await collect(OpenAIResponses(id="gpt-5", base_url=server.url, **OPTIONS))

    contents = [part for item in items if item["type"] == "message" for part in item["content"]]
    assert heard.text == theirs.output_text
    assert heard.refusal == "".join(part.get("refusal", "") for part in contents)
    summaries = [section["text"] for item in items for section in item.get("summary", ())]
    assert heard.reasoning == "\n\n".join(summaries)
    calls = [item for item in items if item["type"] == "function_call"]
    assert calls_of(heard) == [(one["call_id"], one["name"], json.loads(one["arguments"])) for one in calls]
    assert [delta.citation for delta in heard.of(CitationDelta)] == [
        annotation for part in contents for annotation in part.get("annotations", ())
    ]
    parts = [delta.part for delta in heard.of(PartDelta)]
    assert parts in ([], [{key: item[key] for key in item if key != "arguments"} for item in items])
    assert bool(parts) == (name != "a refusal")
    assert heard.usage is not None and theirs.usage is not None
    assert heard.usage.cached_input_tokens == theirs.usage.input_tokens_details.cached_tokens
    assert heard.usage.reasoning_tokens == theirs.usage.output_tokens_details.reasoning_tokens


# --- chat completions ------------------------------------------------------------------------------------------------

ANNOTATION = {"type": "url_citation", "url_citation": {"url": "https://tides.example", "title": "Tides 🌊",
                                                      "start_index": 0, "end_index": 4}}  # fmt: skip


def fragment(index: int, arguments: str, **fields: Any) -> dict[str, Any]:
    return {
        "tool_calls": [{"index": index, "function": {"arguments": arguments} | fields.pop("function", {}), **fields}]
    }


CHAT: dict[str, list[dict[str, Any]]] = {
    "text": [{"role": "assistant", "content": ""}, {"content": "Grüß "}, {"content": "dich 🍸"}],
    "interleaved calls": [
        {"role": "assistant", "content": "Both."},
        fragment(0, "", id="call_a", type="function", function={"name": "lookup"}),
        fragment(1, '{"q": "mo', id="call_b", type="function", function={"name": "lookup"}),
        fragment(0, '{"q": "té '),
        fragment(1, 'on"}'),
        fragment(0, '🍵"}'),
    ],
    "a refusal": [{"role": "assistant", "refusal": "I can't "}, {"refusal": "help with thät."}],
    "annotations": [{"role": "assistant", "content": "Noon."}, {"annotations": [{"index": 0, **ANNOTATION}]}],
}


@bytewise
@pytest.mark.parametrize("name", CHAT)
async def test_chat_completions(server: Server, client: openai.AsyncOpenAI, name: str, bytewise: bool) -> None:
    reason = "tool_calls" if "calls" in name else "stop"
    chunks = [chat_chunk(delta) for delta in CHAT[name]]
    twice(server, sse(*chunks, chat_chunk({}, reason), chat_usage()), bytewise)
    asked: Any = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello"}]}
    async with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        theirs = await stream.get_final_completion()
    said = theirs.choices[0].message

    heard = await collect(OpenAIChat(id="gpt-4.1", base_url=server.url, **OPTIONS))

    assert (heard.text, heard.refusal) == (said.content or "", said.refusal or "")
    functions = [(one.id, one.function) for one in said.tool_calls or ()]
    assert calls_of(heard) == [(id, function.name, json.loads(function.arguments)) for id, function in functions]
    assert [delta.index for delta in heard.of(ToolCallDelta) if delta.id] == list(range(len(functions)))
    cited = [{key: value for key, value in one.to_dict().items() if key != "index"} for one in said.annotations or ()]
    ours = [delta.citation for delta in heard.of(CitationDelta)]
    assert [{key: value for key, value in one.items() if key != "index"} for one in ours] == cited
    assert heard.finish.raw == theirs.choices[0].finish_reason


# --- Gemini ----------------------------------------------------------------------------------------------------------

GROUNDING = {
    "webSearchQueries": ["tide"],
    "groundingChunks": [{"web": {"uri": "https://tides.example", "title": "Tides 🌊"}}],
    "groundingSupports": [{"segment": {"endIndex": 4, "text": "Noon"}, "groundingChunkIndices": [0]}],
}


@bytewise
async def test_gemini(server: Server, bytewise: bool) -> None:
    """Parts are compared in `test_gemini.py`; here is what stands beside them."""
    from google import genai

    parts: list[dict[str, Any]] = [
        {"text": "Where was it …", "thought": True},
        {"text": "No"},
        {"text": "on 🌊"},
        {"functionCall": {"id": "f1", "name": "lookup", "args": {"q": "té 🍵"}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "f2", "name": "lookup", "args": {}}},
    ]
    chunks: list[dict[str, Any]] = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in parts]
    chunks[-1]["candidates"][0] |= {"finishReason": "STOP", "groundingMetadata": GROUNDING}
    chunks[-1] |= {"modelVersion": "gemini-2.5-flash-001", "usageMetadata": {"promptTokenCount": 9}}
    twice(server, b"".join(data(chunk) for chunk in chunks), bytewise)
    asked: Any = {"model": "gemini-2.5-flash", "contents": "hello"}
    options = genai.types.HttpOptions(base_url=server.url)
    async with genai.Client(api_key="test", http_options=options).aio as client:
        theirs = [one async for one in await client.models.generate_content_stream(**asked)]

    heard = await collect(Gemini(id="gemini-2.5-flash", base_url=server.url, **OPTIONS))

    found: Any = [part for one in theirs for part in one.candidates[0].content.parts]  # pyright: ignore
    assert heard.text == "".join(part.text or "" for part in found if not part.thought)
    assert heard.reasoning == "".join(part.text or "" for part in found if part.thought)
    functions = [part.function_call for part in found if part.function_call]
    assert calls_of(heard) == [(one.id, one.name, one.args or {}) for one in functions]
    (citation,) = [delta.citation for delta in heard.of(CitationDelta)]
    metadata: Any = theirs[-1].candidates[0].grounding_metadata  # pyright: ignore
    assert genai.types.GroundingMetadata.model_validate({k: v for k, v in citation.items() if k != "type"}) == metadata
