"""A provider that answers from what the request holds, for code that is not written for a test: README, docs, examples.

It calls the first offered tool that the question names a word of (else the first), once, with sample arguments; told
a result, it repeats it. A typed answer is a sample of its schema.
"""

from __future__ import annotations

import json
from typing import Any

from tests.http_server import Reply, Request, chat_chunk, chat_usage, completion, sse

SAMPLES: dict[str, Any] = {
    "a": 3417,
    "amount": 3.5,
    "b": 289,
    "city": "Oslo",
    "command": "echo done",
    "dish": "soup",
    "item": "milk",
    "kind": "bug",
    "name": "milk",
    "number": 3,
    "order": "17",
    "seconds": 0.01,
    "symbol": "NVDA",
    "user_input_fields": [{"field_name": "wish", "field_type": "str", "field_description": "What do you want?"}],
    "what": "tea",
}
"""Arguments by the name of the parameter; others are made from their type."""


def answer(request: Request) -> Reply:
    body: dict[str, Any] = request.json
    last = body["messages"][-1]
    tools = [tool["function"] for tool in body.get("tools", ())]
    if last["role"] == "user" and tools and body.get("tool_choice") != "none":
        tool = _named(tools, last["content"])
        arguments = json.dumps(sample(tool["parameters"], tool["parameters"].get("$defs", {})))
        whole = completion(tool_calls=[{"id": "call_1", "name": tool["name"], "arguments": arguments}])
    elif "response_format" in body:
        schema = _schema(body)
        whole = completion(json.dumps(sample(schema, schema.get("$defs", {}))))
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


def _named(tools: list[dict[str, Any]], question: str) -> dict[str, Any]:
    words = set(question.lower().replace("?", " ").split())
    return next((tool for tool in tools if words & set(tool["name"].lower().split("_"))), tools[0])


def _schema(body: dict[str, Any]) -> dict[str, Any]:
    """What the answer is to be: of the request's own schema, or, for its JSON mode, of the one in the prompt."""
    form = body["response_format"]
    if form["type"] == "json_schema":
        return form["json_schema"]["schema"]
    told = body["messages"][0]["content"]
    return json.loads(told.partition("JSON schema, and nothing else:\n")[2].partition("\n")[0])


def sample(schema: dict[str, Any], defs: dict[str, Any], name: str = "") -> Any:
    """A value that fits a JSON schema."""
    if "$ref" in schema:
        return sample(defs[schema["$ref"].rpartition("/")[2]], defs, name)
    if "anyOf" in schema:
        return sample(schema["anyOf"][0], defs, name)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if name in SAMPLES and kind != "object":
        return SAMPLES[name]
    match kind:
        case "object":
            return {key: sample(value, defs, key) for key, value in schema.get("properties", {}).items()}
        case "array":
            return [sample(schema.get("items", {}), defs), sample(schema.get("items", {}), defs)]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case _:
            return f"some {name or 'text'}"
