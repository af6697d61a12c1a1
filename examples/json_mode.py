"""The same type twice: by the provider's schemas, and by its JSON mode, for models that have no more than that."""

from pydantic import BaseModel, Field
from rich.pretty import pprint

from agentrt import Agent
from agentrt.errors import OutputTruncated, OutputValidationError


class MovieScript(BaseModel):
    name: str = Field(description="A name for the movie")
    genre: str = Field(description="If in doubt: action, thriller or romantic comedy")
    setting: str = Field(description="In a few words")
    characters: list[str] = Field(description="Their names", max_length=4)


by_schema = Agent(description="You write movie scripts.", response_model=MovieScript)
by_json_mode = by_schema.copy(use_json_mode=True)

for agent in (by_schema, by_json_mode):
    try:
        pprint(agent.run("New York").content)
    except (OutputValidationError, OutputTruncated) as error:  # a small model may not get it right
        print(error)
