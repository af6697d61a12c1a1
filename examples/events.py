"""Send a run's events to another program as JSON lines, and read them there."""

import asyncio

from agentrt import Agent
from agentrt.run.encoding import event_from_json
from agentrt.run.events import RunCompleted, RunContent, ToolCallCompleted, ToolCallStarted


def multiply(a: int, b: int) -> str:
    """Multiply two numbers."""
    return f"{a} times {b} is {a * b}"


agent = Agent(name="calculator", tools=[multiply])


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One line with the question; the answer is an event a line."""
    question = (await reader.readline()).decode()
    async with agent.stream(question) as run:
        async for event in run:
            writer.write(event.to_json().encode() + b"\n")
            await writer.drain()
    writer.close()


async def ask(port: int, question: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(question.encode() + b"\n")
    async for line in reader:
        match event_from_json(line):
            case ToolCallStarted(tool=tool):
                print(f"→ {tool.tool_name}({tool.tool_args})")
            case ToolCallCompleted(content=result):
                print(f"← {result}")
            case RunContent(content=piece):
                print(piece, end="", flush=True)
            case RunCompleted(response=response):
                print(f"\n{response.usage.total_tokens} tokens")
            case other:
                print(f"  [{other.event} at {other.cursor}]")
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        await ask(server.sockets[0].getsockname()[1], "How much is 3417 times 289?")


asyncio.run(main())
