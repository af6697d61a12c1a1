"""Tools that a definition's options give a run: to read what was said before, to set the state, to change memories."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agentrt.models.message import Message
from agentrt.run.history import flatten
from agentrt.run.memory import memory_tools
from agentrt.run.run import Run
from agentrt.run.tokens import tokens_of
from agentrt.tools.function import Function
from agentrt.tools.results import to_text

RESULT_TOKENS = 8_000
"""As much as one of these tools tells at once; the newest wins."""
MESSAGES_OF_SESSION = 20
"""How many messages of each other session are told, or those that hold what is looked for."""


def built_in_tools(run: Run) -> list[Any]:
    definition = run.definition
    tools: list[Any] = memory_tools(run)
    if definition.read_chat_history:
        tools.append(_chat_history(run))
    if definition.read_tool_call_history:
        tools.append(_tool_call_history(run))
    if definition.search_previous_sessions_history and run.user_id is not None:
        tools.append(_previous_sessions(run, run.user_id))
    if definition.enable_agentic_state:
        tools.append(Function(_update_session_state, name="update_session_state", effect="idempotent"))
    return tools


def _chat_history(run: Run) -> Function[..., Any]:
    async def get_chat_history(num_chats: int | None = None) -> str:
        """Read what the user and you said earlier in this conversation, oldest first.

        Args:
            num_chats: How many of the last questions with their answers to read; all when not given.
        """
        runs = [] if num_chats is not None and num_chats <= 0 else await _earlier(run, num_chats)
        return _list([_said(message) for message in flatten(runs) if _is_said(message)])

    return Function(get_chat_history, effect="pure")


def _tool_call_history(run: Run) -> Function[..., Any]:
    async def get_tool_call_history(num_calls: int = 3) -> str:
        """Read your earlier tool calls in this conversation with their results, the newest first.

        Args:
            num_calls: How many of the last calls to read.
        """
        calls = [*_calls(flatten(await _earlier(run, None))), *_calls(run.messages)]
        newest = calls[::-1][: max(num_calls, 0)]
        return _list(newest[::-1], newest_first=True)

    return Function(get_tool_call_history, effect="pure")


def _previous_sessions(run: Run, user_id: str) -> Function[..., Any]:
    async def search_previous_sessions(query: str | None = None) -> str:
        """Read what this user and you said in other, earlier conversations, the newest conversation first.

        Args:
            query: Words to look for; without them the last messages of each conversation are read.
        """
        count = run.definition.num_history_sessions
        sessions = await run.storage.list_sessions(user_id=user_id, limit=count + 1)
        others = [session for session in sessions if session.session_id != run.session_id][:count]
        told: list[dict[str, Any]] = []
        for session in others:
            messages = flatten(await run.storage.load_history(session.session_id, runs=_RUNS_OF_SESSION))
            said = [_said(message) for message in messages if _is_said(message)]
            found = [each for each in said if query is None or _holds(each["content"], query)]
            if found:
                when = session.updated_at.isoformat(timespec="seconds")
                told.append({"conversation": session.session_id, "when": when, "said": found[-MESSAGES_OF_SESSION:]})
        return _list(told[::-1], newest_first=True)

    return Function(search_previous_sessions, effect="pure")


_RUNS_OF_SESSION = 50


def _update_session_state(updates: dict[str, Any], session_state: dict[str, Any]) -> str:
    """Set keys of the state that is kept for this conversation. Keys that are not named stay as they are.

    Args:
        updates: The keys with their new values, as {"city": "Rome"}.
    """
    session_state.update(updates)
    return f"The state is now {to_text(session_state)}"


async def _earlier(run: Run, count: int | None) -> list[list[Message]]:
    """The messages of the session's last ended runs; this one has not ended."""
    return await run.storage.load_history(run.session_id, runs=count)


def _is_said(message: Message) -> bool:
    return message.role in ("user", "assistant") and bool(message.content)


def _said(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content or ""}


def _calls(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    results = {message.tool_call_id: message.content for message in messages if message.role == "tool"}
    for message in messages:
        for call in message.tool_calls or ():
            if call.id in results:  # what is being asked right now has none
                yield {"tool": call.name, "arguments": call.arguments, "result": results[call.id]}


def _holds(text: str, query: str) -> bool:
    """Does a text hold one of the query's words (those of four letters and more, where there are such)?"""
    words = query.casefold().split()
    telling = [word for word in words if len(word) > 3] or words
    return any(word in text.casefold() for word in telling)


def _list(items: Iterable[dict[str, Any]], *, newest_first: bool = False) -> str:
    """JSON of as many of these, given oldest first, as there is room for; the oldest are left out."""
    kept: list[str] = []
    left, items = RESULT_TOKENS, list(items)
    for item in reversed(items):
        text = json.dumps(item, ensure_ascii=False)
        if tokens_of(text) > left:
            break
        left -= tokens_of(text)
        kept.append(text)
    shown = f"[{', '.join(kept if newest_first else kept[::-1])}]"
    cut = len(items) - len(kept)
    return f"{shown}\n({cut} older ones are left out: there is no room for more)" if cut else shown
