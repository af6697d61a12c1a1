"""Images and files as input of a run, and as what its tools return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentrt import Agent
from agentrt.media import File, Image
from agentrt.run.encoding import event_from_json, event_to_json
from agentrt.storage.sqlite import SqliteStorage
from agentrt.testing.models import ScriptedModel, reply
from tests.cases.kit import add_chat, add_claude, claude, openai, text_block, use_block
from tests.cases.kit import call as chat_call
from tests.http_server import Server

PNG = b"\x89PNG\r\n\x1a\n"
SOURCE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


def draw() -> list[Any]:
    """Draw a picture."""
    return ["done", Image(data=PNG), File(data=b"%PDF-1.7", name="a.pdf")]


async def test_claude_sees_what_a_tool_returned_in_its_result(server: Server):
    add_claude(server, "plain", use_block("t1", "draw"))
    add_claude(server, "plain", text_block("Nice."))

    response = await Agent(model=claude(server), tools=[draw]).arun("draw")

    (result,) = server.bodies[1]["messages"][2]["content"]
    assert [block["type"] for block in result["content"]] == ["text", "image", "document"]
    assert result["content"][1]["source"] == SOURCE
    (execution,) = response.tools
    assert (execution.images, execution.files) == ([Image(data=PNG)], [File(data=b"%PDF-1.7", name="a.pdf")])


async def test_chat_completions_get_it_as_the_users_words_after_all_results(server: Server):
    add_chat(server, "plain", calls=[chat_call("c1", "draw"), chat_call("c2", "draw")])
    add_chat(server, "plain", "Nice.")

    await Agent(model=openai(server), tools=[draw]).arun("draw")

    roles = [message["role"] for message in server.bodies[1]["messages"]]
    assert roles[-4:] == ["assistant", "tool", "tool", "user"]
    kinds = [part["type"] for part in server.bodies[1]["messages"][-1]["content"]]
    assert kinds == ["text", "image_url", "file"] * 2


async def test_it_is_there_after_storage_and_in_the_events(tmp_path: Path):
    storage = SqliteStorage(db_file=str(tmp_path / "runs.db"))
    model = ScriptedModel(reply(tool_calls=[("draw", {})]), "Nice.", "Still nice.")
    agent = Agent(model=model, tools=[draw], storage=storage, session_id="s", add_history_to_messages=True)

    events = [event async for event in agent.arun("draw", stream=True, images=[Image(url="https://example.com/a")])]
    await agent.arun("and now?")
    await storage.aclose()

    messages = model.requests[2].messages
    assert [message.images for message in messages if message.images] == [
        [Image(url="https://example.com/a")],
        [Image(data=PNG)],
    ]
    (done,) = [event for event in events if event.event == "ToolCallCompleted"]
    again: Any = event_from_json(event_to_json(done))
    assert again.tool.images == [Image(data=PNG)]
