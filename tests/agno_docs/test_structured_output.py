"""The page "Structured Output"."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pydantic import BaseModel, Field

from agentrt.agent import Agent, RunResponse
from agentrt.models.anthropic import Claude
from agentrt.models.base import Model
from agentrt.models.openai.chat import OpenAIChat
from tests.agno_docs.provider import Asked, Provider, Said, Think

Speaks = Callable[[Think], Provider]


class Recipe(BaseModel):
    dish: str = Field(..., description="What it is called.")
    steps: list[str] = Field(..., description="What to do.")
    minutes: dict[str, int] = Field(..., description="How long it takes, by the names of its parts.")


SOUP = {"dish": "Pea soup", "steps": ["Soak.", "Boil."], "minutes": {"soaking": 600, "boiling": 90}}


def cook(asked: Asked) -> Said:
    """Answers in JSON where that is asked for."""
    wanted = asked.schema is not None or "JSON" in asked.system
    return json.dumps(SOUP) if wanted else "Pea soup: soak the peas for 10 hours, boil them for 90 minutes."


@pytest.mark.parametrize("use_json_mode", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_the_answer_is_an_object_of_the_response_model(
    provider: Speaks, capsys: pytest.CaptureFixture[str], use_json_mode: bool, stream: bool
) -> None:
    asked = provider(cook).asked
    agent = Agent(
        model=OpenAIChat(id="gpt-4o"), description="You cook.", response_model=Recipe, use_json_mode=use_json_mode
    )
    agent.print_response("Soup, please", stream=stream, stream_intermediate_steps=stream)
    assert json.loads(capsys.readouterr().out.partition("\n\n")[2].rpartition("\n(")[0]) == SOUP
    response: RunResponse[Recipe] = agent.run("Soup, please")
    assert response.content == Recipe(**SOUP)  # pyright: ignore[reportArgumentType]  plain data
    assert all((one.schema == {}) is use_json_mode for one in asked)
    assert "You cook." in asked[0].system


def test_typed_answers_work_together_with_tools(provider: Speaks) -> None:
    def think(asked: Asked) -> Said:
        return cook(asked) if asked.results else [("larder", {})]

    def larder() -> list[str]:
        """What there is."""
        return ["peas"]

    asked = provider(think).asked
    agent = Agent(model=OpenAIChat(id="gpt-4o"), response_model=Recipe, tools=[larder])
    assert agent.run("Soup, please").content == Recipe(**SOUP)  # pyright: ignore[reportArgumentType]  plain data
    assert [turn.text for turn in asked[-1].results] == ['["peas"]']


def test_a_parser_model_makes_the_object_of_the_first_models_text(provider: Speaks) -> None:
    asked = provider(cook).asked
    agent = Agent(
        model=Claude(id="claude-sonnet-4-20250514"),
        description="You cook.",
        response_model=Recipe,
        parser_model=OpenAIChat(id="gpt-4o"),
        parser_model_prompt="Write down the recipe that is told.",
    )
    assert agent.run("Soup, please").content == Recipe(**SOUP)  # pyright: ignore[reportArgumentType]  plain data
    first, second = asked
    assert (first.dialect, first.schema, second.dialect) == ("anthropic", None, "openai")
    assert "Pea soup: soak" in second.question
    assert "Write down the recipe that is told." in second.system


async def test_a_stream_ends_with_the_object_as_one_event(provider: Speaks) -> None:
    provider(cook)
    agent = Agent(model=OpenAIChat(id="gpt-4o"), response_model=Recipe)
    events = [event async for event in await agent.arun("Soup, please", stream=True, stream_intermediate_steps=True)]
    objects = [event.content for event in events if isinstance(event.content, Recipe)]
    assert objects == [Recipe(**SOUP)]  # pyright: ignore[reportArgumentType]  plain data
    assert events[-1].content is objects[0]


@pytest.mark.parametrize("stream", [True, False])
def test_each_provider_gives_the_object(provider: Speaks, model: Model, stream: bool) -> None:
    def think(asked: Asked) -> Said:
        if "final_answer" in asked.tools:  # which stands in for a schema that the provider does not take
            return [("final_answer", SOUP)]
        return cook(asked)

    provider(think)
    agent = Agent(model=model, response_model=Recipe)
    if stream:
        *_, last = agent.run("Soup, please", stream=True)
        assert last.content == Recipe.model_validate(SOUP)
    else:
        assert agent.run("Soup, please").content == Recipe.model_validate(SOUP)


async def test_a_parsed_answer_is_one_event_of_the_stream_too(
    provider: Speaks, capsys: pytest.CaptureFixture[str]
) -> None:
    provider(cook)
    agent = Agent(
        model=Claude(id="claude-sonnet-4-20250514"), response_model=Recipe, parser_model=OpenAIChat(id="gpt-4o")
    )
    events = [event async for event in agent.arun("Soup, please", stream=True)]
    assert [event.event for event in events if isinstance(event.content, Recipe)] == ["RunCompleted"]
    assert "soak the peas" in "".join(str(event.content) for event in events if event.event == "RunContent")
    await agent.aprint_response("Soup, please", stream=True)
    shown = capsys.readouterr().out
    assert "soak the peas" in shown
    assert '"soaking": 600' in shown
