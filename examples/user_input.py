"""Values that only the user knows: some fields of a tool come from the model, the others from whoever sits there."""

from agentrt import Agent, tool
from agentrt.errors import UserInputInvalid


@tool(requires_user_input=True, user_input_fields=["address", "copies"])  # without user_input_fields: all of them
def send_letter(body: str, address: str, copies: int) -> str:
    """Send a letter.

    Args:
        body: What it says.
        address: Where it goes.
        copies: How many of it.
    """
    return f"{copies} letters to {address} are on their way: {body}"


agent = Agent(tools=[send_letter])

response = agent.run("Send a letter, please")
while response.is_paused:
    for call in response.tools_requiring_user_input:
        for field in call.user_input_schema or ():
            if field.value is None:
                field.value = input(f"{field.name} ({field.field_type.__name__}): {field.description} ")
            else:
                print(f"{field.name}: {field.value}")
    try:
        response = agent.continue_run(response)
    except UserInputInvalid as error:  # nothing was done, and the run waits for another value
        print(error)
        for call in response.tools_requiring_user_input:
            for field in call.user_input_schema or ():
                if field.name == error.field:
                    field.value = None
for call in response.tools:
    print(f"{call.tool_name}: {call.result}")
print(response.content)
