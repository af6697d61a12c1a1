"""`Workflow`: programs of agents; `@workflow` and `step` for those that are one function."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from agentrt.workflow import _function
from agentrt.workflow._function import FunctionWorkflow
from agentrt.workflow._step import step
from agentrt.workflow.workflow import Workflow

if TYPE_CHECKING:
    from agentrt.workflow._function import workflow
else:

    class _Package(ModuleType):
        """`agentrt.workflow` is this package and the decorator, so that it does not matter which is imported first."""

        __call__ = staticmethod(_function.workflow)

    workflow = sys.modules[__name__]
    workflow.__class__ = _Package

__all__ = ["FunctionWorkflow", "Workflow", "step", "workflow"]
