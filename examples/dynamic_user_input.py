"""An agent that asks for what it is missing, when it finds that out: as often as it needs to."""

from agentrt import Agent, RunResponse, Toolkit
from agentrt.errors import UserInputInvalid
from agentrt.tools.user_control_flow import UserControlFlowTools
from agentrt.utils.pprint import pprint_run_response


class Emails(Toolkit):
    def __init__(self) -> None:
        super().__init__("emails", [self.send_email])

    def send_email(self, subject: str, body: str, to_address: str) -> str:
        """Send an email.

        Args:
            subject: What it is about.
            body: What it says.
            to_address: Where it goes.
        """
        return f"Sent to {to_address}: {subject}"


def fill(response: RunResponse) -> None:
    """Ask for each value; what the model has given is there already."""
    for call in response.tools_requiring_user_input:
        for field in call.user_input_schema or ():
            if field.value is None:
                field.value = input(f"{field.name} ({field.field_type.__name__}): {field.description} ")
            else:
                print(f"{field.name}: {field.value}")


agent = Agent(tools=[UserControlFlowTools(), Emails()], markdown=True)

response = agent.run("Ask me for the values of an email.")
while response.is_paused:
    fill(response)
    try:
        response = agent.continue_run(run_response=response)
    except UserInputInvalid as error:  # nothing was done, and the run waits for another value
        print(error)
        for call in response.tools_requiring_user_input:
            for field in call.user_input_schema or ():
                if field.name == error.field:
                    field.value = None
pprint_run_response(response)
