"""An agent that calls a Python function, streams its answer and remembers the conversation: `make run`.

It runs on a small model in this process, without a key, unless AGENTRT_MODEL names another (`make run MODEL=…`).
"""

import os
from uuid import uuid4

from agentrt import Agent
from agentrt.models.local import LocalModel
from agentrt.storage.sqlite import SqliteStorage

DB_FILE = "tmp/quickstart.db"


def multiply(a: int, b: int) -> str:
    """Multiply two numbers."""
    return f"{a} times {b} is {a * b}"


named = os.environ.get("AGENTRT_MODEL")
model = named or LocalModel()
if isinstance(model, LocalModel):
    print(f"Model: {model.id}, in this process, as AGENTRT_MODEL is not set. It is tiny: its own knowledge is no use,")
    print("what its tools say is. For another: make run MODEL=openai:gpt-4.1 (with OPENAI_API_KEY)\n")
else:
    print(f"Model: {named}, because AGENTRT_MODEL says so\n")

agent = Agent(
    model=model,
    tools=[multiply],
    add_history_to_messages=True,
    storage=SqliteStorage(table_name="sessions", db_file=DB_FILE),
    session_id=uuid4().hex,
)
agent.print_response("How much is 3417 times 289?", stream=True)
agent.print_response("What was the result?", stream=True)

print(f"The conversation, {len(agent.get_messages_for_session())} messages, is kept in {DB_FILE}")
