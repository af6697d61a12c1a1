"""Answers that are values: a pydantic model, a dataclass, any type."""

from typing import Literal

from pydantic import BaseModel, Field

from agentrt import Agent
from agentrt.errors import OutputValidationError


class Ticket(BaseModel):
    title: str = Field(description="A few words")
    kind: Literal["bug", "wish", "question"]
    urgent: bool


agent = Agent(response_model=Ticket, instructions="Make a ticket of what the user says.")

try:
    ticket = agent.run("The page is white since this morning, nobody can work!").content
    if ticket is not None:
        print(f"{ticket.kind}: {ticket.title}" + (" (urgent)" if ticket.urgent else ""))

    # another type for one run; one that is no object works, too
    words = agent.run("Give me three words for cold", response_model=list[str], instructions="Answer.").content
    print(words)
except OutputValidationError as error:  # the model did not do as it was told: `text` is what it said
    print(error, error.text, sep="\n")
