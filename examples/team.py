"""A team: its leader hands tasks to the members. One of them may not act before somebody says so.

    python examples/team.py

Which model answers is up to AGENTRT_MODEL, such as openai:gpt-4.1.
"""

from agentrt import Agent, Team, tool
from agentrt.run.events import RunCompleted, ToolCallStarted


@tool(requires_confirmation=True, effect="once")
def book_table(city: str, seats: int) -> str:
    """Book a table for lunch."""
    return f"A table for {seats} in {city} is booked"


def get_weather(city: str) -> str:
    """Say what the weather is like in a city."""
    return f"18 °C and sunny in {city}"


booker = Agent(name="booker", role="Books tables.", tools=[book_table])
forecaster = Agent(name="forecaster", role="Knows the weather.", tools=[get_weather])
team = Team(
    name="outing",
    members=[booker, forecaster],
    instructions="Plan an outing: look at the weather, and book a table for lunch.",
    success_criteria="A table is booked.",
)

for event in team.run("Please book a table in Oslo for the three of us.", stream=True, tool_choice="required"):
    who = "/".join(event.path)
    if isinstance(event, ToolCallStarted):
        print(f"{who} calls {event.tool.tool_name}{event.tool.tool_args}")
    elif isinstance(event, RunCompleted):
        print(f"{who}: {event.content}")

while team.is_paused:
    for requirement in team.run_response.requirements:
        print(f"{'/'.join(requirement.path)} asks to call {requirement.tool.tool_name}: yes")
        requirement.confirm()
    team.continue_run()

response = team.run_response
print(response.content)
for member in response.member_responses:
    print(f"{member.agent_name} used {member.usage.total_tokens} of {response.total_usage.total_tokens} tokens")
