"""Stream an agent's events to browsers with Starlette.

    AGENTRT_MODEL=openai:gpt-4.1 uvicorn starlette_app:app
    curl -N 'localhost:8000/ask?question=How+much+is+3417+times+289'

In a page: `new EventSource("/ask?question=…").addEventListener("RunContent", (e) => …JSON.parse(e.data).content)`.
"""

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from agentrt import Agent


def multiply(a: int, b: int) -> str:
    """Multiply two numbers."""
    return f"{a} times {b} is {a * b}"


agent = Agent(name="calculator", tools=[multiply])  # one object for all requests


async def events(question: str) -> AsyncIterator[str]:
    # a client that disconnects closes this generator, and leaving the block ends the run
    async with agent.stream(question) as run:
        async for event in run:
            yield event.to_sse()


async def ask(request: Request) -> StreamingResponse:
    question = request.query_params.get("question", "How much is 3417 times 289?")
    return StreamingResponse(events(question), media_type="text/event-stream")


app = Starlette(routes=[Route("/ask", ask)])
