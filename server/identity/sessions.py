"""Temporary sessions (STS). A session is nowhere but in its token: sealed, so that only Hearth reads it, with all that
is needed to verify it. It survives restarts, costs the store nothing, and ends when it says so.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import zlib
from dataclasses import asdict, dataclass, field

from sqlalchemy import Engine

from server.errors import Conflict, NotFound, SealBroken
from server.store.store import Store
from server.vault.envelope import KEY_BYTES, seal, unseal
from server.vault.secret_box import SecretBox

LONGEST_TOKEN = 16 * 1024
_AAD = b"hearth session token 1"
_SYSTEM, _KIND, _NAME = "hearth", "SessionKey", "sessions"
_CONTEXT = {"kind": _KIND, "id": _NAME}


@dataclass(frozen=True, slots=True)
class Session:
    """`arn` and `id` are the session's own, `holder` the id of the user or role that it has its policies from."""

    access_key: str
    secret: str = field(repr=False)
    account: str
    arn: str
    id: str
    holder: str
    issued_at: float
    expires_at: float
    """Both in seconds since 1970."""
    policies: tuple[str, ...] | None = None
    """Documents that bound it further."""
    tags: dict[str, str] = field(default_factory=dict)


class Sessions:
    """Writes and reads tokens under one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, session: Session) -> str:
        wire = zlib.compress(json.dumps(asdict(session), separators=(",", ":")).encode())
        return base64.b64encode(seal(self._key, wire, _AAD)).decode()

    def read(self, token: str) -> Session | None:
        """None: not sealed here. Whether it has ended, and whose key it goes with, is for the caller to see."""
        if len(token) > LONGEST_TOKEN:
            return None
        try:
            wire = unseal(self._key, base64.b64decode(token, validate=True), _AAD)
        except (SealBroken, binascii.Error, ValueError):
            return None
        given = json.loads(zlib.decompress(wire))
        policies = given.pop("policies")
        return Session(**given, policies=None if policies is None else tuple(policies))


def key(engine: Engine, box: SecretBox) -> bytes:
    """The key of tokens; made when it is first asked for. Raises SealBroken, VaultLocked."""
    system = Store(engine, _SYSTEM, _SYSTEM)
    try:
        row = system.get(_KIND, _NAME)
    except NotFound:
        document = {"Sealed": box.seal(os.urandom(KEY_BYTES), _CONTEXT)}
        try:
            row = system.create(_KIND, _NAME, document, "Active", arn="arn:hearth:iam:::sessions")
        except Conflict:
            row = system.get(_KIND, _NAME)
    return box.open(row.document["Sealed"], _CONTEXT)
