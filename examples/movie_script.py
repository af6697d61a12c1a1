"""A typed answer that is shown while it is written: each part once, in its type, as soon as it is finished."""

from pydantic import BaseModel, Field

from agentrt import Agent
from agentrt.errors import OutputTruncated, OutputValidationError
from agentrt.run.events import OutputPartial, RunCompleted


class Character(BaseModel):
    name: str
    wants: str = Field(description="In a few words")


class MovieScript(BaseModel):
    title: str
    setting: str = Field(description="A nice setting for a blockbuster movie")
    characters: list[Character] = Field(max_length=4)
    storyline: str = Field(description="Three exciting sentences")


agent = Agent(instructions="You write movie scripts.", response_model=MovieScript)

try:
    for event in agent.run("New York", stream=True):
        match event:
            case OutputPartial(parts=parts):
                for part in parts:
                    print(".".join(map(str, part.path)), "=", repr(part.value))
            case RunCompleted(content=MovieScript() as script):
                print(f"{script.title}, with {len(script.characters)} characters")
except (OutputValidationError, OutputTruncated) as error:  # a small model may not get it right
    print(error)
