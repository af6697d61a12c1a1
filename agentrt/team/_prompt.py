"""What the leader of a team is told about its members and about how to lead them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from agentrt.agent._as_tool import about
from agentrt.run.response import RunStatus
from agentrt.run.run import Run

if TYPE_CHECKING:
    from agentrt.agent.agent import Agent

Mode = Literal["coordinate", "route", "collaborate"]

CONTEXT = "team_context"
"""Where in the team's session state the context is kept that its leader shares with its members."""

LEVELS = 5
"""How deep the teams among a team's members are listed: a team may, by way of others, be a member of itself."""

_HOW = {
    "coordinate": (
        "You lead a team. Answer what you can by yourself; hand the rest to the members that fit, with "
        "`delegate_to_member`, then make one answer of theirs.\n"
        "- A member knows nothing of this conversation: put all it needs into its task.\n"
        "- Members that you ask in one turn work at the same time. Ask in turn only where one needs another's answer.\n"
        "- When an answer falls short, or a member fails, ask again or somebody else, or say what is missing."
    ),
    "route": (
        "You lead a team. Hand each question to the one member that fits best, with `forward_to_member`: it gets the "
        "question as it was asked, and its answer is the answer. Answer by yourself only when no member fits."
    ),
    "collaborate": (
        "You lead a team whose members all work on the same task. Give it to them with `ask_all_members`, with all "
        "they need to know, for they know nothing of this conversation; then make one answer of theirs that says "
        "where they agree and where they differ. Ask again while it is not good enough."
    ),
}


def leader_text(mode: Mode, members: Mapping[str, Agent[Any]], shares_context: bool) -> str:
    """What the leader is told about its team."""
    lines = [_HOW[mode]]
    if shares_context:
        lines.append("- What all members are to know, keep up to date with `set_team_context`.")
    return "\n".join([*lines, "", "The members:", *_listed(members)])


def _listed(members: Mapping[str, Agent[Any]], indent: str = "") -> list[str]:
    lines: list[str] = []
    for name, member in members.items():
        text = " ".join(about(member).split())
        lines.append(f"{indent}- {name}: {text}" if text else f"{indent}- {name}")
        below = getattr(member, "named_members", None)
        if below and len(indent) < 2 * LEVELS:
            lines += [f"{indent}  a team of:", *_listed(below, indent + "  ")]
    return lines


def context_of(run: Run) -> Sequence[tuple[str, str]]:
    """The context that a team's leader shares, as a section."""
    text = run.state.get(CONTEXT)
    return [("team_context", str(text))] if text else []


def interactions_of(run: Run) -> Sequence[tuple[str, str]]:
    """What the members of a team's run were asked and have answered so far, as a section."""
    told: list[str] = []
    for call in run.executions:
        for run_id in call.child_run_ids or ():
            member = run.members.get(run_id)
            if member is not None and member.status is RunStatus.COMPLETED:
                task = call.tool_args.get("task")
                asked = f" was asked: {task}\n" if task else " "
                told.append(f"{member.agent_name}{asked}{member.agent_name} answered: {member.text()}")
    return [("other_members", "\n\n".join(told))] if told else []
