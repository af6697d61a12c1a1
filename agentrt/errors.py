"""Every error that agentrt raises.

    AgentRTError
    ├── ConfigurationError            a definition or an option is wrong; nothing was run
    │   ├── ToolDefinitionError       a function that can't be a tool
    │   └── ModelUnavailable          no model, key or SDK; the message has the command that helps
    ├── ModelError                    a provider's failure: provider, model_id, status, request_id, retryable
    │   ├── ModelBadRequest           (4xx)
    │   │   ├── ModelNotFound
    │   │   ├── ContextLengthExceeded
    │   │   └── ToolUseFailed         the provider could not read its own model's tool call
    │   ├── ModelAuthError            (401, 403)
    │   ├── ModelRateLimited          (429) retry_after_s
    │   │   └── ModelQuotaExceeded    waiting does not help
    │   ├── ModelOverloaded           (503, 529)
    │   ├── ModelServerError          (other 5xx)
    │   ├── ModelTimeout
    │   ├── ModelConnectionError
    │   │   └── ModelStreamInterrupted  the answer ended before its end
    │   ├── ModelResponseInvalid      the body is not what the protocol says
    │   ├── ContentFiltered
    │   ├── OutputTruncated           the output limit fell inside a tool call, or a typed answer; text
    │   └── ModelRefused              the model refused to give a typed answer; text
    ├── ToolError                     raise it in a tool to tell the model; the text is all it sees
    │   ├── ToolArgumentsInvalid      the arguments don't fit the schema
    │   └── ToolTimeout
    ├── StepError                     what became of a workflow's step; step
    │   ├── StepRejected              a person rejected it; reason
    │   ├── StepTimeout
    │   └── StepFailed                it failed before, with an exception that can't be made again
    ├── LimitReached                  limit, value, setting
    ├── BudgetExceeded                a request that a budget has no room for; budget, value, used, reserved, needed
    ├── OutputValidationError         the answer is not what `response_model` asks for; text
    ├── InputRefused                  raise it in a pre-hook: the run fails, and no model is asked; reason
    ├── OutputRefused                 raise it in a post-hook: the run fails, and the answer is not given; reason
    ├── StorageError
    │   ├── CodecError                a value that storage can't hold; path
    │   ├── RunNotFound
    │   ├── SessionNotFound
    │   ├── MemoryNotFound
    │   ├── RunBusy                   the run is being driven elsewhere
    │   ├── SessionBusy               another run of the session is being driven
    │   ├── RunMismatch               the run_id is known, with another input
    │   ├── AlreadyContinued          the pause was continued by somebody else
    │   └── SessionAccessDenied       the session belongs to another user
    ├── DecisionRefused               a decision about a paused run that can't be taken; nothing was stored
    │   └── UserInputInvalid          a value that a user gave does not fit the field; tool, field
    ├── AmbiguousRun                  "the newest run" has no one answer here
    └── SyncInAsyncError              a sync method called on the runtime's own event loop

An error that ends a run carries the run so far as `run_response`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentrt.run.response import RunResponse


class AgentRTError(Exception):
    """The root. `run_response` is the run so far when the error ended a run, else None."""

    run_response: RunResponse[Any] | None = None


class ConfigurationError(AgentRTError):
    """A definition or an option is wrong. Nothing was run."""


class ToolDefinitionError(ConfigurationError, TypeError):
    """A callable can't be offered as a tool; the message names the callable, the parameter and the way out."""


class ModelUnavailable(ConfigurationError):
    """No model, no key or no SDK; the message holds the exact command that helps."""


class ModelError(AgentRTError):
    """A provider's failure.

    `status` is the HTTP status that the failure means (taken from the body when the provider reports an error inside
    a 200), None when there was none. `retryable` says whether the same request may succeed later. `body` is what the
    provider said, decoded when it was JSON.
    """

    retryable_by_default = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model_id: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        code: str | None = None,
        body: Any = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.model_id = model_id
        self.status = status
        self.request_id = request_id
        self.code = code
        self.body = body
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        facts = [
            f"{name} {value}"
            for name, value in (("status", self.status), ("request id", self.request_id))
            if value is not None
        ]
        where = ":".join(part for part in (self.provider, self.model_id) if part)
        return (f"{where}: " if where else "") + self.message + (f" ({', '.join(facts)})" if facts else "")


class ModelBadRequest(ModelError):
    """The provider refused the request as it is; sending it again will not help."""


class ModelNotFound(ModelBadRequest):
    """The provider does not know this model id, or this key may not use it."""


class ContextLengthExceeded(ModelBadRequest):
    """The messages are longer than the model's context."""


class ToolUseFailed(ModelBadRequest):
    """The provider could not read the tool call that its model wrote; `failed_generation` is that text."""

    failed_generation: str | None = None


class ModelAuthError(ModelError):
    """The key is missing, wrong, or not allowed to do this."""


class ModelRateLimited(ModelError):
    """Too many requests. `retry_after_s` is the wait that the server asked for, in seconds, or None."""

    retryable_by_default = True


class ModelQuotaExceeded(ModelRateLimited):
    """The account's quota is used up; waiting does not help."""

    retryable_by_default = False


class ModelOverloaded(ModelError):
    """The provider is overloaded or down for the moment (HTTP 503, 529)."""

    retryable_by_default = True


class ModelServerError(ModelError):
    """The provider failed (HTTP 5xx)."""

    retryable_by_default = True


class ModelTimeout(ModelError):
    """No answer in time."""

    retryable_by_default = True


class ModelConnectionError(ModelError):
    """The provider could not be reached, or the connection broke."""

    retryable_by_default = True


class ModelStreamInterrupted(ModelConnectionError):
    """The answer ended before the provider said that it was complete."""


class ModelResponseInvalid(ModelError):
    """The body is not what the provider's protocol says."""


class ContentFiltered(ModelError):
    """The provider's content filter withheld the answer."""


class OutputTruncated(ModelError):
    """The output-token limit fell inside a tool call, so the call was not made, or inside a typed answer, whose
    beginning is `text`. Raise `max_tokens`."""

    text: str = ""


class ModelRefused(ModelError):
    """The model refused, so there is no typed answer; `text` is what it said. A refusal of a plain one is its text."""

    text: str = ""


class ToolError(AgentRTError):
    """Raise it in a tool to tell the model what went wrong: the text is all that the model sees."""


class ToolArgumentsInvalid(ToolError):
    """The model's arguments don't fit the tool's schema. The text says which and why, for the model."""


class ToolTimeout(ToolError):
    """A tool did not finish within its `timeout_s`."""


class StepError(AgentRTError):
    """What became of a step of a workflow, raised where it is awaited. `step` is its name."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


class StepRejected(StepError):
    """Somebody decided that a step is not to be done; `reason` is what they said."""

    def __init__(self, step: str, reason: str | None = None) -> None:
        super().__init__(step, f"Step {step!r} was rejected" + (f": {reason}" if reason else ""))
        self.reason = reason


class StepTimeout(StepError, TimeoutError):
    """A step did not finish within its `timeout_s`."""


class StepFailed(StepError):
    """A step failed before its run was cut. The text says with what; that exception itself can't be made again."""


class LimitReached(AgentRTError):
    """A run met one of its limits and the model would not end. Names the limit, its value and the setting."""

    def __init__(self, limit: str, value: float, setting: str) -> None:
        super().__init__(f"The run reached its limit of {value:.15g} {limit}; raise it with {setting}")
        self.limit = limit
        self.value = value
        self.setting = setting


class BudgetExceeded(AgentRTError):
    """A model request did not fit into a `Budget` and was not sent.

    `budget` is the budget's limit that it meets, `"tokens"` or `"cost_usd"`, and `value` what that is. `used` is what
    ended requests have used, `reserved` what others under way may still use, `needed` what this one might have.
    """

    def __init__(self, budget: str, value: float, *, used: float, reserved: float, needed: float) -> None:
        unit = "USD" if budget == "cost_usd" else budget
        super().__init__(
            f"The budget of {value:.15g} {unit} has no room for this request: {used:.6g} are used, requests under way "
            f"may use {reserved:.6g}, and this one {needed:.6g}; raise it with Budget({budget}=…), or give the model "
            "max_tokens, so that less is reserved for its answer"
        )
        self.budget = budget
        self.value = value
        self.used = used
        self.reserved = reserved
        self.needed = needed


class OutputValidationError(AgentRTError):
    """The model's answer is not what `response_model` asks for. `text` is the answer as it came."""

    def __init__(self, message: str, *, text: str) -> None:
        super().__init__(message)
        self.text = text


class InputRefused(AgentRTError):
    """Raise it in a `pre_hook` of an agent: the run fails with it before a model is asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OutputRefused(AgentRTError):
    """Raise it in a `post_hook` of an agent: the run fails with it, and the answer is no part of the history."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StorageError(AgentRTError):
    """Storage could not do what was asked; nothing was half done."""


class CodecError(StorageError):
    """A value that storage can't hold. `path` says where it is, as in `session_state["cart"][2]`."""

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path


class RunNotFound(StorageError):
    """No run of this id is stored here."""


class SessionNotFound(StorageError):
    """No session of this id is stored here."""


class MemoryNotFound(StorageError):
    """This user has no memory of this id."""


class RunBusy(StorageError):
    """The run is being driven elsewhere."""


class SessionBusy(StorageError):
    """Another run of the session is being driven, and this one was to have it alone."""


class RunMismatch(StorageError):
    """This run_id is known, but it was started with another input."""


class AlreadyContinued(StorageError):
    """The pause was already continued by somebody else."""


class SessionAccessDenied(StorageError):
    """The session belongs to another user."""


class DecisionRefused(AgentRTError):
    """A decision can't be taken: nothing was asked, its values don't fit, or the tool is gone. Nothing was stored."""


class UserInputInvalid(DecisionRefused):
    """A value that a user gave for a field of a tool call does not fit, or there is no such field."""

    def __init__(self, message: str, *, tool: str, field: str) -> None:
        super().__init__(message)
        self.tool = tool
        self.field = field


class AmbiguousRun(AgentRTError):
    """Runs of this object overlap here, so "the newest run" has no one answer. Use the `RunResponse` you got back."""


class SyncInAsyncError(AgentRTError, RuntimeError):
    """A sync method was called on the event loop that would have to run it; await the async method instead."""
