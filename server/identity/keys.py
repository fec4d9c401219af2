"""Access keys and API keys: made, opened and revoked.

A secret access key is kept sealed, since a signature is verified with it; of an API key only its hash is kept. It is
256 random bits, so a plain hash tells nothing of it.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from server.identity.directory import ACCESS_KEY, API_KEY, Directory
from server.identity.names import ACCESS_KEY as LONG_TERM
from server.identity.names import API_KEY as SERVICE
from server.identity.names import access_key_id, secret_access_key, unique_id
from server.store.store import Resource
from server.vault.secret_box import SecretBox

API_PREFIX = "hk-"
_API_BYTES = 32


@dataclass(frozen=True, slots=True)
class NewAccessKey:
    """Made, and not kept yet: sealing may write to the store, so it comes before the transaction that keeps it."""

    id: str
    secret: str = field(repr=False)
    sealed: str = field(repr=False)

    def keep(self, unit: Directory, owner: str) -> Resource:
        return unit.add_key(ACCESS_KEY, self.id, owner, {"Sealed": self.sealed})


def new_access_key(account: str, box: SecretBox) -> NewAccessKey:
    id, secret = access_key_id(LONG_TERM, account), secret_access_key()
    return NewAccessKey(id, secret, box.seal(secret.encode(), _context(account, id)))


def open_secret(account: str, row: Resource, box: SecretBox) -> str:
    """The secret of an access key. Raises SealBroken, VaultLocked."""
    return box.open(row.document["Sealed"], _context(account, row.name)).decode()


def _context(account: str, id: str) -> dict[str, str]:
    return {"kind": ACCESS_KEY, "account": account, "id": id}


def add_api_key(unit: Directory, owner: str, expires: float | None, description: str = "") -> tuple[Resource, str]:
    """A new API key: its row, and the key itself, which is nowhere else. `expires` in seconds since 1970."""
    key = new_api_key(unit.account)
    document = {"Hash": digest(key), "Expires": expires, "Description": description}
    return unit.add_key(API_KEY, unique_id(SERVICE), owner, document), key


def new_api_key(account: str) -> str:
    """It begins with its account, so that the edge finds its endpoint; the dot is no character of the secret's."""
    return f"{API_PREFIX}{account}.{secrets.token_urlsafe(_API_BYTES)}"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
