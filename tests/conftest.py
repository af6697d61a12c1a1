"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.http_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    """A scripted HTTP server on loopback; see `tests/http_server.py`."""
    with Server() as running:
        yield running
