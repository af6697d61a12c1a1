"""A call that a person must allow: the run pauses, is stored, and goes on when the decision is there."""

from agentrt import Agent, tool
from agentrt.storage.sqlite import SqliteStorage


@tool(requires_confirmation=True, effect="once")
def delete_account(name: str) -> str:
    """Delete a user's account."""
    return f"The account of {name} is deleted"


agent = Agent(tools=[delete_account], storage=SqliteStorage(db_file="tmp/accounts.db"))

response = agent.run("Delete the account of bob")
while response.is_paused:
    for call in response.tools_requiring_confirmation:
        arguments = ", ".join(f"{name}={value!r}" for name, value in call.tool_args.items())
        call.confirmed = input(f"{call.tool_name}({arguments})? [y/N] ").lower() == "y"
        if not call.confirmed:
            call.confirmation_note = "not without asking the user first"  # the model is told
    response = agent.continue_run(response)

for call in response.tools:
    print(f"{call.tool_name}: {call.result}")
print(response.content)
