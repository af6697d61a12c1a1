"""An agent that is given a tool for its memory: it notes, changes and forgets what it is told to, for each user."""

from agentrt import Agent
from agentrt.memory.db.sqlite import SqliteMemoryDb
from agentrt.memory.memory import Memory

memory = Memory(db=SqliteMemoryDb(table_name="memories", db_file="tmp/memory.db"))
agent = Agent(memory=memory, enable_agentic_memory=True, instructions="Answer in one sentence.")


def show(user: str) -> None:
    print(f"Known of {user}:", [known.memory for known in memory.get_user_memories(user_id=user)])


agent.print_response("Please remember that I like to hike.", user_id="john", stream=True)
agent.print_response("Please remember that I play chess.", user_id="mary", stream=True)
show("john")

# "forget everything" is about the one who says it
agent.print_response("Delete all that you remember of me.", user_id="john", stream=True)
show("john")
show("mary")
