"""The pages "What is Agno?" and "Multi Agent Systems": agents that reason with tools, teams, workflows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from agentrt.agent import Agent, RunResponse
from agentrt.models.anthropic import Claude
from agentrt.models.openai import OpenAIChat
from agentrt.storage.sqlite import SqliteStorage
from agentrt.team.team import Team
from agentrt.tools.duckduckgo import DuckDuckGoTools
from agentrt.tools.reasoning import ReasoningTools
from agentrt.tools.yfinance import YFinanceTools
from agentrt.utils.log import logger
from agentrt.utils.pprint import pprint_run_response
from agentrt.workflow import Workflow
from tests.agno_docs.provider import Asked, Provider, Said, Think
from tests.tools.intercept import Proxy
from tests.tools.test_duckduckgo import site
from tests.tools.test_yfinance import proxy as yahoo_proxy
from tests.tools.test_yfinance import session as yahoo_session

Speaks = Callable[[Think], Provider]
proxy, session = yahoo_proxy, yahoo_session  # fixtures
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # yfinance's, of the newest pandas


def analyst(asked: Asked) -> Said:
    """Thinks, looks up each thing it has a tool for, and tells what it found."""
    done = [turn.tool for turn in asked.results]
    for name, arguments in (
        ("think", {"title": "Plan", "thought": "Look up the price first", "confidence": 0.9}),
        ("get_current_stock_price", {"symbol": "HENS"}),
        ("get_analyst_recommendations", {"symbol": "HENS"}),
        ("duckduckgo_search", {"query": "hens"}),
    ):
        if name in asked.tools and name not in done:
            return [(name, arguments)]
    return " ".join(re.findall(r"129|strongBuy|field guide", " ".join(turn.text for turn in asked.results)))


def test_an_agent_reasons_and_looks_up_stocks(
    provider: Speaks, session: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = provider(analyst).asked
    agent = Agent(
        model=Claude(id="claude-sonnet-4-20250514"),
        tools=[
            ReasoningTools(add_instructions=True),
            YFinanceTools(
                stock_price=True, analyst_recommendations=True, company_info=True, company_news=True, session=session
            ),
        ],
        instructions="Use tables to display data.",
        markdown=True,
    )
    agent.print_response("What of hens?", stream=True, show_full_reasoning=True, stream_intermediate_steps=True)
    shown = capsys.readouterr().out
    assert "Look up the price first" in shown
    assert "129 strongBuy" in shown
    assert set(asked[0].tools) == {
        "think", "analyze", "get_current_stock_price", "get_analyst_recommendations", "get_company_info",
        "get_company_news",
    }  # fmt: skip
    assert "Use tables to display data." in asked[0].system
    assert asked[0].dialect == "anthropic"


def test_a_team_delegates_to_members_and_shows_what_they_say(
    provider: Speaks, session: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def think(asked: Asked) -> Said:
        if "delegate_to_member" not in asked.tools:
            return analyst(asked)
        if "think" not in [turn.tool for turn in asked.results]:
            return [("think", {"title": "Plan", "thought": "Ask both", "confidence": 0.8})]
        told = [turn.text for turn in asked.results if turn.tool == "delegate_to_member"]
        if not told:
            members = asked.tools["delegate_to_member"]["properties"]["member"]["enum"]
            return [("delegate_to_member", {"member": member, "task": f"Part of {member}"}) for member in members]
        return f"Together: {' and '.join(told)}"

    asked = provider(think).asked
    with Proxy(site) as search:
        web = Agent(
            name="Searcher",
            role="Search the web",
            model=OpenAIChat(id="gpt-4.1"),
            tools=[DuckDuckGoTools(proxy=search.url, verify_ssl=False)],
            instructions="Name your sources",
            add_datetime_to_instructions=True,
        )
        finance = Agent(
            name="Banker",
            role="Look up figures",
            model=OpenAIChat(id="gpt-4.1"),
            tools=[YFinanceTools(stock_price=True, analyst_recommendations=True, session=session)],
            instructions=["Use tables", "Name the ticker"],
        )
        team = Team(
            name="Desk",
            mode="coordinate",
            model=Claude(id="claude-sonnet-4-20250514"),
            members=[web, finance],
            tools=[ReasoningTools(add_instructions=True)],
            instructions=["Work together", "Only give the final analysis"],
            markdown=True,
            show_members_responses=True,
            enable_agentic_context=True,
            add_datetime_to_instructions=True,
            success_criteria="There is an analysis with data and news.",
        )
        team.print_response("Compare hens", stream=True, show_full_reasoning=True, stream_intermediate_steps=True)
    shown = capsys.readouterr().out
    assert "Together: field guide and 129 strongBuy" in shown
    assert "Response of Searcher: field guide" in shown
    assert "Ask both" in shown
    leader = asked[0]
    assert "There is an analysis with data and news." in leader.system
    members = {one.question for one in asked if one.dialect == "openai"}
    assert members == {"Part of Searcher", "Part of Banker"}


def test_a_workflow_keeps_what_it_answered_and_calls_no_model_the_second_time(
    provider: Speaks, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    asked = provider(lambda asked: f"A rhyme on {asked.question}.").asked

    class Rhymes(Workflow):
        agent = Agent(model=OpenAIChat(id="gpt-4o-mini"))

        def run(self, message: str) -> Iterator[RunResponse]:
            if self.session_state.get(message):
                logger.info("Known: %s", message)
                yield RunResponse(run_id=self.run_id, content=self.session_state.get(message))
                return
            logger.info("New: %s", message)
            yield from self.agent.run(message, stream=True)  # pyright: ignore[reportReturnType]  as users annotate it
            self.session_state[message] = self.agent.run_response.content

    workflow = Rhymes()
    shown: list[str] = []
    for _ in range(2):
        response: Iterator[RunResponse] = workflow.run(message="tea")
        pprint_run_response(response, markdown=True, show_time=True)
        shown.append(capsys.readouterr().out)
    assert all("A rhyme on tea." in text for text in shown)
    assert len(asked) == 1
    assert workflow.session_state == {"tea": "A rhyme on tea."}
    assert caplog.messages == ["New: tea", "Known: tea"]


async def test_a_workflow_is_awaited_and_its_cache_lasts_where_it_has_a_storage(provider: Speaks) -> None:
    asked = provider(lambda asked: f"A rhyme on {asked.question}.").asked

    class Rhymes(Workflow):
        agent = Agent(model=OpenAIChat(id="gpt-4o-mini"))

        async def arun(self, message: str) -> Any:
            if message not in self.session_state:
                self.session_state[message] = (await self.agent.arun(message)).content
            return self.session_state[message]

    for _ in range(2):
        workflow = Rhymes(session_id="rhymes", storage=SqliteStorage(table_name="workflows", db_file="tmp/rhymes.db"))
        assert (await workflow.arun(message="tea")).content == "A rhyme on tea."
    assert len(asked) == 1


def test_two_instances_of_a_workflow_have_a_cache_each(provider: Speaks) -> None:
    asked = provider(lambda asked: "Fine.").asked

    class Rhymes(Workflow):
        agent = Agent(model=OpenAIChat(id="gpt-4o-mini"))

        def run(self, message: str) -> Iterator[Any]:
            yield from self.agent.run(message, stream=True)
            self.session_state[message] = self.agent.run_response.content

    one, other = Rhymes(), Rhymes()
    assert "Fine." in [event.content for event in one.run(message="tea")]
    assert other.session_state == {}
    assert one.session_state == {"tea": "Fine."}
    assert len(asked) == 1


MEMBERS = {"Reader": "Reads books", "Walker": "Knows all paths"}


def members() -> list[Agent[Any]]:
    return [Agent(name=name, role=role, model=OpenAIChat(id="gpt-4.1")) for name, role in MEMBERS.items()]


def tell(asked: Asked, tool: str, **more: Any) -> Said:
    """Ask the members that the tool knows, and say what they answered."""
    if asked.results:
        return " and ".join(turn.text for turn in asked.results)
    names = asked.tools[tool]["properties"].get("member", {}).get("enum")
    return [(tool, {"member": name, **more}) for name in names] if names else [(tool, more)]


async def test_a_team_tells_its_leader_who_is_there_what_time_it_is_and_what_all_know(provider: Speaks) -> None:
    def think(asked: Asked) -> Said:
        if "set_team_context" not in asked.tools:
            return f"I am told: {asked.system} {asked.question}"
        if not asked.results:
            return [("set_team_context", dict.fromkeys(asked.tools["set_team_context"]["required"], "Momo is ill"))]
        if len(asked.results) == 1:
            return [("delegate_to_member", {"member": "Walker", "task": "Find the vet"})]
        return asked.results[-1].text

    asked = provider(think).asked
    team = Team(
        name="House",
        mode="coordinate",
        model=Claude(id="claude-sonnet-4-20250514"),
        members=members(),
        enable_agentic_context=True,
        add_datetime_to_instructions=True,
    )
    response = await team.arun("Help Momo")
    assert "Momo is ill" in str(response.content)
    assert "Find the vet" in str(response.content)
    assert [member.agent_name for member in response.member_responses] == ["Walker"]
    leader = asked[0].system
    assert "Knows all paths" in leader
    assert datetime.now(UTC).date().isoformat() in leader


@pytest.mark.parametrize(
    ("mode", "tool", "more"),
    [
        ("coordinate", "delegate_to_member", {"task": "Say hello"}),
        ("route", "forward_to_member", {}),
        ("collaborate", "ask_all_members", {"task": "Say hello"}),
    ],
)
async def test_a_teams_mode_says_how_its_members_are_asked(
    provider: Speaks, mode: Any, tool: str, more: dict[str, str]
) -> None:
    def think(asked: Asked) -> Said:
        return tell(asked, tool, **more) if tool in asked.tools else f"{asked.system} heard {asked.question}"

    provider(think)
    team = Team(name="House", mode=mode, model=OpenAIChat(id="gpt-4.1"), members=members())
    paths = [event.path async for event in team.arun("Say hello", stream=True) if event.event == "RunCompleted"]
    assert {("House", "Reader"), ("House", "Walker"), ("House",)} == set(paths)
    told = str(team.run_response.content)
    assert "Say hello" in told
    assert "Reads books" in told or "Knows all paths" in told
