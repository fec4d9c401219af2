"""An external model, put together: from its options to what dialects ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from server.dialects.engine import Engines
from server.errors import BadRequest
from server.external import hosts, options
from server.external.anthropic_api import AnthropicProvider
from server.external.bedrock_api import BedrockProvider
from server.external.bedrock_wire import Signer
from server.external.budgets import Budgets
from server.external.chain import Chain, Link
from server.external.faces import ExternalApp, ExternalEmbedding, ExternalText
from server.external.hosts import Hosts
from server.external.metrics import ProviderMetrics
from server.external.openai_api import OpenAIProvider
from server.external.options import ExternalOptions, ProviderOptions
from server.external.provider import Provider
from server.external.secrets import Secrets
from server.store.store import Store
from server.vault.secret_box import SecretBox


@dataclass(frozen=True, slots=True)
class Place:
    """Where an external model belongs. `own`: its account is this Hearth's own, and may use the credentials that
    botocore finds here; `allowed`: the setting external_hosts."""

    endpoint: str
    variant: str
    store: Store
    box: SecretBox
    allowed: str
    own: bool


@dataclass(frozen=True, slots=True)
class External:
    engines: Engines
    chain: Chain
    close: Callable[[], Awaitable[None]]


def build(place: Place, given: Mapping[str, Any]) -> External:
    """`given`: options as a variant's `engine` has them. Blocking: keys are read. Raises BadRequest."""
    chosen = options.read(given)
    try:
        allowed = Hosts(place.allowed)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    secrets = Secrets(place.store, place.box)
    for provider in chosen.providers:
        allowed.check(provider.address)
        if provider.secret is not None:
            secrets.value(provider.secret)
    client = hosts.client(allowed, chosen.connect_timeout_s, chosen.read_timeout_s)

    def link(each: ProviderOptions) -> Link:
        counted = ProviderMetrics(place.endpoint, place.variant, each.provider, each.model)
        return Link(_provider(each), counted)

    def _provider(each: ProviderOptions) -> Provider:
        if each.provider == "openai":
            return OpenAIProvider(each, client, secrets)
        if each.provider == "anthropic":
            return AnthropicProvider(each, client, secrets, chosen.max_tokens)
        return BedrockProvider(each, client, Signer(each, secrets, ambient=place.own), chosen.max_tokens)

    budgets = Budgets(place.store, place.endpoint, chosen.budget, chosen.budgets)
    chain = Chain([link(each) for each in chosen.providers], chosen.retries, budgets, place.endpoint, place.variant)
    return External(_engines(chain, place.endpoint, chosen), chain, client.aclose)


def _engines(chain: Chain, endpoint: str, chosen: ExternalOptions) -> Engines:
    app = ExternalApp(chain, endpoint, chosen.serves)
    if chosen.serves == "embeddings":
        return Engines(embedding=ExternalEmbedding(chain), openai=app, openai_routes=app.routes)
    return Engines(text=ExternalText(chain), openai=app, openai_routes=app.routes)
