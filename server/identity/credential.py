"""An access key and whose it is. Where they are kept is the lookup's matter."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credential:
    """One access key; `token_sha256` and `expires_at` are those of temporary ones (AssumeRole, GetSessionToken)."""

    access_key: str
    secret: str = field(repr=False)
    account: str
    arn: str
    token_sha256: str | None = field(default=None, repr=False)
    """Hex digest of the session token that has to come along; None: a long-term key, which takes no token."""
    expires_at: float | None = None
    """Unix seconds."""

    def takes(self, token: str | None) -> bool:
        """Whether `token` is the session token of this key, in constant time."""
        if self.token_sha256 is None or token is None:
            return self.token_sha256 is None and token is None
        return hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), self.token_sha256)


Lookup = Callable[[str], Credential | None]
"""Access key to credential; None: there is no such key. Called on the event loop: it has to answer from memory."""
