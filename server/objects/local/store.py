"""Objects in a folder of this machine.

    index.db   what there is: buckets, objects, open uploads (`server.objects.local.index`)
    blobs/     files that hold content (`server.objects.local.blobs`)

A put writes a new file and brings it to the disk; then one transaction of the index points the key at the file,
with the object's ETag, headers and checksums in the same row (and its content instead of the file if that is
small). A reader takes the row first and the files it names after that, so it has the old object or the new one. A
process that is killed leaves at most files that no row names; the next start removes them. Completing a multipart
upload moves no data: the object's row names the files of its parts, in order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from server.objects.body import Body
from server.objects.errors import ObjectError
from server.objects.local import buckets, deleting, listing, multipart, parts, reads, tagging, writes
from server.objects.local.blobs import Blobs
from server.objects.local.conditions import check_write
from server.objects.local.content import Reading
from server.objects.local.encryption import Keeper, opened_inline
from server.objects.local.index import Index
from server.objects.local.records import Stored
from server.objects.local.registry import OPERATIONS, Result
from server.objects.operations import not_built
from server.objects.reading import Params, refuse_others
from server.vault.vault import Vault

MODULES = (buckets, deleting, listing, multipart, parts, reads, tagging, writes)
"""Importing them fills the registry."""


class LocalStore:
    """`Storage` in `folder`. Raises OSError where the folder cannot be used.

    `sweep` removes what killed processes left. One process, the one that answers clients, does so: it alone knows
    which replaced files it is still reading out. `keeper` has the keys; None: nothing is encrypted or decrypted.
    `owned` is closed with the store. `quota` says how many bytes there may be; None: any number.
    """

    def __init__(
        self,
        folder: Path,
        account: str,
        *,
        sweep: bool = True,
        keeper: Keeper | None = None,
        owned: Vault | None = None,
        quota: Callable[[], int | None] = lambda: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.account = account
        self._owned = owned
        self._quota = quota
        self.keeper = keeper or Keeper(None, account, always=False)
        self.index = Index(folder / "index.db")
        self.blobs = Blobs(folder / "blobs")
        if sweep:
            self.blobs.sweep(self.index.blobs)
            self.index.recount()

    def close(self) -> None:
        self.index.close()
        if self._owned is not None:
            self._owned.close()
        self.blobs.close()

    def call(self, operation: Any, params: Params, body: Body | None) -> Mapping[str, Any]:
        built = OPERATIONS.get(operation.name)
        if built is None:
            raise not_built(f"the operation {operation.name}")
        refuse_others(operation, params, built.honoured)
        owner = params.get("ExpectedBucketOwner", self.account)
        if owner != self.account:
            raise ObjectError("AccessDenied", f"Access Denied: the bucket's owner is {self.account}, not {owner}.")
        return built.function(self, params, body)

    @property
    def owner(self) -> Result:
        """As listings name it."""
        return {"ID": self.account, "DisplayName": "hearth"}

    def commit(self, stored: Stored, conditions: Params, *, upload: str | None = None) -> None:
        """`stored` takes its key if `conditions` (If-Match and its kin) hold, and `upload`, if given, is over.

        Raises NoSuchBucket, NoSuchUpload, PreconditionFailed, QuotaExceeded; then nothing has changed.
        """
        with self.growing():
            self.index.bucket(stored.bucket)
            present = self.index.find(stored.bucket, stored.key)
            check_write(conditions, stored.key, present)
            spare = [piece.blob for piece in present.pieces] if present else []
            if upload is not None:
                self.index.upload(stored.bucket, stored.key, upload)
                used = {piece.blob for piece in stored.pieces}
                spare += [blob for blob in self.index.drop_upload(upload) if blob not in used]
            self.index.put(stored)
        self.blobs.discard(spare)

    def check_room(self, more: int) -> None:
        """Raises QuotaExceeded where `more` bytes cannot be kept, before anybody sends them. `growing` looks again."""
        used = self.index.used()
        self._check(self._quota(), used, used + more)

    @contextlib.contextmanager
    def growing(self) -> Iterator[None]:
        """A change of the index after which there may be more. Raises QuotaExceeded; then nothing has changed."""
        most = self._quota()
        with self.index.change():
            before = self.index.used()
            yield
            self._check(most, before, self.index.used())

    def _check(self, most: int | None, before: int, after: int) -> None:
        if most is not None and before < after > most:
            raise ObjectError("QuotaExceeded", f"The account's storage quota of {most} bytes would be exceeded: there "
                              f"would be {after} bytes.")  # fmt: skip

    def opened(self, bucket: str, key: str) -> tuple[Stored, Reading]:
        """The object and its content, of the same moment. Raises NoSuchBucket, NoSuchKey."""
        while True:
            stored = self.index.get(bucket, key)
            data_key = self.keeper.open(stored.details, bucket, key)
            inline = b"" if stored.pieces else opened_inline(data_key, stored.inline)
            reading = Reading(self.blobs, stored.pieces, inline, data_key)
            # Files are discarded after the commit that replaces them: while the index names them, the pin was in time.
            if (again := self.index.find(bucket, key)) is not None and again.pieces == stored.pieces:
                return stored, reading
            reading.close()
