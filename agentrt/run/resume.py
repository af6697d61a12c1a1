"""Going on with a stored run: claim it, load what it was, take the decisions that were brought, enter the loop.

A paused run goes on from what its pause stored; one whose owner is gone, or that failed, from its last journalled step.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from agentrt.errors import AlreadyContinued, RunBusy, RunMismatch, RunNotFound, SessionAccessDenied
from agentrt.models.base import ModelAnswer
from agentrt.models.message import Message, Usage
from agentrt.run import owner
from agentrt.run.deciding import fit_out_stored, response_of, take_decisions
from agentrt.run.events import ModelCallReset, RunContinued
from agentrt.run.history import runs_to_send, sendable
from agentrt.run.journal import carried_out
from agentrt.run.lease import LEASE_S
from agentrt.run.limits import Spent, count_again
from agentrt.run.prepare import digest, lease_run, make_ready
from agentrt.run.response import RunResponse, RunStatus, ToolExecution
from agentrt.run.run import Run
from agentrt.run.tool_calls import answer_turn, arguments_of, fail, open_calls, settle
from agentrt.storage.base import Step, Storage, StoredRun
from agentrt.storage.merge import copy_state
from agentrt.tools.hooks import call_by_name, known_names
from agentrt.tools.results import to_text

RESUMABLE = (RunStatus.PAUSED, RunStatus.RUNNING, RunStatus.PENDING, RunStatus.FAILED)


async def load_run(storage: Storage, run_id: str, user_id: str | None) -> StoredRun:
    """Return the run as it is stored. Raises `RunNotFound`, `SessionAccessDenied`."""
    stored = await storage.load_run(run_id)
    if stored is None:
        raise RunNotFound(f"There is no run {run_id!r} in this storage")
    if stored.user_id is not None and user_id != stored.user_id:
        raise SessionAccessDenied(f"Run {run_id!r} belongs to another user")
    return stored


async def load(run: Run) -> StoredRun:
    return await load_run(run.storage, run.run_id, run.user_id)


def check_same(run: Run, stored: StoredRun) -> None:
    """Raise `RunMismatch` when the run of this id was started with something else."""
    # the code of a workflow, called anew, may give what it begins another session
    elsewhere = stored.session_id != run.session_id and run.drive is None
    if stored.input.get("digest") != digest(run) or elsewhere:
        raise RunMismatch(f"Run {run.run_id!r} was started with another input; give each input a run_id of its own")


async def resume(run: Run, stored: StoredRun) -> RunResponse[Any] | None:
    """Claim a stored run and fill this one in from it.

    A paused run first takes the decisions that were brought; while something is still open it stays paused, and its
    response is returned. Raises `AlreadyContinued` for a run that has ended or that somebody else continued, `RunBusy`
    for one whose owner is still there, `DecisionRefused`.
    """
    if stored.status not in RESUMABLE:
        raise AlreadyContinued(f"Run {run.run_id!r} is {stored.status.value.lower()}: there is nothing to continue")
    if stored.status is RunStatus.RUNNING:
        alive = owner.is_alive(stored.owner, run.run_id)
        if alive or (alive is None and not stored.lease_expired):
            busy = AlreadyContinued if run.decided else RunBusy
            raise busy(f"Run {run.run_id!r} is being driven by {stored.owner}")
    await fit_out_stored(run, stored)
    if stored.status is RunStatus.PAUSED:
        stored = await take_decisions(run, stored)
        response = response_of(stored)
        if response.requirements:
            return run.end_as(response, stored.last_seq)
    stored = await carried_out(run.storage, _claimed(run, stored))
    if not run.ready:  # it was cut, or refused, before its first model call
        run.messages = [replace(message, incomplete=False) for message in run.messages]
        await make_ready(run)
    definition = run.definition
    if definition.add_history_to_messages:
        earlier = await run.storage.load_history(
            stored.session_id, runs=runs_to_send(definition), before=stored.number or None
        )
        run.history = sendable(earlier, definition.history_tokens)
    run.fact(RunContinued())
    goes_on = stored.status is not RunStatus.PAUSED and run.code is None and run.answer is None
    if goes_on and not await _unknown_outcomes(run, stored):
        run.fact(ModelCallReset(index=run.model_calls + 1))  # it may have begun
    await run.journal.write()
    return None


async def _claimed(run: Run, stored: StoredRun) -> StoredRun:
    """Claim the run, then read what it has come to: nobody else adds to it any more. Its status is the one before."""
    run.epoch = await run.storage.claim(
        run.run_id, epoch=stored.epoch, owner=owner.this_process(), expect=[stored.status], lease_s=LEASE_S
    )
    lease_run(run)
    stored = replace(await load(run), status=stored.status)
    if stored.input.get("attachable"):
        run.keep_for_readers()
    state = await _load(run, stored)
    await _load_members(run)
    if run.of_call is not None:
        count_again(run)
    run.context.session_state.update(copy_state(state))
    run.stored = True
    return stored


async def _load(run: Run, stored: StoredRun) -> dict[str, Any]:
    """Take over what the run was; return its state."""
    kept: dict[str, Any] = (stored.response or {}).get("resume", {})
    run.journal.session_id = stored.session_id
    saved_at: int = kept.get("steps", 0)
    run.journal.resume_at(stored.last_seq, max([saved_at, *(step.number for step in stored.steps)]))
    response = response_of(stored)
    response.status = RunStatus.RUNNING
    response.error = response.stop_reason = None
    if run.code is None:
        response.model, response.model_provider = run.model.id, run.model.provider
    run.response = response
    run.context.usage = response.usage = response.usage or Usage()
    run.messages = response.messages
    run.executions = list(response.tools)
    asked = {tool.tool_call_id for tool in response_of(stored, decided=False).tools if not tool.is_done}
    run.brought.update(tool.tool_call_id for tool in run.executions if tool.is_done and tool.tool_call_id in asked)
    run.system = kept.get("system")
    run.ready = kept.get("ready", False) or any(step.kind in ("prompt", "model") for step in stored.steps)
    run.model_calls = kept.get("model_calls", 0)
    run.asides = kept.get("asides", 0)
    run.corrections = kept.get("corrections", 0)
    run.reasoned = run.model_calls > 0 and bool(response.reasoning_steps)
    run.tool_calls = kept.get("tool_calls", 0)
    run.below = kept.get("below") or Spent()
    run.intended.update(kept.get("intended", ()))
    steps = [step for step in stored.steps if step.number > saved_at]
    if run.code is not None:
        run.base_state = stored.base_state
        run.code.inputs = stored.input["inputs"]
        run.code.load(stored.status, kept, steps)
        return run.base_state
    if kept and not any(step.kind == "base" for step in steps):
        # its state was saved then, and others may have gone on with it since; nothing of the run has changed it yet
        session = await run.storage.load_session(stored.session_id)
        run.base_state = session.state if session is not None else {}
        run.journal.add_step("base", lambda: {"state": run.base_state})
    else:
        run.base_state = stored.base_state
    return _replay(run, steps)


async def _load_members(run: Run) -> None:
    """Read what has come of the runs that its calls consist of, unless its last save knew it."""
    run.members.update({member.run_id or "": member for member in run.response.member_responses})
    for run_id in [run_id for tool in run.executions for run_id in tool.child_run_ids or ()]:
        if run_id not in run.members and (stored := await run.storage.load_run(run_id)) is not None:
            run.members[run_id] = response_of(stored)


def _replay(run: Run, steps: list[Step]) -> dict[str, Any]:
    """Do again what the steps since the last save did to this run; return the state they left."""
    state = run.base_state
    for step in steps:
        data = step.data
        if step.kind == "base":
            run.base_state = state = data["state"]
        elif step.kind == "prompt":
            run.system = data["system"]
            run.reasoned = data.get("reasoned", False)
        elif step.kind == "thought":
            run.response.reasoning_steps.append(data["thought"])
        elif step.kind == "aside":
            run.usage.add(data["usage"])
            run.model_calls += 1
            run.asides += 1
        elif step.kind == "correction":
            run.messages.append(data["message"])
            run.corrections += 1
            run.answer = None
        elif step.kind == "model":
            answer_turn(run)
            message: Message = data["message"]
            run.messages.append(message)
            run.usage.add(data["usage"])
            run.model_calls += 1
            run.intended.clear()
            run.response.finish_reason = reason = data.get("finish_reason", "stop")
            answer = ModelAnswer(message=message, answered=run.model, finish_reason=reason, usage=data["usage"])
            run.answer = answer if not message.tool_calls else None
        elif step.kind == "state":
            state = data["state"]
        elif step.kind == "intent":
            run.intended.update(data["calls"])
        elif step.kind == "tool":
            if not _put(run, data["execution"]):
                run.tool_calls += 1
            run.below = data.get("below") or run.below
            state = data["state"] if data["state"] is not None else state
    return state


def _put(run: Run, execution: ToolExecution) -> bool:
    """Take over what became of a call. Returns whether it was known, because it had waited; else it is one more."""
    for at, known in enumerate(run.executions):
        if known.tool_call_id == execution.tool_call_id:
            run.executions[at] = execution
            run.brought.discard(execution.tool_call_id)
            return True
    run.executions.append(execution)
    return False


async def _unknown_outcomes(run: Run, stored: StoredRun) -> bool:
    """Settle calls that were under way when the run was cut: did they act? Returns whether any had no result yet.

    What an owner that was taken over had still to say counts. Else the tool's effect decides: unmarked is told to the
    model, `once` asks, `idempotent` and `pure` run again.
    """
    evidence: dict[str, ToolExecution] = {
        step.data["execution"].tool_call_id: step.data["execution"] for step in stored.steps if step.kind == "evidence"
    }
    done = {execution.tool_call_id for execution in run.executions if execution.is_done}
    undone = [call for call in open_calls(run) if call.id not in done]
    for call in undone:
        if call.id not in run.intended:
            continue
        if (known := evidence.get(call.id)) is not None:
            _put(run, known)
            settle(run, known)
            continue
        execution = ToolExecution(tool_call_id=call.id, tool_name=call.name)
        how = await _how(run, call.name, execution)
        if how == "rerun":
            continue
        execution.tool_args = arguments_of(call).values
        _put(run, execution)
        if how == "ask":
            execution.unknown_outcome = True
        elif how == "tell":
            fail(run, execution, UNKNOWN, "unknown outcome")
        else:
            execution.result = how if isinstance(how, str) else to_text(how)
            settle(run, execution)
    return bool(undone)


UNKNOWN = (
    "The outcome of this call is unknown: the process ended while it was running. It may or may not have taken effect, "
    "and it was not made again. Check before you repeat it."
)


async def _how(run: Run, name: str, execution: ToolExecution) -> Any:
    """`tell`, `ask` or `rerun`; anything else is the call's result, as the tool's author found it out."""
    function = run.tools.get(name)
    if function is None:
        return "tell"
    how: Any = function.on_unknown_outcome
    if how is None:
        return {None: "tell", "once": "ask"}.get(function.effect, "rerun")
    if callable(how):
        how = call_by_name(how, known_names(run.tool_context(execution)), (execution,))
        how = await how if inspect.isawaitable(how) else how
    return how
