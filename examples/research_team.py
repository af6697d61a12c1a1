"""A team: its leader thinks, hands out the work and makes one answer of what the members found."""

from agentrt import Agent, Team
from agentrt.tools.reasoning import ReasoningTools

NEWS = {"tea": "The harvest was poor, prices are expected to rise.", "coffee": "Nothing new about coffee."}
PRICES = {"tea": 3.5, "coffee": 2.9}


def search_news(goods: str) -> str:
    """Search the news about goods."""
    return NEWS.get(goods, "Nothing is known.")


def get_price(goods: str) -> str:
    """Get the price of goods, in euros."""
    return f"{goods} costs {PRICES[goods]:.2f}" if goods in PRICES else f"{goods} is not sold here"


reporter = Agent(
    name="reporter",
    role="Reads the news about goods",
    tools=[search_news],
    instructions="Name your sources. Answer in one sentence.",
    add_datetime_to_instructions=True,
)
clerk = Agent(
    name="clerk",
    role="Knows the prices of goods",
    tools=[get_price],
    instructions="Answer in one sentence.",
)
team = Team(
    name="buyers",
    mode="coordinate",
    members=[reporter, clerk],
    tools=[ReasoningTools(add_instructions=True)],
    instructions=["Look at prices and at the news.", "Only give the final advice."],
    enable_agentic_context=True,
    show_members_responses=True,
    add_datetime_to_instructions=True,
    success_criteria="The advice names the price and what the news say.",
    markdown=True,
)

team.print_response(
    "Should we buy tea now? Get the price of tea.",
    tool_choice="delegate_to_member",  # what the leader begins with, however sure it is of itself
    stream=True,
    show_full_reasoning=True,
    stream_intermediate_steps=True,
)
print("Asked:", *(member.agent_name for member in team.run_response.member_responses))
