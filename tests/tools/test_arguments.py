"""Argument texts as models write them (F10)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.tools.arguments import normalize_arguments


@pytest.mark.parametrize("raw", ["", None, "null", {}, " \n ", "{}", '"{}"', '""'])
def test_no_arguments_are_an_empty_object(raw: Any) -> None:
    read = normalize_arguments(raw)
    assert (json.loads(read.text), read.values, read.problem) == ({}, {}, None)


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        ("{'city': \"L'Aquila\", 'days': 3, 'live': True}", {"city": "L'Aquila", "days": 3, "live": True}),
        ('{"city": "it\'s Oslo"}', {"city": "it's Oslo"}),
        ({"city": "it's Oslo"}, {"city": "it's Oslo"}),
        ('"{\\"city\\": \\"Oslo\\"}"', {"city": "Oslo"}),
        ('{"city": "Tromsø"}', {"city": "Tromsø"}),
        ("{'at': (1, 2), 'none': None}", {"at": [1, 2], "none": None}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"n": 123456789012345678901234567890}', {"n": 123456789012345678901234567890}),
        ('{"city": "\\ud83d"}', {"city": "\ufffd"}),
        ('{"city": "\\ud83d\\ude00"}', {"city": "😀"}),
        ({"city": "\ud83d"}, {"city": "\ufffd"}),
    ],
)
def test_values_are_read_and_the_text_says_the_same(raw: Any, values: dict[str, Any]) -> None:
    read = normalize_arguments(raw)
    assert read.problem is None
    assert read.values == values
    assert json.loads(read.text) == values
    assert read.text.encode()


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ('{"city": "Oslo"', '{"city": "Oslo"'),
        ("[1, 2]", "a list"),
        ('"Oslo"', "Oslo"),
        ("7", "a number"),
        ('{"x": NaN}', "NaN"),
        ({"x": float("nan")}, "nan"),
        ({"x": object()}, "object"),
        ("{'a': {1, 2}}", "set"),
        ("__import__('os').getcwd()", "__import__"),
        ("9" * 5000, "9999"),
        ("[" * 100_000, "[[[["),
        ('{"a":' * 100_000, '{"a":'),
        ("\ud800{", "\ufffd{"),
    ],
)
def test_what_is_no_object_is_a_problem_that_quotes_it(raw: Any, part: str) -> None:
    read = normalize_arguments(raw)
    assert (read.text, read.values) == ("{}", {})
    assert read.problem is not None
    assert part in read.problem
    assert len(read.problem) < 500
    assert read.problem.encode()


def test_the_callers_object_is_not_shared() -> None:
    raw = {"tags": ["a"]}
    normalize_arguments(raw).values["tags"].append("b")
    assert raw == {"tags": ["a"]}


@given(st.text() | st.binary() | st.dictionaries(st.text(), st.text() | st.floats() | st.none()))
def test_whatever_comes_in_the_text_is_a_json_object(raw: Any) -> None:
    read = normalize_arguments(raw)
    assert json.loads(read.text) == read.values
    assert isinstance(read.values, dict)
