"""Keys of providers, by name: sealed in the store, and opened by the replicas of their own account alone."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from server.errors import BadRequest, Conflict, NotFound
from server.store.store import Resource, Store
from server.vault.envelope import Context
from server.vault.secret_box import SecretBox

KIND = "ProviderSecret"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MOST_BYTES = 4096
FRESH_S = 10.0
"""How long a replica goes by what it has read: a key that is replaced counts after that."""


def put(store: Store, box: SecretBox, name: str, value: bytes) -> None:
    """Keeps a secret of the store's account, in place of one of the name. Raises BadRequest."""
    if not NAME.fullmatch(name):
        raise BadRequest(f"The name of a secret has 1 to 64 letters, digits and ._-, not {name!r}.", field="name")
    if not 0 < len(value) <= MOST_BYTES:
        raise BadRequest(f"A secret has 1 to {MOST_BYTES} bytes, not {len(value)}.", field="value")
    document = {"Sealed": box.seal(value, _context(store.account, name))}
    try:
        store.create(KIND, name, document, "Active", arn=f"arn:hearth:external::{store.account}:secret/{name}")
    except Conflict:
        current = store.get(KIND, name)
        store.replace(current, document, current.status)


def every(store: Store) -> list[Resource]:
    return store.find(KIND)


def remove(store: Store, name: str) -> None:
    """Raises NotFound."""
    store.remove(store.get(KIND, name))


class Secrets:
    """Those of one account, as its replicas read them. For many threads; blocking."""

    def __init__(
        self, store: Store, box: SecretBox, fresh_s: float = FRESH_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._box = box
        self._fresh_s = fresh_s
        self._clock = clock
        self._mutex = threading.Lock()
        self._known: dict[str, tuple[float, str]] = {}

    def value(self, name: str) -> str:
        """Raises BadRequest where there is none; SealBroken, VaultLocked, Unavailable."""
        with self._mutex:
            read_at, value = self._known.get(name, (0.0, ""))
            if value and self._clock() - read_at < self._fresh_s:
                return value
        try:
            sealed = self._store.get(KIND, name).document["Sealed"]
        except NotFound:
            raise BadRequest(f"There is no secret {name!r}; `hearth secrets put {name}` keeps one.") from None
        value = self._box.open(sealed, _context(self._store.account, name)).decode()
        with self._mutex:
            self._known[name] = (self._clock(), value)
        return value


def _context(account: str, name: str) -> Context:
    return {"kind": KIND, "account": account, "name": name}
