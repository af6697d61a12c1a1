"""Which places of an agent's texts are filled from the state, and which stay as they are."""

from agentrt import Agent

agent = Agent(
    session_state={"user_name": "John", "city": "Oslo"},
    dependencies={"shop": "The Tea House", "opening_hours": lambda: "9 to 5"},  # a function is called for each run
    instructions=[
        "The user is called {user_name} and lives in {city}.",
        "The shop {shop} is open from {opening_hours}.",  # what is not in the state may be in the dependencies
        'These stay: {"tea": 1}, {unknown}, and {{city}} with one brace less. Answer in one sentence.',
    ],
    add_state_in_messages=True,
)

agent.print_response("What is my name?", stream=True)

# what a user says is never looked into: nobody reads the state by asking for it in braces
agent.print_response("Say {city}", stream=True)
for message in agent.get_messages_for_session():
    print(f"{message.role:>10}: {message.content}")
