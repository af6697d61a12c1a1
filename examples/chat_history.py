"""What an agent knows of a conversation: the last runs in each prompt, the rest by a tool, and all of it for you."""

from rich.pretty import pprint

from agentrt import Agent
from agentrt.storage.sqlite import SqliteStorage

agent = Agent(
    session_id="diary",  # the same in each run of this program: the conversation goes on
    storage=SqliteStorage(table_name="diary", db_file="tmp/diary.db"),
    add_history_to_messages=True,
    num_history_runs=3,
    read_chat_history=True,
)
agent.print_response("My favourite colour is teal.")
agent.print_response("What did I say first?")

messages = agent.get_messages_for_session()
pprint([message.model_dump(include={"role", "content"}) for message in messages[-4:]])
print(f"{len(messages)} messages so far")
