"""Tools that are given together, and what a list of tools comes to."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from agentrt.errors import ToolDefinitionError
from agentrt.run.context import RunContext
from agentrt.tools import Function, Toolkit, collect_tools, function_of, resolve_tools, tool


class EmailTools(Toolkit):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, name="EmailTools", tools=[self.send_email, self.get_emails], **kwargs)
        self.sender = "me"

    def send_email(self, subject: str) -> str:
        """Send an email."""
        return f"{self.sender} sent {subject}"

    def get_emails(self, date_from: str) -> str:
        """Get emails."""
        return date_from


class Marked(Toolkit):
    def __init__(self, base: str) -> None:
        super().__init__(instructions="Ask first.", add_instructions=True)
        self.base = base

    @tool
    def find(self, path: str) -> str:
        return self.base + path

    @tool(requires_confirmation=True)
    async def delete(self, path: str) -> str:
        return self.base + path

    @tool
    @staticmethod
    def plain(n: int) -> int:
        return n

    @classmethod
    @tool
    def of_class(cls, n: int) -> str:
        return f"{cls.__name__}{n}"

    def no_tool(self) -> None: ...


def test_a_subclass_hands_over_its_methods() -> None:
    tools = collect_tools([EmailTools()])
    assert list(tools) == ["send_email", "get_emails"]
    assert tools["send_email"].spec().description == "Send an email."
    assert tools["send_email"].entrypoint(subject="Hi") == "me sent Hi"


def test_marked_methods_are_tools_of_their_instance() -> None:
    first, second = Marked("a/"), Marked("b/")
    assert list(first.functions) == ["find", "delete", "plain"]
    assert first.functions["find"]("x") == "a/x"
    assert second.functions["find"]("x") == "b/x"
    assert second.find("x") == "b/x"
    assert first.functions["plain"]("n") == "n"
    assert list(first.functions["plain"].spec().parameters["properties"]) == ["n"]
    assert first.functions["delete"].requires_confirmation
    assert isinstance(Marked.find, Function)


def test_a_class_method_is_a_tool_of_its_class() -> None:
    made = function_of(Marked.of_class)
    assert made(3) == "Marked3"
    assert list(made.spec().parameters["properties"]) == ["n"]


def test_a_kits_instructions_come_with_its_tools() -> None:
    found = Marked("").functions["find"]
    assert (found.instructions, found.add_instructions) == ("Ask first.", True)


def test_options_are_for_the_tools_named() -> None:
    kit = EmailTools(
        requires_confirmation_tools=["send_email"],
        external_execution_required_tools=["send_email"],
        stop_after_tool_call_tools=["get_emails"],
        show_result_tools=["get_emails"],
        cache_results=True,
        cache_ttl_s=5.0,
    )
    send, get = kit.functions["send_email"], kit.functions["get_emails"]
    assert (send.requires_confirmation, send.external_execution, send.stop_after_tool_call) == (True, True, False)
    assert (get.requires_confirmation, get.stop_after_tool_call, get.show_result) == (False, True, True)
    assert get.cache is not None and get.cache_ttl_s == 5.0


def test_tools_are_included_excluded_filtered_and_prefixed() -> None:
    assert list(EmailTools(include_tools=["send_email"]).functions) == ["send_email"]
    assert list(EmailTools(exclude_tools=["send_email"]).functions) == ["get_emails"]
    assert list(EmailTools(prefix="x_", exclude_tools=["send_email"]).functions) == ["x_get_emails"]
    kit = EmailTools()
    narrowed = kit.filtered(lambda function: function.name.startswith("send")).prefixed("mail_")
    assert list(narrowed.functions) == ["mail_send_email"]
    assert narrowed.functions["mail_send_email"].spec().name == "mail_send_email"
    assert narrowed.functions["mail_send_email"]("Hi") == "me sent Hi"
    assert list(kit.functions) == ["send_email", "get_emails"]


@pytest.mark.parametrize("option", ["include_tools", "requires_confirmation_tools"])
def test_a_misspelt_name_is_refused(option: str) -> None:
    with pytest.raises(ToolDefinitionError, match="'EmailTools' has no tool 'send_mail'; did you mean 'send_email'"):
        EmailTools(**{option: ["send_mail"]})


def test_a_tool_can_be_registered_later() -> None:
    kit = Toolkit(name="kit")
    kit.register(len, name="length", requires_confirmation=True)
    assert kit.functions["length"].requires_confirmation
    with pytest.raises(ToolDefinitionError, match="two tools called 'length'"):
        kit.register(len, name="length")


# --- collecting ------------------------------------------------------------------------------------------------------


def ping() -> str:
    return "pong"


def test_all_ways_to_give_a_tool_are_collected_in_order() -> None:
    class Searcher:
        """Searches."""

        def __call__(self, query: str) -> str:
            return query

    tools = collect_tools([ping, [EmailTools(), (tool(name="p2")(ping),)], functools.partial(max, 1), Searcher()])
    assert list(tools) == ["ping", "send_email", "get_emails", "p2", "max", "Searcher"]
    assert list(tools["Searcher"].spec().parameters["properties"]) == ["query"]


def test_two_tools_of_one_name_are_refused_and_both_named() -> None:
    def other() -> None: ...

    with pytest.raises(ToolDefinitionError, match=r"'ping': .*test_toolkit\.ping and .*<locals>\.other"):
        collect_tools([ping, tool(name="ping")(other)])


@pytest.mark.parametrize("tools", ["ping", ping, tool(ping), [3], [{"type": "function"}], [EmailTools]])
def test_what_is_no_tool_is_refused(tools: Any) -> None:
    with pytest.raises(ToolDefinitionError):
        collect_tools(tools)


async def test_a_function_in_place_of_the_list_is_called_for_the_run() -> None:
    ctx = RunContext[Any](run_id="r", session_id="s", user_id="ann", agent="the agent")

    def for_ctx(ctx: RunContext[Any]) -> list[Any]:
        return [ping] if ctx.user_id == "ann" else []

    async def for_agent(agent: Any) -> list[Any]:
        assert agent == "the agent"
        return [EmailTools()]

    def nobody_named(it: RunContext[Any]) -> list[Any]:
        return [tool(name=f"for_{it.user_id}")(ping)]

    assert list(await resolve_tools(for_ctx, ctx)) == ["ping"]
    assert list(await resolve_tools(for_agent, ctx)) == ["send_email", "get_emails"]
    assert list(await resolve_tools(nobody_named, ctx)) == ["for_ann"]
    assert await resolve_tools(None, ctx) == {}
