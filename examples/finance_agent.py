"""An agent that thinks, looks up figures of companies and answers with a table: `pip install 'agentrt[yfinance]'`."""

from agentrt import Agent
from agentrt.tools.reasoning import ReasoningTools
from agentrt.tools.yfinance import YFinanceTools

agent = Agent(
    tools=[
        ReasoningTools(add_instructions=True),
        YFinanceTools(stock_price=True, analyst_recommendations=True, company_info=True, company_news=True),
    ],
    instructions="Use tables to show figures.",
    markdown=True,
)
agent.print_response(
    "Get the current stock price of NVDA.",
    stream=True,
    show_full_reasoning=True,
    stream_intermediate_steps=True,
)

# what a tool could not do is told to the model, in words that it can use, and is here as well
for call in agent.run_response.tools:
    print(f"{call.tool_name}: {'failed: ' if call.tool_call_error else ''}{call.result}")
