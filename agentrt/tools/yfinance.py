"""`YFinanceTools`: prices, figures and news of companies, from Yahoo Finance."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from agentrt.errors import ConfigurationError, ToolError
from agentrt.tools.function import Function
from agentrt.tools.toolkit import Toolkit

Period = Literal["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"]
Interval = Literal["1m", "5m", "15m", "30m", "1h", "1d", "1wk", "1mo"]
_SYMBOL = re.compile(r"(?=.*[A-Z0-9])[A-Z0-9.^=&_-]{1,32}")

COMPANY = {
    "name": "longName",
    "symbol": "symbol",
    "price": "regularMarketPrice",
    "currency": "currency",
    "market_cap": "marketCap",
    "sector": "sector",
    "industry": "industry",
    "country": "country",
    "city": "city",
    "website": "website",
    "employees": "fullTimeEmployees",
    "summary": "longBusinessSummary",
    "eps": "trailingEps",
    "pe_ratio": "trailingPE",
    "fifty_two_week_low": "fiftyTwoWeekLow",
    "fifty_two_week_high": "fiftyTwoWeekHigh",
    "fifty_day_average": "fiftyDayAverage",
    "two_hundred_day_average": "twoHundredDayAverage",
    "analyst_recommendation": "recommendationKey",
}
FUNDAMENTALS = {
    "name": "longName",
    "symbol": "symbol",
    "currency": "currency",
    "sector": "sector",
    "industry": "industry",
    "market_cap": "marketCap",
    "pe_ratio": "trailingPE",
    "forward_pe_ratio": "forwardPE",
    "pb_ratio": "priceToBook",
    "dividend_yield": "dividendYield",
    "eps": "trailingEps",
    "beta": "beta",
    "fifty_two_week_low": "fiftyTwoWeekLow",
    "fifty_two_week_high": "fiftyTwoWeekHigh",
}
RATIOS = {
    "symbol": "symbol",
    "pe_ratio": "trailingPE",
    "forward_pe_ratio": "forwardPE",
    "peg_ratio": "trailingPegRatio",
    "pb_ratio": "priceToBook",
    "price_to_sales": "priceToSalesTrailing12Months",
    "ev_to_ebitda": "enterpriseToEbitda",
    "profit_margin": "profitMargins",
    "operating_margin": "operatingMargins",
    "gross_margin": "grossMargins",
    "return_on_equity": "returnOnEquity",
    "return_on_assets": "returnOnAssets",
    "debt_to_equity": "debtToEquity",
    "current_ratio": "currentRatio",
    "quick_ratio": "quickRatio",
    "payout_ratio": "payoutRatio",
    "revenue_growth": "revenueGrowth",
    "earnings_growth": "earningsGrowth",
    "free_cash_flow": "freeCashflow",
}


class YFinanceTools(Toolkit):
    """Looks up stocks at Yahoo Finance, by their ticker symbols; needs `agentrt[yfinance]`.

    Each switch adds a tool, `enable_all` all of them. All are pure: they may be called again, and change nothing.
    `session` is a session of `curl_cffi` or `requests` with which to ask; `yfinance` shares it in the process. A call
    that takes longer than `timeout_s` is given up. Further options are those of `Toolkit`.
    """

    def __init__(
        self,
        stock_price: bool = True,
        company_info: bool = False,
        stock_fundamentals: bool = False,
        income_statements: bool = False,
        key_financial_ratios: bool = False,
        analyst_recommendations: bool = False,
        company_news: bool = False,
        technical_indicators: bool = False,
        historical_prices: bool = False,
        *,
        enable_all: bool = False,
        session: Any = None,
        timeout_s: float | None = 30.0,
        name: str = "yfinance_tools",
        **options: Any,
    ) -> None:
        if find_spec("yfinance") is None:
            raise ConfigurationError("YFinanceTools needs yfinance: pip install 'agentrt[yfinance]'")
        self._session = session
        chosen: dict[Callable[..., Any], bool] = {
            self.get_current_stock_price: stock_price,
            self.get_company_info: company_info,
            self.get_stock_fundamentals: stock_fundamentals,
            self.get_income_statements: income_statements,
            self.get_key_financial_ratios: key_financial_ratios,
            self.get_analyst_recommendations: analyst_recommendations,
            self.get_company_news: company_news,
            self.get_technical_indicators: technical_indicators,
            self.get_historical_stock_prices: historical_prices,
        }
        wanted = [tool for tool, is_wanted in chosen.items() if is_wanted or enable_all]
        super().__init__(name, [Function(tool, effect="pure", timeout_s=timeout_s) for tool in wanted], **options)

    def get_current_stock_price(self, symbol: str) -> dict[str, Any]:
        """Get the current price of a stock.

        Args:
            symbol: The ticker symbol, as AAPL.
        """
        info = self._info(symbol)
        price = info.get("regularMarketPrice", info.get("currentPrice"))
        if price is None:
            raise ToolError(f"Yahoo Finance has no price for {symbol!r}")
        return {"symbol": info.get("symbol", symbol), "price": price, "currency": info.get("currency")}

    def get_company_info(self, symbol: str) -> dict[str, Any]:
        """Get what there is to know about a company: its business, its place, its size, its price.

        Args:
            symbol: The ticker symbol, as AAPL.
        """
        return _chosen(self._info(symbol), COMPANY)

    def get_stock_fundamentals(self, symbol: str) -> dict[str, Any]:
        """Get the fundamental figures of a stock: market capitalization, P/E, P/B, dividend yield, EPS, beta.

        Args:
            symbol: The ticker symbol, as AAPL.
        """
        return _chosen(self._info(symbol), FUNDAMENTALS)

    def get_key_financial_ratios(self, symbol: str) -> dict[str, Any]:
        """Get the financial ratios of a company: of valuation, margins, returns, debt, growth.

        Args:
            symbol: The ticker symbol, as AAPL.
        """
        return _chosen(self._info(symbol), RATIOS)

    def get_income_statements(self, symbol: str) -> dict[str, Any]:
        """Get the income statements of a company, by the day on which its year ended.

        Args:
            symbol: The ticker symbol, as AAPL.
        """
        with self._asking(symbol) as ticker:
            statements = ticker.income_stmt
        _check(statements, symbol, "income statements")
        return {str(day.date()): statements[day].dropna().to_dict() for day in statements.columns}

    def get_analyst_recommendations(self, symbol: str) -> list[dict[str, Any]]:
        """Get how many analysts recommend to buy, hold or sell a stock, in this month (0m) and those before it.

        Args:
            symbol: The ticker symbol, as AAPL.
        """
        with self._asking(symbol) as ticker:
            recommendations = ticker.recommendations
        _check(recommendations, symbol, "analysts' recommendations")
        return recommendations.to_dict("records")

    def get_company_news(self, symbol: str, num_stories: int = 3) -> list[dict[str, Any]]:
        """Get the latest news about a company.

        Args:
            symbol: The ticker symbol, as AAPL.
            num_stories: How many stories.
        """
        with self._asking(symbol) as ticker:
            stories = ticker.get_news(count=max(num_stories, 1))
        if not stories:
            raise ToolError(f"Yahoo Finance gave no news for {symbol!r}")
        return [_story(story.get("content") or {}) for story in stories[: max(num_stories, 1)]]

    def get_historical_stock_prices(
        self, symbol: str, period: Period = "1mo", interval: Interval = "1d"
    ) -> list[dict[str, Any]]:
        """Get the prices of a stock over a period.

        Args:
            symbol: The ticker symbol, as AAPL.
            period: How far back.
            interval: From one price to the next. Those within a day go back 60 days at most.
        """
        prices = self._prices(symbol, period, interval)
        within_day = interval not in ("1d", "1wk", "1mo")
        return [
            {
                "time" if within_day else "date": (at if within_day else at.date()).isoformat(),
                **{name.lower(): _rounded(row[name]) for name in ("Open", "High", "Low", "Close", "Volume")},
            }
            for at, row in prices.iterrows()
        ]

    def get_technical_indicators(self, symbol: str, period: Period = "3mo") -> dict[str, Any]:
        """Get indicators of how the price of a stock moves: averages, relative strength, range and volume.

        Args:
            symbol: The ticker symbol, as AAPL.
            period: The time that the range and the volume are of.
        """
        prices = self._prices(symbol, period, "1d")
        close, change = prices["Close"], prices["Close"].diff()
        gain, loss = change.clip(lower=0).tail(14).mean(), -change.clip(upper=0).tail(14).mean()
        enough = len(close) > 14
        return {
            "symbol": symbol,
            "date": close.index[-1].date().isoformat(),
            "close": _rounded(close.iloc[-1]),
            "sma_20": _rounded(close.tail(20).mean()) if len(close) >= 20 else None,
            "sma_50": _rounded(close.tail(50).mean()) if len(close) >= 50 else None,
            "rsi_14": _rounded(100 * gain / (gain + loss)) if enough and gain + loss else None,
            "low": _rounded(prices["Low"].min()),
            "high": _rounded(prices["High"].max()),
            "change_percent": _rounded((close.iloc[-1] / close.iloc[0] - 1) * 100),
            "average_volume": _rounded(prices["Volume"].mean()),
        }

    # --- asking Yahoo --------------------------------------------------------------------------------------------

    def _info(self, symbol: str) -> dict[str, Any]:
        with self._asking(symbol) as ticker:
            info: dict[str, Any] = ticker.info
        if not any(value is not None for name, value in info.items() if name not in ("symbol", "trailingPegRatio")):
            raise ToolError(_unknown(symbol))
        return info

    def _prices(self, symbol: str, period: str, interval: str) -> Any:
        with self._asking(symbol) as ticker:
            prices = ticker.history(period=period, interval=interval)
        _check(prices, symbol, "prices")
        return prices

    @contextmanager
    def _asking(self, symbol: str) -> Generator[Any, None, None]:
        """A ticker to ask; what goes wrong meanwhile is told to the model in a sentence."""
        if not _SYMBOL.fullmatch(name := symbol.strip().upper()):  # it becomes part of an address
            raise ToolError(_unknown(symbol[:40]))
        yf: Any = import_module("yfinance")
        try:
            with _raising(yf):
                yield yf.Ticker(name, session=self._session)
        except Exception as error:
            if (told := _told(error, symbol, yf)) is None:
                raise
            raise ToolError(told) from error


def _told(error: Exception, symbol: str, yf: Any) -> str | None:
    """What the model is told of an error of Yahoo or of the network; None for one of another kind."""
    exceptions = yf.exceptions
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, exceptions.YFRateLimitError) or status == 429:
        return "Yahoo Finance takes no more requests for the moment (rate limit). Try again later."
    if status == 404:
        return _unknown(symbol)
    if isinstance(status, int) and status >= 400:
        return f"Yahoo Finance answered with HTTP status {status}. Try again later."
    if isinstance(error, exceptions.YFTickerMissingError):
        return f"Yahoo Finance has no such data for {symbol!r}: {getattr(error, 'rationale', error)}"
    if isinstance(error, (LookupError, TypeError, AttributeError)) or type(error).__name__ == "JSONDecodeError":
        # the first are what yfinance makes of what has another shape than usual
        return "Yahoo Finance gave an answer that can't be read. Try again later."
    if isinstance(error, OSError):  # as all errors of curl_cffi and of requests are
        said = str(error).partition(". See ")[0].removeprefix("Failed to perform, ")
        return f"Yahoo Finance could not be reached: {said or type(error).__name__}"
    if isinstance(error, (exceptions.YFException, ValueError)):
        return f"Yahoo Finance: {error}"
    return None


def _unknown(symbol: str) -> str:
    return f"Yahoo Finance knows no symbol {symbol!r}. Is it a ticker symbol, such as AAPL?"


def _check(frame: Any, symbol: str, what: str) -> None:
    if frame is None or frame.empty:
        raise ToolError(f"Yahoo Finance gave no {what} for {symbol!r}. Is it a ticker symbol, such as AAPL?")


def _chosen(info: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {name: info[key] for name, key in names.items() if info.get(key) is not None}


def _story(content: dict[str, Any]) -> dict[str, Any]:
    provider: dict[str, Any] = content.get("provider") or {}
    url: dict[str, Any] = content.get("canonicalUrl") or content.get("clickThroughUrl") or {}
    return {
        "title": content.get("title"),
        "summary": content.get("summary") or content.get("description"),
        "published": content.get("pubDate"),
        "source": provider.get("displayName"),
        "url": url.get("url"),
    }


def _rounded(value: Any) -> float | int | None:
    number = float(value)
    if number != number:  # not a number: there was no trade
        return None
    return int(number) if number.is_integer() else round(number, 4)


# --- yfinance logs what went wrong and gives no data, unless it is told otherwise, for the whole process --------------

_lock = threading.Lock()
_askers = 0
_before: Any = None


@contextmanager
def _raising(yf: Any) -> Generator[None, None, None]:
    global _askers, _before
    debug = yf.config.debug
    with _lock:
        if not _askers:
            _before = debug.hide_exceptions
            debug.hide_exceptions = False
        _askers += 1
    try:
        yield
    finally:
        with _lock:
            _askers -= 1
            if not _askers:
                debug.hide_exceptions = _before
