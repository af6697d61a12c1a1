"""Conversations that are kept: history, several users, and what is stored."""

from agentrt import Agent
from agentrt.errors import SessionAccessDenied
from agentrt.storage.sqlite import SqliteStorage

storage = SqliteStorage(table_name="chats", db_file="tmp/chats.db")
agent = Agent(
    name="companion",
    storage=storage,
    add_history_to_messages=True,
    num_history_runs=5,
)

agent.run("My name is Ada", session_id="ada-1", user_id="ada")
response = agent.run("What is my name?", session_id="ada-1", user_id="ada")
print(response.content)

for message in agent.get_messages_for_session("ada-1"):
    print(f"{message.role:>10}: {message.content}")

try:
    agent.run("What is her name?", session_id="ada-1", user_id="bob")
except SessionAccessDenied as error:
    print(error)

# without a session_id, the calls of one task, thread or notebook are one conversation
first = agent.run("Hello", user_id="bob")
second = agent.run("Hello again", user_id="bob")
print("one session:", first.session_id == second.session_id)
