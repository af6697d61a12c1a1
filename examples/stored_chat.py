"""A conversation that is kept: run this program twice, and the second time the agent knows of the first."""

from rich.pretty import pprint

from agentrt import Agent
from agentrt.storage.sqlite import SqliteStorage

agent = Agent(
    session_id="diary",  # the same in each process
    storage=SqliteStorage(table_name="agent_sessions", db_file="tmp/stored_chat.db"),
    add_history_to_messages=True,
    num_history_runs=3,
    instructions="Answer in one sentence.",
)

agent.print_response("What was my last question?")
agent.print_response("What is the capital of France?")
agent.print_response("What was my last question?")

messages = agent.get_messages_for_session()
pprint([message.model_dump(include={"role", "content"}) for message in messages[-6:]])
print(f"{len(messages)} messages so far")
