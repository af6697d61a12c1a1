"""What a docstring says of a function and of each parameter, in Google, NumPy or reST style."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any, Literal

Style = Literal["google", "numpy", "sphinx"]

_GOOGLE = r"(?:Args|Arguments|Params|Parameters|Keyword Args|Keyword Arguments|Other Parameters)"
_SECTION = rf"(?:{_GOOGLE}|Returns|Raises|Yields|Examples?|Notes?)"
_SIGNS: tuple[tuple[Style, re.Pattern[str]], ...] = (
    ("numpy", re.compile(r"^(?:Other )?Parameters[ \t]*\n-{3,}[ \t]*$", re.MULTILINE)),
    ("google", re.compile(rf"^{_GOOGLE}:[ \t]*$", re.MULTILINE)),
    ("sphinx", re.compile(r"^:(?:param|parameter|arg|argument|key|keyword)\s[^:\n]+:", re.MULTILINE)),
)
_GOOGLE_HEADER = re.compile(rf"\n+^({_SECTION}):[ \t]*\n+", re.MULTILINE)
_NUMPY_HEADER = re.compile(r"\n+^(\w[\w ]*)[ \t]*\n(-{3,})[ \t]*\n+", re.MULTILINE)


@dataclass(slots=True)
class Description:
    """`text` is for the whole, without the sections on parameters and exceptions; `parameters` by name."""

    text: str = ""
    parameters: dict[str, str] = field(default_factory=dict[str, str])


def describe(docstring: str | None) -> Description:
    """Read a docstring of any of the three styles. The parser is loaded only for one that describes parameters."""
    text = inspect.cleandoc(docstring or "").strip()
    style: Style | None = next((style for style, sign in _SIGNS if sign.search(text)), None)
    if style is None:
        return Description(text)
    if style == "google":  # as people write it: no blank line above a section, or one below its title
        text = _GOOGLE_HEADER.sub(r"\n\n\1:\n", f"\n{text}").strip()
    elif style == "numpy":
        text = _NUMPY_HEADER.sub(r"\n\n\1\n\2\n", f"\n{text}").strip()
    return _parse(text, style)


def _parse(text: str, style: Style) -> Description:
    import griffe  # 90 ms: only when there is something for it to read

    parts: list[str] = []
    parameters: dict[str, str] = {}
    for section in griffe.parse(griffe.Docstring(f"\n{text}"), style, warnings=False):
        value: Any = section.value
        match section.kind.value:
            case "parameters" | "other parameters":
                parameters.update((item.name.lstrip("*"), inspect.cleandoc(item.description)) for item in value)
            case "text":
                parts.append(value)
            case "admonition":
                parts.append(f"{section.title}: {value.description}")
            case "examples":
                parts.append("\n".join(["Example:", *(example for _, example in value)]))
            case "returns" | "yields":
                told = "; ".join(item.description for item in value if item.description)
                if told:
                    parts.append(f"{section.kind.value.capitalize()}: {told}")
            case _:
                pass
    return Description("\n\n".join(parts).strip(), parameters)
