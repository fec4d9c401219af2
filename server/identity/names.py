"""Ids of what identities are made of, as IAM gives them: a prefix that says what it is, then letters of base32."""

from __future__ import annotations

import base64
import binascii
import secrets

USER, ROLE, GROUP, POLICY = "AIDA", "AROA", "AGPA", "ANPA"
ACCESS_KEY, SESSION_KEY, API_KEY = "AKIA", "ASIA", "ACCA"
"""Of credentials: long-term, temporary, and those of one service."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SECRET_BYTES = 30
"""40 characters of base64."""


def unique_id(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_LETTERS) for _ in range(17))


def access_key_id(prefix: str, account: str) -> str:
    """16 letters that hold the account, as AWS's own do: a bit, its 40 bits, and 39 random ones."""
    number = (1 << 79) | (int(account) << 39) | secrets.randbits(39)
    return prefix + base64.b32encode(number.to_bytes(10)).decode()


def account_of(access_key: str) -> str | None:
    """The account that an access key's id names; None for an id of another form."""
    try:
        number = int.from_bytes(base64.b32decode(access_key[4:20]))
    except (binascii.Error, ValueError):
        return None
    account = (number >> 39) & ((1 << 40) - 1)
    whole = len(access_key) == 20 and access_key[:4] in (ACCESS_KEY, SESSION_KEY)
    return f"{account:012}" if whole and account < 10**12 else None


def beginnings(account: str) -> tuple[str, ...]:
    """The nine letters behind the prefix of any access key's id that holds `account`: its last bit is in the ninth."""
    head = (1 << 40) | int(account)
    letters = "".join(_LETTERS[head >> 1 + shift & 31] for shift in range(35, -1, -5))
    return tuple(letters + _LETTERS[(head & 1) << 4 | low] for low in range(16))


def secret_access_key() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES).replace("-", "+").replace("_", "/")
