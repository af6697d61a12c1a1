"""The tools by which a team's leader has its members."""

from __future__ import annotations

import asyncio
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

OpenMember = Callable[[Run, ToolExecution, str, list[Message]], Run]
"""Makes the run of the member of that name: for a team's run, for a call of it, with an input."""
_TASK: Final = {"type": "string", "description": "What is to be done, with all that is needed to do it."}
_EXPECTED: Final = {"type": "string", "description": "What the answer is to look like."}


def member_tool(
    mode: Mode, members: Mapping[str, Agent[Any]], open_member: OpenMember, *, stream_events: bool
) -> Delegate:
    """Return the tool of a mode."""
    member = {"type": "string", "enum": [*members], "description": "The member's name."}
    alone = asyncio.Lock()  # several that are handed the question answer in turn, for their answers are the team's

    async def ask_one(member: str, ctx: RunContext[Any], task: str = "", expected_output: str = "") -> str:
        (response,) = await run_children(ctx)
        return told(name_of(member, members), response)

    async def forward(member: str, ctx: RunContext[Any]) -> str:
        async with alone:
            return await ask_one(member, ctx)

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
        return [open_member(run, call, name, question(run) if mode == "route" else task_of(run, call))]

    def open_all(run: Run, call: ToolExecution) -> list[Run]:
        return [open_member(run, call, name, task_of(run, call)) for name in members]

    if mode == "route":
        return Delegate(
            forward,
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
    if given in members:
        return given
    plain = _plain(given)
    fit = [name for name, member in members.items() if plain in (_plain(name), _plain(member.agent_id or name))]
    if len(fit) != 1:
        raise ToolError(f"There is no member {given!r}; the members are: {', '.join(members)}")
    return fit[0]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def task_of(run: Run, call: ToolExecution) -> list[Message]:
    """What a call hands on, with the images and the like that its run was asked about."""
    task, expected = call.tool_args.get("task") or "", call.tool_args.get("expected_output")
    asked = question(run)
    return [
        Message(
            role="user",
            content=f"{task}\n\nExpected output: {expected}" if expected else task,
            images=[image for message in asked for image in message.images or ()] or None,
            audio=[audio for message in asked for audio in message.audio or ()] or None,
            videos=[video for message in asked for video in message.videos or ()] or None,
            files=[file for message in asked for file in message.files or ()] or None,
        )
    ]


def question(run: Run) -> list[Message]:
    """What a run was asked."""
    return list(takewhile(lambda message: message.role == "user", run.messages))
