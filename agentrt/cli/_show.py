"""Stored runs as text and as JSON. Texts of models, tools and users are never read as rich markup."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from itertools import takewhile
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from agentrt.cli._runs import Told, decided_of, is_gone, tools_of
from agentrt.models.message import Message
from agentrt.run.decisions import Decided, Reject, open_kinds
from agentrt.run.events import BaseEvent, ModelCallCompleted, ModelCallStarted, ToolCallStarted
from agentrt.run.response import RunStatus, ToolExecution
from agentrt.storage.base import StoredRun
from agentrt.utils._blocks import call_text, need_text, note, seconds, shorten
from agentrt.utils._clean import clean

STYLES: Final = {
    RunStatus.PENDING: "dim",
    RunStatus.RUNNING: "cyan",
    RunStatus.PAUSED: "yellow",
    RunStatus.COMPLETED: "green",
    RunStatus.CANCELLED: "magenta",
    RunStatus.FAILED: "red",
}


MEDIA: Final = ("images", "audio", "videos", "files")

# --- JSON ------------------------------------------------------------------------------------------------------------


def facts(run: StoredRun) -> dict[str, Any]:
    """What a line of `runs list --json` says."""
    return {
        "run_id": run.run_id,
        "status": run.status,
        "agent_id": run.agent_id,
        "session_id": run.session_id,
        "user_id": run.user_id,
        "parent_run_id": run.parent_run_id,
        "number": run.number,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "owner": json.loads(run.owner) if run.owner else None,
        "owner_is_gone": is_gone(run),
        "error": (run.response or {}).get("error"),
        "waits_for": [
            {"tool_call_id": tool.tool_call_id, "call": call_text(tool), "need": need}
            for tool in tools_of(run)
            if run.status is RunStatus.PAUSED and (need := need_text(tool))
        ],
    }


def whole(run: StoredRun, tale: Told, events: Iterable[str]) -> dict[str, Any]:
    """What `runs show --json` says."""
    return {
        **facts(run),
        "content": tale.response.content,
        "usage": tale.response.usage,
        "model": tale.response.model,
        "stop_reason": tale.response.stop_reason,
        "input": input_of(tale),
        "messages": tale.messages,
        "tools": tale.tools,
        "decisions": [_decided(decided) for decided in decided_of(run)],
        "events": [json.loads(event) for event in events],
    }


def _decided(decided: Decided) -> dict[str, Any]:
    about = {"tool_call_id": decided.tool_call_id, "kind": decided.kind, "by": decided.by, "at": decided.at}
    return {**about, "decision": type(decided.decision).__name__, **asdict(decided.decision)}


# --- text ------------------------------------------------------------------------------------------------------------


def show_line(console: Console, run: StoredRun) -> None:
    """A run in a list: one line, and what there is to know about it."""
    _print(
        console,
        (f"{clean(run.run_id)}  ", "bold"),
        (f"{run.status:<9}", STYLES[run.status]),
        f"  {_time(run.created_at)}  {clean(run.agent_id or '')}",
    )
    user = f" · user {clean(run.user_id)}" if run.user_id else ""
    _print(console, (f"  session {clean(run.session_id)}{user}", "dim"))
    if state := _state(run):
        _print(console, f"  {state}")
    if run.status is RunStatus.PAUSED:
        show_waits(console, run)


def show_waits(console: Console, run: StoredRun) -> None:
    for tool in tools_of(run):
        if need := need_text(tool):
            _print(console, (f"  {clean(tool.tool_call_id)}", "bold"), f"  {call_text(tool)} {need}")


def show_run(console: Console, run: StoredRun, tale: Told, events: list[BaseEvent]) -> None:
    response = tale.response
    _print(console, (f"Run {clean(run.run_id)}  ", "bold"), (run.status.value, f"bold {STYLES[run.status]}"))
    model = f" · {clean(response.model)}" if response.model else ""
    _fact(console, "agent", f"{clean(run.agent_id or 'without a name')}{model}")
    user = f" · user {clean(run.user_id)}" if run.user_id else ""
    place = f"child of run {clean(run.parent_run_id)}" if run.parent_run_id else f"run {run.number}"
    _fact(console, "session", f"{clean(run.session_id)} · {place}{user}")
    _fact(console, "begun", f"{_time(run.created_at)} · last changed {_time(run.updated_at)}")
    _fact(console, "usage", note(response.elapsed_s, response.usage, response.stop_reason) or "none yet")
    if state := _state(run):
        _fact(console, "state", state)
    if run.status is RunStatus.PAUSED:
        _title(console, "Waits for")
        show_waits(console, run)
        for hint in _hints(run):
            _print(console, (f"  {hint}", "dim"))
    asked = input_of(tale)
    _title(console, "Input")
    for message in asked:
        _message(console, message)
    if said := tale.messages[len(asked) :]:
        _title(console, "Messages")
        for message in said:
            _message(console, message)
    if tale.tools:
        _title(console, "Tools")
        for tool in tale.tools:
            _tool(console, tool, begun=tool.tool_call_id in tale.begun)
    if decisions := decided_of(run):
        _title(console, "Decisions")
        for decided in decisions:
            _decision(console, decided)
    if events:
        _title(console, "Events")
        for event in events:
            _event(console, event)


def input_of(tale: Told) -> list[Message]:
    """What the run was asked."""
    return list(takewhile(lambda message: message.role != "assistant", tale.messages))


def _state(run: StoredRun) -> str:
    """By whom a run is driven, or what became of it."""
    if is_gone(run):
        return "its process is gone; agentrt runs recover goes on with it"
    if run.status is RunStatus.RUNNING and run.owner:
        owner: dict[str, Any] = json.loads(run.owner)
        return clean(f"driven by process {owner['pid']} on {owner['host']}")
    error: str | None = (run.response or {}).get("error")
    return shorten(error) if run.status is RunStatus.FAILED and error else ""


def _hints(run: StoredRun) -> list[str]:
    """How to answer: one line for each kind of thing that is waited for."""
    start, hints = f"agentrt runs decide {run.run_id}", list[str]()
    for tool in tools_of(run):
        fields = [f"--set {field.name}=…" for field in tool.user_input_schema or () if field.value is None]
        ways = {
            "confirmation": '--confirm | --reject "why"',
            "unknown_outcome": '--confirm (to run it again) | --result "…" | --reject "why"',
            "user_input": " ".join(fields) + ' | --reject "why"',
            "external_execution": '--result "…" | --reject "why"',
        }
        for kind in open_kinds(tool):
            hints.append(clean(f"{start} {tool.tool_call_id} --agent MODULE:AGENT {ways[kind]}"))
    return hints


def _message(console: Console, message: Message) -> None:
    failed = message.role == "tool" and message.tool_call_error
    who = message.tool_name if message.role == "tool" else message.role
    text = clean(message.content or "").strip()
    lines = [text] if text else []
    lines += [f"→ {clean(call.name)}({shorten(call.arguments)})" for call in message.tool_calls or ()]
    lines += [f"[{len(media)} {kind}]" for kind in MEDIA if (media := getattr(message, kind))]
    body = "\n".join(lines).replace("\n", "\n    ")
    _print(console, (f"  {clean(who or '')}: ", "bold red" if failed else "bold"), body)


def _tool(console: Console, tool: ToolExecution, *, begun: bool) -> None:
    if tool.is_done:
        outcome, style = ("failed", "red") if tool.tool_call_error else ("done", "green")
        outcome += f" in {seconds(tool.elapsed_s)}" if tool.elapsed_s is not None else ""
        outcome += f": {shorten(tool.error)}" if tool.error else ""
    else:
        outcome, style = "begun, no result" if begun else need_text(tool), "yellow"
    _print(console, (f"  {clean(tool.tool_call_id)}", "bold"), f"  {call_text(tool)}  ", (outcome, style))


def _decision(console: Console, decided: Decided) -> None:
    reason = decided.decision.reason if isinstance(decided.decision, Reject) else None
    what = type(decided.decision).__name__ + (f": {shorten(reason)}" if reason else "")
    by = f" by {clean(decided.by)}" if decided.by else ""
    call = clean(decided.tool_call_id)
    _print(console, (f"  {call}", "bold"), f"  {clean(what)}{by}", (f"  {_time(decided.at)}", "dim"))


def _event(console: Console, event: BaseEvent) -> None:
    path = f"{clean('/'.join(event.path))}  " if event.parent_run_id else ""
    match event:
        case ToolCallStarted():
            detail = call_text(event.tool)
        case ModelCallStarted() | ModelCallCompleted():
            detail = f"{event.index} {event.model}"
        case _:
            detail = str(event.content) if event.content is not None else ""
    detail = shorten(detail, 60).replace("\n", " ")
    clock = event.created_at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    _print(console, (f"  {event.seq:>4}  {clock}  ", "dim"), f"{path}{clean(event.event)}  ", (detail, "dim"))


def _title(console: Console, text: str) -> None:
    _print(console, (f"\n{text}", "bold underline"))


def _fact(console: Console, name: str, text: str) -> None:
    _print(console, (f"  {name:<8}", "dim"), text)


def _print(console: Console, *parts: str | tuple[str, str]) -> None:
    console.print(Text.assemble(*parts), soft_wrap=True)


def _time(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
