"""Keys that Hearth has for itself. No client can name, disable or delete them."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

from server.errors import SealBroken
from server.store.store import Resource
from server.vault.envelope import Context, decrypt, encrypt, read
from server.vault.vault import Vault


class SystemKey:
    """Encrypts under the key called `label`, which is made when it is first used. Raises VaultLocked."""

    def __init__(self, vault: Vault, label: str) -> None:
        self._vault = vault
        self._label = label
        self._id = uuid5(NAMESPACE_URL, f"hearth:vault:{label}")
        self._row: Resource | None = None

    def encrypt(self, value: bytes, context: Context) -> bytes:
        backing, key = self._vault.newest(self._resource())
        return encrypt(self._id, backing, key, value, context)

    def decrypt(self, blob: bytes, context: Context) -> bytes:
        """Raises SealBroken for what was changed, or was encrypted in another context."""
        envelope = read(blob)
        if envelope.key != self._id:
            raise SealBroken(f"This was not encrypted under Hearth's key for {self._label}.")
        return decrypt(envelope, self._vault.named(self._resource(), envelope.backing), context)

    def _resource(self) -> Resource:
        if self._row is None:
            self._row = self._vault.system_key(self._label)
        return self._row
