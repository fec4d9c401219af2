"""Files of models on this machine's disk, bounded: those that no loaded model needs go, least recently used first."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from server.errors import HearthError, ModelFailed, NotReady
from server.guard.model_metrics import ModelMetrics
from server.replicas.many.prefix import Prefix

INSUFFICIENT_STORAGE = 507
"""The status with which SageMaker's containers say that a model finds no room."""

Key = tuple[str, str]
"""A model's name and version."""


@dataclass(slots=True, eq=False)
class Folder:
    """The files of one version of a model. `pins`: how many need them."""

    key: Key
    path: Path
    place: Path
    bytes: int
    pins: int = 0


class Disk:
    """Used on one event loop. `spare` unloads a model that nobody uses; False where there is none."""

    def __init__(
        self, prefix: Prefix, root: Path, most: int, metrics: ModelMetrics, spare: Callable[[], Awaitable[bool]],
        threads: int,
    ) -> None:  # fmt: skip
        """`root` is shared by all replicas of this machine; what replicas that are gone left there goes first."""
        self._prefix = prefix
        self._most = most
        self._metrics = metrics
        self._spare = spare
        self._folders: OrderedDict[Key, Folder] = OrderedDict()
        self._numbers = itertools.count()
        self._trimming = asyncio.Lock()
        self._looking = ThreadPoolExecutor(4, thread_name_prefix="look")
        self._fetching = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
        self._own, self._lock = _claim(root)

    @property
    def bytes(self) -> int:
        return sum(folder.bytes for folder in self._folders.values())

    async def look(self, name: str) -> str:
        """See `Prefix.look`."""
        return await asyncio.get_running_loop().run_in_executor(self._looking, self._prefix.look, name)

    async def pinned(self, key: Key) -> Folder:
        """The files of this version, fetched where they are not here. They stay until `unpin`. Raises NoSuchModel,
        ModelFailed, NotReady where all that is here is needed."""
        folder = self._folders.get(key)
        if folder is None:
            folder = await self._fetched(key)
        else:
            self._folders.move_to_end(key)
            folder.pins += 1
        return folder

    def unpin(self, folder: Folder) -> None:
        folder.pins -= 1

    async def drop(self, folder: Folder) -> None:
        """Deletes the files, unless somebody needs them."""
        if folder.pins == 0 and self._folders.get(folder.key) is folder:
            del self._folders[folder.key]
            await asyncio.to_thread(shutil.rmtree, folder.place, True)
            self._metrics.disk(self.bytes)

    async def close(self) -> None:
        self._looking.shutdown(wait=False, cancel_futures=True)
        self._fetching.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(shutil.rmtree, self._own, True)
        self._own.with_suffix(".lock").unlink(missing_ok=True)
        self._lock.close()

    async def _fetched(self, key: Key) -> Folder:
        place, began = self._own / str(next(self._numbers)), time.perf_counter()
        fetching = asyncio.get_running_loop().run_in_executor(
            self._fetching, self._prefix.fetch, key[0], place, self._most
        )
        try:
            path = await asyncio.shield(fetching)
        except asyncio.CancelledError:
            fetching.add_done_callback(lambda _: shutil.rmtree(place, ignore_errors=True))
            raise
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, place, True)
            raise
        size = await asyncio.to_thread(_size, place)
        if size:  # else the files lay on this machine
            self._metrics.downloaded(time.perf_counter() - began)
        folder = self._folders[key] = Folder(key, path, place, size, pins=1)
        try:
            await self._trim(folder)
        except BaseException:
            folder.pins -= 1
            await self.drop(folder)
            raise
        return folder

    async def _trim(self, new: Folder) -> None:
        """Brings what is here below the bound."""
        if new.bytes > self._most:
            raise too_big(new.key[0], new.bytes, self._most, "files")
        async with self._trimming:
            while self.bytes > self._most:
                idle = next((folder for folder in self._folders.values() if folder.pins == 0), None)
                if idle is not None:
                    await self.drop(idle)
                elif not await self._spare():
                    raise NotReady(
                        f"Model {new.key[0]} is not ready: the disk is full of models that are in use; try again."
                    )
        self._metrics.disk(self.bytes)


def too_big(name: str, size: int, most: int, what: str) -> HearthError:
    """Why a model can never be loaded here."""
    error = ModelFailed(f"model {name} needs {size >> 20} MiB for its {what}; all models may have {most >> 20} MiB")
    error.status = INSUFFICIENT_STORAGE
    return error


def _size(place: Path) -> int:
    return sum(file.lstat().st_size for file in place.rglob("*") if not file.is_dir())


def _claim(root: Path) -> tuple[Path, IO[bytes]]:
    """A folder below `root` of this process alone, and the lock that says that its process lives."""
    root.mkdir(parents=True, exist_ok=True)
    for lock in root.glob("*.lock"):
        with contextlib.suppress(OSError), lock.open("rb") as found:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink()
    own = root / f"replica-{uuid.uuid4().hex[:12]}"
    # The lock is taken before it has the name that others look for.
    claiming = own.with_suffix(".claiming")
    file = claiming.open("xb")
    fcntl.flock(file, fcntl.LOCK_EX)
    own.mkdir()
    claiming.rename(own.with_suffix(".lock"))
    return own, file
