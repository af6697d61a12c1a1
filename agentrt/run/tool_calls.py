"""One turn's tool calls: run together, or one after another where they share state; answered in call order."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from typing import Any

from agentrt.errors import CodecError, ToolArgumentsInvalid
from agentrt.models.message import Message, ToolCall, utc_now
from agentrt.run.decisions import open_kinds
from agentrt.run.events import BaseEvent, ToolCallCompleted, ToolCallError, ToolCallProgress, ToolCallStarted
from agentrt.run.limits import count, no_more_tools, settled
from agentrt.run.response import ToolExecution
from agentrt.run.run import Run, log
from agentrt.storage.merge import copy_state
from agentrt.tools.arguments import Arguments, normalize_arguments
from agentrt.tools.execute import ToolResult, call_function
from agentrt.tools.function import Function
from agentrt.tools.results import to_text

INTERRUPTED = "No result: the call was interrupted, and what it did is not known."
NOT_CALLED = "Not called: the run was interrupted before."


async def run_calls(run: Run) -> bool:
    """Run the open calls of the last assistant message and append their results.

    Returns whether all are answered: calls that wait for people or systems outside are not, and nothing is appended
    until they are. When this task is cancelled, each open call gets a result that says so; the cancellation goes on.
    """
    todo: list[tuple[ToolExecution, Function]] = []
    turn = _turn(run)
    for execution in turn:
        function = run.tools.get(execution.tool_name)
        if execution.confirmed is False and not execution.is_done:
            note = f" The user says: {execution.confirmation_note}" if execution.confirmation_note else ""
            if execution.unknown_outcome:
                told = "Not made again, as the user decided. Whether it took effect the first time is not known."
                fail(run, execution, told + note, "rejected")
            else:
                refuse(run, execution, f"Not called: the user rejected this call.{note}", "rejected")
        elif execution.is_done and execution.tool_call_id in run.brought:
            settle(run, execution)
        elif not execution.is_done and not waits(run, execution) and function is not None:
            todo.append((execution, function))
    try:
        if todo:
            await _run_together(run, todo)
    except BaseException:
        if not run.is_left:
            interrupt(run)
        raise
    if any(waits(run, execution) for execution in turn):
        return False
    answer_turn(run)
    run.intended.clear()
    run.brought.clear()
    return True


def interrupt(run: Run) -> None:
    """Answer the calls that are still open, for a run that makes none of them any more."""
    for execution in _turn(run):
        if execution.is_done:
            continue
        if execution.tool_call_id in run.intended:
            fail(run, execution, INTERRUPTED, "interrupted")
        else:
            refuse(run, execution, NOT_CALLED, "interrupted")
    answer_turn(run)
    run.intended.clear()


def _turn(run: Run) -> list[ToolExecution]:
    """The executions of the open calls, in call order; calls that are new are taken in."""
    known = {execution.tool_call_id: execution for execution in run.executions}
    turn: list[ToolExecution] = []
    for call in open_calls(run):
        execution = known.get(call.id)
        if execution is None or (execution.is_done and not _of_this_turn(run, execution)):
            execution = _execution(run, call)
            run.executions.append(execution)
        turn.append(execution)
    return turn


def open_calls(run: Run) -> list[ToolCall]:
    """The calls of the run's last assistant message that no message answers yet."""
    answered: set[str | None] = set()
    for message in reversed(run.messages):
        if message.role == "tool":
            answered.add(message.tool_call_id)
        elif message.role == "assistant" and not message.incomplete:
            return [call for call in message.tool_calls or () if call.id not in answered]
        elif message.role == "user":
            break
    return []


def waits(run: Run, execution: ToolExecution) -> bool:
    """Does this call, or a run that it consists of, still wait for somebody?"""
    if execution.is_done:
        return False
    members = (run.members[run_id] for run_id in execution.child_run_ids or () if run_id in run.members)
    return bool(open_kinds(execution)) or any(member.is_paused and member.requirements for member in members)


def _of_this_turn(run: Run, execution: ToolExecution) -> bool:
    """Is this a result that was brought for a call still unanswered (and not one of an earlier turn's same id)?"""
    return not any(m.role == "tool" and m.tool_call_id == execution.tool_call_id for m in run.messages)


def arguments_of(call: ToolCall) -> Arguments:
    return normalize_arguments(call.raw_arguments if call.raw_arguments is not None else call.arguments)


def _execution(run: Run, call: ToolCall) -> ToolExecution:
    """Take a call in. What can't be run has its answer at once, for the model to read."""
    arguments = arguments_of(call)
    execution = ToolExecution(tool_call_id=call.id, tool_name=call.name, tool_args=arguments.values, run_id=run.run_id)
    function = run.tools.get(call.name)
    if run.stop_reason is not None:
        refuse(run, execution, "Not called: the run has reached its limit. Answer with what you have.", "limit")
    elif function is None:
        known = ", ".join(run.tools) or "none"
        refuse(run, execution, f"There is no tool {call.name!r}; the tools are: {known}", "unknown tool")
    elif arguments.problem is not None:
        refuse(run, execution, f"Tool {call.name!r} was not called: {arguments.problem}", "invalid arguments")
    elif (limit := no_more_tools(run)) is not None:
        text = f"Not called: the limit of {limit} tool calls is reached. Answer with what you have."
        refuse(run, execution, text, "limit")
    else:
        count(run, tool_calls=1)
        execution.requires_confirmation = function.requires_confirmation
        execution.external_execution_required = function.external_execution
        execution.stop_after_tool_call = function.stop_after_tool_call
        if function.expires_after_s is not None:
            execution.expires_at = utc_now() + timedelta(seconds=function.expires_after_s)
            execution.on_expiry = function.on_expiry
        if function.requires_user_input:
            try:
                execution.user_input_schema = function.user_input_schema(arguments.values)
                execution.requires_user_input = True
            except ToolArgumentsInvalid as error:
                refuse(run, execution, str(error), "invalid arguments")
    return execution


async def _run_together(run: Run, todo: list[tuple[ToolExecution, Function]]) -> None:
    """Run what shares state in call order, all else at once, up to `parallel_tools`.

    The result that comes last is stored with what the run does next, which is to store that its model is asked.
    """
    room, left = asyncio.Semaphore(run.limits.parallel_tools), len(todo)
    stateful = [item for item in todo if item[1].stateful]
    free = [item for item in todo if not item[1].stateful]

    async def alone(execution: ToolExecution, function: Function) -> None:
        nonlocal left
        async with room:
            await _run_one(run, execution, function)
        left -= 1
        if left or function.stop_after_tool_call:  # hooks of the answer may take their time
            await run.journal.write()

    async def in_order() -> None:
        for at, (execution, function) in enumerate(stateful):
            if at:
                await _intend(run, [execution])
            await alone(execution, function)

    await _intend(run, [execution for execution, _ in (*free, *stateful[:1])])
    try:
        async with asyncio.TaskGroup() as group:
            if stateful:
                group.create_task(in_order())
            for item in free:
                group.create_task(alone(*item))
    except BaseExceptionGroup as failures:
        # a tool's failure is a result; what comes out here is the runtime's own, as a failed commit
        raise failures.exceptions[0] from None


async def _intend(run: Run, executions: list[ToolExecution]) -> None:
    """Store that these calls are about to run: after a crash, their outcome is unknown."""
    run.journal.add_step("intent", lambda: {"calls": [execution.tool_call_id for execution in executions]})
    for execution in executions:
        if execution.tool_call_id not in run.intended:  # else it is run again, and its start was told
            run.intended.add(execution.tool_call_id)
            run.fact(ToolCallStarted(content=execution.tool_name, tool=replace(execution)))
    await run.journal.write()


async def _run_one(run: Run, execution: ToolExecution, function: Function) -> None:
    if function.stateful and run.shared is not None:
        async with _with_team_state(run, run.shared):
            await _run_and_take(run, execution, function)
    else:
        await _run_and_take(run, execution, function)


_held: ContextVar[frozenset[str]] = ContextVar("agentrt_held", default=frozenset())
"""The runs whose `team_lock` the running call holds; what it calls in turn needs no more than that."""


@asynccontextmanager
async def _with_team_state(run: Run, team: Run) -> AsyncGenerator[None, None]:
    """Hold alone what a team and its members share, as the calls of one run that change state do among themselves."""
    if team.run_id in _held.get():
        yield
        return
    async with team.team_lock:
        token = _held.set(_held.get() | {team.run_id})
        try:
            yield
        finally:
            _held.reset(token)


async def _run_and_take(run: Run, execution: ToolExecution, function: Function) -> None:
    before = copy_state(run.state) if function.stateful else None
    team = run.shared if before is not None and run.shared is not run else None
    shared_before = copy_state(team.state) if team is not None else None
    context = run.tool_context(execution)

    def progress(value: Any) -> None:
        event = value if isinstance(value, BaseEvent) else None
        run.custom(
            event or ToolCallProgress(content=value, tool_call_id=execution.tool_call_id, tool_name=execution.tool_name)
        )

    try:
        result = await call_function(
            function, execution.tool_args, context, progress=progress, hooks=run.definition.tool_hooks or ()
        )
    except asyncio.CancelledError:
        # the abandoned call keeps its own copy of the state; the run goes on from the state before it
        if before is not None:
            run.context.session_state = before
        if not run.is_left:
            fail(run, execution, INTERRUPTED, "interrupted")
        raise
    if waits(run, execution):
        return  # for its member
    if team is not None and team.state != shared_before:
        # stored before the call's result: what a crash leaves between the two is a call whose outcome is not known
        team.journal.add_step("state", lambda: {"state": team.state})
        await team.journal.write()
    if result.abandoned and before is not None:
        run.context.session_state = before
    await _take(run, execution, function, result, changed=before is not None)


async def _take(run: Run, execution: ToolExecution, function: Function, result: ToolResult, *, changed: bool) -> None:
    """Keep a result: on the execution, in the journal, in the stream, in this order.

    One that changed the state, which storage may refuse, is stored at once.
    """
    execution.elapsed_s = result.elapsed_s
    if result.changed_args is not None:
        execution.tool_args = result.changed_args
    execution.result = result.content
    execution.images, execution.audio = result.images, result.audio
    execution.videos, execution.files = result.videos, result.files
    execution.error = result.error
    execution.tool_call_error = result.error is not None
    if result.exception is not None:
        log.debug("tool %s failed", function.name, exc_info=result.exception)
    settle(run, execution, changed=changed)
    if not changed:
        return
    try:
        await run.journal.write()
    except CodecError as error:
        path = re.sub(r'^step \d+\["state"\]', "session_state", error.path)
        told = f"Tool {function.name!r} left something that storage can't hold: {error}"
        raise CodecError(told.replace(error.path, path), path=path) from error


def settle(run: Run, execution: ToolExecution, *, changed: bool = False) -> None:
    """Have the journal write a call's result, with the state if the call changed it, and tell of it."""
    for run_id in execution.child_run_ids or ():
        run.children.pop(run_id, None)
    run.journal.add_step(
        "tool",
        lambda: {
            "execution": execution,
            "state": run.state if changed else None,
            "below": settled(run) if run.below.model_calls else None,
        },
    )
    event = ToolCallError if execution.tool_call_error else ToolCallCompleted
    run.fact(event(content=execution.result, tool=execution))


def refuse(run: Run, execution: ToolExecution, text: str, error: str) -> None:
    """Answer a call that is not run."""
    run.fact(ToolCallStarted(content=execution.tool_name, tool=replace(execution)))
    fail(run, execution, text, error)


def fail(run: Run, execution: ToolExecution, text: str, error: str) -> None:
    """Answer a call that was not run to its end."""
    execution.result = text
    execution.error = error
    execution.tool_call_error = True
    settle(run, execution)


def answer_turn(run: Run) -> None:
    """Append the results of the last assistant message's calls, in call order."""
    executions = {execution.tool_call_id: execution for execution in run.executions}
    for call in open_calls(run):
        execution = executions[call.id]
        run.messages.append(
            Message(
                role="tool",
                content=execution.result if isinstance(execution.result, str) else to_text(execution.result),
                tool_call_id=execution.tool_call_id,
                tool_name=execution.tool_name,
                tool_call_error=execution.tool_call_error,
                images=execution.images,
                audio=execution.audio,
                videos=execution.videos,
                files=execution.files,
            )
        )
