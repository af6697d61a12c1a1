"""A shopping list that an agent keeps: state that its tools change, its model sees and its session stores."""

from agentrt import Agent
from agentrt.storage.sqlite import SqliteStorage


def add_to_list(item: str, session_state: dict) -> str:
    """Put an item on the shopping list."""
    session_state["shopping_list"].append(item)
    return f"On the list now: {', '.join(session_state['shopping_list'])}"


def take_off_list(item: str, session_state: dict) -> str:
    """Take an item off the shopping list."""
    if item not in session_state["shopping_list"]:
        return f"{item} is not on the list"
    session_state["shopping_list"].remove(item)
    return f"On the list now: {', '.join(session_state['shopping_list']) or 'nothing'}"


agent = Agent(
    tools=[add_to_list, take_off_list],
    session_state={"shopping_list": []},  # what each new session starts from
    instructions="You keep a shopping list. It now holds: {shopping_list}",
    add_state_in_messages=True,
    storage=SqliteStorage(table_name="shopping", db_file="tmp/shopping.db"),
)

agent.print_response("Put milk on the shopping list", session_id="ada", stream=True)
print("Ada:", agent.session_state)

# another session has a list of its own, and this one starts with a value given to the run
agent.print_response(
    "Put bread on the shopping list", session_id="bob", session_state={"shopping_list": ["butter"]}, stream=True
)
print("Bob:", agent.session_state)

# back in the first: the state is loaded with the session
response = agent.run("What is on the list?", session_id="ada")
print("Ada:", response.session_state)
