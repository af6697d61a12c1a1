"""A proxy on loopback that answers for any HTTPS server: what a site says is written down in a test.

Clients are told to use it and not to look at its certificate (`loopback.pem`, which is worth nothing anywhere else).
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_tls.load_cert_chain(Path(__file__).parent / "loopback.pem")


@dataclass
class Request:
    """What was asked: `place` is host and path."""

    method: str
    place: str
    values: dict[str, str]
    body: str


@dataclass
class Answer:
    """What is said to it; `body` is sent as JSON unless it is a text."""

    body: Any = ""
    status: int = 200
    hang: threading.Event | None = None
    """Say nothing until it is set."""


@dataclass
class Proxy:
    answer: Callable[[Request], Answer]
    requests: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        proxy = self

        class Handler(_Handler):
            def reply(self, request: Request) -> Answer:
                proxy.requests.append(request)
                return proxy.answer(request)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host = ""

    def reply(self, request: Request) -> Answer:
        raise NotImplementedError

    def do_CONNECT(self) -> None:
        self.host = self.path.partition(":")[0]
        self.send_response(200)
        self.end_headers()
        try:
            self.connection = _tls.wrap_socket(self.connection, server_side=True)
        except OSError:
            self.close_connection = True
            return
        self.rfile.close()
        self.wfile.close()
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def finish(self) -> None:
        with contextlib.suppress(OSError):  # who asked has gone away
            super().finish()
        self.connection.close()

    def _do(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        given = [*parse_qsl(parts.query), *(parse_qsl(body) if not body.startswith("{") else [])]
        answer = self.reply(Request(self.command, self.host + parts.path, dict(given), body))
        if answer.hang is not None:
            answer.hang.wait(10)
        is_text = isinstance(answer.body, str)
        content = (answer.body if is_text else json.dumps(answer.body)).encode()
        try:
            self.send_response(answer.status)
            self.send_header("content-type", "text/html" if is_text else "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # who asked has gone away
            self.close_connection = True

    do_GET = do_POST = _do

    def log_message(self, format: str, *args: Any) -> None:
        pass
