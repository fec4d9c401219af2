"""What is counted of external models."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from server.external.chat import Usage

_LABELS = ("EndpointName", "VariantName", "provider", "model")
_TOKENS = Counter("hearth_external_tokens", "Tokens, as providers count them.", (*_LABELS, "kind"))
_REQUESTS = Counter("hearth_external_requests", "Requests to providers by their outcome.", (*_LABELS, "outcome"))
_FALLBACKS = Counter("hearth_external_fallbacks", "Requests that went on to the provider from another.", _LABELS)
_OVER = Counter("hearth_external_over_budget", "Requests whose caller had no tokens left.", _LABELS[:2])
_BEGAN = Histogram(
    "hearth_external_begin_seconds", "Seconds until a provider's answer began.", _LABELS,
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)  # fmt: skip
_ENDED = Histogram(
    "hearth_external_seconds", "Seconds until a provider's answer was complete.", _LABELS,
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)  # fmt: skip


def over_budget(endpoint: str, variant: str) -> None:
    _OVER.labels(endpoint, variant).inc()


class ProviderMetrics:
    """Of one provider of one variant."""

    def __init__(self, endpoint: str, variant: str, provider: str, model: str) -> None:
        self._names = (endpoint, variant, provider, model)

    def failed(self, status: int) -> None:
        outcome = "connection" if status == 0 else "429" if status == 429 else f"{status // 100}xx"
        _REQUESTS.labels(*self._names, outcome).inc()

    def broke(self) -> None:
        """After its answer had begun."""
        _REQUESTS.labels(*self._names, "broken").inc()

    def fell_back(self) -> None:
        _FALLBACKS.labels(*self._names).inc()

    def began(self, seconds: float) -> None:
        _BEGAN.labels(*self._names).observe(seconds)

    def ended(self, seconds: float) -> None:
        _ENDED.labels(*self._names).observe(seconds)
        _REQUESTS.labels(*self._names, "answered").inc()

    def used(self, usage: Usage) -> None:
        _TOKENS.labels(*self._names, "read").inc(usage.read)
        _TOKENS.labels(*self._names, "written").inc(usage.written)
