"""The file of master keys: what everything encrypted depends on in the end.

    {"format": 1, "keys": [{"id": "<fingerprint>", "created": "<UTC>", "key": "<base64, 32 bytes>"}, ...]}

The last key encrypts, all of them decrypt. A key's id is its fingerprint, so a damaged key is noticed before it is
used. The ids of keys that have been used are noted in a `Ledger` apart from the file: a file that lacks one of them is
not the file that things are encrypted under, and a missing file is made anew only while none is noted.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hmac
import json
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from server.errors import VaultLocked

KEY_BYTES = 32
ID_BYTES = 16
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class MasterKey:
    id: str
    """Fingerprint, in hexadecimal."""
    created: str
    key: bytes = field(repr=False)

    @classmethod
    def make(cls) -> MasterKey:
        key = secrets.token_bytes(KEY_BYTES)
        return cls(fingerprint(key), datetime.now(UTC).isoformat(timespec="seconds"), key)


class Ledger(Protocol):
    """Remembers which master keys are in use, apart from their file."""

    def ids(self) -> frozenset[str]: ...
    def note(self, key: MasterKey) -> None: ...


def fingerprint(key: bytes) -> str:
    """Tells keys apart without telling anything of them."""
    return hmac.digest(key, b"hearth master key fingerprint", "sha256")[:ID_BYTES].hex()


class Keyring:
    """Reads `file` when a key is first needed, and again when it has changed. Raises VaultLocked."""

    def __init__(self, file: Path, ledger: Ledger) -> None:
        self.file = file
        self._ledger = ledger
        self._mutex = threading.Lock()
        self._keys: dict[str, MasterKey] = {}
        self._newest = ""
        self._seen: tuple[int, ...] = ()

    def newest(self) -> MasterKey:
        """The key to encrypt under; makes the file where nothing is encrypted yet."""
        with self._mutex:
            if self._state() != self._seen or not self._newest:
                self._load()
            return self._keys[self._newest]

    def key(self, id: str) -> bytes:
        """The key to decrypt with."""
        with self._mutex:
            if id not in self._keys:
                self._load()
            if id not in self._keys:
                raise VaultLocked(
                    f"{self.file} does not hold the master key {id} that this is encrypted under. Put the file back "
                    f"that does (from a backup), or name it in the setting master_key_file."
                )
            return self._keys[id].key

    def all(self) -> list[MasterKey]:
        """Oldest first."""
        self.newest()
        with self._mutex:
            return list(self._keys.values())

    def add(self) -> MasterKey:
        """A new newest key, on the disk and noted when this returns."""
        self.newest()
        with self._mutex, self._alone():
            made = MasterKey.make()
            self._write([*self._read(), made])
            self._load_present()
            return made

    def _load(self) -> None:
        if not self.file.exists():
            self._first()
        self._load_present()

    def _first(self) -> None:
        if known := self._ledger.ids():
            raise VaultLocked(
                f"The master key file {self.file} is missing, and things are encrypted under it (master key "
                f"{', '.join(sorted(known))}). Put it back from a backup, or name where it is in the setting "
                f"master_key_file. No new key is made: it could open none of them."
            )
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._alone():
                if not self.file.exists():
                    self._write([MasterKey.make()])
        except OSError as error:
            raise VaultLocked(f"The master key file {self.file} cannot be made: {error.strerror}.") from None

    def _load_present(self) -> None:
        seen = self._state()
        keys = {key.id: key for key in self._read()}
        if foreign := self._ledger.ids() - keys.keys():
            raise VaultLocked(
                f"{self.file} is not the master key file that things here are encrypted under: it lacks the key "
                f"{', '.join(sorted(foreign))}. Put the right file back from a backup, or name it in the setting "
                f"master_key_file."
            )
        for key in keys.values():
            if key.id not in self._ledger.ids():
                self._ledger.note(key)
        self._keys, self._newest, self._seen = keys, next(reversed(keys)), seen

    def _state(self) -> tuple[int, ...]:
        try:
            found = self.file.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> list[MasterKey]:
        try:
            if self.file.stat().st_mode & 0o007:
                raise VaultLocked(f"Others can read the master key file {self.file}: chmod 600 {self.file}")
            document = json.loads(self.file.read_bytes())
            if document["format"] != _FORMAT:
                raise VaultLocked(f"{self.file} has the format {document['format']!r}; this Hearth reads {_FORMAT}.")
            keys = [
                MasterKey(entry["id"], entry["created"], base64.b64decode(entry["key"], validate=True))
                for entry in document["keys"]
            ]
        except OSError as error:
            raise VaultLocked(f"The master key file {self.file} cannot be read: {error.strerror}.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"{type(error).__name__}: {error}") from None
        for key in keys:
            if len(key.key) != KEY_BYTES or not hmac.compare_digest(str(key.id), fingerprint(key.key)):
                raise self._damaged(f"the key {key.id} does not match its fingerprint")
        if not keys:
            raise self._damaged("it holds no key")
        return keys

    def _damaged(self, how: str) -> VaultLocked:
        return VaultLocked(
            f"The master key file {self.file} is damaged ({how}). Put it back from a backup; what is encrypted under a "
            f"lost master key cannot be opened by anyone."
        )

    def _write(self, keys: list[MasterKey]) -> None:
        """The old file or the new one, whatever happens."""
        entries = [
            {"id": key.id, "created": key.created, "key": base64.b64encode(key.key).decode()} for key in keys
        ]  # fmt: skip
        new = self.file.with_name(f"{self.file.name}.new")  # what a crash leaves there, the next write replaces
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"format": _FORMAT, "keys": entries}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.file)
        folder = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time writes the file."""
        lock = os.open(self.file.with_name(f"{self.file.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
