"""The loop: this is where a run happens.

A plain call, a stream, the sync facade and a continued run all drive `drive`. It is a coroutine that hands
events to the run's journal; whatever must last is stored before it is announced, and nothing happens after the final
event.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from itertools import takewhile
from typing import Any, TypeVar

from agentrt.errors import AgentRTError, CodecError, ModelRefused, OutputTruncated, RunBusy
from agentrt.models.base import ModelAnswer
from agentrt.models.message import Message
from agentrt.run.answer import take_answer
from agentrt.run.deciding import response_of
from agentrt.run.events import (
    BaseEvent,
    RunCancelled,
    RunCompleted,
    RunError,
    RunPaused,
    RunStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from agentrt.run.hooks import pass_output
from agentrt.run.lease import release
from agentrt.run.limits import check_depth, deadline_of, last_turn, out_of_time
from agentrt.run.memory import queue_updates, start_updates
from agentrt.run.model_call import call_model
from agentrt.run.prepare import prepare
from agentrt.run.response import RunResponse, RunStatus, StopReason
from agentrt.run.resume import check_same, load, resume
from agentrt.run.run import Run, current_run, live, log
from agentrt.run.tool_calls import interrupt, open_calls, run_calls, waits
from agentrt.tools.results import to_text

T = TypeVar("T")

LAST_TURN_S = 60.0
"""How long the last turn may take that a run gets when its time is up."""


async def drive(run: Run) -> RunResponse[Any]:
    """Run to the end or to a pause, and return the response. Raises what the run raises, after storing it."""
    current_run.set(run)  # the driver's task has a context of its own
    run.loop, run.thread_id, run.driver = asyncio.get_running_loop(), threading.get_ident(), asyncio.current_task()
    if run.on_start is not None:
        run.on_start()
    try:
        known = await _enter(run)
        live[run.run_id] = run
        run.entered.set()
        if known is not None:
            return known
        await (run.code.work() if run.code is not None else _turns(run))
        return await _leave(run)
    except asyncio.CancelledError:
        if run.lost:
            error = RunBusy(f"Run {run.run_id!r} was taken over by another process")
            await _failed(run, error)
            raise error from None
        if run.stored and not run.is_left:
            if run.is_cut:
                await _failed(run, AgentRTError("Cut short by the code of its workflow, which may go on with it"))
                raise
            await _cancelled(run)
            if run.cancel_reason is not None:
                return run.response
        elif run.stored:
            await _leave_evidence(run)
        raise
    except Exception as error:
        await _failed(run, error)
        raise
    finally:
        run.leave_readers()
        await run.journal.quiet()
        if run.lease is not None:
            release(run.lease)
        if run.turn is not None:
            run.turn.release()
        if run.on_end is not None:
            run.on_end(None)


async def _enter(run: Run) -> RunResponse[Any] | None:
    """Begin the run, or go on with a stored one. Returns the stored response of one that needs no driving."""
    if run.continues:
        return await resume(run, await load(run))
    check_depth(run)
    try:
        await prepare(run)
    except RunBusy:
        if not run.named:
            raise
    else:
        return await _announce_start(run)
    stored = await load(run)
    check_same(run, stored)
    over = stored.status in (RunStatus.COMPLETED, RunStatus.CANCELLED)
    if over or (stored.status is RunStatus.PAUSED and not run.decided):
        return run.end_as(response_of(stored), stored.last_seq)
    return await resume(run, stored)


async def _announce_start(run: Run) -> None:
    if run.code is not None:
        run.fact(WorkflowStarted(content=run.messages[0].content))
        await run.journal.write()
        return
    run.fact(RunStarted(model=f"{run.model.provider}:{run.model.id}"))  # written with the start of its first model call
    for event in run.opening:
        run.fact(event)


async def _turns(run: Run) -> None:
    """While limits allow: one model call; no tool calls: leave; calls that need somebody: pause; else run the calls."""
    loop = asyncio.get_running_loop()
    if run.limits.seconds is not None:
        run.deadline = loop.time() + run.limits.seconds
    deadline = deadline_of(run)
    if open_calls(run) and (not await _calls(run, deadline) or _stopped_by_tool(run)):
        return
    if run.answer is not None and await _timed(run, deadline, take_answer(run, run.answer)):
        _ended(run, run.answer)
        return
    if run.reasoner is not None and not run.reasoned:
        from agentrt.run.reasoning import reason  # which loads pydantic

        await _timed(run, deadline, reason(run, run.reasoner))
    while True:
        if run.cancel_flag.is_set() or run.winding_down:
            raise asyncio.CancelledError  # which a tool took for its own, or which was to wait for the turn
        limit = last_turn(run)
        until = _model_deadline(deadline, loop.time(), limit is not None)
        answer, done = await _timed(run, until, _ask_model(run, last_turn=limit is not None))
        if done:
            _ended(run, answer)
            return
        if not answer.message.tool_calls:
            continue
        if limit is not None:
            await run_calls(run)  # answers them, runs none
            raise limit
        if not await _calls(run, deadline) or _stopped_by_tool(run):
            return


async def _ask_model(run: Run, *, last_turn: bool) -> tuple[ModelAnswer, bool]:
    """Make one model call, and take its answer if it calls no tool. Returns the answer and whether it is the run's."""
    answer = await call_model(run, last_turn=last_turn)
    run.response.finish_reason = answer.finish_reason
    return answer, not answer.message.tool_calls and await take_answer(run, answer)


def _ended(run: Run, answer: ModelAnswer) -> None:
    run.stop_reason = run.stop_reason or _END.get(answer.finish_reason, "end")


_END: dict[str, StopReason] = {"length": "output_limit", "refusal": "refusal"}
_STOPPED: dict[type[Exception], StopReason] = {OutputTruncated: "output_limit", ModelRefused: "refusal"}


async def _timed(run: Run, until: float | None, work: Coroutine[Any, Any, T]) -> T:
    """Await what asks a model. Raises `LimitReached` when the run's time is up."""
    clock = asyncio.timeout_at(until)
    try:
        async with clock:
            return await work
    except TimeoutError:
        if not clock.expired():
            raise
        raise out_of_time(run) from None


def _model_deadline(deadline: float | None, now: float, last_turn: bool) -> float | None:
    if deadline is None:
        return None
    return max(deadline, now + LAST_TURN_S) if last_turn else deadline


async def _calls(run: Run, deadline: float | None) -> bool:
    """Run the open calls within the run's time. What time cuts short is answered so, and the model gets a last turn."""
    run.in_tools = True
    try:
        async with asyncio.timeout_at(deadline):
            return await run_calls(run)
    except TimeoutError:
        if deadline is None or asyncio.get_running_loop().time() < deadline:
            raise
        out_of_time(run)
        return True
    finally:
        run.in_tools = False


def _stopped_by_tool(run: Run) -> bool:
    """Tools marked `stop_after_tool_call` end the run, unless one failed; the result, or their texts, is the answer."""
    answered = {message.tool_call_id for message in takewhile(lambda m: m.role == "tool", reversed(run.messages))}
    calls = [call for call in run.executions if call.stop_after_tool_call and call.tool_call_id in answered]
    if not calls or any(call.tool_call_error for call in calls):
        return False
    members = [run.members.get((call.child_run_ids or [""])[0]) for call in calls]
    results: list[Any] = [m.content if m is not None else call.result for m, call in zip(members, calls, strict=True)]
    text = "\n\n".join(to_text(result) for result in results if result)
    run.stop_reason = "tool"
    run.response.content = results[0] if len(calls) == 1 else text
    if text:  # for whoever reads the conversation, it is what was answered
        run.messages.append(Message(role="assistant", content=text))
    return True


# --- endings: stored first, then announced ---------------------------------------------------------------------------


async def _leave(run: Run) -> RunResponse[Any]:
    response = run.touch()
    paused = any(waits(run, execution) for execution in run.executions)
    if run.code.pausing if run.code is not None else paused:
        await run.save(RunStatus.PAUSED, RunPaused(response=response))
        return response
    response.reasoning_content = "".join(m.reasoning_content or "" for m in run.messages) or None
    response.citations = [citation for m in run.messages for citation in m.citations or ()] or None
    await pass_output(run)
    await queue_updates(run)
    completed = RunCompleted if run.code is None else WorkflowCompleted
    await run.save(RunStatus.COMPLETED, completed(content=response.content, response=response))
    start_updates(run)
    return response


async def _cancelled(run: Run) -> None:
    """A cancelled run is stored as far as it came, before the cancellation goes on."""
    run.cancel_flag.set()
    run.stop_reason = "cancelled"
    interrupt(run)
    response = run.touch()
    response.content = _so_far(run)
    try:
        await _store_cut(run, RunStatus.CANCELLED, RunCancelled(content=run.cancel_reason, response=response))
    except AgentRTError as error:
        await _failed(run, error)
        raise


async def _failed(run: Run, error: Exception) -> None:
    run.cancel_flag.set()
    if error is not run.limit_reached:
        run.stop_reason = _STOPPED.get(type(error), "error")
    response = run.touch()
    response.status = RunStatus.FAILED
    response.error = f"{type(error).__name__}: {error}".rstrip(": ")
    response.content = _so_far(run)
    if run.stored or not run.continues:  # what was not taken up is as it was, and no failed run
        with contextlib.suppress(AttributeError):  # an exception class with slots can't carry it
            error.run_response = response  # pyright: ignore[reportAttributeAccessIssue]
    last = RunError(content=response.error, error_type=type(error).__name__, response=response)
    if run.stored and not isinstance(error, RunBusy):  # a run that was taken over is another's to store
        try:
            await _store_cut(run, RunStatus.FAILED, last)
            return
        except AgentRTError as storage_error:
            error.add_note(f"The failed run could not be stored either: {storage_error}")
            log.error("run %s failed and could not be stored: %s", run.run_id, storage_error)
    elif run.stored:
        await _leave_evidence(run)
    run.fact(last)
    run.journal.give_up()


async def _leave_evidence(run: Run) -> None:
    """Whoever goes on with the run may want to know what its last calls did."""
    try:
        await run.journal.leave_evidence()
    except AgentRTError as error:
        log.error("run %s was left, and what its last calls did could not be stored: %s", run.run_id, error)


async def _store_cut(run: Run, status: RunStatus, last: BaseEvent) -> None:
    """Store a run that was cut short. A state that storage can't hold loses nothing but itself."""
    try:
        await run.save(status, last)
    except CodecError as error:
        log.error("run %s is stored without its session state: %s", run.run_id, error)
        await run.save(status, last, with_state=False)


def _so_far(run: Run) -> str | None:
    """The text that a run cut short has given."""
    last = next((m for m in reversed(run.messages) if m.role == "assistant"), None)
    return last.content if last is not None else None
