"""Where a call is made, and by whom: what its resources' ARNs are made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Lookup = Callable[[str, str], str | None]
"""(kind, name) of a resource to its ARN, for names that do not make one: IAM paths, KMS aliases."""


def unknown(_kind: str, _name: str) -> None:
    """A `Lookup` that knows nothing."""


@dataclass(frozen=True, slots=True)
class Scope:
    account: str
    region: str
    principal_arn: str = ""
    lookup: Lookup = unknown

    def arn(self, service: str, path: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.account}:{path}"
