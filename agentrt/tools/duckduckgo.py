"""`DuckDuckGoTools`: searches the web and the news."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from agentrt.errors import ConfigurationError, ToolError
from agentrt.tools.function import Function
from agentrt.tools.toolkit import Toolkit


class DuckDuckGoTools(Toolkit):
    """Searches with DuckDuckGo, in the web and in the news; needs `agentrt[ddgs]`. Both tools are pure.

    `modifier` is put before each query, as `site:example.org`; `fixed_max_results` stands in for what the model asks
    for. `backend` is one of those of `ddgs`, several with commas, or `"auto"` for whichever answers. Further options
    are those of `Toolkit`.
    """

    def __init__(
        self,
        search: bool = True,
        news: bool = True,
        modifier: str | None = None,
        fixed_max_results: int | None = None,
        *,
        region: str = "us-en",
        backend: str = "duckduckgo",
        proxy: str | None = None,
        timeout: int = 10,
        verify_ssl: bool = True,
        name: str = "duckduckgo",
        **options: Any,
    ) -> None:
        if find_spec("ddgs") is None:
            raise ConfigurationError("DuckDuckGoTools needs ddgs: pip install 'agentrt[ddgs]'")
        self._modifier = modifier
        self._fixed = fixed_max_results
        self._how = {"region": region, "backend": backend}
        self._proxy = proxy
        self._timeout_s = timeout
        self._verify = verify_ssl
        chosen: dict[Callable[..., Any], bool] = {self.duckduckgo_search: search, self.duckduckgo_news: news}
        super().__init__(name, [Function(tool, effect="pure") for tool, wanted in chosen.items() if wanted], **options)

    def duckduckgo_search(self, query: str, max_results: int = 5) -> list[dict[str, Any]]:
        """Search the web.

        Args:
            query: What to search for.
            max_results: How many results at most.
        """
        found = self._search("text", query, max_results)
        return [{"title": item.get("title"), "url": item.get("href"), "text": item.get("body")} for item in found]

    def duckduckgo_news(self, query: str, max_results: int = 5) -> list[dict[str, Any]]:
        """Search the latest news.

        Args:
            query: What to search for.
            max_results: How many results at most.
        """
        found = self._search("news", query, max_results)
        names = {"title": "title", "published": "date", "source": "source", "url": "url", "text": "body"}
        return [{name: item.get(key) for name, key in names.items()} for item in found]

    def _search(self, category: str, query: str, max_results: int) -> list[dict[str, Any]]:
        if not query.strip():
            raise ToolError("There is nothing to search for: the query is empty.")
        ddgs: Any = import_module("ddgs")
        exceptions: Any = import_module("ddgs.exceptions")
        asked = f"{self._modifier} {query}" if self._modifier else query
        client = ddgs.DDGS(proxy=self._proxy, timeout=self._timeout_s, verify=self._verify)
        search = client.text if category == "text" else client.news
        try:
            return search(asked, max_results=self._fixed or max(max_results, 1), **self._how)
        except exceptions.TimeoutException as error:
            raise ToolError(f"The search did not answer within {self._timeout_s} s. Try again later.") from error
        except exceptions.DDGSException as error:
            raise ToolError(_told(error, asked)) from error


def _told(error: Exception, asked: str) -> str:
    if "No results" in str(error):  # also what it says of a page that is no list of results
        return f"The search gave no results for {asked!r}: there are none, or it answers no more for the moment."
    # it holds what went wrong; where that was the network, with a cause of its own
    cause = getattr(error.args[0], "__cause__", None) if error.args else None
    if cause is not None:
        return f"The search could not be reached: {type(cause).__name__}"
    return "The search gave an answer that can't be read: it may answer no more for the moment. Try again later."
