"""When requests are sent: closed loop, Poisson, or a recorded trace."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Arrival:
    """`at`: seconds from the start of the run. The rest overrides the run's own prompt and length."""

    at: float
    max_tokens: int | None = None
    prompt: str | None = None


def poisson(rate: float, seconds: float, seed: int) -> list[Arrival]:
    """Arrivals of a Poisson process of `rate` per second over `seconds`, in order."""
    if rate <= 0:
        raise ValueError(f"rate must be above 0 requests/s, got {rate:g}")
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate * seconds)
    return [Arrival(float(at)) for at in np.sort(rng.uniform(0.0, seconds, count))]


def load_trace(path: Path) -> list[Arrival]:
    """A trace file: one arrival per line, either seconds or ``{"at", "max_tokens"?, "prompt"?}``.

    Blank lines and lines that begin with # are skipped. Raises ValueError naming the file, line and field.
    """
    arrivals = [_parsed(f"{path}:{number}", line) for number, line in _lines(path)]
    if not arrivals:
        raise ValueError(f"{path}: no arrivals")
    return sorted(arrivals, key=lambda arrival: arrival.at)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _parsed(where: str, line: str) -> Arrival:
    try:
        found = json.loads(line)
    except ValueError:
        raise ValueError(f"{where}: expected seconds or a JSON object, got {line[:40]!r}") from None
    entry: dict[str, Any] = found if isinstance(found, dict) else {"at": found}
    if unknown := set(entry) - {"at", "max_tokens", "prompt"}:
        raise ValueError(f"{where}: unknown field {', '.join(sorted(unknown))}")
    at, max_tokens, prompt = entry.get("at"), entry.get("max_tokens"), entry.get("prompt")
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < float("inf"):
        raise ValueError(f"{where}: at must be a number of seconds >= 0, got {at!r}")
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise ValueError(f"{where}: max_tokens must be a whole number >= 1, got {max_tokens!r}")
    if prompt is not None and not isinstance(prompt, str):
        raise ValueError(f"{where}: prompt must be a string, got {prompt!r}")
    return Arrival(float(at), max_tokens, prompt)


class _TimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Timer:
    """A kernel timer that wakes an event loop at a monotonic time to within tens of microseconds.

    Event loops' own timers round to a millisecond, which is a tenth of a short request. Linux only.
    """

    CLOCK_MONOTONIC, ABSOLUTE = 1, 1

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(self.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def arm(self, at: float) -> None:
        """Make `fd` readable at monotonic second `at`; a time gone by fires at once."""
        nanoseconds = max(1, int(at * 1e9))
        spec = _TimerSpec(0, 0, nanoseconds // 10**9, nanoseconds % 10**9)
        if self._libc.timerfd_settime(self.fd, self.ABSOLUTE, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def acknowledge(self) -> None:
        os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)
