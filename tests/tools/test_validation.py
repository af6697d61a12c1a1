"""Argument values that do not fit the hints as they are (F11, F23)."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel

from agentrt.errors import ToolArgumentsInvalid
from agentrt.tools import function_of


def book(
    city: str,
    nights: int = 2,
    opts: dict[str, Any] | None = None,
    tags: list[str] = [],  # noqa: B006
    note: str = "",
) -> str:
    return "ok"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"nights": "3"}, {"nights": 3}),
        ({"nights": 3.0}, {"nights": 3}),
        ({"nights": None}, {}),
        ({"opts": '{"late":true}'}, {"opts": {"late": True}}),
        ({"opts": "{'late': True}"}, {"opts": {"late": True}}),
        ({"tags": '["a","b"]'}, {"tags": ["a", "b"]}),
        ({"note": '{"late":true}'}, {"note": '{"late":true}'}),
        ({"note": 5}, {"note": "5"}),
        ({"opts": None}, {"opts": None}),
        ({"opts": "null"}, {"opts": None}),
        ({"zone": "B"}, {}),
        ({"nights": None, "tags": '["a"]'}, {"tags": ["a"]}),
    ],
)
def test_values_are_coerced_by_the_schema(values: dict[str, Any], expected: dict[str, Any]) -> None:
    given = {"city": "Oslo", **values}
    before = dict(given)
    assert function_of(book).validate(given) == {"city": "Oslo", **expected}
    assert given == before


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"nights": 2}, "Tool 'book': 'city' is missing"),
        ({"nights": "many", "city": "Oslo"}, "'nights' is wrong: .* not many"),
        ({"city": None}, "'city' is wrong: .* not None"),
        ({"city": {"name": "Oslo"}}, "'city' is wrong"),
        ({"ctiy": "Oslo"}, "Tool 'book' has no parameter 'ctiy'; it takes 'city', 'nights', .*'city' is missing"),
        ({"city": "Oslo", "tags": "x" * 10_000}, "'tags' is wrong: .* not x+ … x+$"),
    ],
)
def test_what_does_not_fit_is_named_to_the_model(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ToolArgumentsInvalid, match=told) as caught:
        function_of(book).validate(values)
    assert len(str(caught.value)) < 500


class Item(BaseModel):
    sku: str
    qty: int = 1
    size: Literal[1, 2] | None = None


def order(items: list[Item], kind: Literal["gift"] = "gift", size: Literal[1, 2] = 1, meta: dict[str, str] = {}):  # noqa: B006
    return "ok"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"items": [{"sku": "a", "qty": None}]}, {"items": [Item(sku="a")]}),
        ({"items": [{"sku": "a", "size": "2"}]}, {"items": [Item(sku="a", size=2)]}),
        ({"items": ['{"sku": "a"}']}, {"items": [Item(sku="a")]}),
        ({"items": '[{"sku": "a", "qty": 2}]'}, {"items": [Item(sku="a", qty=2)]}),
        ({"items": [], "size": "2", "kind": None, "meta": None}, {"items": [], "size": 2}),
    ],
)
def test_what_a_dialect_changed_is_changed_back_in_nested_values_too(
    values: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert function_of(order).validate(values) == expected


def test_a_fault_deep_inside_is_named_by_its_path() -> None:
    with pytest.raises(ToolArgumentsInvalid, match=r"'items\.1\.sku' is missing"):
        function_of(order).validate({"items": [{"sku": "a"}, {"qty": 1}]})


def test_the_function_works_after_a_mistake() -> None:
    made = function_of(book)
    with pytest.raises(ToolArgumentsInvalid):
        made.validate({})
    assert made.validate({"city": "Oslo"}) == {"city": "Oslo"}
