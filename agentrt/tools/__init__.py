"""Tools: Python callables that a model may call."""

from agentrt.errors import ToolArgumentsInvalid, ToolDefinitionError, ToolError, ToolTimeout
from agentrt.run.context import RunContext
from agentrt.run.response import UserInputField
from agentrt.tools.collect import collect_tools, resolve_tools
from agentrt.tools.decorator import tool
from agentrt.tools.function import Function, function_of
from agentrt.tools.hooks import FunctionCall
from agentrt.tools.toolkit import Toolkit

__all__ = [
    "Function",
    "FunctionCall",
    "RunContext",
    "ToolArgumentsInvalid",
    "ToolDefinitionError",
    "ToolError",
    "ToolTimeout",
    "Toolkit",
    "UserInputField",
    "collect_tools",
    "function_of",
    "resolve_tools",
    "tool",
]
