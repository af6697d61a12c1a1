"""Shows runs to people: in a terminal as panels that grow, in a notebook, and as plain text elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias

from rich.console import Console

from agentrt.run.response import RunResponse
from agentrt.utils._printer import Printer

Shown: TypeAlias = "RunResponse[Any] | Iterable[Any]"
"""A response, or an iterator of events, of responses, or of both, as workflows give."""


def pprint_run_response(
    run_response: Shown, markdown: bool = False, show_time: bool = False, *, console: Console | None = None
) -> None:
    """Print a response, or what an iterator of events or responses gives, as it comes."""
    with Printer(console, markdown=markdown, show_time=show_time) as printer:
        for item in [run_response] if isinstance(run_response, RunResponse) else run_response:
            printer.feed(item)


async def apprint_run_response(
    run_response: Shown | AsyncIterable[Any] | Awaitable[Any],
    markdown: bool = False,
    show_time: bool = False,
    *,
    console: Console | None = None,
) -> None:
    """`pprint_run_response` that also takes an async iterator, or something to await that gives any of these."""
    if isinstance(run_response, AsyncIterable):
        with Printer(console, markdown=markdown, show_time=show_time) as printer:
            async for item in run_response:
                printer.feed(item)
    elif isinstance(run_response, Awaitable):
        await apprint_run_response(await run_response, markdown, show_time, console=console)
    else:
        pprint_run_response(run_response, markdown, show_time, console=console)


class EventStream(AbstractAsyncContextManager[AsyncIterator[Any]], Protocol):
    """What `Agent.stream` returns."""

    async def result(self) -> RunResponse[Any]: ...


async def ashow_run(
    run: EventStream,
    *,
    message: Any = None,
    stream: bool = False,
    markdown: bool = False,
    show_time: bool = True,
    show_tool_calls: bool = True,
    show_reasoning: bool = True,
    show_full_reasoning: bool = False,
    show_members_responses: bool = False,
    console: Console | None = None,
) -> RunResponse[Any]:
    """Drive a run and print it: `message`, reasoning, tool calls and answer, piece by piece with `stream`.

    Returns the response. A run that fails is shown and raised; leaving cancels it.
    """
    printer = Printer(
        console,
        stream=stream,
        markdown=markdown,
        show_time=show_time,
        show_tool_calls=show_tool_calls,
        show_reasoning=show_reasoning,
        show_full_reasoning=show_full_reasoning,
        show_members_responses=show_members_responses,
    )
    with printer:
        if message is not None:
            printer.message(message)
        async with run as events:
            async for event in events:
                printer.feed(event)
            try:
                return await run.result()
            except Exception as error:
                printer.error(error)
                raise
