"""Whether whoever asks for an object may use the KMS key that it is encrypted under, as S3 asks KMS in their name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Uses = Callable[[str, str], None]
"""Takes an action, such as kms:Decrypt, and a key's ARN. Raises Forbidden."""

_asked: ContextVar[Uses | None] = ContextVar("asked", default=None)


@contextmanager
def on_behalf(uses: Uses | None) -> Iterator[None]:
    """What is encrypted or decrypted inside is somebody's; None: Hearth's own doing, or nobody is asked."""
    token = _asked.set(uses)
    try:
        yield
    finally:
        _asked.reset(token)


def check(action: str, key: str) -> None:
    """Raises Forbidden."""
    if (uses := _asked.get()) is not None:
        uses(action, key)
