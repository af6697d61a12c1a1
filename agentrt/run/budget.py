"""`Budget`: tokens and money that any runs share.

What a request may take is reserved before it is sent and settled once it is known, so runs at the same time can't all
spend what is left. A request that does not fit beside what is used and reserved is not sent.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from agentrt.errors import BudgetExceeded, ConfigurationError
from agentrt.models.base import Model, ModelRequest
from agentrt.models.message import Message, Usage
from agentrt.run.tokens import MESSAGE_TOKENS, tokens_of, tokens_of_message, tokens_said

OUTPUT_TOKENS = 4_096
"""What is reserved for the answer of a model that has no `max_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, in USD per million tokens. Cached input costs as much as other input when not given."""

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None

    def of(self, usage: Usage) -> Decimal:
        """The cost of this usage, in USD."""
        cached = self.input if self.cached_input is None else self.cached_input
        written = self.input if self.cache_write is None else self.cache_write
        plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
        parts = (
            (plain, self.input),
            (usage.cached_input_tokens, cached),
            (usage.cache_write_tokens, written),
            (usage.output_tokens, self.output),
        )
        return sum((tokens * Decimal(str(price)) for tokens, price in parts), Decimal(0)) / 1_000_000


class Budget:
    """At most so many tokens, or USD, for all runs it is given to: `Agent(budget=…)` or `arun(…, budget=…)`.

    Runs on any event loop and thread may share one; child runs share their parent's. Before each model request its
    input (estimated from its length) and its output (the model's `max_tokens`, else 4096) are reserved, and a request
    that does not fit is refused with `BudgetExceeded` before anything is sent. So no more is used than the budget, but
    for what a request takes beyond its reservation. Where the provider says no usage, the estimate counts.

    `price` is a `Price` for all models, or a mapping of them by `"provider:id"` or `id`; else prices are those of the
    `genai-prices` package. A model without a known price is a `ConfigurationError` before its first request.
    """

    def __init__(
        self,
        *,
        tokens: int | None = None,
        cost_usd: float | None = None,
        price: Price | Mapping[str, Price] | None = None,
    ) -> None:
        if tokens is None and cost_usd is None:
            raise ConfigurationError("A budget is one of tokens or of money: Budget(tokens=…) or Budget(cost_usd=…)")
        self.tokens = tokens
        self.cost_usd = cost_usd
        self.price = price
        self._lock = threading.Lock()
        self._used_tokens = self._reserved_tokens = 0
        self._used_usd = self._reserved_usd = Decimal(0)

    @property
    def used_tokens(self) -> int:
        """The tokens that ended requests have used."""
        return self._used_tokens

    @property
    def used_cost_usd(self) -> float:
        """What ended requests have cost; 0 for a budget of tokens that has no `price`."""
        return float(self._used_usd)

    @property
    def remaining_tokens(self) -> int | None:
        """What a further request may still take: neither used nor reserved. None when tokens have no limit."""
        if self.tokens is None:
            return None
        with self._lock:
            return max(0, self.tokens - self._used_tokens - self._reserved_tokens)

    @property
    def remaining_cost_usd(self) -> float | None:
        """As `remaining_tokens`, in USD."""
        if self.cost_usd is None:
            return None
        with self._lock:
            return max(0.0, float(_exact(self.cost_usd) - self._used_usd - self._reserved_usd))

    def reserve(self, model: Model, usage: Usage) -> Decimal:
        """Take this much off what is left, and return its price. Raises `BudgetExceeded`, `ConfigurationError`.

        Of several models that may answer, the dearest counts.
        """
        usd = max(self._cost(one, usage) for one in model.may_answer())
        with self._lock:
            self._check("tokens", self.tokens, self._used_tokens, self._reserved_tokens, usage.total_tokens)
            if self.cost_usd is not None:
                self._check("cost_usd", _exact(self.cost_usd), self._used_usd, self._reserved_usd, usd)
            self._reserved_tokens += usage.total_tokens
            self._reserved_usd += usd
        return usd

    def settle(self, model: Model, reserved: Usage, reserved_usd: Decimal, used: Usage) -> None:
        """Replace a reservation by what was used."""
        usd = self._cost(model, used)
        with self._lock:
            self._reserved_tokens -= reserved.total_tokens
            self._reserved_usd -= reserved_usd
            self._used_tokens += used.total_tokens
            self._used_usd += usd

    def _check(self, name: str, limit: Any, used: Any, reserved: Any, needed: Any) -> None:
        if limit is not None and used + reserved + needed > limit:
            kind = int if name == "tokens" else float
            raise BudgetExceeded(name, kind(limit), used=kind(used), reserved=kind(reserved), needed=kind(needed))

    def _cost(self, model: Model, usage: Usage) -> Decimal:
        price = self.price
        if isinstance(price, Mapping):
            price = price.get(f"{model.provider}:{model.id}") or price.get(model.id)
        if price is not None:
            return price.of(usage)
        return Decimal(0) if self.cost_usd is None else _known_cost(model, usage)

    def __repr__(self) -> str:
        limits = (("tokens", self.tokens, self.used_tokens), ("cost_usd", self.cost_usd, self.used_cost_usd))
        said = (f"{name}={limit!r}, used_{name}={used!r}" for name, limit, used in limits if limit is not None)
        return f"Budget({', '.join(said)})"


class Reservation:
    """What one model request holds of its run's budgets while it is made: `with Reservation(…) as reservation:`.

    On entering, all of it is reserved, or nothing and `BudgetExceeded` raised. On leaving, what it `took` is settled:
    nothing, when that was not said.
    """

    def __init__(self, budgets: Iterable[Budget], model: Model, request: ModelRequest) -> None:
        self._budgets = tuple(budgets)
        self._model = self._answered = model
        self._held: list[tuple[Budget, Decimal]] = []
        self._used = Usage()
        self._may_take = _estimate(model, request) if self._budgets else self._used

    def took(self, usage: Usage, said: Message | None, answered: Model | None = None) -> None:
        """Say what the request has used, and what came of it, by which its usage is estimated if that is not known.

        `answered` is the model whose price it has, the one that was asked if that is not known.
        """
        self._answered = answered or self._model.may_answer()[0]
        if usage.total_tokens:
            self._used = usage
        else:
            text = tokens_said(said) if said is not None else 0
            self._used = Usage(input_tokens=self._may_take.input_tokens, output_tokens=text)

    def __enter__(self) -> Self:
        try:
            for budget in self._budgets:
                self._held.append((budget, budget.reserve(self._model, self._may_take)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for budget, usd in self._held:
            budget.settle(self._answered, self._may_take, usd, self._used)
        self._held.clear()


# --- estimates -------------------------------------------------------------------------------------------------------


def _estimate(model: Model, request: ModelRequest) -> Usage:
    tokens = 0
    for message in request.messages:
        tokens += tokens_of_message(message)
    for tool in request.tools:
        tokens += MESSAGE_TOKENS + tokens_of(tool.name, tool.description, str(tool.parameters))
    if request.output is not None:
        tokens += tokens_of(str(request.output.schema))
    return Usage(input_tokens=tokens, output_tokens=max(map(_longest, model.may_answer())))


def _longest(model: Model) -> int:
    limits = (getattr(model, name, None) for name in ("max_tokens", "max_completion_tokens"))
    return next((limit for limit in limits if limit), OUTPUT_TOKENS)


# --- prices ----------------------------------------------------------------------------------------------------------


def _exact(usd: float) -> Decimal:
    return Decimal(str(usd))


def _known_cost(model: Model, usage: Usage) -> Decimal:
    """The cost by the snapshot of prices that comes with the package; nothing is downloaded."""
    try:
        import genai_prices
    except ImportError:
        raise ConfigurationError(
            "A budget in USD needs prices: pip install 'agentrt[prices]', or Budget(cost_usd=…, price=Price(…))"
        ) from None
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - cached)
    counts = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=cached or None,
        cache_write_tokens=written or None,
    )
    try:
        return genai_prices.calc_price(counts, model.id, provider_id=model.provider).total_price
    except LookupError:
        raise ConfigurationError(
            f"The price of {model.provider}:{model.id} is not known, so a budget in USD can't hold it; say it: "
            "Budget(cost_usd=…, price=Price(input=…, output=…)), in USD per million tokens"
        ) from None
