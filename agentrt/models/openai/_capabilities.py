"""What OpenAI's model families take. An id that is in no row, such as another server's, gets the defaults."""

from __future__ import annotations

import re
from functools import lru_cache

from agentrt.models.base import Capabilities

_REASONING = Capabilities(max_tokens_name="max_completion_tokens", sampling=False)
_ROWS: tuple[tuple[str, Capabilities], ...] = (
    (
        r"o1-(mini|preview)",
        Capabilities(
            tools=False,
            output_schema=False,
            json_mode=False,
            parallel_tool_calls=False,
            tool_choice=False,
            system_role="user",
            max_tokens_name="max_completion_tokens",
            sampling=False,
        ),
    ),
    (
        r"o\d($|-)",
        Capabilities(max_tokens_name="max_completion_tokens", sampling=False, parallel_tool_calls=False),
    ),
    (r"gpt-[5-9][^-]*-chat", Capabilities(max_tokens_name="max_completion_tokens")),
    (r"gpt-[5-9]|codex", _REASONING),
    (r"chatgpt-", Capabilities(tools=False, output_schema=False, json_mode=False, parallel_tool_calls=False)),
    (r"gpt-4o(-mini)?-search", Capabilities(tools=False, parallel_tool_calls=False, sampling=False)),
    (r"gpt-(4o(-mini)?-)?audio", Capabilities(output_schema=False, json_mode=False)),
    (r"gpt-(4o|4\.)", Capabilities()),
    (r"gpt-(4-turbo|4-1106|4-0125|3\.5)", Capabilities(output_schema=False)),
    (r"gpt-4($|-)", Capabilities(output_schema=False, json_mode=False)),
)


@lru_cache(maxsize=256)
def capabilities_of(model_id: str) -> Capabilities:
    """The row of a model id, which may be a fine-tune's (`ft:gpt-4o:…`) or carry a vendor (`openai/gpt-4o`)."""
    name = model_id.removeprefix("ft:").rpartition("/")[2]
    return next((row for pattern, row in _ROWS if re.match(pattern, name)), Capabilities())


@lru_cache(maxsize=256)
def reasons(model_id: str) -> bool:
    """Whether a model may have reasoned. False for those that are known not to."""
    name = model_id.removeprefix("ft:").rpartition("/")[2]
    return not re.match(r"gpt-(3|4|audio)|chatgpt-|gpt-[5-9][^-]*-chat", name)
