"""What OpenAI's two protocols share: the SDK client, and what the model's family takes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from agentrt.errors import ConfigurationError
from agentrt.media import Image, Media, Video
from agentrt.models._http import SDKModel
from agentrt.models.base import Capabilities
from agentrt.models.openai._capabilities import capabilities_of

SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias")


class OpenAIModel(SDKModel):
    """A model behind the openai SDK.

    Key, base URL, organization, project and proxies come from the options, else from the SDK's own environment
    variables. `client` may be any async client of that SDK, such as `AsyncAzureOpenAI`.
    """

    provider: ClassVar[str] = "openai"
    sdk: ClassVar[str] = "openai"
    environment: ClassVar[tuple[str, ...]] = (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "OPENAI_ADMIN_KEY",
        "OPENAI_CUSTOM_HEADERS",
    )

    organization: str | None = None
    """Whose request it is, where a key is valid for several."""
    project: str | None = None
    """The same for projects."""
    reasoning_effort: str | None = None
    """Such as `"low"`; with `"none"` a reasoning model takes sampling options."""

    def make_sdk_client(self, http_client: Any) -> Any:
        from openai import AsyncOpenAI

        return AsyncOpenAI(
            api_key=self.api_key,
            base_url=self.base_url,
            organization=self.organization,
            project=self.project,
            http_client=http_client,
        )

    def client_options(self) -> tuple[Hashable, ...]:
        return (self.base_url, self.api_key, self.organization, self.project)

    def takes_url(self, media: Media) -> bool:
        return isinstance(media, (Image, Video))

    def capable(self) -> Capabilities:
        if self.capabilities is not None:
            return self.capabilities
        row = self.family()
        # a reasoning model that is told not to reason samples as others do
        return replace(row, sampling=True) if self.reasoning_effort == "none" else row

    def family(self) -> Capabilities:
        """What is known of this model's family."""
        return capabilities_of(self.id)

    def refuse_sampling(self, body: Mapping[str, Any]) -> None:
        """Raise `ConfigurationError` for options in `body` that this model's provider would refuse."""
        if refused := [name for name in SAMPLING if name in body]:
            raise ConfigurationError(
                f"{self.id} takes no {' and no '.join(refused)}: leave it out, or say otherwise with "
                "capabilities=Capabilities(sampling=True, …)"
            )
