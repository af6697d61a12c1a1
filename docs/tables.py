"""Fill the tables of these pages from the code: `python docs/tables.py`. A test fails when one is out of date.

A table stands between `<!-- fields module:Class -->` (or `events`, `errors`, `values module:Name`, `conformance
module:NAME` of dialects) and `<!-- end -->`.
What a field means is said by the docstring below it in the code, else here.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import re
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))  # the dialects of our adapters are with the tests
REGION = re.compile(r"(<!-- (\w+) ?(\S*) -->\n).*?(<!-- end -->)", re.DOTALL)

MEANINGS: dict[str, str] = {
    # agents
    "RunDefinition.instructions": "What it is to do: a text, several, or a function of `ctx`, `agent`, `session_state` "
    "that returns them (or is awaited for them).",
    "RunDefinition.expected_output": "What a good answer looks like.",
    "RunDefinition.success_criteria": "When the task counts as done.",
    "RunDefinition.add_datetime_to_instructions": "Tell the current time (UTC).",
    "RunDefinition.add_name_to_instructions": "Tell its name.",
    "RunDefinition.tools": "Callables, `Function`s, `Toolkit`s; or a function of `ctx` or `agent` that returns them.",
    "RunDefinition.limits": "How far a run may go, see below.",
    "RunDefinition.session_id": "The session of calls that name none.",
    "RunDefinition.user_id": "The user of calls that name none.",
    "RunDefinition.add_history_to_messages": "Send the session's earlier runs with each question.",
    "RunDefinition.reasoning_min_steps": "How many steps that plan has at least.",
    "RunDefinition.reasoning_max_steps": "And at most.",
    "RunDefinition.show_tool_calls": "Show tool calls in the terminal.",
    "RunLimits.model_calls": "Model calls.",
    "RunLimits.tool_calls": "Tool calls.",
    "RunLimits.input_tokens": "Tokens of input, cached ones included.",
    "RunLimits.output_tokens": "Tokens of output, reasoning included.",
    "RunLimits.total_tokens": "Tokens of input and output together.",
    "RunLimits.seconds": "Time being driven, in seconds; pauses are not counted.",
    "RunLimits.depth": "How deep runs may nest: a tool that calls an agent is one level.",
    "RunLimits.parallel_tools": "Tools at work at once.",
    "RunContext.run_id": "The run's id.",
    "RunContext.session_id": "Its session.",
    "RunContext.user_id": "Its user.",
    "RunContext.parent_run_id": "The run whose tool started this one.",
    "RunContext.path": "The names from the root run's agent down to this one.",
    "RunContext.agent": "The agent, as a view bound to this run.",
    "RunContext.team": "The team, when there is one.",
    "RunContext.session_state": "The session state: the live dict of the run.",
    "RunContext.dependencies": "What the caller handed to the run.",
    "RunContext.usage": "The run's tokens so far.",
    "RunContext.tool_call_id": "The call's id.",
    "RunContext.tool_name": "The tool's name.",
    "RunContext.attempt": "Which attempt this is, from 1, where the tool has `retries`.",
    # responses
    "RunResponse.run_id": "The run's id.",
    "RunResponse.content": "The answer: a text, or an instance of `response_model`; None before there is one.",
    "RunResponse.status": "See below.",
    "RunResponse.session_id": "The session it is part of.",
    "RunResponse.user_id": "The session's owner.",
    "RunResponse.agent_id": "The agent's `agent_id`, else its name.",
    "RunResponse.agent_name": "The agent's name.",
    "RunResponse.parent_run_id": "The run whose tool started this one.",
    "RunResponse.model": "The model's id.",
    "RunResponse.model_provider": "The model's provider.",
    "RunResponse.reasoning_content": "The model's reasoning, where it shows it.",
    "RunResponse.reasoning_steps": "The steps of its plan, and what it noted by `ReasoningTools`.",
    "RunResponse.messages": "The run's own messages, without the session's history and the system message.",
    "RunResponse.tools": "Its tool calls, in order.",
    "RunResponse.usage": "Tokens of all its own model calls.",
    "RunResponse.member_responses": "Those of the runs that its calls consisted of, in the order of the calls.",
    "RunResponse.total_usage": "The same with its child runs, and theirs.",
    "RunResponse.stop_reason": "What ended it, see below.",
    "RunResponse.finish_reason": "How the last model call ended, in no provider's words.",
    "RunResponse.error": "Class and text of the error that ended it.",
    "RunResponse.elapsed_s": "Seconds from start to end.",
    "RunResponse.session_state": "The session's state as the run left it.",
    "RunResponse.created_at": "When it began.",
    "ToolExecution.tool_call_id": "The call's id.",
    "ToolExecution.tool_name": "The tool's name.",
    "ToolExecution.tool_args": "The arguments; for user input, with what the user gave.",
    "ToolExecution.result": "The text that the model is told; None until there is one.",
    "ToolExecution.tool_call_error": "Does `result` report a failure?",
    "ToolExecution.error": "What failed, as `ValueError: no such city`.",
    "ToolExecution.elapsed_s": "Seconds.",
    "ToolExecution.requires_confirmation": "It runs only when somebody says so.",
    "ToolExecution.confirmed": "That decision: True, False, or None while there is none.",
    "ToolExecution.confirmation_note": "A reason for the model, with a rejection.",
    "ToolExecution.on_expiry": "What then counts as decided.",
    "ToolExecution.requires_user_input": "It runs only with values from a user.",
    "ToolExecution.user_input_schema": "These values: fill each `UserInputField.value` that is None.",
    "ToolExecution.external_execution_required": "It is run elsewhere: set `result`.",
    "ToolExecution.stop_after_tool_call": "Its result is the answer and ends the run.",
    "ToolExecution.created_at": "When the model asked for it.",
    "UserInputField.name": "The parameter's name.",
    "UserInputField.field_type": "Its type.",
    "UserInputField.description": "Its description.",
    "UserInputField.value": "The value; None until somebody fills it.",
    "Thought.title": "What it is about, in a few words.",
    "Thought.reasoning": "What was thought, and why.",
    "Thought.next_action": "How to go on.",
    "Thought.confidence": "Between 0 and 1.",
    "Message.role": '`"system"`, `"user"`, `"assistant"` or `"tool"`.',
    "Message.content": "Its text.",
    "Message.name": "Who said it, where several do.",
    "Message.reasoning_content": "The model's reasoning before it.",
    "Message.tool_calls": "What an assistant message calls; each is answered by one message of role `tool`.",
    "Message.tool_call_id": "The call that a tool message answers.",
    "Message.tool_name": "The tool that it is the result of.",
    "Message.tool_call_error": "Does the result report a failure?",
    "Message.images": "Images with it.",
    "Message.audio": "Sounds with it.",
    "Message.videos": "Videos with it.",
    "Message.files": "Documents with it.",
    "Message.provider": "Whose `parts` they are.",
    "Message.parts": "What that provider needs back unchanged: signed thinking, encrypted reasoning, ids.",
    "Message.refusal": "The model refused; `content` is what it said.",
    "Message.created_at": "When.",
    "ToolCall.id": "The call's id.",
    "ToolCall.name": "The tool's name.",
    "ToolCall.arguments": "The text of a JSON object, always.",
    "ToolCall.raw_arguments": "What the model wrote, when that was something else.",
    "Usage.input_tokens": "Sent, cached ones included.",
    "Usage.output_tokens": "Received, reasoning included.",
    "Usage.cached_input_tokens": "Of those sent, read from the provider's cache.",
    "Usage.cache_write_tokens": "Of those sent, written to it.",
    "Usage.reasoning_tokens": "Of those received, spent on reasoning.",
    "Usage.model_calls": "Model calls.",
    "PENDING": "Not begun.",
    "RUNNING": "Being driven; or its process is gone.",
    "PAUSED": "Waits for people or systems outside: `tools_requiring_confirmation` and the like say for what.",
    "COMPLETED": "Ended with an answer.",
    "CANCELLED": "Cancelled; `content` is the answer as far as it came.",
    "FAILED": "Ended with an error; so is `content` here.",
    "end": "The model ended by itself.",
    "output_limit": "The answer was cut at `max_tokens`.",
    "refusal": "The model refused.",
    "model_call_limit": "The answer is that of the last turn, without tools, which the limit of model calls left.",
    "tool_call_limit": "The same, for the limit of tool calls.",
    "input_token_limit": "The same, for the limit of input tokens.",
    "output_token_limit": "The same, for the limit of output tokens.",
    "total_token_limit": "The same, for the limit of tokens.",
    "time_limit": "The same, for the limit of time.",
    "tool": "A tool with `stop_after_tool_call` gave the answer.",
    "cancelled": "Cancelled.",
    "error": "An error.",
    # events
    "BaseEvent.event": "The event's name.",
    "BaseEvent.run_id": "Whose event it is.",
    "BaseEvent.parent_run_id": "The run whose tool started that run.",
    "BaseEvent.path": "Names from the root run's agent down to this one.",
    "BaseEvent.agent_id": "The agent's id, else its name.",
    "BaseEvent.session_id": "The session.",
    "BaseEvent.seq": "The number of the last fact in the root run, this one if it is one.",
    "BaseEvent.content": "See the event.",
    "BaseEvent.created_at": "When.",
    # tools
    "Function.requires_confirmation": "Pause until somebody confirms or rejects the call.",
    "Function.requires_user_input": "Pause until a user has filled parameters.",
    "Function.external_execution": "Pause until somebody outside brings the result; the function is not called.",
    "Function.on_expiry": "What then counts as decided.",
    "Function.stop_after_tool_call": "Its result is the run's answer; of several in one turn, their texts. "
    "One that fails leaves the model to go on.",
    "Function.show_result": "Show the result to the user as part of the answer.",
    "Function.cache_ttl_s": "How long, in seconds; None for ever.",
    "Function.strict": "Ask the provider to hold arguments to the schema.",
    "Function.instructions": "How to use it.",
    "Function.entrypoint": "The callable.",
    # models
    "Model.id": "The provider's name of it.",
    "OpenAIChat.id": "The provider's name of it.",
    "OpenAIResponses.id": "The provider's name of it.",
    "OpenAILike.id": "The server's name of it.",
    "FallbackModel.models": "The models, in the order in which they are asked.",
    "FallbackModel.on": "The kinds of errors after which the next one is asked.",
    "Claude.id": "The provider's name of it.",
    "Gemini.id": "The provider's name of it.",
    "Gemini.vertexai": "Ask Vertex AI; as the environment says when not given.",
    "Gemini.project": "The project of Google Cloud, for Vertex AI.",
    "Gemini.location": "The region, for Vertex AI.",
    "Gemini.api_version": "Another version of the API than the SDK's.",
    "MediaLimits.max_bytes": "The largest single one that is sent inline.",
    "MediaLimits.timeout_s": "How long fetching one may take.",
    "MediaLimits.allow_private": "Let requests go to private, loopback and link-local addresses.",
    "ToolExecution.audio": "Sounds that it returned.",
    "ToolExecution.videos": "Videos that it returned.",
    "ToolExecution.files": "Documents that it returned.",
    "SDKModel.base_url": "Another server that speaks the same protocol.",
    "SDKModel.api_key": "The key; or, for OpenAI, a coroutine function that returns it.",
    "SDKModel.http_client": "An `httpx2.AsyncClient` of yours; never closed by agentrt.",
    "SDKModel.client": "An async client of the SDK (Azure, Bedrock, Vertex …), used as it is.",
    "SDKModel.extra_headers": "Headers of every request; they win.",
    "SDKModel.extra_query": "Query parameters of every request.",
    "Claude.auth_token": "A bearer token in place of a key.",
    "Claude.cache_system_prompt": "Have the provider cache the system message.",
    "Claude.cache_tools": "Have the provider cache the tools.",
    "Claude.betas": "Beta features, by the API's names.",
    "LocalModel.temperature": "0: the likeliest token, always.",
    "LocalModel.top_p": "Choose among the likeliest tokens that make up this share.",
    "LocalModel.seed": "For a temperature above 0.",
    "LocalModel.path": "A GGUF file; SmolLM2-135M-Instruct when not given.",
    "Capabilities.tools": "Tool calls.",
    "Capabilities.output_schema": "A JSON schema for the answer.",
    "Capabilities.output_schema_with_tools": "The same in a request that offers tools.",
    "Capabilities.json_mode": "JSON without a schema.",
    "Capabilities.parallel_tool_calls": "Several calls in one answer.",
    "Capabilities.tool_choice": "Being made to call a tool.",
    "Capabilities.system_role": "The role of the system message.",
    "Capabilities.max_tokens_name": "What the limit of the answer is called.",
    "Capabilities.sampling": "Temperature and the like.",
}
SENT_AS_THEY_ARE = "Sent as the API takes it."


def fill(text: str, *, tried: bool = False) -> str:
    """Return a page with its tables as they should be; with `tried`, also those of what is tried out, in seconds."""

    def filled(found: re.Match[str]) -> str:
        if found[2] == "conformance" and not tried:
            return found[0]
        return f"{found[1]}\n{_table(found[2], found[3])}\n\n{found[4]}"

    return REGION.sub(filled, text)


def _table(kind: str, name: str) -> str:
    match kind:
        case "fields":
            return _fields(_load(name))
        case "values":
            return _values(_load(name))
        case "events":
            return _events()
        case "errors":
            tree = (inspect.getdoc(import_module("agentrt.errors")) or "").split("\n\n")[1]
            return f"```text\n{textwrap.dedent(tree)}\n```"
        case "conformance":
            return asyncio.run(import_module("agentrt.testing.model_contracts").conformance(_load(name)))
        case _:
            raise ValueError(f"There is no table called {kind}")


def _load(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _fields(cls: type[Any]) -> str:
    rows = ["| name | type | default | |", "| --- | --- | --- | --- |"]
    for name, hint, default, meaning in fields_of(cls):
        rows.append(f"| `{name}` | {_code(hint)} | {_code(default)} | {meaning} |")
    return "\n".join(rows)


def fields_of(cls: type[Any]) -> list[tuple[str, str, str, str]]:
    """The annotated public fields of a class: name, type, default, meaning."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found: list[tuple[str, str, str, str]] = []
    for statement, following in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        name, hint = statement.target.id, ast.unparse(statement.annotation)
        if name.startswith("_") or "ClassVar" in hint or "repr=False" in ast.unparse(statement):
            continue
        said = following.value if isinstance(following, ast.Expr) else None
        meaning = said.value if isinstance(said, ast.Constant) else MEANINGS.get(f"{cls.__name__}.{name}")
        if meaning is None and f"{cls.__name__}.id" in MEANINGS:
            meaning = SENT_AS_THEY_ARE  # an option of a provider's API
        if not isinstance(meaning, str):
            raise LookupError(f"{cls.__name__}.{name} says nowhere what it means: give it a docstring, or say it here")
        found.append((name, hint, _default(statement.value), " ".join(meaning.split())))
    return found


def _default(value: ast.expr | None) -> str:
    if value is None:
        return ""
    text = ast.unparse(value)
    if not text.startswith("field("):
        return text
    if "default=" in text:
        return text.partition("default=")[2].rstrip(")")
    made = text.partition("default_factory=")[2]
    return {"list": "[]", "dict": "{}", "utc_now": "now"}.get(re.split(r"[\[,)]", made)[0], "")


def _values(of: Any) -> str:
    values = [item.value for item in of] if inspect.isclass(of) else get_args(of)
    return "\n".join(["| value | |", "| --- | --- |", *(f"| `{value}` | {MEANINGS[value]} |" for value in values)])


def _events() -> str:
    events = import_module("agentrt.run.events")
    inherited = {field.name for cls in (events.BaseEvent, events.DeltaEvent) for field in dataclasses.fields(cls)}
    rows = ["| event | when | its own fields | with |", "| --- | --- | --- | --- |"]
    for cls in get_args(events.RunEvent):
        own = [field.name for field in dataclasses.fields(cls) if field.name not in inherited]
        needs = "`stream_intermediate_steps`" if cls.__name__ in events.INTERMEDIATE else "`stream`"
        name = f"`{cls.__name__}`" + (" (delta)" if cls.is_delta else "")
        when = " ".join((cls.__doc__ or "").split("\n\n")[0].split())
        rows.append(f"| {name} | {when} | {', '.join(f'`{one}`' for one in own)} | {needs} |")
    return "\n".join(rows)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


if __name__ == "__main__":
    for page in FOLDER.glob("*.md"):
        page.write_text(fill(page.read_text(encoding="utf-8"), tried=True), encoding="utf-8")
