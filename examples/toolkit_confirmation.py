"""A toolkit of which some tools need somebody's word: the others run at once."""

from agentrt import Agent, Toolkit
from agentrt.utils.pprint import pprint_run_response


class Files(Toolkit):
    """Some files, in memory."""

    def __init__(self, **options) -> None:
        self.files = {"notes.txt": "milk", "old.txt": "bread"}
        super().__init__("files", [self.list_files, self.delete_file], **options)

    def list_files(self) -> list[str]:
        """List the files."""
        return list(self.files)

    def delete_file(self, name: str) -> str:
        """Delete a file."""
        return "There is no such file" if self.files.pop(name, None) is None else f"{name} is deleted"


agent = Agent(tools=[Files(requires_confirmation_tools=["delete_file"])])

for question in ("List the files", "Delete the file old.txt"):
    response = agent.run(question)
    while response.is_paused:
        for call in response.tools_requiring_confirmation:
            call.confirmed = input(f"{call.tool_name}({call.tool_args})? [y/N] ").lower() == "y"
        response = agent.continue_run(response)
    print([call.result for call in response.tools])
    pprint_run_response(response)
