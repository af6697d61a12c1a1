"""Two models for one answer: the first thinks freely, the second puts what it says into a type."""

import os

from pydantic import BaseModel, Field

from agentrt import Agent


class Plan(BaseModel):
    goal: str = Field(description="What is to be reached, in a few words.")
    steps: list[str] = Field(description="What to do, in order.")
    days: int = Field(description="How long it takes.")


agent = Agent(
    description="You plan trips.",
    response_model=Plan,
    parser_model=os.environ.get("PARSER_MODEL") or os.environ.get("AGENTRT_MODEL", "local"),
    parser_model_prompt="Take the plan out of the text.",
)
response = agent.run("A weekend in Bergen, please.")
if plan := response.content:
    print(f"{plan.goal}, in {plan.days} days")
    print("\n".join(f"- {step}" for step in plan.steps))
