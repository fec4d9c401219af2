"""Secrets that Hearth itself keeps: secret access keys, API keys, keys of providers."""

from __future__ import annotations

import base64
import binascii
from uuid import NAMESPACE_URL, uuid5

from server.errors import SealBroken
from server.store.store import Resource
from server.vault.envelope import Context, decrypt, encrypt, read
from server.vault.vault import Vault

_LABEL = "secrets"
_ID = uuid5(NAMESPACE_URL, "hearth:vault:secrets")
_PREFIX = "sealed:"


class SecretBox:
    """Seals a secret into a text to store, and opens it with the context that it was sealed with, and no other.

    The context says what the secret is, e.g. ``{"kind": "AccessKey", "account": ..., "id": ...}``: a text that is
    moved to another row does not open there. `open` raises SealBroken, both raise VaultLocked.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._key: Resource | None = None

    def seal(self, secret: bytes, context: Context) -> str:
        backing, key = self._vault.newest(self._row())
        return _PREFIX + base64.b64encode(encrypt(_ID, backing, key, secret, context)).decode()

    def open(self, text: str, context: Context) -> bytes:
        try:
            if not text.startswith(_PREFIX):
                raise ValueError("no prefix")
            envelope = read(base64.b64decode(text.removeprefix(_PREFIX), validate=True))
        except (ValueError, binascii.Error):
            raise SealBroken("This is no sealed secret.") from None
        if envelope.key != _ID:
            raise SealBroken("This was not sealed by the box of secrets.")
        return decrypt(envelope, self._vault.named(self._row(), envelope.backing), context)

    def _row(self) -> Resource:
        if self._key is None:
            self._key = self._vault.system_key(_LABEL)
        return self._key
