"""State that is given to a run: the session of that user keeps it, and each run there finds it."""

from agentrt import Agent

agent = Agent(
    instructions="The user is called {user_name} and is {age} years old. Answer in one sentence.",
    add_state_in_messages=True,
)

people = {"john": {"user_name": "John", "age": 30}, "jane": {"user_name": "Jane", "age": 25}}
for user, state in people.items():
    agent.print_response("What is my name?", session_id=f"{user}-1", user_id=user, session_state=state)

# no state is given: that of the session is loaded
for user in people:
    agent.print_response("How old am I?", session_id=f"{user}-1", user_id=user)
    print(f"{agent.session_id}: {agent.session_state}")

# a key that is given wins over the stored one; the others stay
agent.print_response("How old am I?", session_id="john-1", user_id="john", session_state={"age": 31})
print(f"{agent.session_id}: {agent.session_state}")
