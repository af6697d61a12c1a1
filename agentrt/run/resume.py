"""Going on with a stored run: claim it, load what it was, take the decisions that were brought, enter the loop.

A paused run goes on from what its pause stored; one whose owner is gone, or that failed, from its last journalled step.
"""

from __future__ import annotations

import inspect
from typing import Any

from agentrt.errors import AlreadyContinued, RunBusy, RunMismatch, RunNotFound, SessionAccessDenied
from agentrt.models.message import Message, Usage
from agentrt.run import owner
from agentrt.run.events import ModelCallReset, RunContinued
from agentrt.run.history import flatten
from agentrt.run.lease import LEASE_S
from agentrt.run.prepare import digest, fit_out, lease_run, new_context
from agentrt.run.response import RunResponse, RunStatus, ToolExecution
from agentrt.run.run import Run
from agentrt.run.tool_calls import answer_turn, arguments_of, fail, open_calls, settle
from agentrt.storage.base import Storage, StoredRun
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
    if stored.input.get("digest") != digest(run) or stored.session_id != run.session_id:
        raise RunMismatch(f"Run {run.run_id!r} was started with another input; give each input a run_id of its own")


async def resume(run: Run, stored: StoredRun) -> None:
    """Claim a stored run and fill this one in from it.

    Raises `AlreadyContinued` for a run that has ended, `RunBusy` for one whose owner is still there.
    """
    if stored.status not in RESUMABLE:
        raise AlreadyContinued(f"Run {run.run_id!r} is {stored.status.value.lower()}: there is nothing to continue")
    if stored.status is RunStatus.RUNNING:
        alive = owner.is_alive(stored.owner, run.run_id)
        if alive or (alive is None and not stored.lease_expired):
            raise RunBusy(f"Run {run.run_id!r} is being driven by {stored.owner}")
    run.epoch = await run.storage.claim(
        run.run_id, epoch=stored.epoch, owner=owner.this_process(), expect=[stored.status], lease_s=LEASE_S
    )
    run.stored = True
    lease_run(run)
    if stored.input.get("attachable"):
        run.keep_for_readers()
    run.session_id, run.user_id = stored.session_id, stored.user_id
    new_context(run)
    state = await _load(run, stored)
    run.context.session_state.update(copy_state(state))
    await fit_out(run)
    definition = run.definition
    if definition.add_history_to_messages:
        run.history = flatten(await run.storage.load_history(stored.session_id, runs=definition.num_history_runs))
    _decide(run)
    run.fact(RunContinued())
    if stored.status is not RunStatus.PAUSED:
        if open_calls(run):
            await _unknown_outcomes(run, stored)
        else:
            run.fact(ModelCallReset(index=run.model_calls + 1))
    await run.journal.write()


def response_of(stored: StoredRun) -> RunResponse[Any]:
    """The response of a stored run, as far as it had come at its last save."""
    record = {name: value for name, value in (stored.response or {}).items() if name != "resume"}
    response = RunResponse[Any](**record)
    response.status = stored.status
    response.run_id, response.session_id, response.user_id = stored.run_id, stored.session_id, stored.user_id
    response.messages = list(stored.messages)
    return response


async def _load(run: Run, stored: StoredRun) -> dict[str, Any]:
    """Take over what the run was; return its state."""
    kept: dict[str, Any] = (stored.response or {}).get("resume", {})
    run.journal.session_id = stored.session_id
    run.journal.resume_at(stored.last_seq, max((step.number for step in stored.steps), default=kept.get("steps", 0)))
    response = response_of(stored)
    response.status = RunStatus.RUNNING
    response.error = response.stop_reason = None
    run.response = response
    run.context.usage = response.usage = response.usage or Usage()
    run.messages = response.messages
    run.executions = list(response.tools)
    run.system = kept.get("system")
    run.model_calls = kept.get("model_calls", 0)
    run.tool_calls = kept.get("tool_calls", 0)
    run.intended.update(kept.get("intended", ()))
    if stored.status in (RunStatus.PAUSED, RunStatus.FAILED):
        # its state was saved then, and others may have gone on with it since
        session = await run.storage.load_session(stored.session_id)
        run.base_state = session.state if session is not None else {}
    else:
        run.base_state = stored.base_state
    return _replay(run, stored, after=kept.get("steps", 0))


def _replay(run: Run, stored: StoredRun, *, after: int) -> dict[str, Any]:
    """Do again what the steps since the last save did to this run; return the state they left."""
    state = run.base_state
    for step in stored.steps:
        if step.number <= after:
            continue
        data = step.data
        if step.kind == "prompt":
            run.system = data["system"]
        elif step.kind == "model":
            answer_turn(run)
            message: Message = data["message"]
            run.messages.append(message)
            run.usage.add(data["usage"])
            run.model_calls += 1
            run.intended.clear()
        elif step.kind == "intent":
            run.intended.update(data["calls"])
        elif step.kind == "tool":
            execution: ToolExecution = data["execution"]
            run.executions.append(execution)
            run.tool_calls += 1
            state = data["state"] if data["state"] is not None else state
    return state


async def _unknown_outcomes(run: Run, stored: StoredRun) -> None:
    """Settle calls that were under way when the run was cut: did they act?

    What an owner that was taken over had still to say counts. Else the tool's effect decides: unmarked is told to the
    model, `once` asks, `idempotent` and `pure` run again.
    """
    evidence: dict[str, ToolExecution] = {
        step.data["execution"].tool_call_id: step.data["execution"] for step in stored.steps if step.kind == "evidence"
    }
    done = {execution.tool_call_id for execution in run.executions if execution.is_done}
    for call in open_calls(run):
        if call.id not in run.intended or call.id in done:
            continue
        if (known := evidence.get(call.id)) is not None:
            run.executions.append(known)
            settle(run, known)
            continue
        execution = ToolExecution(tool_call_id=call.id, tool_name=call.name)
        how = await _how(run, call.name, execution)
        if how == "rerun":
            continue
        execution.tool_args = arguments_of(call).values
        run.executions.append(execution)
        if how == "ask":
            execution.unknown_outcome = True
        elif how == "tell":
            fail(run, execution, UNKNOWN, "unknown outcome")
        else:
            execution.result = how if isinstance(how, str) else to_text(how)
            settle(run, execution)


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


def _decide(run: Run) -> None:
    """Take over what was decided about calls that are still open; everything else stays as it is stored."""
    brought = {tool.tool_call_id: tool for tool in run.decided}
    for execution in run.executions:
        decision = brought.get(execution.tool_call_id)
        if decision is not None and not execution.is_done:
            _take(run, execution, decision)


def _take(run: Run, execution: ToolExecution, decision: ToolExecution) -> None:
    if execution.requires_confirmation or execution.unknown_outcome:
        execution.confirmed, execution.confirmation_note = decision.confirmed, decision.confirmation_note
    if execution.requires_user_input and decision.user_input_schema is not None:
        given = {field.name: field.value for field in decision.user_input_schema if field.value is not None}
        for field in execution.user_input_schema or ():
            field.value = given.get(field.name, field.value)
        execution.tool_args = {**execution.tool_args, **given}
    if (execution.external_execution_required or execution.unknown_outcome) and decision.result is not None:
        execution.result = decision.result
        run.brought.add(execution.tool_call_id)
