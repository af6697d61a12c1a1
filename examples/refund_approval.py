"""A refund is asked for by a customer, and approved later, in another process, by somebody else, over the web.

    python examples/refund_approval.py

`ask` and `serve` share nothing but the database: run them on different days, on different machines.
"""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agentrt import Agent, tool
from agentrt.errors import AlreadyContinued, DecisionRefused
from agentrt.run.decisions import Confirm, Reject
from agentrt.runtime import Runtime
from agentrt.storage.sqlite import SqliteStorage

DATABASE = Path("tmp/refunds.db")


@tool(requires_confirmation=True, effect="once")
def refund(order: str, amount: float) -> str:
    """Pay money back for an order."""
    return f"{amount:.2f} were paid back for order {order}"


def make_agent() -> Agent:
    return Agent(agent_id="support", tools=[refund], instructions="Refund orders that customers complain about.")


async def ask() -> None:
    """What the shop does when a customer writes. The run pauses, and this process may end."""
    async with Runtime(agents=[make_agent()], storage=SqliteStorage(db_file=DATABASE)) as runtime:
        handle = await runtime.start("support", "Order 17 came broken, I want my 25.00 back", user_id="ann")
        response = await handle.result()
        print("ann's run is", response.status, "and waits for", [r.tool.tool_name for r in response.requirements])


def serve() -> Starlette:
    """What the back office runs: it lists what waits, and takes decisions."""
    staff = {"token-of-bob": "bob"}

    def only_staff(requirement, decision, by) -> bool:
        return by in staff.values()

    runtime = Runtime(agents=[make_agent()], storage=SqliteStorage(db_file=DATABASE), may_decide=only_staff)

    async def waiting(request: Request) -> JSONResponse:
        return JSONResponse(
            [
                {"run": r.run_id, "call": r.tool_call_id, "tool": r.tool.tool_name, "args": r.tool.tool_args}
                for r in await runtime.requirements()
            ]
        )

    async def decide(request: Request) -> JSONResponse:
        body = await request.json()
        by = staff.get(request.headers.get("authorization", ""))
        decision = Confirm() if body["approve"] else Reject(reason=body.get("reason"))
        try:
            await runtime.decide(request.path_params["run"], request.path_params["call"], decision, by=by)
        except DecisionRefused as error:
            return JSONResponse({"error": str(error)}, status_code=403)
        except AlreadyContinued as error:
            return JSONResponse({"error": str(error)}, status_code=409)
        response = await runtime.continue_run(request.path_params["run"])
        return JSONResponse({"status": response.status, "answer": response.content})

    @asynccontextmanager
    async def lifespan(app: Starlette):
        async with runtime:
            yield

    routes = [Route("/waiting", waiting), Route("/runs/{run}/calls/{call}", decide, methods=["POST"])]
    return Starlette(routes=routes, lifespan=lifespan)


async def main() -> None:
    await ask()

    # a day later, elsewhere
    async with httpx.AsyncClient(transport=httpx.ASGITransport(serve()), base_url="http://office") as office:
        (item,) = (await office.get("/waiting")).json()
        print("waiting:", item["tool"], item["args"])
        where = f"/runs/{item['run']}/calls/{item['call']}"
        print("a stranger:", (await office.post(where, json={"approve": True})).status_code)
        approved = await office.post(where, json={"approve": True}, headers={"authorization": "token-of-bob"})
        print("bob:", approved.json())


if __name__ == "__main__":
    DATABASE.unlink(missing_ok=True)
    asyncio.run(main())
