"""`Function`: a callable as a tool, with its options. Nothing of any run is kept on it."""

from __future__ import annotations

import functools
import re
import types
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeAlias, TypedDict, cast

from typing_extensions import ParamSpec, TypeVar

from agentrt._options import Definition
from agentrt.errors import ToolDefinitionError, UserInputInvalid
from agentrt.models.base import ToolSpec
from agentrt.run.response import UserInputField
from agentrt.tools.arguments import quote
from agentrt.tools.cache import ResultCache
from agentrt.tools.docstrings import describe
from agentrt.tools.signature import Signature, is_async, read_signature, target_of

if TYPE_CHECKING:
    from agentrt.tools.schema import ParameterSchema

P = ParamSpec("P", default=...)
R = TypeVar("R", default=Any)

Effect = Literal["once", "idempotent", "pure"]
OnUnknownOutcome: TypeAlias = 'Literal["tell", "ask", "rerun"] | Callable[..., Any]'

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_STATEFUL = frozenset({"agent", "team", "session_state"})


class ToolOptions(TypedDict, total=False):
    """What `@tool(…)` takes; each is explained at the attribute of `Function`."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    effect: Effect
    on_unknown_outcome: OnUnknownOutcome
    timeout_s: float
    retries: int
    requires_confirmation: bool
    requires_user_input: bool
    user_input_fields: Sequence[str] | None
    external_execution: bool
    allow_edits: bool
    expires_after_s: float
    on_expiry: Literal["reject", "confirm"]
    stop_after_tool_call: bool
    show_result: bool
    cache_results: bool
    cache_ttl_s: float
    pre_hook: Callable[..., Any]
    post_hook: Callable[..., Any]
    tool_hooks: Sequence[Callable[..., Any]]
    strict: bool
    max_result_chars: int
    instructions: str
    add_instructions: bool


class Function(Definition, Generic[P, R]):
    """A callable that a model may call. Calling the `Function` calls it as it is; `entrypoint` is the callable.

    The model is shown the parameters but those that the runtime fills (`ctx`, `agent`, `team`, `session_state`, by name
    or by type), those that a partial has fixed, and `*args` and `**kwargs`, which stay empty. A callable that takes
    nothing else than these last is refused when its schema is made, which is at its first use.
    """

    entrypoint: Callable[P, R]
    name: str = ""
    """What the model calls it; the callable's own name when not given."""
    description: str | None = None
    """What the model is told it does; the docstring's text when not given."""
    parameters: Mapping[str, Any] | None = None
    """The JSON schema shown to the model in place of the one that the type hints give."""
    effect: Effect | None = None
    """What running it again means: nothing is known (None), it must not (`once`), it may with the same
    `ctx.idempotency_key` (`idempotent`), it may at will (`pure`)."""
    on_unknown_outcome: OnUnknownOutcome | None = None
    """What to do with a call that a crash cut short, when not what `effect` says."""
    timeout_s: float | None = None
    """How long one attempt may take; then it is cancelled (a thread is left to itself) and the model is told."""
    retries: int = 0
    """How often a failed call is repeated. Needs `effect="idempotent"` or `"pure"`."""
    requires_confirmation: bool = False
    requires_user_input: bool = False
    user_input_fields: Sequence[str] | None = ()
    """The parameters that the user fills, and the model doesn't see; all when empty."""
    external_execution: bool = False
    allow_edits: bool = False
    """May whoever confirms a call change its arguments?"""
    expires_after_s: float | None = None
    """How long a paused run waits for a decision about a call, in seconds; then `on_expiry` holds."""
    on_expiry: Literal["reject", "confirm"] = "reject"
    stop_after_tool_call: bool = False
    show_result: bool = False
    cache_results: bool = False
    """Answer a call with the same arguments for the same user from memory. Failures are not kept."""
    cache_ttl_s: float | None = 3600.0
    pre_hook: Callable[..., Any] | None = None
    """Called before the tool with any of `fc` (a `FunctionCall`), `ctx`, `agent` …; may change `fc.arguments`."""
    post_hook: Callable[..., Any] | None = None
    """Called after it, in the same way; may change `fc.result`."""
    tool_hooks: Sequence[Callable[..., Any]] = ()
    """Middleware, outermost first: `hook(function_name, function_call, arguments)` returns the result."""
    strict: bool | None = None
    max_result_chars: int | None = 50_000
    """A longer result is cut, and says so."""
    instructions: str | None = None
    add_instructions: bool = False
    """Put `instructions` into the system message of agents that have this tool."""

    _namespace: Mapping[str, Any] | None = None
    _spec: ToolSpec | None = None
    _schema: _Schema | None = None
    _cache: ResultCache | None = None

    def __init__(self, entrypoint: Callable[P, R], **options: Any) -> None:
        super().__init__(**options)
        if not callable(entrypoint) and not isinstance(entrypoint, classmethod):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ToolDefinitionError(f"A tool is a callable, not {entrypoint!r}")
        self.__dict__["entrypoint"] = entrypoint
        self._settle()

    def _settle(self) -> None:
        """Fill in the name, and refuse options that contradict each other."""
        name = self.name or _name_of(self.entrypoint)
        if not _NAME.fullmatch(name):
            raise ToolDefinitionError(
                f"{name!r} can't be a tool's name: models take 1 to 64 of a-z, A-Z, 0-9, _ and -; "
                "give it another with @tool(name=…)"
            )
        self.name = name
        if self.effect not in (None, "once", "idempotent", "pure"):
            raise ToolDefinitionError(f"Tool {name!r}: effect is 'once', 'idempotent' or 'pure', not {self.effect!r}")
        if self.retries and self.effect not in ("idempotent", "pure"):
            raise ToolDefinitionError(
                f"Tool {name!r} may be repeated only when that is safe: retries={self.retries} needs "
                "effect='idempotent' or effect='pure'"
            )
        if self.cache_results and self.effect == "once":
            raise ToolDefinitionError(f"Tool {name!r} acts once per call, so its results can't be cached")
        if self.user_input_fields and not self.requires_user_input:
            raise ToolDefinitionError(f"Tool {name!r}: user_input_fields needs requires_user_input=True")
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise ToolDefinitionError(f"Tool {name!r}: timeout_s is more than 0, not {self.timeout_s:g}")
        if self.cache_results:
            self._cache = ResultCache(self.cache_ttl_s)

    def copy(self, **changes: Any) -> Self:
        """Return a new tool with these options changed. It caches its results for itself."""
        twin = super().copy(**changes)
        if self._namespace is not None:
            twin._namespace = self._namespace
        if "entrypoint" not in changes:
            twin._schema = self._schema
        twin._settle()
        return twin

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.entrypoint(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Function[..., R]:
        """As a method: the tool of that instance (or, for a `classmethod`, of the class)."""
        of_class = isinstance(self.entrypoint, (classmethod, staticmethod))
        if instance is None and not of_class:
            return self
        bind: Any = getattr(self.entrypoint, "__get__", None)
        if bind is None or isinstance(self.entrypoint, functools.partial):
            return self  # a builtin is no method, nor is a partial, which newer Pythons would make one
        bound = bind(instance, owner)
        return self if bound is self.entrypoint else self.copy(entrypoint=bound)

    # --- what the engine asks ------------------------------------------------------------------------------------

    def spec(self) -> ToolSpec:
        """What the model is shown. Made once; raises `ToolDefinitionError` for a callable that can't be a tool."""
        if self._spec is None:
            self._spec = self._make_spec()
        return self._spec

    @property
    def stateful(self) -> bool:
        """Does it take what the calls of a run share? Such calls run one at a time, in call order."""
        return self._known().stateful

    @property
    def is_async(self) -> bool:
        """Is it called on the event loop? Other tools are called in a thread."""
        return self._known().is_async

    @property
    def signature(self) -> Signature:
        return self._known().signature

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return what to call the function with: `values` as its hints want them, without members it has not.

        Where the model gives a text for something else, the text is read as JSON; null for a parameter that has a
        default and takes no null means the default. Raises `ToolArgumentsInvalid` with a text for the model.
        """
        schema = self._known()
        validated = schema.parameters.validate(self.name, values)
        if schema.signature.takes_any and self.parameters is not None:
            known = schema.parameters.json["properties"]
            validated |= {name: value for name, value in values.items() if name not in known}
        return validated

    def user_input_schema(self, values: Mapping[str, Any]) -> list[UserInputField]:
        """The parameters as a form: those the user fills are empty, the others hold what the model gave."""
        from agentrt.tools.schema import field_type

        schema = self._known()
        asked = self._asked(schema)
        return [
            UserInputField(
                name=parameter.name,
                field_type=field_type(parameter.hint),
                description=schema.parameters.json["properties"][parameter.name].get("description"),
                value=None if parameter.name in asked else values.get(parameter.name),
            )
            for parameter in schema.signature.parameters
            if parameter.name in schema.parameters.json["properties"]
        ]

    def validate_user_input(
        self, values: Mapping[str, Any], form: Sequence[UserInputField] | None = None
    ) -> dict[str, Any]:
        """Return what a user gave for fields of a form as plain data that fits: a text is read as what is wanted.

        `form` is what `user_input_schema` made when the call was asked; the tool's whole form when not given. Raises
        `UserInputInvalid`, which names tool, field and expected type.
        """
        asked = {field.name: field for field in (self.user_input_schema({}) if form is None else form)}
        schema = self._form(asked.values())
        read: dict[str, Any] = {}
        for name, value in values.items():
            if name not in asked:
                told = f"Tool {self.name!r} has no field {name!r} for a user; it has {', '.join(map(repr, asked))}"
                raise UserInputInvalid(told, tool=self.name, field=name)
            try:
                read[name] = schema.read(name, value)
            except ValueError as error:
                told = (
                    f"Tool {self.name!r}, field {name!r}: {asked[name].field_type.__name__} expected, "
                    f"not {quote(value, 80)} ({error})"
                )
                raise UserInputInvalid(told, tool=self.name, field=name) from None
        return read

    @property
    def cache(self) -> ResultCache | None:
        return self._cache

    # --- inside --------------------------------------------------------------------------------------------------

    def _known(self) -> _Schema:
        if self._schema is None:
            schema = _schema_of(self.name, self.entrypoint, self._namespace)
            if schema.signature.only_variadic and self.parameters is None:
                raise ToolDefinitionError(
                    f"Tool {self.name!r} takes only *args or **kwargs, so a model can't know what to send. Name its "
                    "parameters; decorate it with functools.wraps if it is a wrapper; or give parameters=…"
                )
            self._schema = schema
        return self._schema

    def _form(self, fields: Iterable[UserInputField]) -> ParameterSchema:
        """What checks the values of a form."""
        return self._known().parameters

    def _asked(self, schema: _Schema) -> set[str]:
        names = {parameter.name for parameter in schema.signature.parameters}
        if not self.requires_user_input:
            return set()
        asked = set(self.user_input_fields or ())
        if unknown := asked - names:
            raise ToolDefinitionError(
                f"Tool {self.name!r} has no parameter {', '.join(map(repr, sorted(unknown)))} for user_input_fields; "
                f"it takes {', '.join(map(repr, sorted(names)))}"
            )
        return asked or names

    def _make_spec(self) -> ToolSpec:
        schema = self._known()
        if self.parameters is not None:
            parameters: dict[str, Any] = {"type": "object", "properties": {}, **self.parameters}
        else:
            parameters = _without(schema.parameters.json, self._asked(schema))
        description = schema.description if self.description is None else self.description
        return ToolSpec(name=self.name, description=description, parameters=parameters, strict=self.strict)


class _Schema:
    """What is read off a callable: once for all the `Function`s and bound methods that have the same code."""

    def __init__(self, name: str, target: Any, bound: bool, namespace: Mapping[str, Any] | None) -> None:
        from agentrt.tools.schema import ParameterSchema

        self.signature = read_signature(name, target, bound, namespace)
        self.is_async = is_async(target)
        self.stateful = any(source in _STATEFUL for _, source in self.signature.injected)
        told = describe(_inner(target).__doc__)
        self.description = told.text
        self.parameters = ParameterSchema(name, self.signature.parameters, told.parameters)


_schemas: dict[tuple[bool, bool], weakref.WeakKeyDictionary[Any, _Schema]] = {
    (bound, local): weakref.WeakKeyDictionary() for bound in (False, True) for local in (False, True)
}


def _schema_of(name: str, entrypoint: Any, namespace: Mapping[str, Any] | None) -> _Schema:
    target, bound = target_of(entrypoint)
    shared = _schemas[bound, bool(namespace)]
    try:
        known = shared.get(target)
        if known is None:
            known = shared[target] = _Schema(name, target, bound, namespace)
    except TypeError:  # it can't be hashed or referenced weakly
        known = _Schema(name, target, bound, namespace)
    return known


def _without(schema: dict[str, Any], names: set[str]) -> dict[str, Any]:
    if not names:
        return schema
    properties = {name: value for name, value in schema["properties"].items() if name not in names}
    required = [name for name in schema.get("required", ()) if name not in names]
    rest = {key: value for key, value in schema.items() if key not in ("properties", "required")}
    return {**rest, "properties": properties, **({"required": required} if required else {})}


def _inner(target: Any) -> Any:
    """What partials stand for."""
    while isinstance(target, functools.partial):
        target = target.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return target  # pyright: ignore[reportUnknownVariableType]


def _name_of(entrypoint: Any) -> str:
    name = getattr(_inner(entrypoint), "__name__", None)
    return name if isinstance(name, str) else type(entrypoint).__name__


def function_of(value: Callable[..., Any]) -> Function[..., Any]:
    """Return a callable as a tool. What is read off its code is shared, so that this costs next to nothing."""
    if isinstance(value, Function):
        return cast("Function[..., Any]", value)
    if isinstance(value, types.MethodType) and isinstance(value.__func__, Function):
        return cast("Any", value).__func__.__get__(value.__self__)  # @classmethod over @tool
    return Function(value)


__all__ = ["Effect", "Function", "ToolOptions", "UserInputField", "function_of"]
