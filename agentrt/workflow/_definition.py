"""What a workflow is before anybody calls it: its options, its author's code, and views of it for single runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Final, Literal, Self

from agentrt._options import Definition
from agentrt.agent import Agent, _views
from agentrt.agent._newest import Newest
from agentrt.errors import ConfigurationError
from agentrt.run.budget import Budget
from agentrt.run.definition import EMPTY
from agentrt.run.limits import RunLimits
from agentrt.run.run import Run, current_run
from agentrt.storage.base import Storage
from agentrt.workflow._entry import Entry
from agentrt.workflow._step import step


class WorkflowDefinition(Newest[Any], Definition):
    """The options. A subclass may have others of its own, and sets what it likes in its constructor."""

    name: str | None = None
    workflow_id: str | None = None
    """How a `Runtime` knows it; the name, or that of the class, when not given."""
    description: str | None = None
    """What it is for."""
    storage: Storage | None = None
    """Where sessions and runs are kept; in memory, for the life of this object, when not given."""
    session_id: str | None = None
    """The session of calls that name none; else one for this object in each task or thread."""
    user_id: str | None = None
    session_state: dict[str, Any] = EMPTY
    """What a session's state starts from; each session gets a copy."""
    session_concurrency: Literal["merge", "wait", "refuse"] = "merge"
    """What becomes of runs on one session at a time, as with an agent."""
    limits: RunLimits | None = None
    """How far a run may go, its agents' runs included; not limited when not given, but in depth."""
    budget: Budget | None = None
    dependencies: Mapping[str, Any] | Any = None
    """What steps find in `ctx.dependencies`."""
    debug_mode: bool = False
    """Log each step of a run at DEBUG."""

    _initial: ClassVar[dict[str, Any]] = {}
    """What a subclass has in its body of options that mean something else when they are read."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if WorkflowDefinition in cls.__bases__:
            return  # it is `Workflow`, whose `run` and `arun` begin a run of what is written below it
        for name in ("run", "arun"):
            code = cls.__dict__.get(name)
            if callable(code) and not isinstance(code, Entry):
                entry = Entry(code)
                entry.__set_name__(cls, name)
                setattr(cls, name, entry)
        for name in _READ.keys() & cls.__dict__.keys():  # as an option: read, it is the run's
            cls._initial = {**cls._initial, name: cls.__dict__[name]}
            delattr(cls, name)

    def __init__(self, **options: Any) -> None:
        if not options.keys() <= self._option_names:
            self._refuse(options)
        self.__dict__.update(options)  # what a subclass has set before stays

    def copy(self, **changes: Any) -> Self:
        """Return a new workflow with these options changed, and all other attributes as they are."""
        if not changes.keys() <= self._option_names:
            self._refuse(changes)
        return self._twin(**changes)

    def given(self, name: str) -> Any:
        return self.__dict__.get(name, self._initial.get(name))

    @property
    def agent_id(self) -> str:
        """How a `Runtime` knows it."""
        return self.workflow_id or self.name or type(self).__name__

    def _entry(self, name: str) -> Entry:
        """The author's code: that of the most derived class; of `run` and `arun` in one class that of this name."""
        for cls in type(self).__mro__:
            written = {n: e for n in ("run", "arun") if isinstance(e := cls.__dict__.get(n), Entry)}
            if written:
                return written.get(name) or next(iter(written.values()))
        raise ConfigurationError(f"{type(self).__name__} has no code: write its `run` or `arun`, or use @workflow")

    # --- views ---------------------------------------------------------------------------------------------------

    def _twin(self, **changes: Any) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__ | changes)
        return twin

    def _bound(self, run: Run) -> Self:
        """Return this workflow as the code of the run sees it."""
        return self._twin(_run=run, _agents={}, _original=self._self(), step=partial(step, _of=run))

    def within(self) -> Self:
        """Return a view of this workflow for one run of another: its newest run is the newest one in that run."""
        return self._twin(_original=self._self(), _own_record=_views.Record())

    def __getattribute__(self, name: str) -> Any:
        value: Any = super().__getattribute__(name)
        if isinstance(value, (Agent, WorkflowDefinition)) and name != "_original":
            definition: Agent[Any] | WorkflowDefinition = value  # pyright: ignore[reportUnknownVariableType]
            views: dict[int, Any] | None = super().__getattribute__("__dict__").get("_agents")
            if views is not None:
                return views.get(id(definition)) or views.setdefault(id(definition), _within(definition, name))
        return value  # pyright: ignore[reportUnknownVariableType]

    def _definitions(self) -> Iterator[tuple[str, Agent[Any] | WorkflowDefinition]]:
        """The agents and workflows that are its attributes, or that its code refers to, each with its runs' name."""
        own = vars(self)
        attributes = dict.fromkeys([*own, *(name for cls in type(self).__mro__ for name in vars(cls))])
        found = {name: own.get(name, getattr(type(self), name, None)) for name in attributes if name[:2] != "__"}
        for is_own, values in ((False, self._entry("arun").outside()), (True, found)):
            for name, value in values.items():
                if isinstance(value, Agent):
                    agent: Agent[Any] = value  # pyright: ignore[reportUnknownVariableType]
                    yield agent.name or agent.agent_id or (name if is_own else "agent"), agent
                elif isinstance(value, WorkflowDefinition) and name != "_original":
                    yield value.agent_id, value

    def _storage(self) -> Storage:
        return self.storage or _views.own_storage(self._record())


def _within(definition: Agent[Any] | WorkflowDefinition, attribute: str) -> Any:
    """The view of a definition that is an attribute, for the run whose code has asked for it."""
    if current_run.get() is None:
        raise ConfigurationError(
            f"This thread knows nothing of the run whose {attribute!r} it asks for: call that in a step, which "
            "self.step(…) does from any thread, or begin the thread with asyncio.to_thread"
        )
    view = definition.within()
    if isinstance(view, Agent) and not (view.name or view.agent_id):
        view.__dict__["name"] = attribute
    return view  # pyright: ignore[reportUnknownVariableType]


_READ: Final = WorkflowDefinition.properties()
for _name, _property in _READ.items():
    setattr(WorkflowDefinition, _name, _property)
