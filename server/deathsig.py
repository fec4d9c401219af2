"""Processes that end with their parent, however it ends."""

from __future__ import annotations

import ctypes
import signal

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Has the kernel send `number` to this process when the thread that started it ends (Linux, `prctl(2)`).

    Fit for `preexec_fn`: it allocates nothing after the library is loaded.
    """
    _libc.prctl(PR_SET_PDEATHSIG, number)
