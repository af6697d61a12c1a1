"""What servers take that speak OpenAI's protocol: what is known, and from where.

A row is careful: what a server does for some models or some requests only is not in it. `capabilities=` says more.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentrt.models.base import Capabilities
from agentrt.models.openai._capabilities import capabilities_of


@dataclass(frozen=True, slots=True)
class Server:
    """One server: what it takes of any model, and the page that says so. `notes` is what else it does differently."""

    takes: Capabilities
    source: str
    notes: str = ""


SERVERS: dict[str, Server] = {
    "ollama": Server(
        Capabilities(tool_choice=False),
        "https://github.com/ollama/ollama/blob/main/docs/openai.md",
        "`tool_choice` and `parallel_tool_calls` are ignored; images are sent inline, not by URL.",
    ),
    "vllm": Server(
        Capabilities(),
        "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        "Tools need `--enable-auto-tool-choice` and a `--tool-call-parser`.",
    ),
    "llama-cpp": Server(
        Capabilities(output_schema_with_tools=False),
        "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        "Tools need `--jinja`; a schema and tools both want to be the grammar, so they don't go together.",
    ),
    "groq": Server(
        Capabilities(
            output_schema=False, output_schema_with_tools=False, max_tokens_name="max_completion_tokens"
        ),
        "https://console.groq.com/docs/openai, https://console.groq.com/docs/structured-outputs",
        "A JSON schema is taken for some models only, and not with tools or streams. Names of users are refused.",
    ),
    "deepseek": Server(
        Capabilities(output_schema=False, output_schema_with_tools=False),
        "https://api-docs.deepseek.com/guides/json_mode, https://api-docs.deepseek.com/guides/thinking_mode",
        "Reasoning that led to a tool call is sent back; while thinking, sampling options have no effect.",
    ),
}  # fmt: skip


def capabilities_at(server: str, model_id: str) -> Capabilities:
    """The server's row; for one without a row (OpenRouter's depends on the model), what OpenAI's family takes."""
    row = SERVERS.get(server)
    return capabilities_of(model_id) if row is None else row.takes
