"""What the cases have in common: models on the scripted server, the ways to run an agent, and answers in both forms."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from agentrt import Agent, RunResponse
from agentrt.models.anthropic import Claude
from agentrt.models.openai import OpenAIChat
from agentrt.run.events import BaseEvent
from tests.http_server import Server, chat_chunk, chat_usage, completion, sse, sse_events

WAIT_S = 20.0


def openai(server: Server, **options: Any) -> OpenAIChat:
    return OpenAIChat(
        **{"id": "test-model", "base_url": server.url, "api_key": "test", "retry_delay_s": 0.001, **options}
    )


def claude(server: Server, **options: Any) -> Claude:
    return Claude(**{"id": "claude-test", "base_url": server.url, "api_key": "test", "retry_delay_s": 0.001, **options})


# --- ways to run -----------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What came of a run: `response` also when it failed. `events` are those of a streamed run."""

    response: RunResponse[Any]
    error: BaseException | None = None
    events: list[BaseEvent] = field(default_factory=list[BaseEvent])

    @property
    def texts(self) -> list[str]:
        """The contents of the content events."""
        return [event.content for event in self.events if event.event == "RunContent"]

    @property
    def names(self) -> list[str]:
        return [event.event for event in self.events]


async def go(agent: Agent[Any], way: str, input: Any = "hi", **options: Any) -> Outcome:
    """Run an agent "plain", "streamed" or "sync"; an error that has a response is part of the outcome."""
    events: list[Any] = []
    try:
        async with asyncio.timeout(WAIT_S):
            if way == "streamed":
                async for event in agent.arun(input, stream=True, stream_intermediate_steps=True, **options):
                    events.append(event)
                check_events(events)
                return Outcome(events[-1].response, events=events)
            if way == "sync":
                return Outcome(await asyncio.to_thread(agent.run, input, **options))
            return Outcome(await agent.arun(input, **options))
    except Exception as error:
        response = getattr(error, "run_response", None)
        if response is None:
            raise
        if events:
            check_events(events)
        return Outcome(response, error, events)


def check_events(events: list[Any]) -> None:
    """Facts are numbered without gaps, each start has its end, and there is one last event, at the end."""
    numbers = [event.seq for event in events if not event.is_delta]
    assert numbers == list(range(1, len(numbers) + 1))
    names = [event.event for event in events]
    assert names.count("ModelCallStarted") == names.count("ModelCallCompleted")
    assert names.count("ToolCallStarted") == names.count("ToolCallCompleted") + names.count("ToolCallError")
    endings = {"RunCompleted", "RunError", "RunCancelled", "RunPaused"}
    assert [name for name in names if name in endings] == names[-1:]


def is_streamed(way: str) -> bool:
    return way == "streamed"


ways = pytest.mark.parametrize("way", ["plain", "streamed"])
all_ways = pytest.mark.parametrize("way", ["plain", "streamed", "sync"])


async def only_this_task() -> None:
    """Wait until no other task is left; fails when one stays."""
    async with asyncio.timeout(5):
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


# --- answers ---------------------------------------------------------------------------------------------------------


def call(id: Any, name: str, arguments: Any = "{}") -> dict[str, Any]:
    """A whole tool call as chat completions have it; arguments that are a mapping are written as JSON."""
    text = json.dumps(arguments) if isinstance(arguments, Mapping) else arguments
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def add_chat(
    server: Server,
    way: str,
    content: str | None = None,
    calls: Sequence[dict[str, Any]] = (),
    finish: str | None = None,
    **message: Any,
) -> None:
    """Queue one chat-completions answer, as a body or as a stream of chunks."""
    finish = finish or ("tool_calls" if calls else "stop")
    if is_streamed(way):
        chunks = [chat_chunk({"role": "assistant", "content": content, **message})] if content or message else []
        chunks += [chat_chunk({"tool_calls": [{"index": at, **one}]}) for at, one in enumerate(calls)]
        server.add(body=sse(*chunks, chat_chunk({}, finish), chat_chunk(None, usage=chat_usage())))
    else:
        body = completion(content, finish_reason=finish, **message)
        if calls:
            body["choices"][0]["message"]["tool_calls"] = list(calls)
        server.add(json=body)


def add_claude(server: Server, way: str, *blocks: dict[str, Any], stop: str | None = None) -> None:
    """Queue one Messages answer of these content blocks, as a body or as a stream of events."""
    stop = stop or ("tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn")
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": list(blocks),
        "stop_reason": stop,
        "usage": {"input_tokens": 30, "output_tokens": 20},
    }
    if not is_streamed(way):
        server.add(json=message)
        return
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"content": [], "stop_reason": None}}
    ]
    for index, block in enumerate(blocks):
        events += block_events(index, block)
    events.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 20}})
    server.add(body=sse_events(*events, {"type": "message_stop"}))


def block_events(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of one content block."""
    kind = block["type"]
    start, deltas = dict(block), list[dict[str, Any]]()
    if kind == "text":
        start["text"] = ""
        deltas = [{"type": "text_delta", "text": block["text"]}] if block["text"] else []
    elif kind == "tool_use":
        start["input"] = {}
        text = json.dumps(block["input"]) if block["input"] else ""
        pieces = ["", text[:3], text[3:]]
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    elif kind == "thinking":
        start |= {"thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}] if block["thinking"] else []
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def use_block(id: str, name: str, **input: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def label(value: object) -> str:
    """A name for a parameter that is the same in every process."""
    text = repr(value)
    return type(value).__name__ if " at 0x" in text else text[:40]
