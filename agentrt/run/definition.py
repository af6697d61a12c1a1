"""`RunDefinition`: the options that the engine reads. Agents and teams are definitions with ways to call them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeAlias, cast

from typing_extensions import TypeForm

from agentrt._options import Definition
from agentrt.memory.base import RunMemory
from agentrt.models.base import Model, ToolChoice
from agentrt.run.budget import Budget
from agentrt.run.limits import RunLimits
from agentrt.run.response import Out
from agentrt.storage.base import Storage

Instructions: TypeAlias = "str | Sequence[str] | Callable[..., str | Sequence[str] | Awaitable[str | Sequence[str]]]"
"""A text, several texts, or a function of them; a function may take `ctx`, `agent` or `session_state`."""
Tools: TypeAlias = "Sequence[Any] | Callable[..., Sequence[Any] | Awaitable[Sequence[Any]]]"
"""Callables, `Function`s and `Toolkit`s, or a function that returns them for a run (may take `ctx` or `agent`)."""


EMPTY = cast("dict[str, Any]", MappingProxyType({}))  # shared by all instances, and nobody can change it


class RunDefinition(Definition, Generic[Out]):
    """What a run is made from. Nothing that changes during a run lives here."""

    # who
    name: str | None = None
    """What it is called: in events' `path`, in a team, in the terminal."""
    agent_id: str | None = None
    """How a `Runtime` knows it; the name when not given."""
    model: Model | str | None = None
    """A model, or `"provider:id"`; `AGENTRT_MODEL` when not given."""

    # what it is told
    description: str | None = None
    """Opens the system message."""
    role: str | None = None
    """What it does for its team."""
    instructions: Instructions | None = None
    expected_output: str | None = None
    additional_context: str | None = None
    """Closes the system message."""
    success_criteria: str | None = None
    system_message: str | Callable[..., str | Awaitable[str]] | None = None
    """Replaces the whole system message."""
    markdown: bool = False
    """Ask for Markdown, and show the answer as such in a terminal."""
    add_datetime_to_instructions: bool = False
    add_name_to_instructions: bool = False
    add_state_in_messages: bool = False
    """Fill `{key}` in what the agent's author wrote from the session state, then from the dependencies."""

    # what it can do
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    """For the run's first model call; a forced choice is not repeated."""
    tool_call_limit: int | None = None
    """A shorthand for `limits=RunLimits(tool_calls=…)`."""
    tool_hooks: Sequence[Callable[..., Any]] | None = None
    """Middleware around every tool call: `(function_name, function_call, arguments)`."""
    pre_hooks: Sequence[Any] | None = None
    """Called before a run with any of `run_input` (its messages), `ctx`, `agent`, `session_state`; may change them, or
    return others; raise `InputRefused`. Callables, or objects with a method `check`."""
    post_hooks: Sequence[Any] | None = None
    """Called after it, in the same way, with `run_output` (the response); may change its `content`; raise
    `OutputRefused`."""
    limits: RunLimits | None = None
    budget: Budget | None = None
    """Tokens and money that its runs share with whatever else has this budget; their child runs share it, too."""
    dependencies: Mapping[str, Any] | Any = None
    """What tools and instruction functions find in `ctx.dependencies`. In a mapping, a function that takes nothing (or
    only what is known here: `ctx`, `agent`, `session_state`) is called for each run, awaited if need be, and stands for
    what it returns."""
    context: Mapping[str, Any] | None = None
    """The same by another name, when `dependencies` are not given."""
    add_context: bool = False
    """Tell the dependencies in the system message."""
    enable_agentic_state: bool = False
    """Tell the session state, and give a tool that sets its keys: `update_session_state`."""
    response_model: type[Out] | TypeForm[Out] | Mapping[str, Any] | None = str  # pyright: ignore[reportAssignmentType]  Out's default
    """The type of the answer, or a JSON schema for it."""
    use_json_mode: bool = False
    """Ask for JSON by the provider's JSON mode and the prompt instead of by its schema support."""
    parse_response: bool = True
    """Make the answer an instance of `response_model`; else it stays the text that the model wrote."""
    output_retries: int = 1
    """How often a model is told what is wrong with a typed answer, and asked again."""
    parser_model: Model | str | None = None
    """Puts the answer, which its model then writes as a text, into `response_model`."""
    parser_model_prompt: str | None = None
    """What that model is told, in place of the default."""

    # reasoning
    reasoning: bool = False
    """Have a plan made before the answer, step by step: `ReasoningStep` events, `response.reasoning_steps`."""
    reasoning_model: Model | str | None = None
    """Makes that plan, in place of the agent's own model."""
    reasoning_min_steps: int = 1
    reasoning_max_steps: int = 10

    # sessions
    storage: Storage | None = None
    """Where sessions and runs are kept; in memory, for the life of this object, when not given."""
    session_id: str | None = None
    user_id: str | None = None
    session_state: dict[str, Any] = EMPTY
    """What a session's state starts from; each session gets a copy."""
    session_concurrency: Literal["merge", "wait", "refuse"] = "merge"
    """What becomes of runs on one session at a time: their states are merged, or one waits for the other, or is
    refused with `SessionBusy`. Counters want `wait`: of two that add one to a number, merging keeps one."""
    journal: Literal["step", "run"] = "step"
    """What is stored while a run goes on, where storage outlives the process: each step, so that another process can
    go on from it, or only how it began and ended."""
    add_history_to_messages: bool = False
    num_history_runs: int = 3
    """How many earlier runs of the session are sent with `add_history_to_messages`."""
    num_history_responses: int | None = None
    """The same by another name; it wins when given."""
    history_tokens: int | None = None
    """How many tokens of history are sent at most (estimated). The newest runs stay, whole, or as question and answer
    where only that has room."""
    read_chat_history: bool = False
    """A tool that reads the session's earlier runs: `get_chat_history`."""
    read_tool_call_history: bool = False
    """A tool that reads the session's earlier tool calls, the newest first: `get_tool_call_history`."""
    search_previous_sessions_history: bool = False
    """A tool that looks through the user's other sessions: `search_previous_sessions`. Only with a `user_id`."""
    num_history_sessions: int = 5
    """How many of them, the ones used last, are looked through."""

    # memory
    memory: RunMemory | None = None
    """A `Memory`; one of this object's own, in memory, when not given and one of the following is on."""
    enable_agentic_memory: bool = False
    """Tell what is remembered of the user, and give a tool that has it changed: `update_user_memory`."""
    enable_user_memories: bool = False
    """Tell it, and have it brought up to date after each run, from what the user said."""
    enable_session_summaries: bool = False
    """Tell the session's summary, and have it brought up to date after each run."""

    # what is shown
    show_tool_calls: bool = True
    debug_mode: bool = False
    """Log each step of a run at DEBUG."""
