"""`Team`: an agent whose tools are its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from agentrt.agent import Agent
from agentrt.errors import ConfigurationError
from agentrt.models.message import Message
from agentrt.run.definition import EMPTY
from agentrt.run.dependencies import given_dependencies
from agentrt.run.response import Out, ToolExecution
from agentrt.run.run import Run
from agentrt.storage.merge import copy_state
from agentrt.team._prompt import Mode, context_of, interactions_of, leader_text
from agentrt.team._tools import OpenMember, context_tool, member_tool


class Team(Agent[Out]):
    """A team: its leader's model hands tasks to the members, and answers. It is called as an `Agent` is.

    `mode="coordinate"`: the leader gives members tasks and makes one answer of theirs; `"route"`: it hands the whole
    question to one of them, whose answer is the team's; `"collaborate"`: all members get the same task.

    A member's run is a child run with messages and a session of its own. What it waits for shows in the
    `requirements` of the team's run, and is decided there. Members without a model use the team's, and all of them are
    kept in the team's storage.
    """

    members: Sequence[Agent[Any]] = ()
    """Agents and teams, each with a name."""
    mode: Literal["coordinate", "route", "collaborate"] = "coordinate"
    """How the leader has its members work."""
    team_session_state: dict[str, Any] = EMPTY  # pyright: ignore[reportIncompatibleMethodOverride]  as an option
    """What the session state that the team shares with its members starts from, besides its `session_state`."""
    enable_agentic_context: bool = False
    """Give the leader a tool that sets what all members are told besides their tasks."""
    share_member_interactions: bool = False
    """Show members what the others were asked and have answered so far in the team's run."""
    show_members_responses: bool = False
    """Show the members' answers in a terminal."""
    stream_member_events: bool = True
    """Tell the events of members' runs in the team's stream."""

    if not TYPE_CHECKING:  # a type checker reads the options off the class

        def __init__(self, **options):
            super().__init__(**options)
            self.named_members  # noqa: B018  raises for what can't be a team
            if self.mode not in get_args(Mode):
                raise ConfigurationError(f"A team's mode is {', '.join(get_args(Mode))}; not {self.mode!r}")

    @property
    def named_members(self) -> dict[str, Agent[Any]]:
        """The members by name. Raises `ConfigurationError` for one without a name, and for two of one name."""
        named: dict[str, Agent[Any]] = {}
        for member in self.members:
            if not isinstance(member, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may be untyped
                raise ConfigurationError(f"A team's members are agents and teams, not {member!r}")
            name = member.name or member.agent_id or ""
            if not name.strip():
                raise ConfigurationError(f"A team knows its members by name: give {member!r} one")
            if name in named:
                raise ConfigurationError(f"Two members are called {name!r}; give one another name")
            named[name] = member
        if not named:
            raise ConfigurationError("A team has members: Team(members=[…])")
        return named

    def given(self, name: str) -> Any:
        shared: dict[str, Any] | None = super().given("team_session_state") if name == "session_state" else None
        given: Any = super().given(name)
        return cast("dict[str, Any]", given or {}) | shared if shared else given

    def _make(self, definition: Agent[Any], record: Any, **fields: Any) -> Run:
        run = super()._make(definition, record, **fields)
        team = cast("Team[Any]", definition)  # this one, or a copy with what was given to the run
        run.team = run
        run.path = (*run.path[:-1], team.name or team.agent_id or "team")
        members = team.named_members
        opener = team._opener(members)
        run.own_tools = [member_tool(team.mode, members, opener, stream_events=team.stream_member_events)]
        text = leader_text(team.mode, members, team.enable_agentic_context)
        run.own_sections.append(lambda run: [("team", text)])
        if team.enable_agentic_context:
            run.own_tools.append(context_tool())
            run.own_sections.append(context_of)
        return run

    def _opener(self, members: Mapping[str, Agent[Any]]) -> OpenMember:
        def open_member(run: Run, call: ToolExecution, name: str, input: list[Message]) -> Run:
            member = members[name]
            changes: dict[str, Any] = {} if member.given("model") is not None else {"model": run.model}
            if given_dependencies(member) is None:
                changes["dependencies"] = run.context.dependencies
            if self.mode == "route" and member.response_model in (None, str):
                changes["response_model"] = self.response_model  # its answer is the team's
            child = member.open_for(run, input, name=name, call=call, **changes)
            if self.enable_agentic_context:
                child.own_sections.append(lambda _: context_of(run))
            if self.share_member_interactions:
                child.own_sections.append(lambda _: interactions_of(run))
            _share(run, member)
            return child

        return open_member


def _share(run: Run, member: Agent[Any]) -> None:
    """Add to what a team shares with its members what a team among them wants to start from."""
    starts: dict[str, Any] = member.given("team_session_state") or EMPTY
    if run.shared is not None:
        for key, value in starts.items():
            run.shared.state.setdefault(key, copy_state(value))


def _team_session_state(team: Team[Any]) -> dict[str, Any] | None:
    """In a run the live state that the team shares with its members; else the session state of the newest run."""
    bound: Run | None = team.__dict__.get("_run")
    shared = bound.shared if bound is not None else None
    return shared.state if shared is not None else team.session_state


setattr(Team, "team_session_state", property(_team_session_state))  # noqa: B010  as Agent's session_state
