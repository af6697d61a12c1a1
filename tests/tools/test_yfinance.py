"""`YFinanceTools` against what Yahoo's endpoints look like."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentrt import Agent
from agentrt.errors import ConfigurationError, ToolError
from agentrt.testing import ScriptedModel, reply
from agentrt.tools.yfinance import YFinanceTools
from tests.tools.intercept import Answer, Proxy, Request

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # yfinance's, of the newest pandas

TOOLS = list(YFinanceTools(enable_all=True).functions)
DAY = 86_400
START = 1_735_741_800
"""2025-01-01, when the exchange opens."""
QUOTE = {
    "symbol": "HENS",
    "longName": "Hens Incorporated",
    "regularMarketPrice": 129.0,
    "currency": "USD",
    "marketCap": 1_000_000,
    "trailingPE": 21.5,
    "fiftyTwoWeekLow": 90.0,
}
TREND = [
    {"period": "0m", "strongBuy": 5, "buy": 7, "hold": 2, "sell": 1, "strongSell": 0},
    {"period": "-1m", "strongBuy": 4, "buy": 7, "hold": 3, "sell": 1, "strongSell": 0},
]
NEWS = [
    {
        "id": str(number),
        "content": {
            "title": f"Eggs {number}",
            "summary": "More eggs.",
            "pubDate": "2025-01-30T10:00:00Z",
            "provider": {"displayName": "The Coop"},
            "canonicalUrl": {"url": f"https://n.example/{number}"},
        },
    }
    for number in range(5)
]


def chart(interval: str) -> dict[str, Any]:
    step, count = (DAY, 30) if interval == "1d" else (3600, 6)
    closes = [100.0 + number for number in range(count)]
    period = {"timezone": "EST", "start": START, "end": START + 23_400, "gmtoffset": -18_000}
    return {
        "meta": {
            "currency": "USD",
            "symbol": "HENS",
            "exchangeTimezoneName": "America/New_York",
            "instrumentType": "EQUITY",
            "dataGranularity": interval,
            "range": "1mo",
            "regularMarketTime": START + 29 * DAY,
            "regularMarketPrice": 129.0,
            "gmtoffset": -18_000,
            "currentTradingPeriod": {"pre": period, "regular": period, "post": period},
            "tradingPeriods": [[period]],
            "validRanges": ["1d", "5d", "1mo", "3mo"],
        },
        "timestamp": [START + number * step for number in range(count)],
        "indicators": {
            "quote": [
                {
                    "open": closes,
                    "high": [close + 1 for close in closes],
                    "low": [close - 1 for close in closes],
                    "close": closes,
                    "volume": [1000] * count,
                }
            ],
            "adjclose": [{"adjclose": closes}],
        },
    }


def summary(modules: str) -> dict[str, Any]:
    details = {"summaryDetail": {"beta": 1.1}, "assetProfile": {"sector": "Farming", "city": "Oslo"}}
    return {"recommendationTrend": {"trend": TREND}} if "recommendationTrend" in modules else details


def yahoo(request: Request) -> Answer:
    """Answers as the servers of Yahoo Finance do."""
    host, _, path = request.place.partition("/")
    known = "HENS" in path or "HENS" in request.values.get("symbols", "") or "HENS" in request.body
    wrong = {"result": None, "error": {"code": "Not Found", "description": "No data found, symbol may be delisted"}}
    match path.rsplit("/", 1)[0]:
        case "v1/test":
            return Answer("crumb")
        case "v8/finance/chart":
            found = {"result": [chart(request.values["interval"])], "error": None}
            return Answer({"chart": found if known else wrong}, 200 if known else 404)
        case "v10/finance/quoteSummary":
            found = {"result": [summary(request.values["modules"])], "error": None}
            return Answer({"quoteSummary": found if known else wrong}, 200 if known else 404)
        case "v7/finance":
            return Answer({"quoteResponse": {"result": [QUOTE] if known else [], "error": None}})
        case "ws/fundamentals-timeseries/v1/finance/timeseries":
            return Answer({"timeseries": {"result": [_series("annualTotalRevenue", known)], "error": None}})
        case "xhr":
            return Answer({"data": {"tickerStream": {"stream": NEWS if known else []}}})
        case _:
            return Answer("", 200 if host == "fc.yahoo.com" else 404)


def _series(name: str, known: bool) -> dict[str, Any]:
    meta = {"symbol": ["HENS"], "type": [name]}
    if not known:
        return {"meta": meta}
    points = [
        {"asOfDate": f"{year}-12-31", "periodType": "12M", "currencyCode": "USD", "reportedValue": {"raw": year * 10.0}}
        for year in (2023, 2024)
    ]
    return {"meta": meta, "timestamp": [1703980800, 1735603200], name: points}


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    import yfinance

    yfinance.set_tz_cache_location(str(tmp_path))
    with Proxy(yahoo) as running:
        yield running


@pytest.fixture
def session(proxy: Proxy) -> Iterator[Any]:
    from curl_cffi import requests
    from yfinance.data import SingletonMeta

    SingletonMeta._instances.clear()  # which keeps what it was told by the server of another test
    with requests.Session(impersonate="chrome", proxies={"https": proxy.url}, verify=False) as session:
        yield session
    SingletonMeta._instances.clear()


@pytest.fixture
def kit(session: Any) -> YFinanceTools:
    return YFinanceTools(enable_all=True, session=session)


async def test_a_model_looks_up_a_price(kit: YFinanceTools) -> None:
    model = ScriptedModel(reply(tool_calls=[("get_current_stock_price", {"symbol": "hens"})]), "129 dollars.")
    response = await Agent(model=model, tools=[kit]).arun("What do hens cost?")
    (call,) = response.tools
    assert not call.tool_call_error, call.error
    assert json.loads(call.result) == {"symbol": "HENS", "price": 129.0, "currency": "USD"}


def test_what_there_is_to_know_about_a_company(kit: YFinanceTools) -> None:
    info = kit.get_company_info("HENS")
    assert (info["name"], info["sector"], info["city"]) == ("Hens Incorporated", "Farming", "Oslo")
    assert "website" not in info
    figures = kit.get_stock_fundamentals("HENS")
    assert (figures["market_cap"], figures["pe_ratio"], figures["beta"]) == (1_000_000, 21.5, 1.1)
    assert kit.get_key_financial_ratios("HENS")["pe_ratio"] == 21.5


def test_what_analysts_recommend(kit: YFinanceTools) -> None:
    assert kit.get_analyst_recommendations("HENS") == TREND


def test_the_news(kit: YFinanceTools) -> None:
    first, *others = kit.get_company_news("HENS", num_stories=2)
    assert len(others) == 1
    assert first == {
        "title": "Eggs 0",
        "summary": "More eggs.",
        "published": "2025-01-30T10:00:00Z",
        "source": "The Coop",
        "url": "https://n.example/0",
    }


def test_prices_by_day_and_within_a_day(kit: YFinanceTools) -> None:
    days = kit.get_historical_stock_prices("HENS")
    assert len(days) == 30
    assert days[0] == {"date": "2025-01-01", "open": 100, "high": 101, "low": 99, "close": 100, "volume": 1000}
    hours = kit.get_historical_stock_prices("HENS", period="5d", interval="1h")
    assert hours[1]["time"] == "2025-01-01T10:30:00-05:00"


def test_indicators(kit: YFinanceTools) -> None:
    indicators = kit.get_technical_indicators("HENS", period="1mo")
    assert indicators == {
        "symbol": "HENS",
        "date": "2025-01-30",
        "close": 129,
        "sma_20": 119.5,
        "sma_50": None,
        "rsi_14": 100,
        "low": 99,
        "high": 130,
        "change_percent": 29,
        "average_volume": 1000,
    }


def test_income_statements(kit: YFinanceTools) -> None:
    statements = kit.get_income_statements("HENS")
    assert statements == {"2024-12-31": {"Total Revenue": 20240.0}, "2023-12-31": {"Total Revenue": 20230.0}}


@pytest.mark.parametrize("name", TOOLS)
def test_a_wrong_symbol_is_said_to_be_one(kit: YFinanceTools, name: str) -> None:
    with pytest.raises(ToolError, match="'EGGS'") as caught:
        getattr(kit, name)("EGGS")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("symbol", ["", "..", "../../v1/HENS", "HENS?range=max", "HENS%2F", "Hens Incorporated"])
def test_what_can_be_no_symbol_is_not_asked_for(kit: YFinanceTools, proxy: Proxy, symbol: str) -> None:
    with pytest.raises(ToolError, match="knows no symbol"):
        kit.get_historical_stock_prices(symbol)
    assert proxy.requests == []


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("body", ["", "<html>Sorry</html>", [], {"chart": 1, "quoteSummary": 1, "timeseries": 1}])
def test_an_answer_that_is_none_is_told_in_a_sentence(
    kit: YFinanceTools, proxy: Proxy, name: str, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.answer = lambda request: Answer("crumb" if "getcrumb" in request.place else body)
    with caplog.at_level(logging.CRITICAL, "yfinance"), pytest.raises(ToolError, match=r"^Yahoo Finance ") as caught:
        getattr(kit, name)("HENS")
    assert len(str(caught.value)) < 100


async def test_an_answer_that_does_not_come_is_not_waited_for(session: Any, proxy: Proxy) -> None:
    never = threading.Event()
    proxy.answer = lambda request: Answer(hang=never)
    model = ScriptedModel(reply(tool_calls=[("get_current_stock_price", {"symbol": "HENS"})]), "I don't know.")
    async with asyncio.timeout(5):
        response = await Agent(model=model, tools=[YFinanceTools(session=session, timeout_s=0.2)]).arun("What price?")
    never.set()
    assert response.content == "I don't know."
    assert "did not finish within 0.2 s" in response.tools[0].result


@pytest.mark.parametrize(
    ("status", "told"),
    [(429, r"takes no more requests for the moment \(rate limit\)"), (500, "answered with HTTP status 500")],
)
def test_what_is_wrong_with_yahoo_is_said(kit: YFinanceTools, proxy: Proxy, status: int, told: str) -> None:
    import yfinance

    proxy.answer = lambda request: Answer("crumb") if "getcrumb" in request.place else Answer("", status)
    with pytest.raises(ToolError, match=told):
        kit.get_current_stock_price("HENS")
    assert yfinance.config.debug.hide_exceptions is True  # as it was


def test_what_can_not_be_reached_is_said_in_a_sentence(session: Any, caplog: pytest.LogCaptureFixture) -> None:
    session.proxies = {"https": "http://127.0.0.1:9"}
    with caplog.at_level(logging.CRITICAL, "yfinance"), pytest.raises(ToolError) as caught:
        YFinanceTools(session=session).get_current_stock_price("HENS")
    assert str(caught.value).startswith("Yahoo Finance could not be reached: ")
    assert len(str(caught.value)) < 200


def test_its_tools_are_pure_and_each_has_a_switch() -> None:
    assert list(YFinanceTools().functions) == ["get_current_stock_price"]
    kit = YFinanceTools(
        stock_price=False,
        analyst_recommendations=True,
        company_info=True,
        company_news=True,
        stock_fundamentals=True,
        requires_confirmation_tools=["get_company_news"],
    )
    assert [function.name for function in kit.functions.values() if function.requires_confirmation] == [
        "get_company_news"
    ]
    assert {function.effect for function in kit.functions.values()} == {"pure"}
    assert len(kit.functions) == 4
    assert len(YFinanceTools(enable_all=True).functions) == 9


def test_without_its_library_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrt.tools.yfinance.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'agentrt\[yfinance\]'"):
        YFinanceTools()


def test_defining_it_loads_nothing() -> None:
    import subprocess

    script = "from agentrt.tools.yfinance import YFinanceTools as Y\nY()\nimport sys; print('yfinance' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "False\n"
