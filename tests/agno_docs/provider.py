"""A provider on loopback that speaks as OpenAI, Anthropic and Gemini do; what it says is thought up from each request.

    provider = Provider(lambda asked: [("look", {})] if not asked.results else f"I see {asked.results[0].text}")

A test's `think` knows nothing but the request: who asks what, which tools there are, what they have answered, what the
system message says and what was said before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal

from agentrt.models.message import ToolCall
from agentrt.testing.model_contracts import Answer
from tests.http_server import Reply, Request
from tests.models.dialects import ChatDialect, ClaudeDialect, GeminiDialect


@dataclass(kw_only=True)
class Turn:
    """One message of a request: what was said, which tools were called, or what a tool answered."""

    role: Literal["user", "assistant", "tool"]
    text: str = ""
    calls: list[str] = field(default_factory=list[str])
    tool: str = ""
    """The tool that answers."""


@dataclass(kw_only=True)
class Asked:
    """A request, in no provider's dialect."""

    dialect: str
    model: str
    system: str = ""
    turns: list[Turn] = field(default_factory=list[Turn])
    tools: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """The parameters of each tool."""
    schema: dict[str, Any] | None = None
    """What the answer is to be, where the request says so by a schema; {} for any JSON object."""
    stream: bool = False

    @property
    def question(self) -> str:
        """What the user says last."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def results(self) -> list[Turn]:
        """What tools have answered since."""
        found: list[Turn] = []
        for turn in reversed(self.turns):
            if turn.role == "user":
                break
            if turn.role == "tool":
                found.insert(0, turn)
        return found

    @property
    def earlier(self) -> list[str]:
        """What the user said before."""
        return [turn.text for turn in self.turns if turn.role == "user"][:-1]


Said = str | list[tuple[str, dict[str, Any]]]
"""A text, or calls of tools."""
Think = Callable[[Asked], Said]


class Provider:
    """Answers requests by `think`, and keeps them as `asked`."""

    def __init__(self, think: Think) -> None:
        self.think = think
        self.asked: list[Asked] = []

    def __call__(self, request: Request) -> Reply:
        asked, dialect = read(request)
        if refusal := refused(asked):
            return Reply(status=400, json={"error": {"message": refusal}})
        self.asked.append(asked)
        said = self.think(asked)
        if isinstance(said, str):
            pieces = [word + " " for word in said.split(" ")]
            pieces[-1] = pieces[-1][:-1]
            answer = Answer(text=pieces)
        else:
            number = len(self.asked)
            calls = [
                ToolCall(id=f"call_{number}_{index}", name=name, arguments=json.dumps(arguments))
                for index, (name, arguments) in enumerate(said)
            ]
            answer = Answer(calls=calls, finish="tool_calls")
        return (
            Reply(body=b"".join(dialect.events(answer)))
            if asked.stream
            else Reply(body=dialect.body(answer), headers={"content-type": "application/json"})
        )


def read(request: Request) -> tuple[Asked, ChatDialect | ClaudeDialect | GeminiDialect]:
    if request.path.endswith("/chat/completions"):
        return of_openai(request.json), ChatDialect()
    if request.path.endswith("/messages"):
        return of_claude(request.json), ClaudeDialect()
    return of_gemini(request.path, request.json), GeminiDialect()


def refused(asked: Asked) -> str | None:
    """What all three providers refuse; and OpenAI alone, JSON that the messages do not speak of."""
    for place, turn in enumerate(asked.turns):
        if turn.calls:
            answers = takewhile(lambda later: later.role == "tool", asked.turns[place + 1 :])
            if sorted(answer.tool for answer in answers) != sorted(turn.calls):
                return f"the calls {turn.calls} are not each followed by a result"
    if asked.turns[0].role != "user":
        return f"the first message is of the role {asked.turns[0].role}"
    said = asked.system + "".join(turn.text for turn in asked.turns)
    return "the messages must contain the word 'json'" if asked.schema == {} and "json" not in said.lower() else None


def of_openai(body: dict[str, Any]) -> Asked:
    names: dict[str, str] = {}
    asked = Asked(dialect="openai", model=body["model"], stream=bool(body.get("stream")))
    for message in body["messages"]:
        text = text_of(message.get("content"))
        if message["role"] in ("system", "developer"):
            asked.system += text
        elif message["role"] == "tool":
            asked.turns.append(Turn(role="tool", text=text, tool=names[message["tool_call_id"]]))
        else:
            calls = message.get("tool_calls") or ()
            names |= {call["id"]: call["function"]["name"] for call in calls}
            asked.turns.append(Turn(role=message["role"], text=text, calls=[names[call["id"]] for call in calls]))
    asked.tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in body.get("tools", ())}
    if (form := body.get("response_format")) is not None:
        asked.schema = form["json_schema"]["schema"] if form["type"] == "json_schema" else {}
    return asked


def of_claude(body: dict[str, Any]) -> Asked:
    names: dict[str, str] = {}
    asked = Asked(dialect="anthropic", model=body["model"], stream=bool(body.get("stream")))
    asked.system = text_of(body.get("system"))
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        calls = [block for block in blocks if block["type"] == "tool_use"]
        names |= {call["id"]: call["name"] for call in calls}
        for block in blocks:
            if block["type"] == "tool_result":
                told = text_of(block["content"])
                asked.turns.append(Turn(role="tool", text=told, tool=names[block["tool_use_id"]]))
        text = text_of([block for block in blocks if block["type"] == "text"])
        if text or calls:
            asked.turns.append(Turn(role=message["role"], text=text, calls=[call["name"] for call in calls]))
    asked.tools = {tool["name"]: tool["input_schema"] for tool in body.get("tools", ())}
    form = body.get("output_config", {}).get("format")
    asked.schema = form["schema"] if form is not None else None
    return asked


def of_gemini(path: str, body: dict[str, Any]) -> Asked:
    model, _, method = path.partition("?")[0].rpartition("/")[2].partition(":")
    asked = Asked(dialect="gemini", model=model, stream=method.startswith("stream"))
    asked.system = text_of(body.get("systemInstruction", {}).get("parts"))
    for content in body["contents"]:
        for part in content["parts"]:
            if (told := part.get("functionResponse")) is not None:
                asked.turns.append(Turn(role="tool", text=json.dumps(told["response"]), tool=told["name"]))
        calls = [part["functionCall"]["name"] for part in content["parts"] if "functionCall" in part]
        text = text_of([part for part in content["parts"] if "text" in part])
        if text or calls:
            role = "assistant" if content["role"] == "model" else "user"
            asked.turns.append(Turn(role=role, text=text, calls=calls))
    for tool in body.get("tools", ()):
        for function in tool.get("functionDeclarations", ()):
            asked.tools[function["name"]] = function.get("parametersJsonSchema") or function.get("parameters") or {}
    config = body.get("generationConfig", {})
    asked.schema = config.get("responseJsonSchema") or config.get("responseSchema")
    return asked


def text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())
