"""What agentrt says of its speed: one function a claim, in which agentrt and the bare openai SDK take turns.

    python benchmarks/claims.py CLAIM PORT [--quick]      prints one JSON object: {row: {"unit", "agentrt", "sdk"}}

The SDK's side is what somebody would write by hand: `AsyncOpenAI`, a loop over tool calls, a table of past turns. CPU
is that of this process, user and system, all threads. Every answer is checked, on both sides alike.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import tracemalloc
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

from server import ANSWER, pieces, total

SYSTEM = "You are a helpful assistant."
ASK = "What should I know about this, and why does it matter today?"
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
QUICK = "--quick" in sys.argv
Rows = dict[str, dict[str, Any]]
Costs = dict[str, list[float]]
Work = Callable[[], Awaitable[Any]]


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def check(got: Any, wanted: Any) -> None:
    if got != wanted:
        raise AssertionError(f"{str(got)[:200]!r} came back, not {str(wanted)[:200]!r}")


async def race(repeats: int, agentrt: Work, sdk: Work, *, rounds: int = 9) -> tuple[Costs, Costs]:
    """Run both by turns, `repeats` times each a round; return the seconds for one, round by round: CPU, wall."""
    cpu: Costs = {"agentrt": [], "sdk": []}
    wall: Costs = {"agentrt": [], "sdk": []}
    sides = [("agentrt", agentrt), ("sdk", sdk)]
    repeats = max(1, repeats // 5) if QUICK else repeats
    for _, work in sides:
        await work()
    for _ in range(3 if QUICK else rounds):
        for side, work in sides:
            gc.collect()
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                await work()
            cpu[side].append((time.process_time() - start_cpu) / repeats)
            wall[side].append((time.perf_counter() - start) / repeats)
        sides.reverse()
    return cpu, wall


def row(costs: Costs, unit: str, scale: float) -> dict[str, Any]:
    return {"unit": unit, **{side: [cost * scale for cost in values] for side, values in costs.items()}}


class Sides:
    """The same work by agentrt and by hand."""

    def __init__(self, port: str) -> None:
        from openai import AsyncOpenAI

        from agentrt.models.openai import OpenAIChat

        self.url = f"http://127.0.0.1:{port}/v1"
        self.client = AsyncOpenAI(base_url=self.url, api_key="none")
        self.model: Callable[[str], Any] = lambda id: OpenAIChat(id=id, base_url=self.url, api_key="none")

    def agent(self, script: str, **options: Any) -> Any:
        from agentrt.agent import Agent

        return Agent(model=self.model(script), instructions=SYSTEM, **options)

    def last(self, what: str) -> int:
        with urllib.request.urlopen(f"{self.url}/last") as answer:
            return json.load(answer)[what]

    async def ask(self, script: str, earlier: list[Any] = [], **options: Any) -> str | None:  # noqa: B006  only read
        """A hand-written agent loop over the SDK."""
        messages: list[Any] = [{"role": "system", "content": SYSTEM}, *earlier, {"role": "user", "content": ASK}]
        while True:
            completion = await self.client.chat.completions.create(model=script, messages=messages, **options)
            message = completion.choices[0].message
            if not message.tool_calls:
                return message.content
            messages.append({"role": "assistant", "content": None, "tool_calls": message.tool_calls})
            for call in message.tool_calls:
                result = await add(**json.loads(call.function.arguments))  # pyright: ignore[reportAttributeAccessIssue]
                messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})

    async def ask_streaming(self, script: str) -> str:
        texts: list[str] = []
        messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ASK}]
        async for chunk in await self.client.chat.completions.create(
            model=script, messages=messages, stream=True, stream_options={"include_usage": True}
        ):
            if chunk.choices and (text := chunk.choices[0].delta.content):
                texts.append(text)
        return "".join(texts)

    @staticmethod
    async def stream(agent: Any) -> str:
        return "".join([event.content async for event in agent.arun(ASK, stream=True) if event.event == "RunContent"])


async def imports(port: str) -> Rows:
    """The import of all that a first agent names; each in a new interpreter."""
    code = "import time; start = time.process_time(); {}; print(time.process_time() - start)"
    statements = {
        "agentrt": "from agentrt.agent import Agent; from agentrt.models.openai import OpenAIChat",
        "sdk": "from openai import AsyncOpenAI",
    }
    costs: Costs = {side: [] for side in statements}
    for _ in range(4 if QUICK else 10):
        for side, statement in statements.items():
            # -I: neither this folder nor the environment's settings are looked at
            command = [sys.executable, "-I", "-c", code.format(statement)]
            costs[side].append(float(subprocess.check_output(command)))  # noqa: ASYNC221  nothing else runs here
    warm = {side: values[1:] for side, values in costs.items()}  # the first compiles
    return {"import of `Agent` and `OpenAIChat`": row(warm, "ms", 1e3)}


async def construction(port: str) -> Rows:
    """An agent with one tool, over a model made before; the SDK's client, over an HTTP client made before."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    from agentrt.agent import Agent
    from agentrt.models.openai import OpenAIChat

    model, http, tools = OpenAIChat(id="echo"), DefaultAsyncHttpxClient(), [add]
    makers: dict[str, Callable[[], Any]] = {
        "agentrt": lambda: Agent(model=model, tools=tools),
        "sdk": lambda: AsyncOpenAI(api_key="none", http_client=http),
    }

    def times(make: Callable[[], Any], count: int) -> Work:
        async def work() -> None:
            for _ in range(count):
                make()

        return work

    cpu, _ = await race(5, times(makers["agentrt"], 200), times(makers["sdk"], 200))
    held: Costs = {}
    for side, make in makers.items():
        gc.collect()
        tracemalloc.start()
        kept = [make() for _ in range(100)]
        held[side] = [tracemalloc.get_traced_memory()[0] / len(kept)]
        tracemalloc.stop()
    return {
        "constructing an agent with one tool": row(cpu, "µs", 1e6 / 200),
        "held by it": row(held, "bytes", 1),
    }


async def plain(port: str) -> Rows:
    """One run, not streamed."""
    sides = Sides(port)
    agent = sides.agent("echo")

    async def agentrt() -> None:
        check((await agent.arun(ASK)).content, ANSWER)

    async def sdk() -> None:
        check(await sides.ask("echo"), ANSWER)

    cpu, _ = await race(60, agentrt, sdk)
    return {"one plain run": row(cpu, "µs", 1e6)}


async def chunks(port: str) -> Rows:
    """One streamed chunk, of 2,000 that come together."""
    sides = Sides(port)
    agent, text = sides.agent("tokens-2000"), "".join(pieces(2000))

    async def agentrt() -> None:
        check(await sides.stream(agent), text)

    async def sdk() -> None:
        check(await sides.ask_streaming("tokens-2000"), text)

    cpu, _ = await race(1, agentrt, sdk)
    return {"one streamed chunk": row(cpu, "µs", 1e6 / 2000)}


async def claude(port: str) -> Rows:
    """The plain run and the chunk of `Claude`, beside the anthropic SDK."""
    from anthropic import AsyncAnthropic

    from agentrt.agent import Agent
    from agentrt.models.anthropic import Claude

    url = f"http://127.0.0.1:{port}"
    client = AsyncAnthropic(base_url=url, api_key="none")
    messages: list[Any] = [{"role": "user", "content": ASK}]
    asked: dict[str, Any] = {"max_tokens": 1024, "system": SYSTEM, "messages": messages}

    def agent(script: str) -> Any:
        return Agent(model=Claude(id=script, base_url=url, api_key="none"), instructions=SYSTEM)

    one, many, text = agent("echo"), agent("tokens-2000"), "".join(pieces(2000))

    async def run() -> None:
        check((await one.arun(ASK)).content, ANSWER)

    async def create() -> None:
        check((await client.messages.create(model="echo", **asked)).content[0].text, ANSWER)

    async def stream() -> None:
        check(await Sides.stream(many), text)

    async def create_stream() -> None:
        texts: list[str] = []
        async for event in await client.messages.create(model="tokens-2000", stream=True, **asked):
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                texts.append(event.delta.text)
        check("".join(texts), text)

    plain, _ = await race(60, run, create)
    chunks, _ = await race(1, stream, create_stream)
    return {
        "one plain run of `Claude`, beside anthropic's SDK": row(plain, "µs", 1e6),
        "one streamed chunk of `Claude`, beside anthropic's SDK": row(chunks, "µs", 1e6 / 2000),
    }


async def delay(port: str) -> Rows:
    """How long after its writing a chunk is there; each is a segment of its own, 2 ms after the one before."""
    import httpx2

    sides = Sides(port)
    count = 60 if QUICK else 300
    agent, http = sides.agent(f"stamps-{count}"), httpx2.AsyncClient()
    now = time.perf_counter_ns

    async def agentrt() -> list[int]:
        return [now() - int(e.content) async for e in agent.arun(ASK, stream=True) if e.event == "RunContent"]

    async def raw() -> list[int]:
        """The HTTP client alone: when the bytes are there, before anything is read of them."""
        delays: list[int] = []
        body = {"model": f"stamps-{count}", "stream": True, "messages": [{"role": "user", "content": ASK}]}
        async with http.stream("POST", f"{sides.url}/chat/completions", json=body) as response:
            async for piece in response.aiter_raw():
                at, text = now(), piece.decode()
                delays += [at - int(stamp) for stamp in re.findall(r'"content": "(\d+) "', text)]
        return delays

    found: dict[str, Costs] = {}
    for _ in range(3 if QUICK else 9):
        for side, work in (("agentrt", agentrt), ("sdk", raw)):
            gc.collect()
            delays = sorted(await work())
            check(len(delays), count)
            for name, place in (("p50", count // 2), ("p99", count * 99 // 100)):
                found.setdefault(name, {}).setdefault(side, []).append(delays[place] * 1e-9)
    return {f"delay of a chunk, {name}, beside `httpx2`": row(costs, "µs", 1e6) for name, costs in found.items()}


async def sync(port: str) -> Rows:
    """The sync facade, whose loop is in a thread of its own, beside the same run awaited."""
    sides = Sides(port)
    agent, many, text = sides.agent("echo"), sides.agent("tokens-2000"), "".join(pieces(2000))

    async def run() -> None:
        check(agent.run(ASK).content, ANSWER)

    async def arun() -> None:
        check((await agent.arun(ASK)).content, ANSWER)

    async def run_stream() -> None:
        events = many.run(ASK, stream=True)
        check("".join([event.content for event in events if event.event == "RunContent"]), text)

    async def arun_stream() -> None:
        check(await sides.stream(many), text)

    plain, _ = await race(60, run, arun)
    streamed, _ = await race(1, run_stream, arun_stream)
    return {
        "one plain run by `run`, beside `arun`": row(plain, "µs", 1e6),
        "one streamed chunk by `run`, beside `arun`": row(streamed, "µs", 1e6 / 2000),
    }


async def tools(port: str) -> Rows:
    """Ten tool calls in one run: one after another (eleven model calls), and all at once (two)."""
    sides = Sides(port)
    rows: Rows = {}
    for script, title in (("chain-10", "a chain of 10 tool calls"), ("parallel-10", "10 parallel tool calls")):
        agent = sides.agent(script, tools=[add])

        async def agentrt(agent: Any = agent) -> None:
            check((await agent.arun(ASK)).content, total(10))

        async def sdk(script: str = script) -> None:
            check(await sides.ask(script, tools=[ADD]), total(10))

        cpu, _ = await race(8, agentrt, sdk)
        rows[title] = row(cpu, "ms", 1e3)
        check(sides.last("tools"), 1)
    return rows


async def concurrency(port: str) -> Rows:
    """500 streams at once, of one agent, from a model that begins after 200 ms; each holds its own connection."""
    sides = Sides(port)
    agent, text, count = sides.agent("slow-200"), "".join(pieces(20)), 100 if QUICK else 500

    async def agentrt() -> None:
        for answer in await asyncio.gather(*[sides.stream(agent) for _ in range(count)]):
            check(answer, text)

    async def sdk() -> None:
        for answer in await asyncio.gather(*[sides.ask_streaming("slow-200") for _ in range(count)]):
            check(answer, text)

    grown: Costs = {}
    for side, work in (("agentrt", agentrt), ("sdk", sdk)):
        before = peak_bytes()
        await work()
        grown[side] = [peak_bytes() - before]
    cpu, wall = await race(1, agentrt, sdk, rounds=5)
    title = f"{count} concurrent streams"
    return {
        f"{title}, each": row(cpu, "ms", 1e3 / count),
        f"{title}, wall": row(wall, "s", 1),
        f"{title}, growth of the peak memory, agentrt first": row(grown, "MiB", 2**-20),
    }


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


async def history(port: str) -> Rows:
    """A server's turn, with nothing of the session in memory: load from SQLite, send, answer, store."""
    sides = Sides(port)
    rows: Rows = {}
    for stored, sent in ((50, None), (200, None), (400, None), (10, 3), (1000, 3)):
        what = "all sent" if sent is None else f"{sent} sent"
        with tempfile.TemporaryDirectory() as folder:
            rows[f"a turn at {stored} stored turns, {what}"] = row(await turns(sides, folder, stored, sent), "ms", 1e3)
    return rows


async def turns(sides: Sides, folder: str, stored: int, sent: int | None) -> Costs:
    """The cost of a turn after `stored` ones, of which `sent` (None: all) go to the model. Measuring adds some."""
    from agentrt.storage.sqlite import SqliteStorage

    storage = SqliteStorage(db_file=f"{folder}/agentrt.db")
    table = sqlite3.connect(f"{folder}/sdk.db")
    table.execute("PRAGMA journal_mode=WAL")
    table.execute("CREATE TABLE turns (id INTEGER PRIMARY KEY, messages TEXT)")

    async def turn(**options: Any) -> None:
        agent = sides.agent("echo", storage=storage, session_id="one", **options)
        check((await agent.arun(ASK)).content, ANSWER)

    def store() -> None:
        said = [{"role": "user", "content": ASK}, {"role": "assistant", "content": ANSWER}]
        table.execute("INSERT INTO turns (messages) VALUES (?)", (json.dumps(said),))
        table.commit()

    async def agentrt() -> None:
        await turn(add_history_to_messages=True, num_history_runs=sent or 10_000)

    async def sdk() -> None:
        newest = table.execute("SELECT messages FROM turns ORDER BY id DESC LIMIT ?", (sent or -1,)).fetchall()
        check(await sides.ask("echo", [message for (found,) in newest[::-1] for message in json.loads(found)]), ANSWER)
        store()

    for _ in range(stored):
        await turn()
        store()
    for work in (agentrt, sdk):
        await work()
        check(sides.last("users"), (sent or stored) + 1)
    cpu, _ = await race(5, agentrt, sdk, rounds=5 if sent is None else 9)
    await storage.aclose()
    table.close()
    return cpu


CLAIMS = {
    claim.__name__: claim
    for claim in (imports, construction, plain, chunks, tools, concurrency, history, delay, claude, sync)
}

if __name__ == "__main__":
    print(json.dumps(asyncio.run(CLAIMS[sys.argv[1]](sys.argv[2]))))
