"""Checks that a request is a conversation that its provider accepts: each call answered once, and at once."""

from __future__ import annotations

import json
from typing import Any


def check_chat(body: dict[str, Any]) -> None:
    """A chat-completions request: after each assistant message with calls, one tool message a call id; no others."""
    open_ids: list[str] = []
    for message in body["messages"]:
        role = message["role"]
        if role == "tool":
            assert message["tool_call_id"] in open_ids, f"a result without its call: {message}"
            open_ids.remove(message["tool_call_id"])
            assert isinstance(message["content"], str)
            continue
        assert not open_ids, f"{open_ids} have no result before {message}"
        for call in message.get("tool_calls") or ():
            assert isinstance(call["id"], str) and call["id"], call
            assert isinstance(json.loads(call["function"]["arguments"]), dict), call
            assert call["function"]["name"], call
            open_ids.append(call["id"])
        assert len(open_ids) == len(set(open_ids)), f"an id is used twice: {open_ids}"
        assert message.get("content") is not None or message.get("tool_calls"), message
    assert not open_ids, f"{open_ids} have no result"


def check_claude(body: dict[str, Any]) -> None:
    """A Messages request: roles by turns, nothing empty, results first in the turn after their calls."""
    messages = body["messages"]
    assert [m["role"] for m in messages] == ["user" if at % 2 == 0 else "assistant" for at in range(len(messages))]
    assert body["max_tokens"] > 0
    used: set[str] = set()
    calls: list[str] = []
    for message in messages:
        assert message["content"], message
        kinds = [block["type"] for block in message["content"]]
        for block in message["content"]:
            assert block["type"] != "text" or block["text"].strip(), "an empty text block"
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        assert results == calls, f"calls {calls} are answered by {results}"
        assert kinds[: len(results)] == ["tool_result"] * len(results), kinds
        calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        assert used.isdisjoint(calls) and len(set(calls)) == len(calls), "an id is used twice"
        used.update(calls)
        assert all(isinstance(block["input"], dict) for block in message["content"] if block["type"] == "tool_use")
    assert not calls, f"{calls} have no result"


def tool_messages(body: dict[str, Any]) -> dict[str, str]:
    """The contents of a chat-completions request's tool messages, by call id, in order."""
    return {m["tool_call_id"]: m["content"] for m in body["messages"] if m["role"] == "tool"}


def tool_results(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The result blocks of a Messages request, by call id."""
    blocks = (block for message in body["messages"] for block in message["content"])
    return {block["tool_use_id"]: block for block in blocks if block["type"] == "tool_result"}


def sent_calls(body: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """The calls in a chat-completions request: id, name, decoded arguments."""
    return [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for message in body["messages"]
        for call in message.get("tool_calls") or ()
    ]
