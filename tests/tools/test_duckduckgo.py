"""`DuckDuckGoTools` against what DuckDuckGo's pages look like."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import pytest

from agentrt import Agent
from agentrt.errors import ConfigurationError, ToolError
from agentrt.testing import ScriptedModel, reply
from agentrt.tools.duckduckgo import DuckDuckGoTools
from tests.tools.intercept import Answer, Proxy, Request

PAGES = [
    ("A field guide to hens", "https://hens.example/guide", "All breeds of hens."),
    ("Hens", "https://h.example", "x"),
]
NEWS = [
    {"date": 1764000000, "title": f"Hens {number}", "excerpt": "They lay.", "url": f"https://n.example/{number}",
     "source": "The Coop"} for number in range(3)
]  # fmt: skip


def pages(found: list[tuple[str, str, str]]) -> str:
    items = "".join(
        f'<div class="links_main result__body"><h2 class="result__title"><a href="{url}">{escape(title)}</a></h2>'
        f'<a class="result__snippet" href="{url}">{escape(text)}</a></div>'
        for title, url, text in found
    )
    return f"<html><body>{items}</body></html>"


def site(request: Request) -> Answer:
    """Answers as the sites of DuckDuckGo do."""
    match request.place:
        case "html.duckduckgo.com/html/":
            return Answer(pages(PAGES if "hens" in request.values["q"] else []))
        case "duckduckgo.com/" | "duckduckgo.com":
            return Answer('<script>vqd="4-123456789";</script>')
        case "duckduckgo.com/news.js" if request.values.get("vqd") == "4-123456789":
            return Answer({"results": NEWS})
        case _:
            return Answer("", 403)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(site) as running:
        yield running


@pytest.fixture
def tools(proxy: Proxy) -> Callable[..., DuckDuckGoTools]:
    return lambda **options: DuckDuckGoTools(proxy=proxy.url, verify_ssl=False, **options)


async def test_a_model_searches_the_web(tools: Any, proxy: Proxy) -> None:
    model = ScriptedModel(reply(tool_calls=[("duckduckgo_search", {"query": "hens"})]), "There is a guide.")
    response = await Agent(model=model, tools=[tools()]).arun("Anything about hens?")
    (call,) = response.tools
    assert not call.tool_call_error, call.error
    assert "https://hens.example/guide" in call.result
    assert "All breeds of hens." in call.result
    assert proxy.requests[0].values["q"] == "hens"


def test_the_web_is_searched_with_the_modifier_for_so_many_results(tools: Any, proxy: Proxy) -> None:
    found = tools(modifier="site:hens.example", fixed_max_results=1).duckduckgo_search("hens", max_results=5)
    assert found == [
        {"title": "A field guide to hens", "url": "https://hens.example/guide", "text": "All breeds of hens."}
    ]
    assert proxy.requests[0].values["q"] == "site:hens.example hens"


def test_the_news_is_searched(tools: Any) -> None:
    found = tools().duckduckgo_news("hens", max_results=2)
    assert len(found) == 2
    assert found[0]["title"].startswith("Hens ")
    assert found[0]["source"] == "The Coop"
    assert found[0]["text"] == "They lay."
    assert found[0]["published"].startswith("2025-11-2")


def test_no_results_are_said_to_be_none(tools: Any) -> None:
    with pytest.raises(ToolError, match="The search gave no results for 'ostriches'"):
        tools().duckduckgo_search("ostriches")


def test_what_can_not_be_reached_is_said_in_a_sentence() -> None:
    nowhere = DuckDuckGoTools(proxy="http://127.0.0.1:9", timeout=2)
    with pytest.raises(ToolError, match=r"^The search could not be reached: Connect\w*$"):
        nowhere.duckduckgo_search("hens")


@pytest.mark.parametrize("answer", [Answer("", 202), Answer("", 429), Answer("", 500), Answer("<html>?"), Answer([])])
@pytest.mark.parametrize("name", ["duckduckgo_search", "duckduckgo_news"])
def test_a_refusal_is_told_as_what_it_is(tools: Any, proxy: Proxy, name: str, answer: Answer) -> None:
    proxy.answer = lambda request: answer
    with pytest.raises(ToolError, match=r"answers? no more for the moment") as caught:
        getattr(tools(), name)("hens")
    assert len(str(caught.value)) < 110


def test_news_that_are_no_list_are_told_as_such(tools: Any, proxy: Proxy) -> None:
    proxy.answer = lambda request: Answer("?") if request.place.endswith("news.js") else site(request)
    with pytest.raises(ToolError, match="an answer that can't be read"):
        tools().duckduckgo_news("hens")


def test_nothing_is_not_searched_for_and_some_result_is_always_wanted(tools: Any, proxy: Proxy) -> None:
    with pytest.raises(ToolError, match="the query is empty"):
        tools().duckduckgo_search(" ")
    assert proxy.requests == []
    assert len(tools().duckduckgo_news("hens", max_results=-1)) == 1


def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    never = threading.Event()
    with Proxy(lambda request: Answer(hang=never)) as proxy:
        tools = DuckDuckGoTools(proxy=proxy.url, verify_ssl=False, timeout=1)
        with pytest.raises(ToolError, match=r"The search did not answer within 1 s|The search gave no results"):
            tools.duckduckgo_search("hens")
        never.set()


def test_its_tools_are_pure_and_can_be_left_out() -> None:
    kit = DuckDuckGoTools(news=False, requires_confirmation_tools=["duckduckgo_search"])
    (function,) = kit.functions.values()
    assert (function.name, function.effect, function.requires_confirmation) == ("duckduckgo_search", "pure", True)


def test_without_its_library_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrt.tools.duckduckgo.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'agentrt\[ddgs\]'"):
        DuckDuckGoTools()


def test_defining_it_loads_nothing() -> None:
    import subprocess

    script = "from agentrt.tools.duckduckgo import DuckDuckGoTools as D\nD()\nimport sys; print('ddgs' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "False\n"
