from __future__ import annotations

import enum
import json
import math
import sys
import threading
import types
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrt.errors import CodecError, StorageError
from agentrt.media import Image
from agentrt.models.message import Message, ToolCall, Usage
from agentrt.run.response import RunResponse, RunStatus, ToolExecution, UserInputField
from agentrt.storage.codec import clean_text, dump_messages, dumps, load_messages, loads


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, "two")


class Level(enum.IntEnum):
    HIGH = 3


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Item:
    name: str
    price: Decimal
    tags: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0
    norm: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", math.hypot(self.x, self.y))


@dataclass
class Total:
    value: int

    def __post_init__(self) -> None:
        self.value += 1


class Address(pydantic.BaseModel):
    city: str = pydantic.Field(alias="town")
    since: date | None = None


class Person(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    home: Address | None = None
    colour: Colour = Colour.RED


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Outer:
    @dataclass
    class Inner:
        value: Any


NT = namedtuple("NT", "a b")

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 2**63, -(2**63) - 1, 10**5000, 1.5, -0.0, math.inf, -math.inf, "", "text", "😀"),
    *(b"", b"\x00\xff", Decimal("12.340"), Decimal("-Infinity")),
    *(uuid.UUID(int=5), Path("a/b"), date(2025, 1, 2), time(1, 2, 3, 4), timedelta(days=-1, microseconds=7)),
    *(datetime(2025, 1, 2, 3, 4, 5, 6), datetime(2025, 1, 2, tzinfo=UTC)),
    datetime(2025, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    *(Colour.RED, Colour.PAIR, Level.HIGH, Rights.READ, Rights.READ | Rights.WRITE, RunStatus.PAUSED),
    *((), (1, (2, [3])), set(), {1, "a", (2, 3)}, frozenset({"x"}), [[], {}]),
    *({1: "a", None: "b", (1, 2): "c", Colour.RED: "d"}, {"$": "datetime", "v": "no"}, {"$": {"$": {"$": 1}}}),
    *(Item("milk", Decimal("1.10"), {"white"}), Point(3, 4), Total(1), Outer.Inner({"deep": Point(1)})),
    *(Usage(input_tokens=3), ToolCall(id="a", name="b"), Image(url="u", detail="low"), Image(data=b"\x00")),
    Message(role="assistant", content="c", tool_calls=[ToolCall(id="a", name="b")], images=[Image(path=Path("p"))]),
    ToolExecution(tool_call_id="a", tool_name="b", user_input_schema=[UserInputField(name="n", field_type=int)]),
    *(
        Person.model_validate({"name": "Ann", "home": {"town": "Rome"}, "nick": "A"}),
        Numbers([1, 2]),
        Address.model_construct(city="Bonn"),
    ),
    *(str, datetime, Colour, Item, Person),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_supported_value_comes_back_equal_and_of_its_type(value: Any):
    back = loads(dumps({"value": [value]}))["value"][0]

    assert back == value
    assert type(back) is type(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.just("$"), inner, max_size=4),
    max_leaves=12,
)
hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.uuids()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.decimals(allow_nan=False)
    | st.sampled_from(Colour),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
anything = st.recursive(
    hashable | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.sets(hashable, max_size=4)
        | st.builds(Outer.Inner, inner)
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(anything | json_values)
def test_any_value_made_of_supported_ones_comes_back_equal(value: Any):
    text = dumps(value)

    assert loads(text) == clean(value)
    json.loads(text, parse_constant=pytest.fail)  # strict JSON, which other databases and tools read
    text.encode()
    assert dumps(loads(text)) == text  # one value, one text


def clean(value: Any) -> Any:
    """What is expected of texts that hold a NUL or half a pair, wherever they are."""
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(clean(item) for item in value)
    return Outer.Inner(clean(value.value)) if isinstance(value, Outer.Inner) else value


def test_not_a_number_stays_one():
    assert math.isnan(loads(dumps(math.nan)))


def test_a_time_zone_is_kept_by_its_name_through_both_hours_of_a_clock_change():
    zone = ZoneInfo("Europe/Berlin")
    moments = [datetime(2025, 10, 26, 2, 30, tzinfo=zone, fold=fold) for fold in (0, 1)]

    back = loads(dumps(moments))

    assert [moment.tzinfo for moment in back] == [zone, zone]
    assert [moment.utcoffset() for moment in back] == [timedelta(hours=2), timedelta(hours=1)]


@pytest.mark.parametrize(
    ("value", "plain"),
    [(OrderedDict(a=1), {"a": 1}), (NT(1, 2), (1, 2)), (type("Text", (str,), {})("x"), "x")],
)
def test_an_instance_of_a_subclass_is_stored_as_the_plain_type(value: Any, plain: Any):
    back = loads(dumps(value))

    assert back == plain
    assert type(back) is type(plain)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("a\x00b", "a\ufffdb"),
        ("x\ud83d", "x\ufffd"),
        ("\udc00\ud800y", "\ufffd\ufffdy"),
        ("\ud83d\ude00", "😀"),
        ("😀", "😀"),
        ("\\u0000", "\\u0000"),
        ("\\u0000\x00", "\\u0000\ufffd"),
    ],
)
def test_nul_and_lone_surrogates_become_replacement_characters(text: str, stored: str):
    assert loads(dumps({"a": [text], text: (text,)})) == {"a": [stored], stored: (stored,)}
    assert load_messages(dump_messages([Message(role="user", content=text)]))[0].content == stored


class Holder:
    def __init__(self) -> None:
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), ""),
        ({"cart": [0, 1, Outer.Inner(Holder())]}, '["cart"][2].value'),
        ({"a": {"it's": {3: threading.Lock()}}}, '["a"]["it\'s"][3]'),
        ({"a": (1, {Holder()})}, '["a"][1]{…}'),
        ({"p": Person.model_validate({"name": "Ann", "extra": Holder()})}, '["p"].extra'),
        ({"f": lambda: None}, '["f"]'),
        ({"m": [Message(role="user", parts=[{"x": Holder()}])]}, '["m"][0].parts[0]["x"]'),
        ({"k": {Holder: 1}}, '["k"]'),
    ],
)
def test_what_cannot_be_stored_is_named_by_its_path(value: Any, path: str):
    with pytest.raises(CodecError) as caught:
        dumps(value)

    assert caught.value.path.startswith(f"session_state{path}")
    assert str(caught.value).startswith(caught.value.path)


def test_a_value_that_contains_itself_is_refused():
    value: dict[str, Any] = {}
    value["self"] = [value]

    with pytest.raises(CodecError, match="contains itself"):
        dumps(value)


def test_a_message_that_cannot_be_stored_is_named_by_its_place():
    messages = [Message(role="user", content="a"), Message(role="user", content=Holder())]  # type: ignore[arg-type]

    with pytest.raises(CodecError) as caught:
        dump_messages(messages)

    assert caught.value.path == "messages[1].content"


def made_here() -> tuple[Any, Any, Any]:
    class Shade(enum.Enum):
        DARK = "dark"

    @dataclass
    class Thing:
        x: int

    class Model(pydantic.BaseModel):
        y: int

    return Shade.DARK, Thing(1), Model(y=2)


def test_values_of_classes_that_cannot_be_found_come_back_as_plain_data():
    assert loads(dumps(list(made_here()))) == ["dark", {"x": 1}, {"y": 2}]


def test_fields_that_a_class_has_lost_or_gained_since_are_left_out_or_default(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("changing_module")
    monkeypatch.setitem(sys.modules, "changing_module", module)

    def define(body: str) -> Any:
        exec(f"from dataclasses import dataclass\n@dataclass\nclass Thing:\n{body}", vars(module))
        return vars(module)["Thing"]

    text = dumps(define("    a: int\n    b: int")(1, 2))
    gained = define("    a: int\n    c: int = 3")

    assert loads(text) == gained(1, 3)

    define("    a: int\n    needed: int")
    assert loads(text) == {"a": 1, "b": 2}


def test_loading_imports_nothing_that_the_program_does_not_use_and_calls_nothing_but_data_classes():
    assert "antigravity" not in sys.modules

    stored = [
        {"$": "data", "c": "antigravity:Thing", "v": {"a": 1}},
        {"$": "data", "c": "os:system", "v": {"command": "true"}},
        {"$": "model", "c": "subprocess:Popen", "v": {"args": "true"}},
        {"$": "enum", "c": "os:remove", "n": "x", "v": "gone"},
        {"$": "class", "v": "os:system"},
    ]

    assert loads(json.dumps(stored)) == [{"a": 1}, {"command": "true"}, {"args": "true"}, "gone", "os:system"]
    assert "antigravity" not in sys.modules


def test_a_kind_of_value_that_a_newer_version_wrote_is_an_error_that_says_so():
    with pytest.raises(StorageError, match="upgrade"):
        loads('{"$": "hologram", "v": 1}')


def test_a_message_of_a_newer_version_is_read_without_the_fields_that_are_new():
    text = '[{"role": "user", "content": "a", "mood": "new", "created_at": "2025-01-01T00:00:00+00:00"}]'

    assert load_messages(text) == [Message(role="user", content="a", created_at=datetime(2025, 1, 1, tzinfo=UTC))]


def test_what_a_message_does_not_say_is_not_written():
    message = Message(role="user", content="hi", created_at=datetime(2025, 1, 1, tzinfo=UTC))

    assert json.loads(dump_messages([message])) == [
        {"role": "user", "content": "hi", "created_at": "2025-01-01T00:00:00+00:00"}
    ]


def test_a_response_comes_back_with_all_that_it_holds():
    response = RunResponse(
        run_id="r",
        content=Person(name="Ann"),
        status=RunStatus.PAUSED,
        messages=[Message(role="user", content="x")],
        tools=[ToolExecution(tool_call_id="c", tool_name="t", tool_args={"at": date(2025, 1, 1)})],
        usage=Usage(model_calls=2),
        session_state={"tags": {1}},
    )

    assert loads(dumps(response)) == response
