"""Definitions: objects that are all options.

An agent has some seventy options and a program makes many agents, so an instance holds only the options it was given;
the rest are class attributes. Constructing one costs a dict, and `copy` is a merge.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, ClassVar, Self, dataclass_transform


@dataclass_transform(kw_only_default=True)
class Definition:
    """Keyword-only options with class-level defaults; what is annotated in a class body is an option."""

    _option_names: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = cls.__annotations__
        names = {name for name, hint in own.items() if name[0] != "_" and "ClassVar" not in str(hint)}
        cls._option_names = cls._option_names | names

    def __init__(self, *values: Any, **options: Any) -> None:
        if values:
            raise TypeError(f"{type(self).__name__} takes its options by name, not {values[0]!r} by its place")
        if not options.keys() <= self._option_names:
            self._refuse(options)
        self.__dict__ = options

    @classmethod
    def _refuse(cls, options: dict[str, Any]) -> None:
        name = min(options.keys() - cls._option_names)
        close = get_close_matches(name, cls._option_names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TypeError(f"{cls.__name__} has no option {name!r}{hint}")

    def copy(self, **changes: Any) -> Self:
        """Return a new definition with these options changed. The original is untouched."""
        if not changes.keys() <= self._option_names:
            self._refuse(changes)
        twin = object.__new__(type(self))
        twin.__dict__ = self.options() | changes
        return twin

    def given(self, name: str) -> Any:
        """The option as it was given, None when it was not; also where reading the attribute means something else."""
        return self.__dict__.get(name)

    def options(self) -> dict[str, Any]:
        """The options that were given, by name; defaults are not among them."""
        return {name: value for name, value in self.__dict__.items() if name in self._option_names}

    def __repr__(self) -> str:
        secret = ("_key", "_token")
        shown = ", ".join(f"{name}={value!r}" for name, value in self.options().items() if not name.endswith(secret))
        return f"{type(self).__name__}({shown})"
