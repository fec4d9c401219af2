"""The seam between S3's dialect and what keeps the objects: a local folder, or any S3 elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from server.objects.body import Body
from server.objects.reading import Params

BLOCK_BYTES = 1024 * 1024
"""What is read, hashed and written at a time."""


class Content(Protocol):
    """What GetObject answers with. Blocking; `close` may be called at any time and more than once."""

    def blocks(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class Storage(Protocol):
    """Runs one operation of the service model. Blocking: called on a worker thread.

    Parameters and result are named as in the model; a streaming input is `body`, a streaming output is the
    result's ``Body``, a `Content`. Raises ObjectError and leaves everything as it was.
    """

    def call(self, operation: Any, params: Params, body: Body | None) -> Mapping[str, Any]: ...

    def close(self) -> None: ...
