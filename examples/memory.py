"""What an agent remembers: a user across sessions, and a session in short."""

from agentrt import Agent
from agentrt.memory.db.sqlite import SqliteMemoryDb
from agentrt.memory.memory import Memory
from agentrt.storage.sqlite import SqliteStorage

db_file = "tmp/agent.db"
memory = Memory(db=SqliteMemoryDb(table_name="user_memories", db_file=db_file))
agent = Agent(
    name="companion",
    instructions="Answer in one sentence.",
    memory=memory,
    enable_user_memories=True,
    enable_session_summaries=True,
    storage=SqliteStorage(table_name="agent_sessions", db_file=db_file),
)

memory.clear()
agent.run("My name is Ava and I like to ski.", user_id="ava", session_id="monday")

# what the run left is taken in after the answer; reading waits for it
print("Memories about Ava:")
for known in memory.get_user_memories(user_id="ava"):
    print("-", known.memory)

summary = memory.get_session_summary(session_id="monday", user_id="ava")
print("In short:", summary.summary if summary else "nothing yet")

# another session, days later: the agent knows whom it talks with
response = agent.run("Where should I go this winter?", user_id="ava", session_id="friday")
print(response.content)

# nobody else does
print("Memories about Bob:", memory.get_user_memories(user_id="bob"))
