"""What a tool returned, as text (F17)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, SecretStr

from agentrt.media import Image
from agentrt.tools.results import to_text


class Search(BaseModel):
    query: str
    limit: int = 5


@dataclass
class Point:
    x: float
    note: str = "é"


class Color(Enum):
    RED = "red"


def test_nothing_is_a_note_and_an_empty_text_stays_empty() -> None:
    assert to_text(None) == "(no result)"
    assert to_text("") == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("é", "é"),
        (21.5, "21.5"),
        (True, "true"),
        (float("nan"), "nan"),
        (date(2025, 3, 4), "2025-03-04"),
        (Decimal("1.10"), "1.10"),
        (Color.RED, "red"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xfe", "2 bytes, base64: //4="),
        (Path("a/b"), "a/b"),
        (ValueError("no"), "ValueError: no"),
        (np.float64(1.5), "1.5"),
        (np.int64(3), "3"),
    ],
)
def test_single_values_read_as_people_write_them(value: Any, text: str) -> None:
    assert to_text(value) == text


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"t": 21.5, "ok": True, "n": None}, {"t": 21.5, "ok": True, "n": None}),
        (Search(query="tidé"), {"query": "tidé", "limit": 5}),
        ([Search(query="a"), date(2025, 3, 4), Decimal("1.10")], [{"query": "a", "limit": 5}, "2025-03-04", "1.10"]),
        ((Point(1.0), Color.RED), [{"x": 1.0, "note": "é"}, "red"]),
        ({"b", "a"}, ["a", "b"]),
        ({"id": UUID(int=1), "at": datetime(2025, 3, 4, tzinfo=UTC)}, {
            "id": "00000000-0000-0000-0000-000000000001", "at": "2025-03-04T00:00:00+00:00"}),
        ({"for": timedelta(minutes=1), "at": time(8)}, {"for": "0:01:00", "at": "08:00:00"}),
        ({"raw": b"\xff", "pic": Image(url="u")}, {"raw": "1 bytes, base64: /w==", "pic": "[image u]"}),
        ({(1, 2): "a", Color.RED: "b", date(2025, 3, 4): "c", 5: "d"}, {
            "[1, 2]": "a", "red": "b", "2025-03-04": "c", "5": "d"}),
        ({"x": float("nan"), "y": [float("inf")]}, {"x": "nan", "y": ["inf"]}),
        ({"a": np.arange(3), "n": np.int64(2)}, {"a": [0, 1, 2], "n": 2}),
    ],
)  # fmt: skip
def test_data_is_json_that_says_the_same(value: Any, read: Any) -> None:
    text = to_text(value)
    assert json.loads(text) == read
    assert "\\u00e9" not in text


def test_a_secret_of_a_model_stays_secret() -> None:
    class Account(BaseModel):
        password: SecretStr

    assert "hunter2" not in to_text([Account(password=SecretStr("hunter2"))])


def test_a_model_with_a_member_that_has_no_json_form_is_told_all_the_same() -> None:
    class Holder(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        what: Any

    class Thing:
        def __str__(self) -> str:
            return "a thing"

    assert json.loads(to_text(Holder(what=Thing()))) == {"what": "a thing"}


def test_a_circle_ends() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    assert json.loads(to_text(circle)) == [1, "…"]


def test_a_very_deep_value_ends() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "…" in to_text(deep)


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "\ud83d\ude00", "\udfff\ud800"])
def test_the_text_is_always_valid_utf8_without_nul(text: str) -> None:
    assert to_text("\ud83d\ude00") == "😀"
    for value in (text, [text], {text: text}):
        assert "\0" not in to_text(value)
        assert to_text(value).encode()


def test_a_table_is_its_shape_and_head() -> None:
    text = to_text(pd.DataFrame({"city": [f"city{n}" for n in range(1000)], "n": range(1000)}))
    assert text.startswith("DataFrame, 1000 rows x 2 columns, the first 10:\n")
    assert "city9" in text
    assert "city10" not in text


def test_a_column_and_an_array_are_told_by_shape_too() -> None:
    assert to_text(pd.Series([1, 2])).startswith("Series, 2 rows:\n0    1")
    assert to_text(np.zeros((100, 100))).startswith("ndarray, shape (100, 100), float64:\n[[0.")
    assert to_text(np.arange(3)) == "[0, 1, 2]"


def test_what_is_too_long_is_cut_and_says_so() -> None:
    text = to_text("x" * 100, 10)
    assert text == "x" * 10 + "\n[cut: the first 10 of 100 characters]"
    assert to_text("x" * 10, 10) == "x" * 10


def test_an_error_of_the_value_itself_is_raised() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    for value in (Broken(), [Broken()]):
        with pytest.raises(RuntimeError, match="no text"):
            to_text(value)
