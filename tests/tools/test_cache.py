"""Results kept by tool, arguments and user."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from agentrt.run.context import RunContext
from agentrt.tools import Function, tool
from agentrt.tools.cache import ResultCache, key_of
from agentrt.tools.execute import call_function


def ctx(user_id: str | None = None) -> RunContext[Any]:
    return RunContext(run_id="r", session_id="s", user_id=user_id)


def counting(**options: Any) -> tuple[Function, list[Any]]:
    calls: list[Any] = []

    @tool(cache_results=True, **options)
    async def look_up(key: Any, deep: bool = False) -> int:
        calls.append(key)
        if key == "bad":
            raise ValueError("bad key")
        return len(calls)

    return look_up, calls


async def test_the_same_arguments_are_answered_from_memory() -> None:
    look_up, calls = counting()
    first = await call_function(look_up, {"key": "a", "deep": "true"}, ctx())
    again = await call_function(look_up, {"deep": True, "key": "a"}, ctx())
    assert (first.content, again.content, calls) == ("1", "1", ["a"])


async def test_other_arguments_and_other_users_are_not() -> None:
    look_up, calls = counting()
    for values in ({"key": "a"}, {"key": "a", "deep": True}, {"key": 1}, {"key": True}, {"key": 1.0}, {"key": [1]}):
        await call_function(look_up, values, ctx())
    await call_function(look_up, {"key": "a"}, ctx("ann"))
    assert len(calls) == 7


async def test_failures_are_not_kept() -> None:
    look_up, calls = counting()
    for _ in range(2):
        assert (await call_function(look_up, {"key": "bad"}, ctx())).error == "ValueError: bad key"
    assert calls == ["bad", "bad"]


async def test_a_guard_is_asked_also_for_what_is_kept() -> None:
    asked: list[str] = []
    look_up, calls = counting(pre_hook=lambda fc: asked.append(fc.arguments["key"]))
    for _ in range(2):
        await call_function(look_up, {"key": "a"}, ctx())
    assert (asked, calls) == (["a", "a"], ["a"])


async def test_concurrent_calls_share_one_memory() -> None:
    look_up, calls = counting()
    await call_function(look_up, {"key": "a"}, ctx())
    results = await asyncio.gather(*(call_function(look_up, {"key": "a"}, ctx()) for _ in range(20)))
    assert {result.content for result in results} == {"1"}
    assert calls == ["a"]


def test_a_copy_keeps_results_for_itself() -> None:
    look_up, _ = counting()
    assert look_up.cache is not None
    assert look_up.copy(name="other").cache is not look_up.cache
    assert look_up.copy(cache_results=False).cache is None


def test_old_results_are_forgotten_by_time_and_by_number() -> None:
    expired = ResultCache(ttl_s=-1.0)
    expired.put("a", 1)
    assert expired.get("a") is None
    small = ResultCache(ttl_s=None, max_entries=2)
    small.put("a", None)
    small.put("b", 2)
    assert small.get("a") == (None,)
    small.put("c", 3)
    assert (small.get("a"), small.get("b"), small.get("c")) == ((None,), None, (3,))


def test_keys_are_equal_only_for_equal_arguments() -> None:
    class Query(BaseModel):
        text: str

    assert key_of({"q": Query(text="a"), "n": [1, {2}]}, None) == key_of({"n": [1, {2}], "q": Query(text="a")}, None)
    assert key_of({"q": Query(text="a")}, None) != key_of({"q": Query(text="b")}, None)
    assert key_of({"q": 1}, None) != key_of({"q": True}, None)

    class Odd:
        __hash__ = None  # pyright: ignore[reportAssignmentType]  can't be compared by value

    assert key_of({"q": Odd()}, None) is None
