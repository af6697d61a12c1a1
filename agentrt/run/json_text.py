"""JSON in a model's text: found as it comes, among whatever is written around it, and built up as it grows.

Every character is looked at once, so the cost is that of the text, whatever pieces it comes in. What is malformed is
passed over as a whole: no part of a broken or unfinished value is ever taken for the value that was meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias, cast

Path: TypeAlias = "tuple[str | int, ...]"

DEEPEST = 200
"""How deep values may be nested: what is finished is told by its path, at a cost that grows with that."""
_OPENING = re.compile(r"[{\[]")
_GAP = re.compile(r"[ \t\r\n]*")
_PLAIN = re.compile(r'[^"\\]*')
_WORD = re.compile(r"[-+.0-9A-Za-z]*")
_NESTING = re.compile(r'["{}\[\]]')
_FENCED = re.compile(r"```\w*\s*\n(.*)\n\s*```", re.DOTALL)
_THINK, _THOUGHT = "<think>", "</think>"

_decode = json.JSONDecoder(strict=False).decode  # a raw line break in a string is common, and clear


class _Open:
    """An object or a list that is not closed yet; `wants` is what may come next."""

    __slots__ = ("key", "value", "wants")

    def __init__(self, value: dict[Any, Any] | list[Any]) -> None:
        self.value = value
        self.key: str | int = ""
        self.wants: Literal["first", "next", "colon", "value", "comma"] = "first"


class JsonScanner:
    """Takes a text piece by piece; `found` are the objects and lists that stand in it for themselves, in order.

    `on_finished` is told of each part of a value once it is whole, children before their parents: its path, what holds
    it, and the key or index it has there.
    """

    def __init__(self, on_finished: Callable[[Path, Any, Any], None] | None = None) -> None:
        self.found: list[dict[str, Any] | list[Any]] = []
        self._stack: list[_Open] = []
        self._string: list[str] | None = None
        self._string_chars = 0
        self._escaped = False
        self._word: list[str] | None = None
        self._broken = 0
        """How deep it is inside a value that is no JSON, which is passed over."""
        self._on_finished = on_finished

    @property
    def is_open(self) -> bool:
        """Is it inside a value? A bracket with nothing of JSON behind it is none."""
        return bool(self._broken) or any(frame.wants != "first" for frame in self._stack)

    @property
    def is_broken(self) -> bool:
        return bool(self._broken)

    @property
    def is_writing(self) -> bool:
        """Is it inside a string that is a value?"""
        return self._string is not None and bool(self._stack) and not self._is_key(self._stack[-1])

    @property
    def root(self) -> dict[str, Any] | list[Any] | None:
        """The newest value, perhaps unfinished. Whoever is told of a finished part may put something in its place."""
        if self._stack:
            return self._stack[0].value
        return self.found[-1] if self.found else None

    def feed(self, text: str) -> None:
        at, end = 0, len(text)
        while at < end:
            if self._string is not None:
                at = self._in_string(self._string, text, at)
            elif self._word is not None:
                at = self._in_word(self._word, text, at)
            elif self._broken:
                at = self._pass_over(text, at)
            elif self._stack:
                at = self._inside(self._stack[-1], text, at)
            elif opening := _OPENING.search(text, at):
                at = self._push(opening[0], opening.start())
            else:
                return

    def size(self) -> int:
        """About what `snapshot` costs: the members of the values that are open, and a string's characters, counted 16
        to one."""
        string = self._string_chars // 16 if self._string is not None else 0
        return string + sum(len(frame.value) for frame in self._stack)

    def snapshot(self) -> Any:
        """The newest value as far as it is there. Nothing changes it afterwards: what is finished in it is shared."""
        stack = self._stack
        if not stack:
            return self.root
        child: Any = _MISSING
        if self._string is not None and self.is_writing:
            self._string[:] = ["".join(self._string)]
            child = _begun(self._string[0])
        for frame in reversed(stack):
            value = cast("Any", frame.value.copy())
            if child is _MISSING:
                pass
            elif isinstance(frame.value, dict):
                value[frame.key] = child
            else:
                value.append(child)
            child = value
        return child

    # --- inside a value -----------------------------------------------------------------------------------------

    def _inside(self, frame: _Open, text: str, at: int) -> int:
        gap = _GAP.match(text, at)
        at = gap.end() if gap else at
        if at == len(text):
            return at
        char = text[at]
        in_object = isinstance(frame.value, dict)
        if char == ("}" if in_object else "]") and frame.wants in ("first", "comma"):
            return self._close(at)
        if frame.wants == "comma":
            if char == ",":
                frame.wants = "next"
                return at + 1
        elif frame.wants == "colon":
            if char == ":":
                frame.wants = "value"
                return at + 1
        elif char == '"':
            self._string, self._string_chars = [], 0
            return at + 1
        elif not in_object or frame.wants == "value":
            if char in "{[":
                if not in_object:
                    frame.key = len(frame.value)
                return self._push(char, at)
            if char in "-0123456789tfn":
                self._word = []
                return at
        return self._break(at)

    def _push(self, char: str, at: int) -> int:
        if len(self._stack) == DEEPEST:
            self._broken = len(self._stack)
            self._stack.clear()
            return at  # to be passed over
        self._stack.append(_Open({} if char == "{" else []))
        return at + 1

    def _close(self, at: int) -> int:
        value = self._stack.pop().value
        if self._stack:
            self._put(value)
        else:
            self.found.append(value)
        return at + 1

    def _put(self, value: Any) -> None:
        frame = self._stack[-1]
        if isinstance(frame.value, dict):
            frame.value[frame.key] = value
        else:
            frame.key = len(frame.value)
            frame.value.append(value)
        frame.wants = "comma"
        if self._on_finished is not None:
            self._on_finished(tuple(frame.key for frame in self._stack), frame.value, frame.key)

    @staticmethod
    def _is_key(frame: _Open) -> bool:
        return isinstance(frame.value, dict) and frame.wants != "value"

    def _in_string(self, pieces: list[str], text: str, at: int) -> int:
        if self._escaped:
            self._escaped = False
            pieces.append(text[at])
            return at + 1
        plain = _PLAIN.match(text, at)
        stop = plain.end() if plain else at
        pieces.append(text[at:stop])
        self._string_chars += stop - at
        if stop == len(text):
            return stop
        if text[stop] == "\\":
            pieces.append("\\")
            self._escaped = True
            return stop + 1
        self._string = None
        if self._broken:
            return stop + 1
        try:
            value = _decode('"' + "".join(pieces) + '"')
        except ValueError:
            return self._break(stop + 1)
        frame = self._stack[-1]
        if self._is_key(frame):
            frame.key, frame.wants = value, "colon"
        else:
            self._put(value)
        return stop + 1

    def _in_word(self, pieces: list[str], text: str, at: int) -> int:
        word = _WORD.match(text, at)
        stop = word.end() if word else at
        pieces.append(text[at:stop])
        if stop == len(text):
            return stop
        self._word = None
        try:
            self._put(_decode("".join(pieces)))
        except ValueError:
            return self._break(stop)
        return stop

    # --- what is no JSON ----------------------------------------------------------------------------------------

    def _break(self, at: int) -> int:
        """Give up the value: brackets of prose are forgotten, anything more is passed over to its end."""
        if self.is_open:
            self._broken = len(self._stack)
        self._stack.clear()
        return at

    def _pass_over(self, text: str, at: int) -> int:
        found = _NESTING.search(text, at)
        if found is None:
            return len(text)
        if found[0] == '"':
            self._string = []
        else:
            self._broken += 1 if found[0] in "{[" else -1
        return found.end()


_MISSING: Any = object()


def _begun(raw: str) -> str:
    """What is there of a string, without an escape that is still being written."""
    for cut in range(13):  # the longest is a pair: \ud83d\ude00
        try:
            text: str = _decode('"' + raw[: len(raw) - cut] + '"')
        except ValueError:
            continue
        if not text or not "\ud800" <= text[-1] <= "\udbff":
            return text
    return ""


def values_in(text: str) -> Iterator[Any]:
    """Yield the JSON values of an answer, likeliest first: the whole text, or the objects and lists in it, last first.

    JSON that was encoded once more, as a string, is decoded. A text that ends inside a value has none.
    """
    text = after_thought(text)
    fenced = _FENCED.fullmatch(text.strip())
    for whole in (text, fenced[1] if fenced else None):
        try:
            value = _decode(whole) if whole else None
        except (ValueError, RecursionError):
            continue
        if whole:
            if isinstance(value, str):
                yield from values_in(value)
            yield value
            return
    scanner = JsonScanner()
    scanner.feed(text)
    if not scanner.is_open:
        yield from reversed(scanner.found)


def after_thought(text: str) -> str:
    """The text without the thinking that some models write before their answer."""
    return text.partition(_THOUGHT)[2] if text.lstrip().startswith(_THINK) else text


class AfterThought:
    """`after_thought` for a text that comes in pieces."""

    def __init__(self) -> None:
        self._head: str | None = ""

    def feed(self, text: str) -> str:
        """Return what of the text so far is no thinking and was not returned before."""
        if self._head is None:
            return text
        self._head += text
        head = self._head.lstrip()
        if head.startswith(_THINK):
            thought, end, rest = head.partition(_THOUGHT)
            if not end:
                self._head = thought[:7] + thought[7:][-8:]  # the mark, and what may be the beginning of the other one
                return ""
        elif _THINK.startswith(head):
            return ""
        else:
            rest = self._head
        self._head = None
        return rest
