"""Tools whose annotations are texts, one of a name that only type checkers see (F14)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Sequence as OnlyForCheckers

    from agentrt import Agent, RunContext

entered: list[str] = []


class Search(BaseModel):
    query: str
    limit: int = 5


def t1(req: Search) -> str:
    entered.append("t1")
    return f"{req.query}:{req.limit}"


async def t2(req: Search) -> str:
    return f"{req.query}:{req.limit}"


def t3(req: Search):
    yield f"{req.query}:{req.limit}"


async def t4(req: Search):
    yield f"{req.query}:{req.limit}"


def t5(reqs: list[Search], best: Search | None = None) -> str:
    return " ".join(type(value).__name__ for value in (*reqs, best))


def t6(text: str, ctx: RunContext) -> str:
    return f"{text} in {ctx.run_id}"


def t7(text: str, who: Optional[Agent] = None, it: RunContext[dict[str, Any]] | None = None) -> str:  # noqa: UP045
    return f"{text} for {who} in {it.run_id if it else None}"


def t8(number: int, names: OnlyForCheckers[str]) -> str:
    return f"{number!r} {names!r}"
