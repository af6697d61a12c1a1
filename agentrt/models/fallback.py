"""`FallbackModel`: when a model fails, ask the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import fields
from typing import Any, ClassVar

from agentrt.errors import (
    ConfigurationError,
    ModelConnectionError,
    ModelError,
    ModelOverloaded,
    ModelRateLimited,
    ModelServerError,
    ModelTimeout,
)
from agentrt.models._attempt import attempt, wait_before_next
from agentrt.models._registry import resolve_model
from agentrt.models.base import Capabilities, FinishDelta, Model, ModelDelta, ModelRequest, PartDelta, UsageDelta

log = logging.getLogger("agentrt")

TROUBLE: tuple[type[ModelError], ...] = (
    ModelRateLimited,
    ModelOverloaded,
    ModelServerError,
    ModelTimeout,
    ModelConnectionError,
)
"""What is the provider's trouble, and may be none of the next one's."""


class FallbackModel(Model):
    """Asks the first model, and the next one when that fails: `FallbackModel("openai:gpt-4.1", Claude())`.

    It moves on for errors of the kinds in `on`, after the failing model's own retries, and only while nothing of an
    answer has been delivered; the last model's error is raised. Each call begins with the first model. Responses and
    events name the model that answered. It takes what all of its models take.
    """

    is_test_model: ClassVar[bool] = True  # each of its models is asked for itself

    models: tuple[Model, ...]
    on: tuple[type[ModelError], ...] = TROUBLE
    max_retries: int = 0
    """How often to go through the models once more, when the last one has failed as well."""

    def __init__(self, *models: Model | str, on: tuple[type[ModelError], ...] = TROUBLE, **options: Any) -> None:
        if not models:
            raise ConfigurationError("FallbackModel needs the models to ask: FallbackModel(first, second, …)")
        given: dict[str, Any] = {"models": tuple(resolve_model(model) for model in models), "on": on, **options}
        super().__init__(**given)

    @property
    def id(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  it goes by its first model
        return self.models[0].id

    @property
    def provider(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.models[0].provider

    def capable(self) -> Capabilities:
        rows = [model.capable() for model in self.models]
        flags = [one.name for one in fields(Capabilities) if isinstance(one.default, bool)]
        shared: dict[str, Any] = {name: all(getattr(row, name) for row in rows) for name in flags}
        return self.capabilities or Capabilities(**shared)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        failures: list[ModelError] = []
        for model in self.models:
            delivered = False
            try:
                async with aclosing(_answer(model, request)) as deltas:
                    async for delta in deltas:
                        delivered = True
                        yield delta
                return
            except self.on as error:
                for failure in failures:
                    error.add_note(f"Before, {type(failure).__name__}: {failure}")
                if delivered or model is self.models[-1]:
                    raise
                failures.append(error)
                log.warning("%s:%s failed (%s); asking the next model", model.provider, model.id, error)

    def takes_schema(self, schema: dict[str, Any]) -> bool:
        return all(model.takes_schema(schema) for model in self.models)

    def may_answer(self) -> Sequence[Model]:
        return [one for model in self.models for one in model.may_answer()]

    async def aclose(self) -> None:
        for model in self.models:
            await model.aclose()


async def _answer(model: Model, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
    """The model's answer, with its own retries. Nothing is yielded before a reader could see something of it."""
    retries = 0
    while True:
        held: list[ModelDelta] | None = []
        try:
            async with aclosing(attempt(model, request)) as deltas:
                async for delta in deltas:
                    if held is not None and isinstance(delta, (UsageDelta, PartDelta)):
                        held.append(delta)
                        continue
                    for earlier in held or ():
                        yield earlier
                    held = None
                    if isinstance(delta, FinishDelta):
                        delta.answered = delta.answered or model
                    yield delta
            return
        except ModelError as error:
            if held is None:
                raise
            wait_s = wait_before_next(model, error, retries)
            retries += 1
            log.info("%s:%s failed (%s); trying again in %.2g s", model.provider, model.id, error, wait_s)
            await asyncio.sleep(wait_s)
