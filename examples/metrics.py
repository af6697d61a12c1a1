"""What a run has cost: tokens and time, by model call, by tool and with the runs that it began."""

from agentrt import Agent, Budget, Price
from agentrt.run.events import ModelCallCompleted


def get_weather(city: str) -> str:
    """Say what the weather is like in a city."""
    return f"18 °C and sunny in {city}"


budget = Budget(cost_usd=1, price=Price(input=2, output=8))  # USD per million tokens; or agentrt[prices] knows them
agent = Agent(tools=[get_weather], budget=budget, instructions="Answer in one sentence.")

for event in agent.run("Say what the weather is like in Oslo.", stream=True, stream_intermediate_steps=True):
    if isinstance(event, ModelCallCompleted):
        first = f"{event.time_to_first_token_s:.2f} s to the first token" if event.time_to_first_token_s else "no token"
        print(f"call {event.index}: {event.usage.total_tokens} tokens, {first}, {event.elapsed_s:.2f} s in all")

response = agent.run_response
for call in response.tools:
    print(f"{call.tool_name}: {call.elapsed_s:.3f} s")
usage = response.usage  # total_usage is that of the runs which its tools began, too
print(f"{usage.model_calls} calls in {response.elapsed_s:.1f} s: {usage.input_tokens} tokens in", end=", ")
print(f"{usage.output_tokens} out ({usage.cached_input_tokens} from a cache, {usage.reasoning_tokens} for reasoning)")
print(f"${budget.used_cost_usd:.6f} of the budget are used")
