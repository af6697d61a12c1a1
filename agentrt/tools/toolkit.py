"""`Toolkit`: tools that belong together, and options for some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Self

from agentrt.errors import ToolDefinitionError
from agentrt.tools.function import Function, function_of


class Toolkit:
    """Tools that are given together.

    A subclass hands its methods to `super().__init__(tools=[self.search, …])`, or marks them with `@tool` and hands
    none. The `…_tools` options name the tools of this kit, as they are called without `prefix`, that an option is for.
    """

    def __init__(
        self,
        name: str | None = None,
        tools: Iterable[Callable[..., Any]] | None = None,
        *,
        instructions: str | None = None,
        add_instructions: bool = False,
        include_tools: Sequence[str] | None = None,
        exclude_tools: Sequence[str] | None = None,
        requires_confirmation_tools: Sequence[str] | None = None,
        external_execution_required_tools: Sequence[str] | None = None,
        stop_after_tool_call_tools: Sequence[str] | None = None,
        show_result_tools: Sequence[str] | None = None,
        cache_results: bool = False,
        cache_ttl_s: float | None = 3600.0,
        prefix: str = "",
    ) -> None:
        self.name = name or type(self).__name__
        self.instructions = instructions
        self.add_instructions = add_instructions
        self.functions: dict[str, Function[..., Any]] = {}
        """The tools by name."""
        lists = {
            "requires_confirmation": requires_confirmation_tools,
            "external_execution": external_execution_required_tools,
            "stop_after_tool_call": stop_after_tool_call_tools,
            "show_result": show_result_tools,
        }
        own: dict[str, Function[..., Any]] = {}
        for function in map(function_of, self._own() if tools is None else tools):
            if function.name in own:
                raise ToolDefinitionError(f"Toolkit {self.name!r} has two tools called {function.name!r}")
            own[function.name] = function
        for names in (include_tools, exclude_tools, *lists.values()):
            self._check(names or (), own)
        for own_name, function in own.items():
            if own_name in (exclude_tools or ()) or (include_tools is not None and own_name not in include_tools):
                continue
            changes: dict[str, Any] = {option: True for option, names in lists.items() if own_name in (names or ())}
            if cache_results:
                changes |= {"cache_results": True, "cache_ttl_s": cache_ttl_s}
            if prefix:
                changes["name"] = prefix + own_name
            self._add(function.copy(**changes) if changes else function)

    def register(self, function: Callable[..., Any], **options: Any) -> None:
        """Add one more tool, with the options that `@tool` takes."""
        found = function_of(function)
        self._add(found.copy(**options) if options else found)

    def filtered(self, predicate: Callable[[Function[..., Any]], bool]) -> Self:
        """Return this kit with only the tools for which `predicate` holds."""
        return self._with({name: function for name, function in self.functions.items() if predicate(function)})

    def prefixed(self, prefix: str) -> Self:
        """Return this kit with `prefix` before each tool's name."""
        return self._with(
            {prefix + name: function.copy(name=prefix + name) for name, function in self.functions.items()}
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, tools=[{', '.join(self.functions)}])"

    def _own(self) -> list[Callable[..., Any]]:
        """The methods that are marked with `@tool`, in the order of the class's body, bases first."""
        names = [
            name
            for cls in reversed(type(self).__mro__)
            for name, value in vars(cls).items()
            if isinstance(value, Function)
        ]
        return [getattr(self, name) for name in dict.fromkeys(names)]

    def _add(self, function: Function[..., Any]) -> None:
        if function.name in self.functions:
            raise ToolDefinitionError(f"Toolkit {self.name!r} has two tools called {function.name!r}")
        if self.instructions and not function.instructions:
            function = function.copy(instructions=self.instructions, add_instructions=self.add_instructions)
        self.functions[function.name] = function

    def _check(self, names: Iterable[str], own: dict[str, Function[..., Any]]) -> None:
        for name in names:
            if name not in own:
                close = get_close_matches(name, own, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(own) or 'none'}"
                raise ToolDefinitionError(f"Toolkit {self.name!r} has no tool {name!r}{hint}")

    def _with(self, functions: dict[str, Function[..., Any]]) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__ = self.__dict__ | {"functions": functions}
        return twin
