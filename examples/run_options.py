"""Per-run options: one agent for everybody, and what differs is handed to the run."""

import asyncio
from dataclasses import dataclass

from agentrt import Agent, RunContext, RunLimits


@dataclass
class Customer:
    name: str
    orders: dict[str, str]


def order_status(order: str, ctx: RunContext[Customer]) -> str:
    """Look up the status of one of the customer's orders."""
    return ctx.dependencies.orders.get(order, "there is no such order")


def instructions(ctx: RunContext[Customer]) -> str:
    return f"You help {ctx.dependencies.name} with orders. Be brief."


agent = Agent(name="support", instructions=instructions, tools=[order_status])


async def main() -> None:
    ada = Customer("Ada", {"17": "on its way", "18": "paid"})
    bob = Customer("Bob", {"17": "delivered"})
    answers = await asyncio.gather(
        agent.arun("Where is order 17?", dependencies=ada, user_id="ada"),
        agent.arun("Where is order 17?", dependencies=bob, user_id="bob"),
    )
    for customer, response in zip((ada, bob), answers, strict=True):
        print(f"{customer.name}: {response.content}")

    # model, tools, instructions, limits, response_model … of this run alone; the agent stays as it is
    brief = await agent.arun(
        "Say hello",
        dependencies=ada,
        tools=[],
        instructions="Answer in five words at most.",
        limits=RunLimits(model_calls=2, seconds=60),
    )
    print(brief.content, "|", brief.stop_reason)

    # a variant for longer than one run
    formal = agent.copy(name="formal", instructions="Answer formally.")
    print((await formal.arun("Say hello", dependencies=bob)).content)


asyncio.run(main())
