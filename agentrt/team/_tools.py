"""The tools by which a team's leader has its members."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from agentrt.agent._as_tool import told
from agentrt.errors import ToolError
from agentrt.models.message import Message
from agentrt.run.children import run_children
from agentrt.run.context import RunContext
from agentrt.run.delegate import Delegate
from agentrt.run.response import RunStatus, ToolExecution
from agentrt.run.run import Run
from agentrt.team._prompt import CONTEXT, Mode
from agentrt.tools.function import Function

if TYPE_CHECKING:
    from agentrt.agent.agent import Agent

OpenMember = "Callable[[Run, ToolExecution, str, str | list[Message]], Run]"
"""Makes the run of the member of that name: for a team's run, for a call of it, with an input."""
_TASK: Final = {"type": "string", "description": "What is to be done, with all that is needed to do it."}
_EXPECTED: Final = {"type": "string", "description": "What the answer is to look like."}


def member_tool(
    mode: Mode, members: Mapping[str, Agent[Any]], open_member: Callable[..., Run], *, stream_events: bool
) -> Delegate:
    """Return the tool of a mode."""
    member = {"type": "string", "enum": [*members], "description": "The member's name."}

    async def ask_one(member: str, ctx: RunContext[Any], task: str = "", expected_output: str = "") -> str:
        (response,) = await run_children(ctx)
        return told(name_of(member, members), response)

    async def ask_all(task: str, ctx: RunContext[Any], expected_output: str = "") -> str:
        answers: list[str] = []
        responses = await run_children(ctx)
        for name, response in zip(members, responses, strict=True):
            try:
                answers.append(f"{name} answered:\n{told(name, response)}")
            except ToolError as error:
                answers.append(str(error))
        if all(response.status in (RunStatus.FAILED, RunStatus.CANCELLED) for response in responses):
            raise ToolError("\n\n".join(answers))
        return "\n\n".join(answers)

    def open_one(run: Run, call: ToolExecution) -> list[Run]:
        name = name_of(call.tool_args["member"], members)
        return [open_member(run, call, name, question(run) if mode == "route" else task_of(call))]

    def open_all(run: Run, call: ToolExecution) -> list[Run]:
        return [open_member(run, call, name, task_of(call)) for name in members]

    if mode == "route":
        return Delegate(
            ask_one,
            name="forward_to_member",
            description="Hand the question to a member, whose answer is then the answer.",
            parameters={"properties": {"member": member}, "required": ["member"]},
            open_runs=open_one,
            stream_events=stream_events,
            stop_after_tool_call=True,
        )
    if mode == "collaborate":
        return Delegate(
            ask_all,
            name="ask_all_members",
            description="Give a task to all members of the team, and get their answers.",
            parameters={"properties": {"task": _TASK, "expected_output": _EXPECTED}, "required": ["task"]},
            open_runs=open_all,
            stream_events=stream_events,
        )
    return Delegate(
        ask_one,
        name="delegate_to_member",
        description="Hand a task to a member of the team, and get the answer.",
        parameters={
            "properties": {"member": member, "task": _TASK, "expected_output": _EXPECTED},
            "required": ["member", "task"],
        },
        open_runs=open_one,
        stream_events=stream_events,
    )


def context_tool() -> Function:
    """Return the tool by which a leader tells all members what they are to know."""

    async def set_team_context(context: str, session_state: dict[str, Any]) -> str:
        """Set what all members of the team are told besides their tasks. It replaces what was set before.

        Args:
            context: What has been found out and decided so far that members need to know.
        """
        session_state[CONTEXT] = context
        return "The members will be told."

    return Function(set_team_context, effect="idempotent")


def name_of(given: str, members: Mapping[str, Agent[Any]]) -> str:
    """The name of the member that a model means. Raises `ToolError` listing those there are."""
    known = {_plain(name): name for name in members}
    known |= {_plain(member.agent_id): name for name, member in members.items() if member.agent_id}
    name = given if given in members else known.get(_plain(given))
    if name is None:
        raise ToolError(f"There is no member {given!r}; the members are: {', '.join(members)}")
    return name


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def task_of(call: ToolExecution) -> str:
    task, expected = call.tool_args.get("task") or "", call.tool_args.get("expected_output")
    return f"{task}\n\nExpected output: {expected}" if expected else task


def question(run: Run) -> list[Message]:
    """What a run was asked."""
    return list(takewhile(lambda message: message.role == "user", run.messages))
