"""The files that hold content. A file is written once, by one process, and never changed after that.

    blobs/SESSION/N      the N-th file that a process wrote; SESSION is new for each process
    blobs/SESSION.lock   locked while that process lives

The index names files; a file that it does not name is either still being written by a living process or left
over from a dead one. `sweep` tells the two apart by the lock and removes the latter.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from server.errors import SealBroken
from server.objects.errors import ObjectError
from server.objects.local.records import Piece
from server.vault.blobs import BlobCipher

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS = (errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EXDEV)


class Blobs:
    """Opens a session of its own; `close` ends it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._session = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._mutex = threading.Lock()
        self._pinned: Counter[str] = Counter()
        self._doomed: set[str] = set()
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._alone():
            self._lock = os.open(root / f"{self._session}.lock", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            (root / self._session).mkdir(mode=0o700)
        _sync_folder(root)

    def close(self) -> None:
        os.close(self._lock)

    def write(self, blocks: Iterable[bytes], data_key: bytes | None = None) -> Piece:
        """A new file with `blocks`, encrypted if there is a key, and on the disk when this returns.

        Whatever goes wrong, no file stays.
        """
        name = f"{self._session}/{next(self._numbers):x}"
        path = self._root / name
        salt = b"" if data_key is None else BlobCipher.salt()
        counted = _Counted(blocks)
        stored = counted if data_key is None else BlobCipher(data_key, salt).encrypted(counted)
        try:
            with _told_when_full(), path.open("xb", buffering=0) as file:
                for block in stored:
                    left = memoryview(block)
                    while left:
                        left = left[file.write(left) :]
                os.fsync(file.fileno())
            _sync_folder(path.parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Piece(name, counted.size, salt.hex())

    def copy(self, piece: Piece) -> Piece:
        """The same content under a name of its own: a hard link where the file system has them."""
        name = f"{self._session}/{next(self._numbers):x}"
        path, source = self._root / name, self._root / piece.blob
        try:
            os.link(source, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with source.open("rb") as file:
                name = self.write(iter(lambda: file.read(1 << 20), b"")).blob
        else:
            _sync_folder(path.parent)
        return replace(piece, blob=name)

    def discard(self, names: Iterable[str]) -> None:
        """Removes files that the index no longer names, those that are being read when their readers end."""
        with self._mutex:
            wanted = list(names)
            self._doomed.update(name for name in wanted if self._pinned[name])
            free = [name for name in wanted if not self._pinned[name]]
        for name in free:
            (self._root / name).unlink(missing_ok=True)

    def pin(self, names: Iterable[str]) -> None:
        """Keeps files until `unpin`, whatever happens to the object that they belong to."""
        with self._mutex:
            self._pinned.update(names)

    def unpin(self, names: Iterable[str]) -> None:
        with self._mutex:
            for name in names:
                self._pinned[name] -= 1
                if self._pinned[name] <= 0:
                    del self._pinned[name]
                    if name in self._doomed:
                        self._doomed.discard(name)
                        (self._root / name).unlink(missing_ok=True)

    def read(self, piece: Piece, start: int, size: int, block: int, data_key: bytes | None) -> Iterator[bytes]:
        """`size` bytes of content from `start` on; `data_key` is used where the file is encrypted.

        Raises FileNotFoundError before the first block if there is no such file, SealBroken for one that was changed.
        """
        with (self._root / piece.blob).open("rb", buffering=0) as file:
            if piece.salt:
                if data_key is None:
                    raise SealBroken(f"{piece.blob} is encrypted, and its object has no key.")
                cipher = BlobCipher(data_key, bytes.fromhex(piece.salt))
                yield from cipher.decrypted(file, piece.size, start, size, block)
                return
            file.seek(start)
            while size > 0:
                data = file.read(min(block, size))
                if not data:
                    raise OSError(errno.EIO, f"{piece.blob} is shorter than the index says")
                size -= len(data)
                yield data

    def sweep(self, named: Callable[[], Iterable[str]]) -> int:
        """Removes what dead processes left and `named` (the index) does not name. Returns how many files."""
        removed = 0
        with self._alone():
            dead = [folder for folder in self._root.iterdir() if folder.is_dir() and self._dead(folder.name)]
            if not dead:
                return 0
            keep = set(named())
            for folder in dead:
                for entry in list(os.scandir(folder)):
                    if f"{folder.name}/{entry.name}" not in keep:
                        (folder / entry.name).unlink()
                        removed += 1
                with contextlib.suppress(OSError):  # not empty: it still holds objects
                    folder.rmdir()
                    (self._root / f"{folder.name}.lock").unlink(missing_ok=True)
        return removed

    def _dead(self, session: str) -> bool:
        if session == self._session:
            return False
        try:
            lock = os.open(self._root / f"{session}.lock", os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time opens a session or sweeps."""
        lock = os.open(self._root / "sessions.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


class _Counted(Iterable[bytes]):
    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.size += len(block)
            yield block


@contextlib.contextmanager
def _told_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ObjectError("InsufficientStorage") from error
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
