"""What an agent knows of a conversation: the last runs with each question, all of it by tools, and for the program."""

from agentrt import Agent

agent = Agent(
    description="You are friendly, and answer in one sentence.",
    add_history_to_messages=True,
    num_history_runs=3,  # with each question; history_tokens=… bounds their size
    read_chat_history=True,  # a tool that reads the earlier runs, which that leaves out
    read_tool_call_history=True,  # and one for what tools were called with
)

agent.print_response("What is the capital of France?", stream=True)
agent.print_response("Read what was said before: what did I ask first?", stream=True)

for message in agent.get_messages_for_session():
    print(message.model_dump(include={"role", "content"}))
