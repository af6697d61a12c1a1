"""State: a tool changes it, the model sees it in its instructions, the session keeps it, the program reads it."""

from agentrt import Agent


def add_item(agent: Agent, item: str) -> str:
    """Put an item on the shopping list."""
    agent.session_state["shopping_list"].append(item)
    return f"On the list now: {', '.join(agent.session_state['shopping_list'])}"


agent = Agent(
    tools=[add_item],
    session_state={"shopping_list": []},  # what each new session starts from
    instructions="You keep a shopping list. It now holds: {shopping_list}",
    add_state_in_messages=True,
)

agent.print_response("Put milk on the shopping list", session_id="ada", stream=True)
print("Ada:", agent.session_state)

# another session has a list of its own
agent.print_response("Put bread on the shopping list", session_id="bob", stream=True)
print("Bob:", agent.session_state)

# back in the first: the state is loaded with the session
response = agent.run("Thank you!", session_id="ada")
print("Ada:", response.session_state)
