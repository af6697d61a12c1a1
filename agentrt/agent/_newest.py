"""What a definition tells of its runs: to a run's own code of that run, elsewhere of the newest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, Self

from agentrt.agent import _views
from agentrt.run.response import Out, RunResponse
from agentrt.run.run import Run
from agentrt.storage.merge import copy_state


class Newest(Generic[Out]):
    """Agents and workflows. An object of them may be a view, bound to a run, of the one that the user made."""

    if TYPE_CHECKING:

        def given(self, name: str) -> Any: ...

    @property
    def run_response(self) -> RunResponse[Out]:
        """The newest run that this task or thread got back, else this object's newest. In a run: its own, so far.

        Raises `AmbiguousRun` where runs of other tasks overlap, `AgentRTError` when there was no run.
        """
        response = self._newest("run_response")
        if response is None:
            raise _views.no_run_yet("run_response")
        return response

    @property
    def is_paused(self) -> bool:
        """Does the newest run wait for somebody? See `run_response`."""
        return self.run_response.is_paused

    @property
    def run_id(self) -> str | None:
        """The newest run's id. See `run_response`."""
        return self.run_response.run_id

    def _self(self) -> Self:
        """The object that the user made, of which this may be a view or a copy for one run."""
        return self.__dict__.get("_original", self)

    def _record(self) -> _views.Record:
        """The runs that this object, or the view of it that a workflow has, got back."""
        return self.__dict__.get("_own_record") or _views.record_of(self._self())

    def _newest(self, name: str) -> RunResponse[Any] | None:
        bound: Run | None = self.__dict__.get("_run")
        if bound is not None:
            return bound.touch()
        newest = self._record().read(name)
        return newest.response if newest is not None else None

    def _live_state(self) -> dict[str, Any] | None:
        """The state of the run whose code reads it here; None elsewhere."""
        run: Run | None = self.__dict__.get("_run")
        return run.state if run is not None else None

    def _state(self) -> dict[str, Any]:
        """In a run its live state; elsewhere the newest run's, see `run_response`; before the first the initial one.

        What a program changes in it between runs is given to the next run of that session.
        """
        live = self._live_state()
        if live is not None:
            return live
        newest = self._record().read("session_state")
        if newest is not None and newest.response.session_state is not None:
            return newest.state()
        if self.__dict__.get("session_state") is None:  # a default is not changed by what is done to an object's
            self.__dict__["session_state"] = copy_state(self.given("session_state") or {})
        return self.given("session_state")

    def _set_state(self, value: dict[str, Any]) -> None:
        live = self._live_state()
        if live is None:
            self.__dict__["session_state"] = value
            self._record().set_state(value)
        elif value is not live:
            live.clear()
            live.update(value)

    def _of_newest(self, name: str) -> Any:
        response = self._newest(name)
        return getattr(response, name) if response is not None else self.given(name)

    @classmethod
    def properties(cls) -> dict[str, property]:
        """As options these are what a run starts from; read they are the run's, or what the newest made of them."""
        return {"session_state": property(cls._state, cls._set_state), **{name: _read(name) for name in _READ}}


_READ: Final = ("session_id", "user_id")


def _read(name: str) -> property:
    def read(definition: Newest[Any]) -> Any:
        return definition._of_newest(name)  # pyright: ignore[reportPrivateUsage]  of its own module

    return property(read, lambda definition, value: definition.__dict__.__setitem__(name, value))
