"""A chat service with FastAPI: a session per conversation, the answer whole or as a stream.

AGENTRT_MODEL=openai:gpt-4.1 uvicorn fastapi_app:app
curl localhost:8000/chats/friday -d '{"message": "How much is 3417 times 289?"}' -H 'content-type: application/json'
curl -N localhost:8000/chats/friday/stream -d '{"message": "And the half?"}' -H 'content-type: application/json'
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from agentrt import Agent
from agentrt.errors import ModelError, SessionAccessDenied
from agentrt.storage.sqlite import SqliteStorage

KEEP_ALIVE_S = 15.0


def multiply(a: int, b: int) -> str:
    """Multiply two numbers."""
    return f"{a} times {b} is {a * b}"


agent = Agent(
    name="calculator",
    tools=[multiply],
    add_history_to_messages=True,
    storage=SqliteStorage(db_file="tmp/chats.db"),
)
app = FastAPI()


class Ask(BaseModel):
    message: str


@app.post("/chats/{chat}")
async def answer(chat: str, ask: Ask) -> dict[str, str | int | None]:
    try:
        response = await agent.arun(ask.message, session_id=chat)
    except SessionAccessDenied as error:
        raise HTTPException(403, str(error)) from error
    except ModelError as error:
        raise HTTPException(502, str(error)) from error
    return {"answer": response.content, "tokens": response.usage.total_tokens}


@app.post("/chats/{chat}/stream")
async def stream(chat: str, ask: Ask) -> StreamingResponse:
    return StreamingResponse(events(chat, ask.message), media_type="text/event-stream")


async def events(chat: str, message: str) -> AsyncIterator[str]:
    """The run's events, and a comment whenever there is none for a while, so that no proxy closes the connection."""
    async with agent.stream(message, session_id=chat) as run:
        while True:
            try:
                event = await asyncio.wait_for(anext(run), KEEP_ALIVE_S)
            except TimeoutError:
                yield ": still at work\n\n"
            except StopAsyncIteration:
                break
            else:
                yield event.to_sse()
