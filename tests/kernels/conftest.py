"""Kernels run natively where there is a GPU and under Triton's interpreter on CPU tensors where there is none."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
import torch


def _import_interpreted() -> None:
    """Import Triton and our kernels interpreted. The variable is for these imports only: no process started later may
    inherit it, and what a function becomes is settled when it is decorated."""
    if "triton" in sys.modules and "TRITON_INTERPRET" not in os.environ:
        raise pytest.UsageError("Triton was imported before tests/kernels: name that folder first, or run it alone")
    inherited = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    import triton.experimental.gluon  # noqa: F401 - the interpreter would import it later

    import kernels.sampling.gpu
    import kernels.stopping.tokens_gpu  # noqa: F401

    if inherited is None:
        del os.environ["TRITON_INTERPRET"]
    _patch_once()


def _patch_once() -> None:
    """Let a device function patch `triton.language` on its first call only: the interpreter does so on every call,
    which is half its time, and never undoes it."""
    from triton.runtime import interpreter

    patched: set[int] = set()

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if id(self.fn.__globals__) not in patched:
            interpreter._patch_lang(self.fn)
            patched.add(id(self.fn.__globals__))
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call


if not torch.cuda.is_available():
    _import_interpreted()
