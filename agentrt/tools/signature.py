"""How a callable is called: which parameters the model fills, and which the runtime does."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ForwardRef, Literal, NotRequired, Required, Union, cast, get_args, get_origin

from typing_extensions import Unpack, get_type_hints, is_typeddict

from agentrt.errors import ToolDefinitionError
from agentrt.run.context import RunContext

Source = Literal["ctx", "agent", "team", "session_state"]

_BY_NAME: dict[str, Source] = {
    "ctx": "ctx",
    "run_context": "ctx",
    "agent": "agent",
    "team": "team",
    "session_state": "session_state",
}
_BY_CLASS: dict[str, Source] = {"RunContext": "ctx", "Agent": "agent", "Team": "team"}
_BY_TEXT = re.compile(r"(?:Optional\[)?(?:\w+\.)*(RunContext|Agent|Team)(?:\[.*\])?\]?(?:\s*\|\s*None)?")
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(slots=True)
class Unresolved:
    """A hint whose names can't be found at run time, as under `if TYPE_CHECKING:`."""

    text: str


@dataclass(slots=True)
class Parameter:
    """One that the model fills. `hint` is `Any` when there is none."""

    name: str
    hint: Any
    default: Any = inspect.Parameter.empty
    required: bool = True


@dataclass(slots=True)
class Signature:
    """`injected` are the parameters that the runtime fills; `positional` those that can't be given by name."""

    parameters: list[Parameter] = field(default_factory=list[Parameter])
    injected: tuple[tuple[str, Source], ...] = ()
    positional: tuple[str, ...] = ()
    positional_defaults: dict[str, Any] = field(default_factory=dict[str, Any])
    takes_any: bool = False
    """Does it take `**kwargs`?"""
    only_variadic: bool = False
    """Does it take nothing but `*args` and `**kwargs`, as a wrapper made without `functools.wraps` does?"""


def target_of(entrypoint: Callable[..., Any]) -> tuple[Any, bool]:
    """Return what holds the code (a function, a partial, a class), and whether its first parameter is bound."""
    if isinstance(entrypoint, types.MethodType):
        return entrypoint.__func__, True
    if isinstance(entrypoint, (staticmethod, classmethod)):
        return entrypoint.__func__, isinstance(entrypoint, classmethod)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(entrypoint, (types.FunctionType, types.BuiltinFunctionType, functools.partial, type)):
        return cast("Any", entrypoint), False
    call: Any = getattr(type(entrypoint), "__call__", None)  # noqa: B004  the function itself is wanted
    return (call, True) if isinstance(call, types.FunctionType) else (entrypoint, False)


def is_async(target: Any) -> bool:
    """Does calling it give back an awaitable or an async generator, by its own definition?

    A plain function around an async one, as decorators make, counts as plain: what it does before is not known.
    """
    while isinstance(target, functools.partial):
        target = target.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
        return True
    if inspect.isroutine(target):  # pyright: ignore[reportUnknownArgumentType]
        return False
    call = getattr(type(target), "__call__", None)  # noqa: B004  # pyright: ignore[reportUnknownArgumentType]
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def read_signature(name: str, target: Any, bound: bool, namespace: Mapping[str, Any] | None) -> Signature:
    """Read the target's parameters. `namespace` has local names that its hints may use."""
    fixed: set[str] = set()
    if isinstance(target, functools.partial):
        fixed = set(target.keywords)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    parameters = _parameters(name, target)[1 if bound else 0 :]
    hints = _Hints(target, namespace)
    signature = Signature()
    injected: list[tuple[str, Source]] = []
    for parameter in parameters:
        hint = hints.resolve(parameter)
        if parameter.kind in _VARIADIC:
            if parameter.kind is parameter.VAR_KEYWORD:
                signature.takes_any = True
                signature.parameters += _unpacked(hint)
            continue
        required = parameter.default is parameter.empty
        if parameter.kind is parameter.POSITIONAL_ONLY:
            signature.positional = (*signature.positional, parameter.name)
            if not required:
                signature.positional_defaults[parameter.name] = parameter.default
        if parameter.name in fixed:
            continue  # what the author has fixed is not the model's to see or change
        source = _source(parameter.name, hint)
        if source is not None:
            injected.append((parameter.name, source))
        else:
            signature.parameters.append(Parameter(parameter.name, hint, parameter.default, required))
    signature.injected = tuple(injected)
    signature.only_variadic = (
        bool(parameters) and all(p.kind in _VARIADIC for p in parameters) and not signature.parameters
    )
    return signature


def _parameters(name: str, target: Any) -> list[inspect.Parameter]:
    try:
        if sys.version_info >= (3, 14):
            import annotationlib

            signature = inspect.signature(target, annotation_format=annotationlib.Format.FORWARDREF)
        else:
            signature = inspect.signature(target)
    except ValueError as error:
        raise ToolDefinitionError(
            f"Tool {name!r} has no signature that can be read ({error}); wrap it in a function with type hints"
        ) from error
    return list(signature.parameters.values())


# --- hints -----------------------------------------------------------------------------------------------------------


class _Hints:
    """Resolves one hint at a time, so that one that can't be resolved loses no other."""

    def __init__(self, target: Any, namespace: Mapping[str, Any] | None) -> None:
        while isinstance(target, functools.partial):
            target = target.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(target, type):
            target = target.__init__
        target = inspect.unwrap(target, stop=lambda f: hasattr(f, "__signature__"))
        self._globals: dict[str, Any] = getattr(target, "__globals__", {})
        self._locals = {parameter.__name__: parameter for parameter in getattr(target, "__type_params__", ())}
        code, cells = getattr(target, "__code__", None), getattr(target, "__closure__", None)
        if code is not None and cells:
            for name, cell in zip(code.co_freevars, cells, strict=True):
                try:
                    self._locals[name] = cell.cell_contents
                except ValueError:  # not assigned yet
                    continue
        self._locals |= namespace or {}

    def resolve(self, parameter: inspect.Parameter) -> Any:
        annotation = parameter.annotation
        if annotation is parameter.empty:
            return Any

        def holder() -> None: ...

        holder.__annotations__ = {"it": annotation}
        try:
            return get_type_hints(holder, self._globals, self._locals, include_extras=True)["it"]
        except Exception:  # whatever evaluating a user's text raises
            text = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
            return Unresolved(text if isinstance(text, str) else repr(text))


def bare(hint: Any) -> Any:
    """The hint without `Annotated` and without "or None"."""
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            hint = get_args(hint)[0]
        elif origin in (Union, types.UnionType):
            members = [member for member in get_args(hint) if member is not type(None)]
            if len(members) != 1:
                return hint
            hint = members[0]
        else:
            return hint


def _source(name: str, hint: Any) -> Source | None:
    """What fills the parameter: by its type, by its hint's text when that can't be resolved, or by its name."""
    if isinstance(hint, Unresolved):
        told = _BY_TEXT.fullmatch(hint.text.strip().strip("\"'"))
        return _BY_CLASS[told[1]] if told else _BY_NAME.get(name)
    plain = bare(hint)
    cls = get_origin(plain) or plain
    if isinstance(cls, type):
        if issubclass(cls, RunContext):
            return "ctx"
        for base in cls.__mro__:
            if base.__name__ in _BY_CLASS and base.__module__.startswith("agentrt."):
                return _BY_CLASS[base.__name__]
    named = _BY_NAME.get(name)
    return named if named and _may_be_injected(plain, cls, named) else None


def _may_be_injected(hint: Any, cls: Any, named: Source) -> bool:
    """Does the hint leave room for what the name stands for? `agent: str` is the model's to fill."""
    if hint is Any or hint is object:
        return True
    return named == "session_state" and (is_typeddict(hint) or (isinstance(cls, type) and issubclass(cls, Mapping)))


def _unpacked(hint: Any) -> list[Parameter]:
    """The members of `**kwargs: Unpack[SomeTypedDict]`."""
    if get_origin(hint) not in (Unpack, typing.Unpack):
        return []
    cls: Any = get_args(hint)[0]
    parameters: list[Parameter] = []
    for name, member in get_type_hints(cls, include_extras=True).items():
        required = name in cls.__required_keys__
        if (qualifier := get_origin(member)) in (Required, NotRequired):  # postponed ones are in no __required_keys__
            member, required = get_args(member)[0], qualifier is Required
        parameters.append(Parameter(name, member, required=required))
    return parameters
