"""Going on with a stored run: load what it was, take the decisions that were brought, and enter the loop."""

from __future__ import annotations

from typing import Any

from agentrt.errors import AlreadyContinued, RunNotFound, SessionAccessDenied
from agentrt.models.message import Usage
from agentrt.run.history import flatten
from agentrt.run.prepare import fit_out, new_context
from agentrt.run.response import RunStatus, ToolExecution
from agentrt.run.run import Run
from agentrt.storage.base import RunChange, StoredRun
from agentrt.storage.merge import copy_state


async def resume(run: Run) -> None:
    """Fill in a paused run from storage, and claim it.

    Raises `RunNotFound`, `AlreadyContinued`, `SessionAccessDenied`.
    """
    stored = await run.storage.load_run(run.run_id)
    if stored is None:
        raise RunNotFound(f"There is no run {run.run_id!r} in this agent's storage")
    if stored.user_id is not None and run.user_id != stored.user_id:
        raise SessionAccessDenied(f"Run {run.run_id!r} belongs to another user")
    if stored.status is not RunStatus.PAUSED:
        raise AlreadyContinued(f"Run {run.run_id!r} is {stored.status.value.lower()}, not paused")
    await run.storage.commit(
        RunChange(run_id=run.run_id, session_id=stored.session_id, status=RunStatus.RUNNING, expect=RunStatus.PAUSED)
    )
    run.stored = True
    _load(run, stored)
    session = await run.storage.load_session(stored.session_id)
    state = session.state if session is not None else {}
    run.base_state = copy_state(state)
    new_context(run)
    run.context.session_state.update(copy_state(state))
    await fit_out(run)
    definition = run.definition
    if definition.add_history_to_messages:
        run.history = flatten(await run.storage.load_history(stored.session_id, runs=definition.num_history_runs))
    _decide(run)


def _load(run: Run, stored: StoredRun) -> None:
    record: dict[str, Any] = dict(stored.response or {})
    kept: dict[str, Any] = record.pop("resume", {})
    for name, value in record.items():
        setattr(run.response, name, value)
    run.response.status = RunStatus.RUNNING
    run.session_id, run.user_id = stored.session_id, stored.user_id
    run.journal.session_id = stored.session_id
    run.messages = list(stored.messages)
    run.executions = list(run.response.tools)
    run.response.usage = run.response.usage or Usage()
    run.system = kept.get("system")
    run.model_calls = kept.get("model_calls", 0)
    run.tool_calls = kept.get("tool_calls", 0)
    run.journal.resume_at(stored.last_seq, kept.get("steps", 0))


def _decide(run: Run) -> None:
    """Take over what was decided about calls that are still open; everything else stays as it is stored."""
    brought = {tool.tool_call_id: tool for tool in run.decided}
    for execution in run.executions:
        decision = brought.get(execution.tool_call_id)
        if decision is not None and not execution.is_done:
            _take(execution, decision)


def _take(execution: ToolExecution, decision: ToolExecution) -> None:
    if execution.requires_confirmation:
        execution.confirmed, execution.confirmation_note = decision.confirmed, decision.confirmation_note
    if execution.requires_user_input and decision.user_input_schema is not None:
        given = {field.name: field.value for field in decision.user_input_schema if field.value is not None}
        for field in execution.user_input_schema or ():
            field.value = given.get(field.name, field.value)
        execution.tool_args = {**execution.tool_args, **given}
    if execution.external_execution_required and decision.result is not None:
        execution.result = decision.result
