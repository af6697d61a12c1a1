"""The event-stream encoding of AWS, in which Bedrock streams an answer."""

from __future__ import annotations

import base64
import json
from typing import Any

import jiter

ERRORS = {
    "modelTimeoutException": "timeout_error",
    "serviceUnavailableException": "overloaded_error",
    "throttlingException": "rate_limit_error",
    "validationException": "invalid_request_error",
}
"""Bedrock's words for what goes wrong inside a stream, in Anthropic's."""
PRELUDE_BYTES = 12
CHECKSUM_BYTES = 4
STRING = 7


class EventStreamParser:
    """Turns the pieces of a body, cut anywhere, into the events that the Messages API would have sent.

    A message is: its length, the length of its headers (both four bytes, big-endian), a checksum, the headers, the
    payload, a checksum. The checksums are left to TLS.
    """

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, piece: bytes) -> list[tuple[str, bytes]]:
        received = self._received
        received += piece
        events: list[tuple[str, bytes]] = []
        while len(received) >= PRELUDE_BYTES:
            length = int.from_bytes(received[:4])
            if len(received) < length:
                break
            payload_at = PRELUDE_BYTES + int.from_bytes(received[4:8])
            headers = _headers(bytes(received[PRELUDE_BYTES:payload_at]))
            events.append(_event(headers, bytes(received[payload_at : length - CHECKSUM_BYTES])))
            del received[:length]
        return events

    def flush(self) -> list[tuple[str, bytes]]:
        return []  # a message that has not come whole says nothing


def _headers(raw: bytes) -> dict[str, str]:
    """The headers up to one that is no string: those that matter are."""
    headers: dict[str, str] = {}
    at = 0
    while at < len(raw):
        name_end = at + 1 + raw[at]
        if raw[name_end] != STRING:
            break
        value_at = name_end + 3
        value_end = value_at + int.from_bytes(raw[name_end + 1 : value_at])
        headers[raw[at + 1 : name_end].decode()] = raw[value_at:value_end].decode()
        at = value_end
    return headers


def _event(headers: dict[str, str], payload: bytes) -> tuple[str, bytes]:
    body: dict[str, Any] = jiter.from_json(payload) if payload else {}
    if headers.get(":message-type") == "event":
        return "", base64.b64decode(body.get("bytes") or b"{}")
    kind = headers.get(":exception-type") or headers.get(":error-code") or ""
    message = body.get("message") or headers.get(":error-message") or kind
    error = {"type": ERRORS.get(kind, "api_error"), "message": message}
    return "error", json.dumps({"type": "error", "error": error}).encode()
