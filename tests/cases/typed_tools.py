"""Tools whose hints are texts: `from __future__ import annotations` in a module of their own, as the case asks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Optional
from uuid import UUID

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

if TYPE_CHECKING:
    from agentrt import RunContext


class Level(str, Enum):  # noqa: UP042  as in the case
    LOW = "low"
    HIGH = "high"


class Priority(IntEnum):
    LATER = 1
    NOW = 2


class Shape(Enum):
    ROUND = ("r", 1)
    SQUARE = ("s", 4)


class Search(BaseModel):
    query: str
    limit: int = 5


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


@dataclasses.dataclass
class Address:
    street: str
    zip: Annotated[str, Field(description="Five digits.")]
    floor: int | None = None


@dataclasses.dataclass
class Person:
    name: str
    address: Address
    born: date | None = None


class Options(TypedDict, total=False):
    fast: bool
    level: Level


class Point(NamedTuple):
    x: int
    y: int


def plan(
    mode: Literal["edit", "delete"],
    level: Level,
    day: date,
    ref: UUID,
    tags: Sequence[str],
    extra: dict[str, Any],
    blob: Any = None,
    size: Optional[int] = None,  # noqa: UP045  as in the case
    kind: int | str = 1,
) -> str:
    seen.append((mode, level, day, ref, tags, extra, blob, size, kind))
    return "planned"


def ship(
    person: Person,
    priority: Priority,
    options: Options | None = None,
    price: Decimal = Decimal(1),
    corners: list[Point] | None = None,
    tree: Tree | None = None,
    label: Literal[1, "two"] = 1,
    by_level: dict[Level, list[Person]] | None = None,
) -> str:
    seen.append((person, priority, options, price, corners, tree, label, by_level))
    return "shipped"


def t1(req: Search) -> str:
    return f"{req.query}:{req.limit}"


async def t2(req: Search) -> str:
    return f"{req.query}:{req.limit}"


def t3(req: Search) -> Iterator[str]:
    yield f"{req.query}:{req.limit}"


async def t4(req: Search) -> AsyncIterator[str]:
    yield f"{req.query}:{req.limit}"


def t5(reqs: list[Search], best: Search | None = None) -> int:
    seen.append((reqs, best))
    return len(reqs)


def t6(text: str, ctx: RunContext) -> str:
    seen.append(ctx)
    return text


async def t7(text: str, where: RunContext[dict[str, int]] | None = None) -> str:
    seen.append(where)
    return text


class Callable_:
    """An object that is called."""

    async def __call__(self, req: Search) -> str:
        return f"{req.query}:{req.limit}"


class Kit:
    def method(self, req: Search) -> str:
        return f"{req.query}:{req.limit}"

    @classmethod
    async def of_class(cls, req: Search) -> str:
        return f"{req.query}:{req.limit}"

    @staticmethod
    def plain(req: Search) -> str:
        return f"{req.query}:{req.limit}"


def limited(req: Search, suffix: str) -> str:
    return f"{req.query}:{req.limit}{suffix}"


def traced(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


partly = functools.partial(limited, suffix="")
wrapped = traced(t2)

seen: list[Any] = []
"""What the tools were called with; emptied by each test."""
