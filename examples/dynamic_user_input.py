"""An agent that asks for what it is missing, when it finds that out: as often as it needs to."""

from agentrt import Agent, Toolkit
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


agent = Agent(tools=[Emails(), UserControlFlowTools()], markdown=True)

response = agent.run("Get input from me: the address of an email that says 'How is Tokyo?'")
while response.is_paused:
    for call in response.tools_requiring_user_input:
        for field in call.user_input_schema:
            if field.value is None:
                field.value = input(f"{field.name} ({field.field_type.__name__}): {field.description} ")
            else:
                print(f"{field.name}: {field.value}")
    response = agent.continue_run(run_response=response)
pprint_run_response(response)
