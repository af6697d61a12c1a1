"""`OpenAILike`: other servers that speak OpenAI's protocol of chat completions."""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import Any, ClassVar

from agentrt.errors import ConfigurationError
from agentrt.models.base import Capabilities
from agentrt.models.openai._servers import capabilities_at
from agentrt.models.openai.chat import OpenAIChat


class OpenAILike(OpenAIChat):
    """A model on a server of one's own choice: `OpenAILike(id="…", base_url="https://…/v1", api_key="…")`.

    None of OpenAI's environment variables is read, so OpenAI's key goes to no other server. A server that is not in the
    capability table is taken to do what OpenAI's does, as far as the model's id tells; `capabilities` says otherwise.
    """

    environment: ClassVar[tuple[str, ...]] = ()
    base_url_variable: ClassVar[str] = ""
    """The variable that holds another address of the server."""
    needs_key: ClassVar[bool] = False

    id: str = "not-given"
    name: str = "openai-like"
    """What events, responses and errors call the server."""

    @property
    def provider(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  one class, many servers
        return self.name

    def address(self) -> str:
        """The base URL: as given, else the variable's, else the server's usual one."""
        usual = type(self).base_url
        address = self.given("base_url") or os.environ.get(self.base_url_variable or "-") or usual
        if not address:
            raise ConfigurationError(f'{type(self).__name__} needs the server\'s address: base_url="https://…/v1"')
        return address

    def make_sdk_client(self, http_client: Any) -> Any:
        from openai import AsyncOpenAI

        key = self.api_key or (os.environ.get(self.environment[0]) if self.environment else None)
        if not key and self.needs_key:
            raise self.no_key("no key was given")
        client = AsyncOpenAI(
            api_key=key or "none",
            base_url=self.address(),
            organization=self.organization,
            project=self.project,
            http_client=http_client,
        )
        # what the SDK found in OpenAI's variables is nobody else's business
        client.organization, client.project, client.admin_api_key = self.organization, self.project, None
        client._custom_headers = {}  # pyright: ignore[reportPrivateUsage]  OPENAI_CUSTOM_HEADERS; ours go with requests
        return client

    def client_options(self) -> tuple[Hashable, ...]:
        return (type(self), self.address(), self.api_key, self.organization, self.project)

    def family(self) -> Capabilities:
        return capabilities_at(self.name, self.id)
