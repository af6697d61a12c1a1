"""A scripted server that speaks enough of `POST /v1/chat/completions` and `/v1/messages` for the benchmarks.

    python benchmarks/server.py        prints its port, a free one on loopback, then serves until it is killed

The model's name is the script: `echo` answers ANSWER; `tokens-N` answers N pieces; `slow-MS` waits before its 20
pieces; `stamps-N` writes N pieces 2 ms apart, each the time of its writing (`time.perf_counter_ns`); `chain-N` asks for
N calls of `add`, one a turn, and `parallel-N` for all at once. After tool calls the answer is the sum of the results
that came back, so a right answer proves that the tools ran and that the model was told. `GET /v1/last` tells what the
last request held.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable
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


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(event: str) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event.encode())


def chunked(events: list[str]) -> bytes:
    """All chunks in one piece of body, so that the client's cost is measured and not its waiting."""
    return CHUNKED + b"".join(map(chunk, events)) + b"0\r\n\r\n"


def chat_events(model: str, texts: Iterable[str]) -> list[str]:
    def sse(choices: list[dict[str, Any]], usage: Any = None) -> str:
        data = {**CALL, "object": "chat.completion.chunk", "model": model, "choices": choices, "usage": usage}
        return f"data: {json.dumps(data)}\n\n"

    def choice(delta: dict[str, Any], finish: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]

    events = [sse(choice({"role": "assistant", "content": ""}))]
    events += [sse(choice({"content": text})) for text in texts]
    return [*events, sse(choice({}, "stop")), sse([], USAGE), "data: [DONE]\n\n"]


@cache
def streamed(model: str, texts: tuple[str, ...]) -> bytes:
    return chunked(chat_events(model, texts))


async def stamped(writer: asyncio.StreamWriter, model: str, count: int) -> None:
    """Write pieces 2 ms apart, each the time it is written at."""
    first, piece, *rest = chat_events(model, ["STAMP "])
    writer.write(CHUNKED + chunk(first))
    for _ in range(count):
        await asyncio.sleep(0.002)
        writer.write(chunk(piece.replace("STAMP", str(time.perf_counter_ns()))))
    writer.write(b"".join(map(chunk, rest)) + b"0\r\n\r\n")


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


def message(request: dict[str, Any]) -> bytes:
    """The answer in the dialect of `/v1/messages`."""
    model: str = request["model"]
    script, _, argument = model.partition("-")
    texts = [ANSWER] if script == "echo" else pieces(int(argument))
    return streamed_message(model, tuple(texts)) if request.get("stream") else whole_message(model, "".join(texts))


def new_message(model: str, content: list[Any], stop: str | None, output_tokens: int) -> dict[str, Any]:
    usage = {"input_tokens": 20, "output_tokens": output_tokens}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": model}
    return {**head, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def whole_message(model: str, text: str) -> bytes:
    content = [{"type": "text", "text": text}]
    return http(b"application/json", json.dumps(new_message(model, content, "end_turn", 20)).encode())


@cache
def streamed_message(model: str, texts: tuple[str, ...]) -> bytes:
    def delta(text: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}

    ended = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 20}}
    events = [
        {"type": "message_start", "message": new_message(model, [], None, 1)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *map(delta, texts),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", **ended},
        {"type": "message_stop"},
    ]
    return chunked([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events])


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
            script, _, argument = request["model"].partition("-")
            if script == "stamps":
                await stamped(writer, request["model"], int(argument))
            else:
                await asyncio.sleep(int(argument) / 1000 if script == "slow" else 0)
                writer.write(message(request) if b"/v1/messages" in head.partition(b"\r\n")[0] else answer(request))
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
