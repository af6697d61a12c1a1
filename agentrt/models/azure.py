"""OpenAI's models at Azure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, ClassVar

from agentrt.errors import ConfigurationError
from agentrt.models.openai.chat import OpenAIChat


class AzureOpenAI(OpenAIChat):
    """A deployment at Azure; `id` is its name. If that begins as the model's does, it tells what the model takes.

    The openai SDK's variables work: AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN, AZURE_OPENAI_ENDPOINT and
    OPENAI_API_VERSION.
    """

    provider: ClassVar[str] = "azure"
    environment: ClassVar[tuple[str, ...]] = (
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_AD_TOKEN",
        "AZURE_OPENAI_ENDPOINT",
        "OPENAI_API_VERSION",
    )

    azure_endpoint: str | None = None
    azure_deployment: str | None = None
    """The deployment, when `id` is the model's name."""
    api_version: str | None = None
    azure_ad_token: str | None = None
    azure_ad_token_provider: Callable[[], str | Awaitable[str]] | None = None

    def make_sdk_client(self, http_client: Any) -> Any:
        from openai import AsyncAzureOpenAI

        options: dict[str, Any] = {"base_url": self.base_url} if self.base_url else {
            "azure_endpoint": self.azure_endpoint,
            "azure_deployment": self.azure_deployment,
        }  # fmt: skip
        try:
            return AsyncAzureOpenAI(
                api_key=self.api_key,
                api_version=self.api_version,
                azure_ad_token=self.azure_ad_token,
                azure_ad_token_provider=self.azure_ad_token_provider,
                organization=self.organization,
                http_client=http_client,
                **options,
            )
        except ValueError as error:  # no endpoint, no version
            raise ConfigurationError(f"AzureOpenAI can't be reached: {error}") from error

    def client_options(self) -> tuple[Hashable, ...]:
        token = (self.azure_ad_token, self.azure_ad_token_provider)
        return (*super().client_options(), self.azure_endpoint, self.azure_deployment, self.api_version, *token)
