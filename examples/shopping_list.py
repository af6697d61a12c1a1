"""A list that is kept over several runs: each of them finds what the earlier ones have left."""

from agentrt import Agent


def add_item(agent: Agent, item: str) -> str:
    """Add an item to the shopping list."""
    items = agent.session_state["shopping_list"]
    if item.lower() in [known.lower() for known in items]:
        return f"{item} is on the list already"
    items.append(item)
    return f"Added {item}"


def remove_item(agent: Agent, item: str) -> str:
    """Remove an item from the shopping list."""
    items = agent.session_state["shopping_list"]
    kept = [known for known in items if known.lower() != item.lower()]
    if len(kept) == len(items):
        return f"{item} is not on the list"
    agent.session_state["shopping_list"] = kept
    return f"Removed {item}"


def show_items(agent: Agent) -> str:
    """Show all that is on the shopping list."""
    return "\n".join(f"- {item}" for item in agent.session_state["shopping_list"]) or "Nothing is on it"


agent = Agent(
    tools=[add_item, remove_item, show_items],
    session_state={"shopping_list": []},
    instructions="You keep a shopping list. It holds: {shopping_list}",
    add_state_in_messages=True,
    markdown=True,
)

for request in (
    "Add milk to my shopping list",
    "Add bread to my shopping list",
    "I got milk: remove milk from the list",
    "Show what is on my shopping list",
):
    agent.print_response(request, stream=True)
    print("State:", agent.session_state)
