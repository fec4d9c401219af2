"""Compiled entry points and the threads that run them.

Threads are those of torch's own OpenMP team: `GOMP_parallel` of the library torch has loaded calls the entry on each.
vLLM pins that team, one thread a core, and after a matrix product its threads still spin, so a second pool (numba's,
or Python's) would fight it for the same cores; this one starts in a microsecond or two and cannot oversubscribe.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import torch
from numba import carray, cfunc, config, types
from numba.core.caching import _CacheLocator

from kernels.sampling.cpu_compile import compiled
from kernels.sampling.cpu_draw import draw
from kernels.sampling.cpu_frame import (
    BATCH,
    CHUNK,
    CONTROL,
    COUNT,
    REPORTS,
    TILES,
    TOKENS,
    words_of_thread,
)
from kernels.sampling.cpu_intrinsics import fetch_add, i64s
from kernels.sampling.cpu_report import report
from kernels.sampling.cpu_scan import scan_tile

logger = logging.getLogger(__name__)
_Entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_compiling = threading.Lock()
_forked = False


def run(words: int, threads: int) -> None:
    """Run a call whose words are at an address on this thread and up to `threads` - 1 others, without Python's lock."""
    if threads == 1:
        entry()(words)
    else:
        _parallel()(entry(), words, threads, 0)


def team_size() -> int:
    """Threads a call may use: torch's, or 1 in a forked child, where OpenMP's team is gone but believed alive."""
    return 1 if _forked or _parallel() is None else torch.get_num_threads()


def entry() -> Any:
    """The compiled `_scan_and_draw`, for every type of logits; compiled or loaded from the cache by the first call."""
    with _compiling:
        return compiled_entry()[0]


@functools.cache
def compiled_entry() -> tuple[Any, Any]:
    """(the entry, numba's object that keeps its code alive)."""
    located, config.CACHE_LOCATOR_CLASSES = config.CACHE_LOCATOR_CLASSES, f"{__name__}.Locator"
    try:
        function = cfunc(types.void(types.CPointer(types.int64)), cache=True)(_scan_and_draw)
    finally:
        config.CACHE_LOCATOR_CLASSES = located
    return _Entry(function.address), function


def _scan_and_draw(data: Any) -> None:
    """What each thread does: take chunks of rows until none is left; whoever scans a row's last one ends it."""
    shared = carray(data, COUNT)
    rows, tiles = shared[BATCH], shared[TILES]
    chunks, control = (tiles + CHUNK - 1) // CHUNK, i64s(shared[CONTROL], 2 + rows)
    words = words_of_thread(shared, fetch_add(control, 0, 1))
    chunk = fetch_add(control, 1, 1)
    while chunk < rows * chunks:
        row, first = chunk // chunks, chunk % chunks * CHUNK
        for tile in range(first, min(tiles, first + CHUNK)):
            scan_tile(words, row, tile)
        if fetch_add(control, 2 + row, 1) == chunks - 1:
            end_row(words, row)
        chunk = fetch_add(control, 1, 1)


@compiled
def end_row(words: Any, row: Any) -> None:
    """Draw a row whose tiles have all been scanned."""
    token = draw(words, row)
    i64s(words[TOKENS], row + 1)[row] = token
    if words[REPORTS]:
        report(words, row, token)


class Locator(_CacheLocator):  # type: ignore[misc]  # numba has no types
    """Where compiled entries are kept. Stale once any source of the kernels changes, not only the entry's own file."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder

    @classmethod
    def from_function(cls, function: Any, source: str) -> Locator:
        """A locator in the first writable folder: numba's own setting, beside the sources, the user's cache."""
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hearth" / "kernels"
        folders = [Path(config.CACHE_DIR)] if config.CACHE_DIR else []
        for folder in (*folders, Path(source).parent / "__pycache__", user):
            locator = cls(function.__name__, folder)
            try:
                locator.ensure_cache_path()
            except OSError:
                continue
            return locator
        logger.warning("no writable folder for compiled sampling kernels: every process compiles them anew")
        return cls(function.__name__, Path(tempfile.mkdtemp(prefix="kernels-")))

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return _sources_digest()

    def get_disambiguator(self) -> str:
        return self._name


@functools.cache
def _sources_digest() -> str:
    folder = Path(__file__).parent
    sources = [folder / "arithmetic.py", *sorted(folder.glob("cpu*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


@functools.cache
def _parallel() -> Any:
    """`GOMP_parallel(function, argument, threads, flags)` of the OpenMP library torch uses; None where it has none."""
    try:
        function = ctypes.CDLL(None).GOMP_parallel
    except AttributeError:
        logger.warning("torch's OpenMP library offers no GOMP_parallel: sampling on the CPU uses one thread")
        return None
    function.argtypes = (_Entry, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    function.restype = None
    return function


def _after_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)
