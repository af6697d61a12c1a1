"""An agent that writes down what it thinks, between the calls of its other tools, before it answers."""

from agentrt import Agent
from agentrt.tools.reasoning import ReasoningTools

PRICES = {"tea": 3.5, "cake": 4.0, "soup": 6.5}


def get_price(dish: str) -> str:
    """Say what a dish costs, in euros."""
    return f"{dish} costs {PRICES[dish]:.2f} euros" if dish in PRICES else f"There is no {dish}"


agent = Agent(
    tools=[ReasoningTools(add_instructions=True), get_price],
    instructions="You help people choose. Use a table to show prices.",
    markdown=True,
)
agent.print_response(
    "Write down your thoughts: are 8 euros enough for soup?",
    stream=True,
    show_full_reasoning=True,
    stream_intermediate_steps=True,
)
for step in agent.run_response.reasoning_steps:
    print("-", step.title, f"({step.next_action})")
