"""A session in short: made after each answer, of the last summary and what is new, and told to the next run."""

from agentrt import Agent
from agentrt.memory.db.sqlite import SqliteMemoryDb
from agentrt.memory.memory import Memory

memory = Memory(db=SqliteMemoryDb(table_name="memory", db_file="tmp/session_summary.db"))
agent = Agent(memory=memory, enable_session_summaries=True, instructions="Answer in one sentence.")

for question in ("What is the capital of France?", "What is the capital of Norway?"):
    agent.print_response(question, stream=True, user_id="jon", session_id="1001")

    # reading waits for what the answer has left to be done
    summary = memory.get_session_summary(user_id="jon", session_id="1001")
    print("In short:", summary.summary if summary else "nothing yet")
