"""The cases meet no provider but the scripted one."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_provider_variables(monkeypatch: pytest.MonkeyPatch, one_certificate: Path) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    # an HTTP client reads all the certificates there are, which takes longer than any of these tests
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))
