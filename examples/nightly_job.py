"""A nightly job with a run id of its own: its process dies in the middle, and the next one goes on where it was.

    python examples/nightly_job.py

The job is run twice, each time in a new process. The first one kills itself after the second of three summaries. The
second one is told nothing of that: its code runs from the top, and what has ended by then, the fetching and two of the
summaries, is not done again. Run a third time, it returns what came of the run.
"""

import asyncio
import os
import subprocess
import sys
from datetime import date

from agentrt import Agent, Workflow
from agentrt.storage.sqlite import SqliteStorage

TICKETS = {"17": "The parcel came broken.", "18": "Where is my parcel?", "19": "Thank you, all is well."}


def fetch(day: str) -> dict[str, str]:
    """Get the day's tickets: slow in real life."""
    print("  fetched the tickets of", day)
    return TICKETS


async def publish(text: str) -> str:
    print("  published:", text.replace("\n", " / "))
    return f"{len(text)} characters are published"


class Nightly(Workflow):
    writer = Agent(name="writer", instructions="Put the ticket into at most five words.")

    async def arun(self, day: str) -> str:
        tickets = await self.step("fetch", fetch, day)
        lines: list[str] = []
        for number, text in tickets.items():
            answer = await self.writer.arun(f"Ticket {number}: {text}")  # a run of an agent is a step, too
            lines.append(f"{number}: {answer.content}")
            if number == "18" and "--die" in sys.argv:
                os._exit(1)  # as a killed process ends: nothing is tidied up
        return await self.step("publish", publish, "\n".join(lines), effect="once")


async def job() -> None:
    storage = SqliteStorage(table_name="nightly", db_file="tmp/nightly.db")
    day = date.today().isoformat()
    handle = await Nightly(storage=storage).start(day=day, run_id=f"nightly-{day}", session_id="nightly")
    response = await handle.result()
    print(f"  {response.status}: {response.content}")
    await storage.aclose()


def main() -> None:
    for number, options in ((1, ["--die"]), (2, [])):
        print(f"Process {number}:", flush=True)
        ended = subprocess.run([sys.executable, __file__, "job", *options], check=False)
        print("ended with", ended.returncode, flush=True)


if __name__ == "__main__":
    asyncio.run(job()) if "job" in sys.argv else main()
