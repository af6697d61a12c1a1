"""What holds of every stored run, however it came to its end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from agentrt.models.message import Message
from agentrt.storage.base import Storage, StoredRun

ENDS = {"COMPLETED": "RunCompleted", "CANCELLED": "RunCancelled", "FAILED": "RunError"}


def check_facts(facts: list[tuple[int, str]]) -> Counter[str]:
    """Numbered without a gap; every start has its one end. Returns how often each kind of event was."""
    assert [seq for seq, _ in facts] == list(range(1, len(facts) + 1)), facts
    names = Counter(name for _, name in facts)
    assert names["ToolCallStarted"] == names["ToolCallCompleted"] + names["ToolCallError"], facts
    cut = names["ModelCallStarted"] - names["ModelCallCompleted"]
    assert 0 <= cut <= names["ModelCallReset"], facts
    return names


def text_read(lines: Iterable[str]) -> str:
    """The text that a reader has in the end who drops what a cut model call had streamed.

    A line is an event's name, its cursor, and the JSON of its content.
    """
    done = call = ""
    for name, _, content in (line.split(maxsplit=2) for line in lines):
        if name == "RunContent":
            call += json.loads(content)
        elif name == "ModelCallReset":
            call = ""
        elif name == "ModelCallCompleted":
            done, call = done + call, ""
    return done


def check_messages(messages: Iterable[Message]) -> None:
    """Every call has its one answer, right after the message that makes it."""
    open_ids: list[str] = []
    for message in messages:
        if message.role == "tool":
            open_ids.remove(message.tool_call_id or "")
        else:
            assert open_ids == []
            open_ids = [call.id for call in message.tool_calls or ()]
    assert open_ids == []


async def check_ended(storage: Storage, run_id: str) -> StoredRun:
    """The run has ended, is whole, and says so once, at last."""
    run = await storage.load_run(run_id)
    assert run is not None
    facts = [(seq, json.loads(text)["event"]) for seq, text in await storage.load_events(run_id)]
    names = check_facts(facts)
    assert run.status in ENDS, run.status
    assert facts[-1] == (run.last_seq, ENDS[run.status]), facts
    assert sum(names[end] for end in ENDS.values()) == 1, facts
    check_messages(run.messages)
    assert run.owner is None
    return run
