"""A scripted server that speaks enough of `POST /v1/chat/completions` for the benchmarks, on a free loopback port.

    python benchmarks/server.py        prints its port, then serves until it is killed

The model's name is the script: `echo` answers ANSWER; `tokens-N` answers N pieces; `slow-MS` waits before its 20
pieces; `chain-N` asks for N calls of `add`, one a turn, and `parallel-N` for all at once. After tool calls the answer
is the sum of the results that came back, so a right answer proves that the tools ran and that the model was told.
`GET /v1/last` tells what the last request held.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import cache
from typing import Any

ANSWER = "A fair answer, given at once, and long enough to be worth the trip."
USAGE = {"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": 40}
CALL = {"id": "chatcmpl-1", "created": 1_700_000_000, "system_fingerprint": "fp_1"}


def pieces(count: int) -> list[str]:
    return [f"word {number} " for number in range(count)]


def numbers(call: int) -> dict[str, int]:
    """The arguments of the script's call number `call`."""
    return {"a": call, "b": 10 * call + 1}


def total(calls: int) -> str:
    return str(sum(sum(numbers(call).values()) for call in range(calls)))


def http(content_type: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (content_type, len(body), body)


def whole(model: str, message: dict[str, Any]) -> bytes:
    finish = "tool_calls" if "tool_calls" in message else "stop"
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, "logprobs": None}
    answer = {**CALL, "object": "chat.completion", "model": model, "choices": [choice], "usage": USAGE}
    return http(b"application/json", json.dumps(answer).encode())


@cache
def streamed(model: str, texts: tuple[str, ...]) -> bytes:
    """All chunks in one piece of body, so that the client's cost is measured and not its waiting."""

    def sse(choices: list[dict[str, Any]], usage: Any = None) -> str:
        chunk = {**CALL, "object": "chat.completion.chunk", "model": model, "choices": choices, "usage": usage}
        return f"data: {json.dumps(chunk)}\n\n"

    def choice(delta: dict[str, Any], finish: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]

    events = [sse(choice({"role": "assistant", "content": ""}))]
    events += [sse(choice({"content": text})) for text in texts]
    events += [sse(choice({}, "stop")), sse([], USAGE), "data: [DONE]\n\n"]
    parts = b"".join(b"%x\r\n%s\r\n" % (len(event), event.encode()) for event in events)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + parts + b"0\r\n\r\n"


def answer(request: dict[str, Any]) -> bytes:
    model: str = request["model"]
    script, _, argument = model.partition("-")
    if script in ("chain", "parallel"):
        results = [message["content"] for message in request["messages"] if message["role"] == "tool"]
        count, done = int(argument), len(results)
        if done < count:
            wanted = range(done, done + 1) if script == "chain" else range(count)
            calls = [("add", json.dumps(numbers(call)), f"call_{call}") for call in wanted]
            return whole(
                model,
                {
                    "content": None,
                    "tool_calls": [
                        {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
                        for name, arguments, id in calls
                    ],
                },
            )
        return whole(model, {"content": str(sum(map(int, results)))})
    texts = [ANSWER] if script == "echo" else pieces(20 if script == "slow" else int(argument))
    return streamed(model, tuple(texts)) if request.get("stream") else whole(model, {"content": "".join(texts)})


last: dict[str, int] = {}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if head.startswith(b"get"):
                writer.write(http(b"application/json", json.dumps(last).encode()))
                continue
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            request = json.loads(await reader.readexactly(length))
            last["users"] = sum(message["role"] == "user" for message in request["messages"])
            last["tools"] = len(request.get("tools", ()))
            if request["model"].startswith("slow-"):
                await asyncio.sleep(int(request["model"][5:]) / 1000)
            writer.write(answer(request))
            await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**24, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        from uvloop import new_event_loop  # pyright: ignore[reportMissingImports]  takes the server out of the way
    except ImportError:
        from asyncio import new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
