"""Who answers: the names that a replica puts into its answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """One replica's place. Its model is served under the endpoint's name."""

    endpoint: str
    variant: str
    replica_id: str
    account: str = "123456789012"
    region: str = "us-east-1"

    @property
    def log_group_arn(self) -> str:
        """ARN of the endpoint's log group, which `ModelError` carries."""
        return f"arn:aws:logs:{self.region}:{self.account}:log-group:/aws/sagemaker/Endpoints/{self.endpoint}"
