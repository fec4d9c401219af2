"""An object's content as a reader gets it: a stretch of the files that it is made of, kept until it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from server.objects.local.blobs import Blobs
from server.objects.local.records import Piece
from server.objects.storage import BLOCK_BYTES


class Reading:
    """Pins `pieces` at once; `select` narrows what `blocks` gives. `inline` is the content where there are none.

    `data_key` opens the files that are encrypted.
    """

    def __init__(
        self, blobs: Blobs, pieces: Sequence[Piece], inline: bytes = b"", data_key: bytes | None = None
    ) -> None:
        self._blobs = blobs
        self.data_key = data_key
        self._pieces = pieces
        self._inline = inline
        self._start = 0
        self._size = len(inline) + sum(piece.size for piece in pieces)
        self._pinned = True
        blobs.pin(piece.blob for piece in pieces)

    def select(self, start: int, size: int) -> None:
        self._start, self._size = start, size

    def blocks(self) -> Iterator[bytes]:
        start, left = self._start, self._size
        if self._inline:
            yield self._inline[start : start + left]
        for piece in self._pieces:
            if start >= piece.size:
                start -= piece.size
                continue
            taken = min(left, piece.size - start)
            if taken <= 0:
                return
            yield from self._blobs.read(piece, start, taken, BLOCK_BYTES, self.data_key)
            left -= taken
            start = 0

    def close(self) -> None:
        if self._pinned:
            self._pinned = False
            self._blobs.unpin(piece.blob for piece in self._pieces)
