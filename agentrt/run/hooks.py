"""An agent's hooks: functions of its author around a whole run, which may change what goes in and comes out, or refuse.

What has not passed all of them counts as refused, also when one of them failed or the run was cancelled meanwhile: such
an input is never sent, such an answer never given, and neither is part of the session's history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from agentrt.errors import ConfigurationError
from agentrt.models.message import Message
from agentrt.run.run import Run
from agentrt.tools.execute import call_hook
from agentrt.tools.hooks import known_names


def hooks_of(given: Sequence[Any] | None) -> list[Callable[..., Any]]:
    """Return the callables that are meant: a hook itself, or its method `check`. Raises `ConfigurationError`."""
    found: list[Callable[..., Any]] = []
    for hook in given or ():
        if isinstance(hook, type):  # calling it would make an object and check nothing
            raise ConfigurationError(f"{hook.__name__} is a class; give an instance: {hook.__name__}(…)")
        check: Any = hook if callable(hook) else getattr(hook, "check", None)
        if not callable(check):
            raise ConfigurationError(f"A hook is a callable or has a method check(…), not {hook!r}")
        found.append(check)
    return found


async def pass_input(run: Run) -> bool:
    """Pass the run's messages by its pre-hooks; return whether they were changed."""
    hooks = hooks_of(run.definition.pre_hooks)
    if not hooks:
        return False
    given = run.messages
    run.messages = [_own(message) for message in given]  # the caller's own stay as they are
    before = [replace(message) for message in given]
    try:
        for hook in hooks:
            messages = run.messages
            known = {**known_names(run.context), "run_input": messages, "input": messages, "messages": messages}
            run.messages = _replaced(hook, await call_hook(hook, known, (messages,)), messages)
    except BaseException:
        run.messages = [replace(message, incomplete=True) for message in run.messages]
        raise
    return run.messages != before


async def pass_output(run: Run) -> None:
    """Pass the run's answer by its post-hooks. What they change is the answer in the history, too."""
    hooks = hooks_of(run.definition.post_hooks)
    if not hooks:
        return
    response = run.response
    has_answer = run.messages[-1].role == "assistant"  # a tool whose result is the answer may have none
    before = response.text()
    try:
        for hook in hooks:
            names = ("run_output", "response", "run_response")
            known = {**known_names(run.context), **dict.fromkeys(names, response)}
            changed = await call_hook(hook, known, (response,))
            if changed is not None and changed is not response:
                if type(changed) is not type(response.content):
                    raise _unfit(hook, changed, "the response, a new content of the same type, or nothing")
                response.content = changed
    except BaseException:
        response.reasoning_content = response.citations = None
        if has_answer:
            run.messages.pop()
        raise
    if has_answer and (text := response.text()) != before:
        # a provider's own parts hold the text, too
        run.messages[-1] = replace(run.messages[-1], content=text, parts=None, provider=None)


def _own(message: Message) -> Message:
    """A copy that may be changed without changing the original."""
    media = {name: list(items) for name in ("images", "audio", "videos", "files") if (items := getattr(message, name))}
    return replace(message, **media)


def _replaced(hook: Any, returned: Any, messages: list[Message]) -> list[Message]:
    """What a pre-hook made of the messages: a text replaces the last user message's, messages replace all."""
    if returned is None:
        return messages
    if isinstance(returned, str):
        at = next((at for at in reversed(range(len(messages))) if messages[at].role == "user"), None)
        if at is not None:
            return [*messages[:at], replace(messages[at], content=returned), *messages[at + 1 :]]
    items = cast("Sequence[Any]", returned) if isinstance(returned, (list, tuple)) else [returned]
    if not items or not all(isinstance(item, (str, Message, Mapping)) for item in items):
        raise _unfit(hook, returned, "messages, a text, or nothing")
    return [Message.of(item) for item in items]


def _unfit(hook: Any, returned: Any, wanted: str) -> TypeError:
    name = getattr(hook, "__qualname__", type(hook).__qualname__)
    return TypeError(f"Hook {name}() returns {wanted}, not {type(returned).__name__}")
