"""One attempt at a model call, within the model's time limits; and how long to wait before the next."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

from agentrt.errors import ModelError, ModelTimeout
from agentrt.models import _guard
from agentrt.models.base import Model, ModelDelta, ModelRequest, PartDelta, UsageDelta


def attempt(model: Model, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
    """The model's deltas; `ModelTimeout` when they don't come in the time that its options allow.

    Raises `ConfigurationError` where real model requests are forbidden. Use it in `aclosing(…)`.
    """
    _guard.check(model)
    limited = model.timeout_s is not None or (request.stream and _waits(model))
    return _in_time(model, request) if limited else model.stream(request)


def _waits(model: Model) -> bool:
    return model.first_token_timeout_s is not None or model.between_tokens_timeout_s is not None


async def _in_time(model: Model, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
    loop = asyncio.get_running_loop()
    ends = _later(loop.time(), model.timeout_s)
    next_by = _later(loop.time(), model.first_token_timeout_s) if request.stream else None
    begun = False
    async with aclosing(model.stream(request)) as deltas:
        while True:
            limit = min((at for at in (ends, next_by) if at is not None), default=None)
            try:
                # the scope is around one wait: it must not be open where this generator yields
                async with asyncio.timeout_at(limit):
                    delta = await anext(deltas)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise _too_late(model, whole=limit == ends, begun=begun) from None
            yield delta
            begun = begun or not isinstance(delta, (UsageDelta, PartDelta))
            if begun and request.stream:
                next_by = _later(loop.time(), model.between_tokens_timeout_s)


def _later(now: float, seconds: float | None) -> float | None:
    return None if seconds is None else now + seconds


def _too_late(model: Model, *, whole: bool, begun: bool) -> ModelTimeout:
    if whole:
        text = f"The answer was not complete within timeout_s={model.timeout_s:g}"
    elif begun:
        text = f"No more of the answer came within between_tokens_timeout_s={model.between_tokens_timeout_s:g}"
    else:
        text = f"The answer did not begin within first_token_timeout_s={model.first_token_timeout_s:g}"
    return ModelTimeout(text, provider=model.provider, model_id=model.id)


def wait_before_next(model: Model, error: ModelError, retries: int) -> float:
    """How long to wait, in seconds, before the call is made again. Raises `error` if it is not to be.

    `retries` is how often it has been made again already.
    """
    if not error.retryable or retries >= model.max_retries:
        raise error
    if error.retry_after_s is None:
        return model.retry_delay_s * 2**retries * random.uniform(0.75, 1.25)
    if error.retry_after_s > model.max_retry_after_s:
        error.message += (
            f"; the server asks to wait {error.retry_after_s:g} s, longer than "
            f"max_retry_after_s={model.max_retry_after_s:g}"
        )
        raise error
    return error.retry_after_s
