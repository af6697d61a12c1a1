"""Before the loop: state, history, tools and the prompt, read once and kept for the run."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any
from weakref import WeakValueDictionary

from agentrt.errors import ConfigurationError, SessionBusy
from agentrt.models.base import Model
from agentrt.models.message import Message
from agentrt.run import owner
from agentrt.run.built_in_tools import built_in_tools
from agentrt.run.context import RunContext
from agentrt.run.dependencies import given_dependencies, resolve_dependencies
from agentrt.run.history import runs_to_send, sendable, valid_messages
from agentrt.run.hooks import hooks_of, pass_input
from agentrt.run.journal import carried_out
from agentrt.run.lease import LEASE_S, Lease, hold
from agentrt.run.prompt import system_message
from agentrt.run.run import Run, log
from agentrt.storage.base import Opening, StoredRun
from agentrt.storage.codec import dumps
from agentrt.storage.merge import copy_state
from agentrt.tools import collect_tools, resolve_tools

WAIT_S = (0.01, 0.03)
"""How long a run waits, in seconds, before it asks again whether its session is free."""
_turns: WeakValueDictionary[tuple[int, str, int], asyncio.Lock] = WeakValueDictionary()


async def prepare(run: Run) -> None:
    """Store the run, then fill in all that its first model call needs. Raises what a definition's own code raises."""
    definition = run.definition
    hooks_of([*(definition.pre_hooks or ()), *(definition.post_hooks or ())])  # raises before anything is stored
    new_context(run)
    run.messages = list(run.input)
    opening = await _begun(
        run,
        StoredRun(
            run_id=run.run_id,
            session_id=run.session_id,
            user_id=run.user_id,
            agent_id=run.response.agent_id,
            parent_run_id=run.context.parent_run_id,
            own_session=run.of_call is not None and not _is_of_its_parent(run),
            messages=run.input,
            input=_kept_input(run),
            owner=owner.this_process(),
        ),
        history_runs=runs_to_send(definition),
        initial_state=definition.given("session_state"),
        given_state=run.given_state,
        lease_s=LEASE_S,
        alone=definition.session_concurrency != "merge" and not _is_of_its_parent(run),
    )
    lease_run(run)
    run.base_state = opening.state or {}
    run.context.session_state.update(copy_state(run.base_state))
    run.history = sendable(opening.history, definition.history_tokens)
    await make_ready(run)
    log.debug("run %s: %d messages of history, tools %s", run.run_id, len(run.history), ", ".join(run.tools) or "none")


async def make_ready(run: Run) -> None:
    """Do what is done once for a run, and then kept: pass its input by the hooks, fit it out, render its prompt.

    Hooks come after the run is stored: its session is then known to be the user's, and its state is there.
    """
    await resolve_dependencies(run)  # for its hooks
    changed = await pass_input(run)
    await fit_out(run)
    run.system = await system_message(run) if run.code is None else None
    run.ready = True
    if run.system is not None or run.definition.pre_hooks:
        run.journal.add_step("prompt", lambda: {"system": run.system})
    if changed:
        await run.journal.write(messages=run.messages)


async def _begun(run: Run, stored: StoredRun, **options: Any) -> Opening:
    """Store the run, with `session_concurrency="wait"` as soon as no other run of its session is driven."""
    if options["alone"] and run.definition.session_concurrency == "wait":
        # runs of one process and loop queue up here; only the first of them asks storage again and again
        key = (id(run.storage), run.session_id, id(asyncio.get_running_loop()))
        turn = _turns.setdefault(key, asyncio.Lock())
        await turn.acquire()
        run.turn = turn
    while True:
        try:
            return await _begun_once(run, stored, **options)
        except SessionBusy:
            if run.definition.session_concurrency == "refuse":
                raise
            await asyncio.sleep(random.uniform(*WAIT_S))


def _is_of_its_parent(run: Run) -> bool:
    """Does a run that began this one have the same session? Then this one is part of that one's turn."""
    parent = run.parent
    while parent is not None:
        if parent.session_id == run.session_id:
            return True
        parent = parent.parent
    return False


async def _begun_once(run: Run, stored: StoredRun, **options: Any) -> Opening:
    """Store the run. A cancellation meanwhile is heard when that is done: else the run would be stored as running."""

    async def begin() -> Opening:
        opening = await run.storage.begin(stored, **options)
        run.stored = True
        return opening

    return await carried_out(run.storage, begin())


def lease_run(run: Run) -> None:
    """Have the run's lease renewed until its driver leaves; its writes are this epoch's."""
    run.journal.epoch = run.epoch
    run.lease = hold(Lease(run.storage, run.run_id, run.epoch, run.hear))


def _kept_input(run: Run) -> dict[str, Any]:
    kept: dict[str, Any] = {"digest": digest(run)} if run.named else {}
    if run.of_call is not None:
        kept["of_call"] = run.of_call
    if run.code is not None:
        kept["inputs"] = run.code.inputs
    return {**kept, "attachable": True} if run.journal.attachable else kept


def digest(run: Run) -> str:
    """What tells one input from another, whenever its messages were made."""
    plain = [message.model_dump(exclude={"created_at"}) for message in run.input]
    return hashlib.sha256(dumps(plain, "input").encode()).hexdigest()


def new_context(run: Run) -> None:
    run.context = RunContext(
        run_id=run.run_id,
        session_id=run.session_id,
        user_id=run.user_id,
        parent_run_id=run.parent.run_id if run.parent else run.belongs_to,
        path=run.path,
        dependencies=given_dependencies(run.definition),
        usage=run.response.usage,
        cancel_flag=run.cancel_flag,
        emit_event=run.custom,
        state_lock=run.state_lock,
    )
    run.show(run.context)


async def fit_out(run: Run) -> None:
    """Give a run its model, its tools and its answer's type, from the definition as it is now."""
    definition = run.definition
    await resolve_dependencies(run)
    if run.code is not None:
        return  # which asks no model
    model = run.model = _model(definition.model)
    run.response.model = model.id
    run.response.model_provider = model.provider
    run.tools = await resolve_tools(definition.tools, run.context) if definition.tools else {}
    if own := [*run.own_tools, *built_in_tools(run)]:
        run.tools = collect_tools([own, run.tools.values()])
    if definition.tool_choice not in (None, "auto", "none", "required", *run.tools):
        names = ", ".join(run.tools) or "none"
        raise ConfigurationError(f"tool_choice names {definition.tool_choice!r}, and the tools are: {names}")
    if definition.reasoning or definition.reasoning_model is not None:
        run.reasoner = _model(definition.reasoning_model) if definition.reasoning_model is not None else model
    if definition.response_model is not None and definition.response_model is not str:
        from agentrt.run.output import Output  # which loads pydantic

        in_json_mode = definition.use_json_mode
        if definition.parser_model is not None:
            parser = _model(definition.parser_model)
            run.parser = parser, Output.of(definition.response_model, parser, use_json_mode=in_json_mode)
        else:
            run.output = Output.of(definition.response_model, model, run.tools, use_json_mode=in_json_mode)


def _model(given: Model | str | None) -> Model:
    if isinstance(given, Model):
        return given
    # the registry imports adapters lazily; the engine itself knows none
    from agentrt.models._registry import default_model, resolve_model

    return resolve_model(given) if given is not None else default_model()


def request_messages(run: Run) -> list[Message]:
    """All that is sent: the system message, the history, and the run's own messages."""
    own = valid_messages(run.messages)
    return [run.system, *run.history, *own] if run.system is not None else [*run.history, *own]
