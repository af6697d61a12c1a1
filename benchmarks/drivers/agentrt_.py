"""agentrt, as a driver of the peers' harness; see its README for the interface."""

from .base import KEY, SYSTEM, BaseDriver  # pyright: ignore[reportMissingImports]  the harness's own

NAME = "agentrt"
DISTS = ["agentrt", "openai", "httpx2"]
IMPORT = "from agentrt.agent import Agent"
IMPORT_MODEL = IMPORT + "\nfrom agentrt.models.openai import OpenAIChat"


class Driver(BaseDriver):
    sessions = "sqlite"

    def __init__(self, base_url):
        super().__init__(base_url)
        from agentrt.agent import Agent
        from agentrt.models.openai import OpenAIChat

        self.Agent, self.OpenAIChat = Agent, OpenAIChat
        self.shared = self.model("echo")

    def model(self, model):
        return self.OpenAIChat(id=model, api_key=KEY, base_url=self.base_url)

    def agent(self, model, tools=()):
        return self.Agent(model=self.model(model), tools=list(tools) or None, instructions=SYSTEM)

    def fresh(self, tools):
        return self.Agent(model=self.OpenAIChat(id="gpt-4o"), tools=tools)

    def bare(self, tools):
        return self.Agent(model=self.shared, tools=tools)

    async def run(self, agent, prompt):
        return (await agent.arun(prompt)).content

    async def stream(self, agent, prompt):
        async for event in agent.arun(prompt, stream=True):
            if event.event == "RunContent":
                yield event.content

    async def open(self, folder):
        from agentrt.storage.sqlite import SqliteStorage

        self.storage = SqliteStorage(db_file=f"{folder}/agentrt.db")

    async def turn(self, model, session_id, prompt):
        agent = self.Agent(
            model=self.model(model),
            instructions=SYSTEM,
            storage=self.storage,
            session_id=session_id,
            add_history_to_messages=True,
            num_history_runs=1_000_000,
        )
        return (await agent.arun(prompt)).content

    async def shut(self):
        await self.storage.aclose()

    async def close(self):
        await self.shared.aclose()
