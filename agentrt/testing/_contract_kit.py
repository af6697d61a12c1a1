"""What the checks of storages are made with."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias

from agentrt.errors import StorageError
from agentrt.models.message import Message
from agentrt.storage.base import RunChange, Step, Storage, StoredRun

OpenStorage: TypeAlias = Callable[[], Storage]
StorageCheck: TypeAlias = Callable[[OpenStorage], Awaitable[None]]


def adding_to(checks: list[StorageCheck]) -> Callable[[StorageCheck], StorageCheck]:
    """A decorator that makes a check of a function, one that closes what was opened, and adds it to the list."""

    def check(function: StorageCheck) -> StorageCheck:
        @functools.wraps(function)
        async def checked(open_storage: OpenStorage) -> None:
            opened: list[Storage] = []

            def open() -> Storage:
                opened.append(open_storage())
                return opened[-1]

            try:
                async with asyncio.timeout(30):
                    await function(open)
            finally:
                for storage in opened:
                    await storage.aclose()

        checks.append(checked)
        return checked

    return check


def new_run(run_id: str, *, session_id: str = "s", **fields: Any) -> StoredRun:
    return StoredRun(run_id=run_id, session_id=session_id, **fields)


def new_change(run_id: str, *, session_id: str = "s", **fields: Any) -> RunChange:
    return RunChange(run_id=run_id, session_id=session_id, **fields)


def new_step(number: int, kind: str = "model") -> Step:
    return Step(number=number, kind=kind, data={"message": f"step {number}"})


def user_message(content: str) -> Message:
    return Message(role="user", content=content, created_at=datetime(2025, 1, 1, tzinfo=UTC))


async def raises(expected: type[StorageError], call: Awaitable[Any]) -> StorageError:
    try:
        await call
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} was not raised")
