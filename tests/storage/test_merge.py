from __future__ import annotations

import copy
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrt.errors import CodecError
from agentrt.storage.merge import Conflict, copy_state, merge


def merged(base: Any, mine: Any, theirs: Any) -> Any:
    """One value, merged without a clash."""
    state, conflicts = merge(*({} if value is ... else {"v": value} for value in (base, mine, theirs)))
    assert conflicts == []
    return state.get("v", ...)


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "result"),
    [
        pytest.param(1, 2, 1, 2, id="changed by me"),
        pytest.param(1, 1, 2, 2, id="changed by them"),
        pytest.param(1, 2, 2, 2, id="changed alike"),
        pytest.param(..., 1, ..., 1, id="added by me"),
        pytest.param(..., ..., 1, 1, id="added by them"),
        pytest.param(1, ..., 1, ..., id="deleted by me"),
        pytest.param(1, 1, ..., ..., id="deleted by them"),
        pytest.param(1, True, 1, True, id="changed in type alone"),
        pytest.param({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 3}, {"a": 2, "b": 3}, id="keys of a dict"),
        pytest.param({"a": 1, "b": 1}, {"b": 1}, {"a": 1}, {}, id="keys deleted by both"),
        pytest.param({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, {"a": {"b": [1, 3, 2]}}, id="deep"),
        pytest.param(..., {"a": 1}, {"b": 2}, {"b": 2, "a": 1}, id="dicts that were not there"),
        pytest.param([1], [1, 2], [1, 3], [1, 3, 2], id="both add to a list"),
        pytest.param([1, 2, 3], [1, 3], [2, 3], [3], id="both remove from a list"),
        pytest.param([1, 2], [1], [1, 2, 3], [1, 3], id="I remove, they add"),
        pytest.param([1, 2], [1, 2, 3], [2], [2, 3], id="I add, they remove"),
        pytest.param(..., ["x"], ["x"], ["x", "x"], id="the same added by both to no list"),
        pytest.param(None, ["x"], ["y"], ["y", "x"], id="lists in place of None"),
        pytest.param([1, 1, 2], [1, 2], [1, 1, 2, 1], [1, 2, 1], id="one of several alike is removed"),
        pytest.param([1], [True, 1], [1, 1.0], [1, 1.0, True], id="alike but not the same"),
        pytest.param([3, 1, 2], [1, 2, 3], [3, 1, 2, 0], [1, 2, 3, 0], id="I sort, they add"),
        pytest.param([{"n": 1}], [{"n": 1}, {"n": 2}], [], [{"n": 2}], id="a list of dicts"),
        pytest.param({1, 2}, {2, 3}, {1, 2, 4}, {2, 3, 4}, id="sets"),
        pytest.param(..., {1}, {2}, {1, 2}, id="sets that were not there"),
        pytest.param(frozenset({1}), frozenset(), frozenset({1, 2}), frozenset({2}), id="frozen sets"),
        pytest.param(float("nan"), float("nan"), 1.0, 1.0, id="not a number is no change"),
    ],
)
def test_changes_of_both_sides_survive(base: Any, mine: Any, theirs: Any, result: Any):
    value = merged(base, mine, theirs)

    assert value == result
    assert repr(value) == repr(result) or isinstance(result, (set, frozenset))


@pytest.mark.parametrize(
    ("base", "mine", "theirs"),
    [
        pytest.param(1, 2, 3, id="two values"),
        pytest.param(..., "a", "b", id="two new values"),
        pytest.param([1], [1, 2], {"a": 1}, id="two kinds"),
        pytest.param((1,), (1, 2), (1, 3), id="tuples"),
        pytest.param([1, 2, 3], [3, 2, 1], [2, 1, 3], id="two orders"),
        pytest.param([1], ..., [1, 2], id="deleted against changed"),
        pytest.param([1], [1, 2], ..., id="changed against deleted"),
    ],
)
def test_a_clash_goes_to_the_later_writer_and_is_told(base: Any, mine: Any, theirs: Any):
    state, conflicts = merge(*({} if value is ... else {"v": value} for value in (base, mine, theirs)))

    assert state.get("v", ...) == mine
    assert conflicts == [
        Conflict(
            path='session_state["v"]', mine=None if mine is ... else mine, theirs=None if theirs is ... else theirs
        )
    ]


def test_the_path_of_a_clash_is_written_as_in_python():
    _, conflicts = merge({}, {"a": {3: {"it's": 1}}}, {"a": {3: {"it's": 2}}}, root="state")

    assert [conflict.path for conflict in conflicts] == ['state["a"][3]["it\'s"]']


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from("ab") | st.floats(0, 1),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)
        | st.sets(st.integers(0, 4), max_size=3)
        | st.tuples(inner)
    ),
    max_leaves=8,
)
states = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)
items = st.lists(st.integers(0, 4), max_size=6)


@settings(max_examples=80, deadline=None)
@given(states, states)
def test_what_only_one_side_changed_is_taken_as_it_is(base: dict[str, Any], changed: dict[str, Any]):
    assert merge(base, changed, base) == (changed, [])
    assert merge(base, base, changed) == (changed, [])


@settings(max_examples=80, deadline=None)
@given(states, states, states)
def test_merging_changes_no_argument_and_shares_no_container(base: Any, mine: Any, theirs: Any):
    before = copy.deepcopy((base, mine, theirs))

    state, _ = merge(base, mine, theirs)
    given_ones = containers(base) | containers(mine) | containers(theirs)

    assert (base, mine, theirs) == before
    assert not containers(state) & given_ones


def containers(value: Any) -> set[int]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    own = {id(value)} if isinstance(value, (dict, list, set)) else set[int]()
    return own.union(*map(containers, inner))


@settings(max_examples=80, deadline=None)
@given(states, states, states)
def test_keys_that_one_side_left_alone_are_never_lost_or_in_conflict(base: Any, mine: Any, theirs: Any):
    state, conflicts = merge(base, mine, theirs)

    told = {conflict.path.split('"')[1] for conflict in conflicts}
    for key in {*base, *mine, *theirs}:
        if repr(mine.get(key, ...)) == repr(base.get(key, ...)):
            assert repr(state.get(key, ...)) == repr(theirs.get(key, ...))
            assert key not in told


@settings(max_examples=120, deadline=None)
@given(items, items, items)
def test_a_list_keeps_the_additions_and_removals_of_both(base: list[int], mine: list[int], theirs: list[int]):
    state, _ = merge({"v": base}, {"v": mine}, {"v": theirs})

    was, me, they = Counter(base), Counter(mine), Counter(theirs)
    expected = {item: max(they[item] + me[item] - was[item], 0) for item in range(5)}
    assert {item: state["v"].count(item) for item in range(5)} == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(), max_size=3), min_size=1, max_size=6))
def test_any_number_of_runs_that_append_and_add_a_key_lose_nothing(added: list[list[int]]):
    stored: dict[str, Any] = {}
    for number, mine in enumerate(added):
        stored, conflicts = merge({}, {"seen": mine, str(number): mine}, stored)
        assert conflicts == []

    assert stored["seen"] == [item for mine in added for item in mine]
    assert all(stored[str(number)] == mine for number, mine in enumerate(added))


def test_a_state_that_contains_itself_is_refused():
    base: dict[str, Any] = {}
    mine: dict[str, Any] = {}
    mine["self"] = mine

    with pytest.raises(CodecError, match="contains itself"):
        merge(base, mine, {"self": 1})


# --- copies ----------------------------------------------------------------------------------------------------------


class Client:
    def __init__(self) -> None:
        self.lock = threading.Lock()


@dataclass
class Basket:
    items: list[str]
    client: Client | None = None


@dataclass(frozen=True, slots=True)
class Frozen:
    items: list[str] = field(default_factory=list)


class Model(pydantic.BaseModel):
    items: list[str]


def test_a_copy_has_containers_and_data_objects_of_its_own():
    basket = Basket(["a"])
    basket.note = ["x"]  # type: ignore[attr-defined]
    state = {"l": [1, {"d": (2, [3])}], "s": {1}, "b": basket, "f": Frozen(["a"]), "m": Model(items=["a"])}
    state["dd"] = defaultdict(list, k=[1])

    twin = copy_state(state)

    assert twin == state
    assert not containers(twin) & containers(state)
    assert all(twin[name] is not state[name] for name in "bfm")
    assert twin["b"].items is not basket.items and twin["b"].note is not basket.note  # type: ignore[attr-defined]
    assert twin["f"].items is not state["f"].items and twin["m"].items is not state["m"].items
    assert twin["dd"]["missing"] == []


def test_any_other_object_is_kept_by_reference():
    client = Client()

    twin = copy_state({"c": client, "b": Basket([], client), "t": (client,)})

    assert twin["c"] is twin["b"].client is twin["t"][0] is client


def test_copying_survives_values_that_contain_themselves_and_objects_that_refuse():
    class Refusing(dict[str, Any]):
        def __copy__(self) -> Any:
            raise RuntimeError("not me")

    state: dict[str, Any] = {"no": Refusing(a=1)}
    state["self"] = [state]

    twin = copy_state(state)

    assert twin["self"][0] is twin
    assert twin["no"] is state["no"]
