"""A workflow that keeps its answers: asked the same again, it prints what it has and calls no model."""

from collections.abc import Iterator
from time import perf_counter

from agentrt import Agent, RunResponse, Workflow
from agentrt.run.events import RunEvent
from agentrt.storage.sqlite import SqliteStorage
from agentrt.utils.log import logger
from agentrt.utils.pprint import pprint_run_response


class Jokes(Workflow):
    teller = Agent(instructions="Tell a joke of one or two lines.")

    def run(self, topic: str) -> Iterator[RunResponse | RunEvent]:
        if known := self.session_state.get(topic):
            logger.info(f"There is one about {topic} already")
            yield RunResponse(run_id=self.run_id, content=known)
            return
        logger.info(f"A new one about {topic}")
        yield from self.teller.run(f"A joke about {topic}, please.", stream=True)
        self.session_state[topic] = self.teller.run_response.content


jokes = Jokes(storage=SqliteStorage(table_name="jokes", db_file="tmp/jokes.db"), session_id="for all")
for topic in ("tea", "tea"):
    began = perf_counter()
    pprint_run_response(jokes.run(topic=topic), markdown=True)
    print(f"{topic}: {perf_counter() - began:.2f} s")
