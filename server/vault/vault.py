"""Backing keys: what values are encrypted under. They are rows of the store, sealed by the newest master key.

A row's document lists its backing keys under `Backing`, oldest first; the last one encrypts. So a master key's
rotation seals these few again, and nothing that was encrypted under them.
"""

from __future__ import annotations

import base64
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from server.errors import Conflict, SealBroken
from server.store.store import Resource, Store, read
from server.store.tables import ResourceRow
from server.vault.envelope import KEY_BYTES, seal, unseal
from server.vault.keyring import ID_BYTES, Keyring, MasterKey

SYSTEM = "hearth"
"""The account of rows that no client's call reaches."""

KEY, SYSTEM_KEY = "KmsKey", "SystemKey"
"""Kinds of rows that have backing keys: of KMS, and Hearth's own."""

_MASTER = "MasterKey"
_FORMAT = b"\x01"
_ATTEMPTS = 5


def _now() -> datetime:
    return datetime.now(UTC)


class Vault:
    """Everything's keys, over one store and one file of master keys. Safe for many threads and processes."""

    def __init__(self, engine: Engine, file: Path, now: Callable[[], datetime] = _now) -> None:
        self.engine = engine
        self.now = now
        self.system = Store(engine, SYSTEM, SYSTEM)
        self.keyring = Keyring(file, _StoredLedger(self.system))
        self._mutex = threading.Lock()
        self._opened: dict[bytes, bytes] = {}

    def close(self) -> None:
        self.engine.dispose()

    def check(self) -> None:
        """Raises VaultLocked where something is encrypted and its master key is not there."""
        if self.keyring.file.exists() or self.system.find(_MASTER):
            self.keyring.newest()

    def store(self, account: str, region: str) -> Store:
        return Store(self.engine, account, region).within(region)

    def made(self, owner: str, origin: str = "CREATE") -> dict[str, Any]:
        """A new entry of `Backing`; `owner` is the ARN of its row."""
        id, key = os.urandom(ID_BYTES), os.urandom(KEY_BYTES)
        with self._mutex:
            self._opened[id] = key
        created = self.now().isoformat()
        return {"Id": id.hex(), "Created": created, "Origin": origin, "Sealed": self._sealed(owner, id, key)}

    def newest(self, resource: Resource) -> tuple[bytes, bytes]:
        """Id and secret of the backing key that encrypts. Raises VaultLocked, SealBroken."""
        entry = resource.document["Backing"][-1]
        return bytes.fromhex(entry["Id"]), self._open(resource.arn, entry)

    def named(self, resource: Resource, id: bytes) -> bytes:
        """The backing key that an envelope names. Raises VaultLocked, SealBroken."""
        for entry in resource.document["Backing"]:
            if entry["Id"] == id.hex():
                return self._open(resource.arn, entry)
        raise SealBroken(f"{resource.arn} has no backing key {id.hex()}.")

    def pending(self) -> list[tuple[str, str]]:
        """Account and region of each KMS key that is to be deleted."""
        query = select(ResourceRow.account, ResourceRow.region)
        with self.system.session() as session:
            rows = session.execute(query.where(ResourceRow.kind == KEY, ResourceRow.status == "PendingDeletion"))
            return [(account, region) for account, region in rows]

    def system_key(self, label: str) -> Resource:
        """Hearth's own key of that name, made when it is first asked for."""
        for resource in self.system.find(SYSTEM_KEY):
            if resource.name == label:
                return resource
        arn = f"arn:hearth:vault:::key/{label}"
        try:
            return self.system.create(SYSTEM_KEY, label, {"Backing": [self.made(arn)]}, "Enabled", arn=arn)
        except Conflict:
            return self.system.get(SYSTEM_KEY, label)

    def rotate(self) -> tuple[MasterKey, int]:
        """A new master key, and how many backing keys were sealed again under it.

        What a crash leaves out is still open under the older master key, and is sealed again by the next rotation.
        """
        master = self.keyring.add()
        return master, self.reseal()

    def reseal(self) -> int:
        """Seals under the newest master key what is still under an older one; how many backing keys that were."""
        query = select(ResourceRow.id).where(ResourceRow.kind.in_((KEY, SYSTEM_KEY)))
        with self.system.session() as session:
            ids = list(session.scalars(query))
        return sum(self._resealed(id) for id in ids)

    def sealed(self) -> Counter[str]:
        """How many backing keys each master key seals, by its id."""
        query = select(ResourceRow.document).where(ResourceRow.kind.in_((KEY, SYSTEM_KEY)))
        with self.system.session() as session:
            documents: list[Any] = list(session.scalars(query))
        return Counter(master_of(entry) for document in documents for entry in document["Backing"])

    def _resealed(self, id: int) -> int:
        for attempt in range(_ATTEMPTS):
            with self.system.session() as session:
                row = session.get(ResourceRow, id)
                if row is None:
                    return 0
                resource, store = read(row), Store(self.engine, row.account, row.region)
            newest = self.keyring.newest().id
            old = [entry for entry in resource.document["Backing"] if master_of(entry) != newest]
            if not old:
                return 0
            try:
                store.replace(resource, self._under_newest(resource), resource.status)
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            return len(old)
        return 0

    def _under_newest(self, resource: Resource) -> dict[str, Any]:
        entries = [
            {**entry, "Sealed": self._sealed(resource.arn, bytes.fromhex(entry["Id"]), self._open(resource.arn, entry))}
            for entry in resource.document["Backing"]
        ]
        return {**resource.document, "Backing": entries}

    def _sealed(self, owner: str, id: bytes, key: bytes) -> str:
        master = self.keyring.newest()
        head = _FORMAT + bytes.fromhex(master.id)
        return base64.b64encode(head + seal(master.key, key, head + id + owner.encode())).decode()

    def _open(self, owner: str, entry: Mapping[str, Any]) -> bytes:
        id = bytes.fromhex(entry["Id"])
        with self._mutex:
            if (known := self._opened.get(id)) is not None:
                return known
        sealed = base64.b64decode(entry["Sealed"])
        head = sealed[: 1 + ID_BYTES]
        key = unseal(self.keyring.key(head[1:].hex()), sealed[len(head) :], head + id + owner.encode())
        with self._mutex:
            return self._opened.setdefault(id, key)


def master_of(entry: Mapping[str, Any]) -> str:
    """Id of the master key that seals an entry of `Backing`."""
    return base64.b64decode(entry["Sealed"])[1 : 1 + ID_BYTES].hex()


class _StoredLedger:
    def __init__(self, store: Store) -> None:
        self._store = store

    def ids(self) -> frozenset[str]:
        return frozenset(resource.name for resource in self._store.find(_MASTER))

    def note(self, key: MasterKey) -> None:
        try:
            self._store.create(
                _MASTER, key.id, {"Created": key.created}, "Active", arn=f"arn:hearth:vault:::master/{key.id}"
            )
        except Conflict:
            return
