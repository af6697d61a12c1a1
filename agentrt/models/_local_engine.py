"""llama.cpp in this process: one thread per loaded file, requests one after the other.

A file is loaded once per process and options, by the thread that then serves it, so no event loop waits for a token.
One at a time, because on a CPU two at once are each half as fast, and because answers then don't depend on what else
is being asked. llama.cpp looks at `Generation.deliver`'s answer after every token and every 64 prompt tokens: that is
how a generation is stopped, and how soon.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from agentrt.errors import ConfigurationError

EXIT_WAIT_S = 1.0
"""How long the end of the process waits for a generation to notice that it was stopped."""

_BATCH_TOKENS = 64
_PROMPT_CACHE_MIB = 256
_MAX_SOCKET_PATH = 100


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What makes two models the same loaded model."""

    path: str
    n_ctx: int
    threads: int


class Generation:
    """One request on its way through a model, read on the event loop that made it.

    Iterating gives llama.cpp's chunks as they come, and raises if the model could not be loaded. After `close` the
    model stops at its next token, and a request that was still waiting is never begun.
    """

    _END: Final = object()

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[Any] = deque()
        self._wake = asyncio.Event()

    def close(self) -> None:
        self.closed = True

    def deliver(self, chunk: Any) -> bool:
        """Take a chunk from the model's thread; True when nobody wants another."""
        self._chunks.append(chunk)
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the loop is closed, and with it whoever was reading
            self.closed = True
        return self.closed

    def end(self, error: Exception | None = None) -> None:
        if not self.closed:
            self.deliver(self._END if error is None else error)

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while not self._chunks:
            self._wake.clear()
            await self._wake.wait()
        chunk = self._chunks.popleft()
        if chunk is self._END:
            raise StopAsyncIteration
        if isinstance(chunk, Exception):
            raise chunk
        return chunk


def generate(options: EngineOptions, body: dict[str, Any], schema: dict[str, Any] | None = None) -> Generation:
    """Queue a chat-completions request; with `schema`, its answer is JSON that follows it.

    The model is loaded first if this process has not loaded it yet. What llama.cpp refuses is a chunk with "error".
    """
    generation = Generation(body if schema is None else body | {"json_schema": schema})
    with _lock:
        engine = _engines.get(options)
        if engine is None:
            engine = _engines[options] = _Engine(options)
        engine.queue.put(generation)
    return generation


class _Engine:
    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.queue: SimpleQueue[Generation] = SimpleQueue()
        self.current: Generation | None = None
        self.idle = threading.Event()
        self.thread = threading.Thread(target=self._serve, name=f"agentrt-{Path(options.path).name}", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        # The server is never destroyed: its destructor waits for threads while it holds the interpreter's lock, and in
        # a forked child those threads don't exist. At the end of the process it is enough that it is idle.
        try:
            server = _load(self.options)
        except Exception as error:
            self._fail(error)
            return
        while True:
            self.idle.set()
            self.current = generation = self.queue.get()
            self.idle.clear()
            if not generation.closed:
                self._run(server, generation)

    def _run(self, server: Any, generation: Generation) -> None:
        try:
            server.handle_chat_completions(generation.body, generation.deliver)
        except (
            Exception
        ) as error:  # what llama.cpp refuses comes as a chunk or as an exception, to us always as a chunk
            generation.deliver({"error": {"code": 400, "message": str(error), "type": type(error).__name__}})
        generation.end()

    def _fail(self, error: Exception) -> None:
        with _lock:  # whoever comes now gets a new engine: the file may be there by then
            if _engines.get(self.options) is self:
                del _engines[self.options]
        while not self.queue.empty():
            self.queue.get().end(error)
        self.idle.set()

    def stop(self) -> None:
        """Ask the thread to be idle from the model's next token on. What waits in the queue is not begun."""
        while not self.queue.empty():
            self.queue.get().close()
        if (current := self.current) is not None:
            current.close()


def _load(options: EngineOptions) -> Any:
    _read_ahead(options.path)
    import xllamacpp  # pyright: ignore[reportMissingTypeStubs]  not at the top: 0.2 s, and the model's thread pays them

    llama: Any = xllamacpp
    params = llama.CommonParams()
    params.model.path = options.path
    params.n_ctx = options.n_ctx
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.warmup = False  # the first request is the warm-up
    kinds = {str(device["type"]) for device in llama.get_device_info()}
    params.fit_params = any("GPU" in kind for kind in kinds)  # a dry run that doubles the time to load
    params.verbosity = -1
    with ExitStack() as stack:
        _shut_the_door(params, stack)
        try:
            return llama.Server(params)
        except RuntimeError as error:
            raise ConfigurationError(
                f"llama.cpp can't load {options.path} with n_ctx={options.n_ctx}: the file is damaged or of a kind "
                "that this version of xllamacpp does not know, or memory is short"
            ) from error


def _shut_the_door(params: Any, stack: ExitStack) -> None:
    """Keep others out of the HTTP server that llama.cpp insists on starting beside the model.

    It listens on a socket file in a private directory that is gone as soon as the model is loaded; where there are
    no such files, on a loopback port with a key that nobody is told.
    """
    params.api_keys = [secrets.token_hex()]
    params.n_threads_http = 1
    params.endpoint_slots = params.ui = False
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="agentrt-"))
    path = str(Path(directory, "llama.sock"))
    if hasattr(socket, "AF_UNIX") and os.name == "posix" and len(path) < _MAX_SOCKET_PATH:
        params.hostnames = [path]


def _read_ahead(path: str) -> None:
    """Bring the file into the page cache, because llama.cpp reads it while it holds the interpreter's lock."""
    buffer = bytearray(1 << 22)
    with Path(path).open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _stop_all() -> None:
    engines = list(_engines.values())
    for engine in engines:
        engine.stop()
    deadline = time.monotonic() + EXIT_WAIT_S
    for engine in engines:
        if not engine.idle.wait(max(0.0, deadline - time.monotonic())):
            _freeze(engine.thread)
    if engines:
        _skip_static_destructors()


def _freeze(thread: threading.Thread) -> None:
    """Keep a thread that is busy in llama.cpp from coming back to an interpreter that is gone.

    Up to Python 3.13 such a thread is ended by unwinding its stack, which C++ answers by aborting the process.
    """
    if thread.ident is None or not hasattr(signal, "pthread_kill"):
        return
    libc = ctypes.CDLL(None)
    libc.signal(int(signal.SIGUSR2), ctypes.cast(libc.pause, ctypes.c_void_p))  # it waits, for good, in the handler
    signal.pthread_kill(thread.ident, signal.SIGUSR2)


def _forget() -> None:
    """In a forked child: the threads are gone and the loaded models with them, so load anew when asked."""
    global _lock
    _lock = threading.Lock()
    if _engines:
        _skip_static_destructors()
        _engines.clear()


def _skip_static_destructors() -> None:
    """End this process without llama.cpp's destructors.

    They free what its own thread may still be computing with (it finishes a batch after it was stopped), and in a
    forked child they wait for threads that are not there.
    """
    if os.name != "posix":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # glibc; what is registered last runs first, with the exit status as its argument
        libc.fflush(None)
        libc.on_exit(libc._exit, None)


_lock = threading.Lock()
_engines: dict[EngineOptions, _Engine] = {}
atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
