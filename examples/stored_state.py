"""State in a database: run this program twice, and the second time the list is not empty."""

from agentrt import Agent
from agentrt.storage.sqlite import SqliteStorage


def add_item(agent: Agent, item: str) -> str:
    """Add an item to the shopping list."""
    if item not in agent.session_state["shopping_list"]:
        agent.session_state["shopping_list"].append(item)
    return f"The list is now: {', '.join(agent.session_state['shopping_list'])}"


agent = Agent(
    session_id="shopping",  # always the same session, in each process
    session_state={"shopping_list": [], "visits": 0},
    tools=[add_item],
    storage=SqliteStorage(table_name="agent_sessions", db_file="tmp/stored_state.db"),
    instructions="The shopping list is: {shopping_list}",
    add_state_in_messages=True,
)

agent.run("Good morning!")
print("Found:", agent.session_state)

agent.session_state["visits"] += 1  # a program may change it, too: the next run of the session takes it over
agent.print_response("Add milk to my shopping list", stream=True)
print("Left:", agent.session_state)
