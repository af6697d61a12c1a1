"""Typed data from five hundred documents: twenty at a time, under one budget."""

import asyncio
from collections import Counter
from collections.abc import Iterator

from pydantic import BaseModel

from agentrt import Agent, Budget, RunResponse


class Order(BaseModel):
    item: str
    number: int
    urgent: bool


def documents() -> Iterator[str]:
    """They are read as there is room for them, and need not fit into memory together."""
    for number in range(1, 501):
        yield f"Dear shop, please send me {number} boxes of tea. There is no hurry. Yours, customer {number}"


agent = Agent(response_model=Order, instructions="Extract the order.")
budget = Budget(tokens=400_000)  # or Budget(cost_usd=0.50): needs agentrt[prices], or price=Price(input=…, output=…)


async def main() -> None:
    orders: dict[int, Order] = {}
    problems: Counter[str] = Counter()
    async with agent.map(documents(), max_concurrency=20, budget=budget) as outcomes:
        async for index, outcome in outcomes:
            if isinstance(outcome, RunResponse) and outcome.content is not None:
                orders[index] = outcome.content
            else:  # what does not fit into the budget is here, too: BudgetExceeded
                problems[type(outcome).__name__] += 1
    await agent.aclose()
    print(f"{len(orders)} orders, {sum(order.number for order in orders.values())} boxes, problems: {dict(problems)}")
    print(f"{budget.used_tokens} tokens used, {budget.remaining_tokens} left")


asyncio.run(main())
