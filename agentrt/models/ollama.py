"""Models served by Ollama."""

from __future__ import annotations

import os
from typing import ClassVar

from agentrt.media import Media, Video
from agentrt.models.openai.like import OpenAILike


class Ollama(OpenAILike):
    """A model at Ollama, on this machine unless `base_url` or the variable OLLAMA_HOST says otherwise. No key."""

    environment: ClassVar[tuple[str, ...]] = ("OLLAMA_API_KEY",)

    id: str = "llama3.1"
    name: str = "ollama"
    base_url: str | None = "http://localhost:11434/v1"

    def takes_url(self, media: Media) -> bool:
        return isinstance(media, Video)  # it fetches nothing

    def address(self) -> str:
        host = os.environ.get("OLLAMA_HOST")
        if self.given("base_url") or not host:
            return super().address()
        # Ollama's own forms: "host", "host:port", "http://host:port"; 0.0.0.0 is where a server listens
        scheme, _, rest = host.rpartition("://")
        name, colon, port = rest.rstrip("/").removesuffix("/v1").partition(":")
        usual = "443" if scheme == "https" else "80" if scheme == "http" else "11434"
        return f"{scheme or 'http'}://{'localhost' if name == '0.0.0.0' else name}:{port if colon else usual}/v1"
