"""A tool that the agent may ask for, and that somebody else carries out: here, this program after asking you."""

import subprocess

from agentrt import Agent, tool
from agentrt.utils.pprint import pprint_run_response


@tool(external_execution=True)
def run_command(command: str) -> str:
    """Run a shell command.

    Args:
        command: The command, as one line.
    """
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False).stdout


agent = Agent(tools=[run_command], instructions="Say in one sentence what the command has done.")
response = agent.run("Run the command: ls")
while response.is_paused:
    for call in response.tools_awaiting_external_execution:
        command = call.tool_args["command"]
        allowed = input(f"Run {command!r}? [y/N] ").strip().lower() == "y"
        call.result = run_command.entrypoint(command) if allowed else "The user did not want that."
    response = agent.continue_run(run_response=response)
pprint_run_response(response)
