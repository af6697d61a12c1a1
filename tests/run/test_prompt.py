"""What the model is told: sections, and state filled into what the author wrote."""

from __future__ import annotations

from typing import Any

from agentrt import Agent
from agentrt.testing import FunctionModel


class Holder:
    secret = "x"


async def system_of(
    agent_options: dict[str, Any], message: str = "hi", **options: Any
) -> tuple[str | None, list[str | None]]:
    model = FunctionModel(lambda request: "ok")
    await Agent(model=model, **agent_options).arun(message, **options)
    messages = model.last_request.messages
    system = messages[0].content if messages[0].role == "system" else None
    return system, [m.content for m in messages if m.role == "user"]


STATE: dict[str, Any] = {
    "user_name": "{admin_token} {0.__class__} C:\\new\\1 {user_name}",
    "admin_token": "s3cr3t",
    "obj": Holder(),
}


async def test_only_a_bare_known_name_is_filled_once() -> None:
    text = 'Reply as {"name": "{user_name}", "n": 1}. Keep ${expression}, {city}, {0}, {} and {user.name!r:>10}.'
    system, users = await system_of(
        {"instructions": text, "add_state_in_messages": True, "session_state": STATE}, "What is {admin_token}?"
    )
    assert system is not None
    assert 'Reply as {"name": "{admin_token} {0.__class__} C:\\new\\1 {user_name}", "n": 1}.' in system
    assert "Keep ${expression}, {city}, {0}, {} and {user.name!r:>10}." in system
    assert "s3cr3t" not in system
    assert users == ["What is {admin_token}?"]


async def test_attributes_are_never_read() -> None:
    text = "Hi {obj.secret} {obj.__class__.__init__.__globals__}"
    system, _ = await system_of({"instructions": text, "add_state_in_messages": True, "session_state": STATE})
    assert system == text


async def test_doubled_braces_are_a_literal_and_dependencies_come_after_the_state() -> None:
    system, _ = await system_of(
        {"instructions": "{{a}} {a} {b}", "add_state_in_messages": True, "session_state": {"a": 1}},
        dependencies={"a": 2, "b": 3},
    )
    assert system == "{a} 1 3"


async def test_with_the_feature_off_braces_are_sent_as_written() -> None:
    system, _ = await system_of({"instructions": "{a} {{a}}", "session_state": {"a": 1}})
    assert system == "{a} {{a}}"


async def test_each_option_has_its_section() -> None:
    system, _ = await system_of(
        {
            "name": "Ann",
            "description": "You are a poet.",
            "role": "Writes.",
            "instructions": ["Rhyme.", "Be brief."],
            "expected_output": "A poem.",
            "success_criteria": "It rhymes.",
            "additional_context": "It is spring.",
            "markdown": True,
            "add_name_to_instructions": True,
            "add_datetime_to_instructions": True,
        }
    )
    assert system is not None
    parts = [
        "You are a poet.",
        "<your_role>",
        "- Rhyme.\n- Be brief.",
        "Your name is: Ann.",
        "markdown",
        "The current time is",
        "<expected_output>\nA poem.",
        "<success_criteria>\nIt rhymes.",
        "It is spring.",
    ]
    places = [system.index(part) for part in parts]
    assert places == sorted(places)


async def test_a_system_message_replaces_the_whole() -> None:
    system, _ = await system_of({"system_message": "Only this.", "instructions": "not this", "markdown": True})
    assert system == "Only this."


async def test_without_anything_to_say_there_is_no_system_message() -> None:
    assert (await system_of({}))[0] is None
