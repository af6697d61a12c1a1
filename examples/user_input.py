"""Values that only the user knows: fields of a tool, and fields that the agent asks for when it needs them."""

from typing import Any

from agentrt import Agent, RunResponse, tool
from agentrt.errors import UserInputInvalid
from agentrt.tools.user_control_flow import UserControlFlowTools


@tool(requires_user_input=True, user_input_fields=["address", "copies"])
def send_letter(body: str, address: str, copies: int) -> str:
    """Send a letter.

    Args:
        body: What it says.
        address: Where it goes.
        copies: How many of it.
    """
    return f"{copies} letters to {address} are on their way: {body}"


agent = Agent(tools=[send_letter, UserControlFlowTools()])


def fill(response: RunResponse[Any]) -> None:
    """Ask for each value that is missing; what the model has given is there already."""
    for call in response.tools_requiring_user_input:
        for field in call.user_input_schema or ():
            if field.value is None:
                field.value = input(f"{field.name} ({field.field_type.__name__}): {field.description} ")
            else:
                print(f"{field.name}: {field.value}")


for question in ("Send a letter, please", "Get input from me about my holidays"):
    response = agent.run(question)
    while response.is_paused:
        fill(response)
        try:
            response = agent.continue_run(response)
        except UserInputInvalid as error:  # nothing was done, and the run waits for another value
            print(error)
            for call in response.tools_requiring_user_input:
                for field in call.user_input_schema or ():
                    if (call.tool_name, field.name) == (error.tool, error.field):
                        field.value = None
    print(response.content)
