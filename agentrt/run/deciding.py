"""Deciding about paused runs: what a stored run says with what was decided since; how decisions are checked and kept.

What a member of a team waits for is decided on the team's run, which holds the decision until it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from agentrt.errors import AlreadyContinued, DecisionRefused, ToolArgumentsInvalid
from agentrt.models.message import utc_now
from agentrt.run.decisions import (
    Confirm,
    Decided,
    Decision,
    Provide,
    Requirement,
    RequirementKind,
    Resolve,
    apply,
    expired,
    kind_for,
    made,
    open_kinds,
)
from agentrt.run.delegate import Delegate
from agentrt.run.prepare import fit_out, new_context
from agentrt.run.response import RunResponse, RunStatus, ToolExecution
from agentrt.run.run import Run
from agentrt.storage.base import Storage, StoredRun
from agentrt.tools.results import to_text


async def fit_out_stored(run: Run, stored: StoredRun) -> None:
    run.session_id, run.user_id = stored.session_id, stored.user_id
    new_context(run)
    await fit_out(run)


def response_of(stored: StoredRun, *, decided: bool = True) -> RunResponse[Any]:
    """The response of a stored run, as far as it had come at its last save, with what was `decided` since."""
    kept = dict(stored.response or {})
    resumed: dict[str, Any] = kept.pop("resume", {})
    response = RunResponse[Any](**kept)
    response.status = stored.status
    response.run_id, response.session_id, response.user_id = stored.run_id, stored.session_id, stored.user_id
    response.agent_id, response.parent_run_id = stored.agent_id, stored.parent_run_id
    response.created_at = stored.created_at
    response.messages = list(stored.messages)
    response.tools = [_own(tool) for tool in response.tools]
    response.member_responses = [_own_response(member) for member in response.member_responses]
    if decided and "epoch" in resumed:
        tools = {
            (holder.run_id if chain else None, tool.tool_call_id): tool
            for chain, holder in _holders(response)
            for tool in holder.tools
            if not tool.is_done
        }
        for made_of_it in decisions_about(stored, resumed["epoch"]):
            if (tool := tools.get((made_of_it.run_id, made_of_it.tool_call_id))) is not None:
                apply(tool, made_of_it.decision)
    return response


def _own_response(member: RunResponse[Any]) -> RunResponse[Any]:
    below = [_own_response(other) for other in member.member_responses]
    return replace(member, tools=[_own(tool) for tool in member.tools], member_responses=below)


def _holders(
    response: RunResponse[Any], chain: tuple[tuple[ToolExecution, str], ...] = ()
) -> Iterator[tuple[tuple[tuple[ToolExecution, str], ...], RunResponse[Any]]]:
    """The response and those of its members, each with the calls that lead there and the run that each led to."""
    yield chain, response
    calls = {run_id: tool for tool in response.tools for run_id in tool.child_run_ids or ()}
    for member in response.member_responses:
        run_id = member.run_id or ""
        yield from _holders(member, (*chain, (calls[run_id], run_id)))


def _own(tool: ToolExecution) -> ToolExecution:
    """A copy that may be decided on without touching what was loaded."""
    form = tool.user_input_schema
    return replace(tool, user_input_schema=[replace(field) for field in form] if form is not None else None)


# --- decisions -------------------------------------------------------------------------------------------------------


def decisions_about(stored: StoredRun, epoch: int) -> list[Decided]:
    """The decisions that count about the pause of an epoch: of several about one requirement the one stored first."""
    counting: dict[tuple[str | None, str, RequirementKind], Decided] = {}
    for step in sorted(stored.steps, key=lambda step: -step.number):
        if step.number < 0 and step.kind == "decision":
            decided: Decided = step.data["decided"]
            if decided.epoch == epoch:
                counting.setdefault((decided.run_id, decided.tool_call_id, decided.kind), decided)
    return list(counting.values())


async def decide(
    storage: Storage,
    stored: StoredRun,
    decisions: Sequence[tuple[Asked, RequirementKind, Decision]],
    *,
    by: str | None,
) -> StoredRun:
    """Store decisions about a paused run; return the run with all that was decided by then, by whoever was first.

    Raises `AlreadyContinued` when the run went on meanwhile.
    """
    for asked, kind, decision in decisions:
        decided = Decided(
            epoch=stored.epoch,
            tool_call_id=asked.tool.tool_call_id,
            run_id=asked.run_id if asked.chain else None,
            kind=kind,
            decision=decision,
            by=by,
        )
        await storage.add_evidence(stored.run_id, "decision", {"decided": decided})
    again = await storage.load_run(stored.run_id) if decisions else stored
    if again is None or again.epoch != stored.epoch or again.status is not RunStatus.PAUSED:
        raise AlreadyContinued(f"Run {stored.run_id!r} was continued by somebody else")
    return again


async def decide_one(
    run: Run, stored: StoredRun, tool_call_id: str, decision: Decision, by: str | None, *, of_run: str | None = None
) -> Requirement:
    """Check one decision against what the run waits for and store it; return the requirement as it is decided.

    The call may be one of a member's run, which `of_run` names where several have a call of that id.
    Raises `DecisionRefused`, `AlreadyContinued`.
    """
    if stored.status is not RunStatus.PAUSED:
        raise AlreadyContinued(f"Run {stored.run_id!r} is {stored.status.value.lower()}: it waits for nothing")
    await fit_out_stored(run, stored)
    at = _asked(stored, tool_call_id, of_run)
    tool = at.tool
    if isinstance(decision, Resolve):
        decision = Resolve(to_text(decision.value))
    kind = kind_for(tool, decision)
    if kind is None:
        waiting = ", ".join(open_kinds(tool)) or "nothing more"
        raise DecisionRefused(
            f"{type(decision).__name__} does not fit call {tool_call_id!r} of {tool.tool_name!r}, "
            f"which waits for {waiting}"
        )
    _check(await _run_of(run, at), tool, decision)
    waits = (at.run_id, tool_call_id, kind)
    asked = next(r for r in response_of(stored).requirements if (r.run_id, r.tool_call_id, r.kind) == waits)
    decided = await decide(run.storage, stored, [(at, kind, decision)], by=by)
    return replace(asked, tool=_asked(decided, tool_call_id, at.run_id).tool)


async def take_decisions(run: Run, stored: StoredRun) -> StoredRun:
    """Store what was brought about calls that are still open, and what time has decided; all of it, or nothing."""
    todo: list[tuple[Asked, RequirementKind, Decision]] = []
    newest = {(tool.run_id, tool.tool_call_id): tool for tool in run.decided}
    for (run_id, tool_call_id), brought in newest.items():
        asked = _asked(stored, tool_call_id, run_id)
        for kind, decision in made(asked.tool, brought):
            _check(await _run_of(run, asked), asked.tool, decision)
            todo.append((asked, kind, decision))
    return await expire(run.storage, await decide(run.storage, stored, todo, by=run.user_id))


async def expire(storage: Storage, stored: StoredRun) -> StoredRun:
    """Store what time has decided about a paused run; return the run with that."""
    response, now = response_of(stored), utc_now()
    waiting = {id(tool) for tool in response.tools_with_members}
    over: list[tuple[Asked, RequirementKind, Decision]] = [
        (Asked(chain, holder.run_id, tool), kind, decision)
        for chain, holder in _holders(response)
        for tool, kind, decision in expired(holder.tools, now)
        if id(tool) in waiting
    ]
    return await decide(storage, stored, over, by=None)


class Asked(NamedTuple):
    """A call that a paused run waits for: its own, or one of a member's run, to which a chain of calls leads."""

    chain: tuple[tuple[ToolExecution, str], ...]
    run_id: str | None
    tool: ToolExecution


def _asked(stored: StoredRun, tool_call_id: str, run_id: str | None = None) -> Asked:
    """The newest call of this id, of any run or of the one that is named.

    Raises `DecisionRefused` when there is none, for what was not asked can't be decided, and when members' runs have
    several.
    """
    response = response_of(stored)
    found = [
        Asked(chain, holder.run_id, tool)
        for chain, holder in _holders(response)
        if run_id in (None, holder.run_id)
        for tool in [*reversed(holder.tools)]
        if tool.tool_call_id == tool_call_id
    ]
    open_ones = [asked for asked in found if open_kinds(asked.tool)] or found
    if not found:
        waiting = ", ".join(r.tool_call_id for r in response.requirements) or "nothing"
        raise DecisionRefused(f"Run {stored.run_id!r} has no call {tool_call_id!r}; it waits for {waiting}")
    if open_ones[0].chain and len({asked.run_id for asked in open_ones}) > 1:
        runs = ", ".join(str(asked.run_id) for asked in open_ones)
        raise DecisionRefused(f"Several runs wait for a call {tool_call_id!r}: say which one of the runs {runs}")
    return open_ones[0]


async def _run_of(run: Run, asked: Asked) -> Run | None:
    """The run whose call was asked for, made anew to see what may be decided about it; None when nobody can make it."""
    for call, run_id in asked.chain:
        function = run.tools.get(call.tool_name)
        opened = function.open_runs(run, call) if isinstance(function, Delegate) else []
        if run.code is not None:
            opened = run.code.open_runs(call)
        child = next((child for child in opened if child.run_id == run_id), None)
        if child is None and run.code is not None:
            return run  # only its code can make that run: it is looked at when the code goes on with it
        if child is None:
            return None
        run = child
        new_context(run)
        await fit_out(run)
    return run


def _check(run: Run | None, tool: ToolExecution, decision: Decision) -> None:
    """Raise `DecisionRefused` for a decision that can't be carried out, before any is stored."""
    function = run.tools.get(tool.tool_name) if run is not None else None
    if run is not None and run.code is not None:
        its_own = tool.run_id in (None, run.run_id)
        if its_own and isinstance(decision, Confirm) and decision.args is not None:
            raise DecisionRefused(f"The arguments of step {tool.tool_name!r} can't be edited")
        return
    if function is None:
        if isinstance(decision, (Confirm, Provide)):
            raise DecisionRefused(f"There is no tool {tool.tool_name!r} any more: its call can only be rejected")
        return
    try:
        if isinstance(decision, Provide):
            decision.values = function.validate_user_input(decision.values, tool.user_input_schema)
            asked = [field.name for field in tool.user_input_schema or () if field.value is None]
            if missing := [name for name in asked if decision.values.get(name) is None]:
                raise DecisionRefused(f"Tool {tool.tool_name!r} also needs {', '.join(missing)} from the user")
        elif isinstance(decision, Confirm) and decision.args is not None:
            if not function.allow_edits:
                raise DecisionRefused(
                    f"Tool {tool.tool_name!r} does not let its arguments be edited; declare it with allow_edits=True"
                )
            function.validate(decision.args)
    except ToolArgumentsInvalid as error:
        raise DecisionRefused(str(error)) from error
