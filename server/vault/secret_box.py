"""Secrets that Hearth itself keeps: secret access keys, API keys, keys of providers."""

from __future__ import annotations

import base64
import binascii

from server.errors import SealBroken
from server.vault.envelope import Context
from server.vault.system_key import SystemKey
from server.vault.vault import Vault

_PREFIX = "sealed:"


class SecretBox:
    """Seals a secret into a text to store, and opens it with the context that it was sealed with, and no other.

    The context says what the secret is, e.g. ``{"kind": "AccessKey", "account": ..., "id": ...}``: a text that is
    moved to another row does not open there. `open` raises SealBroken, both raise VaultLocked.

    Not to be called within a transaction of the store: the first use of a key writes its row in one of its own.
    """

    def __init__(self, vault: Vault) -> None:
        self._key = SystemKey(vault, "secrets")

    def seal(self, secret: bytes, context: Context) -> str:
        return _PREFIX + base64.b64encode(self._key.encrypt(secret, context)).decode()

    def open(self, text: str, context: Context) -> bytes:
        try:
            if not text.startswith(_PREFIX):
                raise ValueError("no prefix")
            blob = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except (ValueError, binascii.Error):
            raise SealBroken("This is no sealed secret.") from None
        return self._key.decrypt(blob, context)
