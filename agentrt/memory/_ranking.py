"""Which memories matter for a question, and how many of them there is room for."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from agentrt.memory.base import UserMemory
from agentrt.run.tokens import tokens_of

_WORD = re.compile(r"\w{2,}|[^\W\d_]")
_COMMON = frozenset(
    _WORD.findall(
        "a am an and are as at be but by can do for from had has have he her his how i in is it its like me my no not "
        "of on or she so some than that the their them they this to user was we what when where which who will with "
        "you your"
    )
)
_LINE_TOKENS = 4
"""What a line costs besides its text."""


def ranked(memories: Sequence[UserMemory], about: str) -> list[UserMemory]:
    """Return the memories, those that share words with `about` first: the rarer the words, the earlier.

    Those that share the same, or nothing, stay in the order given: the one changed last first.
    """
    asked = _words(about)
    if not asked:
        return list(memories)
    words = [_words(f"{memory.memory} {' '.join(memory.topics)}") for memory in memories]
    known = Counter(word for each in words for word in each)
    scores = [sum(math.log(1 + len(memories) / known[word]) for word in each & asked) for each in words]
    order = sorted(range(len(memories)), key=lambda at: -scores[at])
    return [memories[at] for at in order]


def matching(memories: Sequence[UserMemory], query: str) -> list[UserMemory]:
    """Return the memories that share a word with `query`, best first."""
    asked = _words(query)
    found = [memory for memory in memories if _words(f"{memory.memory} {' '.join(memory.topics)}") & asked]
    return ranked(found, query)


def fitting(memories: Sequence[UserMemory], max_tokens: int) -> list[UserMemory]:
    """Return those that have room, from the first: one that is too long makes way for the next."""
    found: list[UserMemory] = []
    for memory in memories:
        cost = _LINE_TOKENS + tokens_of(memory.memory)
        if cost <= max_tokens:
            max_tokens -= cost
            found.append(memory)
    return found


def one_line(text: str) -> str:
    """A text as one line of a list, which can't end the section that it stands in."""
    return " ".join(text.split()).replace("</", "< /")


def cut(text: str, max_tokens: int) -> str:
    """The text, without its middle where there is no room for it."""
    if tokens_of(text) <= max_tokens:
        return text
    keep = len(text) * max_tokens // (2 * tokens_of(text))
    return f"{text[:keep]}\n[… cut …]\n{text[len(text) - keep :]}"


def _words(text: str) -> set[str]:
    return {_stem(word) for word in _WORD.findall(text.casefold())} - _COMMON


def _stem(word: str) -> str:
    """Near enough: hobbies, hobby; likes, like; skiing, ski."""
    for ending, instead in (("ies", "y"), ("ing", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: len(word) - len(ending)] + instead
    return word
