"""One encrypted value, format 1. All numbers are sizes in bytes.

    1    format, 0x01
    16   the key's id (a UUID)
    16   the id of its backing key
    64   the data key, sealed by the backing key        AAD: the 33 bytes above, context
    28+  the value, sealed by the data key              AAD: the 33 bytes above, context

The data key is 32 random bytes, made for this value. Sealing ("seal" below) is AES-256-GCM under a key of its own,
so that no nonce is ever used twice under one key however many values there are:

    16   salt, random; key and nonce of AES-256-GCM are the 44 bytes of HKDF-SHA256(key, salt, LABEL)
    n    ciphertext
    16   tag

AAD holds the encryption context as its pairs sorted by name, each text in UTF-8 after its length in four bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from server.errors import SealBroken

KEY_BYTES = 32
OVERHEAD_BYTES = 33 + 64 + 32
_LABEL = b"hearth seal 1"
_FORMAT = b"\x01"
_HEAD = 33
_SALT, _TAG, _NONCE = 16, 16, 12
_WRAPPED = _SALT + KEY_BYTES + _TAG

Context = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Envelope:
    """Read, but not opened."""

    key: UUID
    backing: bytes
    head: bytes
    wrapped: bytes
    sealed: bytes


def seal(key: bytes, value: bytes, aad: bytes) -> bytes:
    salt = os.urandom(_SALT)
    cipher, nonce = _cipher(key, salt)
    return salt + cipher.encrypt(nonce, value, aad)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Raises SealBroken."""
    if len(sealed) < _SALT + _TAG:
        raise SealBroken("The encrypted value is too short to be one.")
    cipher, nonce = _cipher(key, sealed[:_SALT])
    try:
        return cipher.decrypt(nonce, sealed[_SALT:], aad)
    except InvalidTag:
        raise SealBroken("The encrypted value was changed, or its key or encryption context is another one.") from None


def encrypt(key: UUID, backing: bytes, secret: bytes, value: bytes, context: Context) -> bytes:
    """`value` under a data key of its own; `secret` is the key that `backing` names."""
    head = _FORMAT + key.bytes + backing
    aad = head + encoded(context)
    data_key = os.urandom(KEY_BYTES)
    return head + seal(secret, data_key, aad) + seal(data_key, value, aad)


def read(blob: bytes) -> Envelope:
    """Raises SealBroken."""
    if len(blob) < OVERHEAD_BYTES or blob[:1] != _FORMAT:
        raise SealBroken("This is nothing that Hearth encrypted.")
    rest = blob[_HEAD:]
    return Envelope(UUID(bytes=blob[1:17]), blob[17:_HEAD], blob[:_HEAD], rest[:_WRAPPED], rest[_WRAPPED:])


def decrypt(envelope: Envelope, secret: bytes, context: Context) -> bytes:
    """Raises SealBroken."""
    aad = envelope.head + encoded(context)
    return unseal(unseal(secret, envelope.wrapped, aad), envelope.sealed, aad)


def encoded(context: Context) -> bytes:
    """The same bytes for the same pairs, and for no others."""
    texts = [text.encode() for pair in sorted(context.items()) for text in pair]
    return b"".join(len(text).to_bytes(4) + text for text in texts)


def _cipher(key: bytes, salt: bytes) -> tuple[AESGCM, bytes]:
    derived = HKDF(SHA256(), KEY_BYTES + _NONCE, salt, _LABEL).derive(key)
    return AESGCM(derived[:KEY_BYTES]), derived[KEY_BYTES:]
