"""Who answers: the names that a replica puts into its answers, and goes by."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """One replica's place. Its model is served under the endpoint's name, or that of its inference component."""

    endpoint: str
    variant: str
    replica_id: str
    account: str = "123456789012"
    region: str = "us-east-1"
    component: str = ""
    """The inference component, if it is one of an endpoint's."""
    adapters: Collection[str] = ()
    """Names of the adapters that it holds now."""

    @property
    def model(self) -> str:
        """What the model is called in answers."""
        return self.component or self.endpoint

    @property
    def names(self) -> tuple[str, ...]:
        """All that clients may call it, or an adapter that it holds."""
        own = (self.component,) if self.component else ()
        return (self.endpoint, *own, *sorted(self.adapters))

    @property
    def log_group_arn(self) -> str:
        """ARN of the endpoint's log group, which `ModelError` carries."""
        return f"arn:aws:logs:{self.region}:{self.account}:log-group:/aws/sagemaker/Endpoints/{self.endpoint}"
