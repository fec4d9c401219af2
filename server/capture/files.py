"""Files of captured requests in the object store, where SageMaker's data capture has them:

    DESTINATION/ENDPOINT/VARIANT/YYYY/MM/DD/HH/NAME.jsonl

Blocking.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from server.objects.body import Body, Promise
from server.objects.errors import ObjectError
from server.objects.fetching import Location
from server.objects.operations import MODEL
from server.objects.storage import Storage


def hour(at: float) -> str:
    """The folder of what happened at `at`, seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y/%m/%d/%H")


def minute(at: float) -> str:
    """How the name of a file begins whose first record is of `at`."""
    return datetime.fromtimestamp(at, UTC).strftime("%M-%S")


def write(
    storage: Storage, destination: str, path: Iterable[str], lines: Iterable[str], kms_key: str | None
) -> None:
    """Makes one file below `destination`; one that is there stays, as the same lines came before. Raises HearthError
    and OSError."""
    where = Location.parse(destination)
    prefix = where.key.rstrip("/")
    key = "/".join((*([prefix] if prefix else []), *path)) + ".jsonl"
    content = "".join(f"{line}\n" for line in lines).encode()
    params = {"Bucket": where.bucket, "Key": key, "ContentType": "application/x-ndjson", "IfNoneMatch": "*"}
    if kms_key:
        params |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
    promise = Promise(len(content), len(content), None, None, None, {}, ())
    try:
        storage.call(MODEL.operation_model("PutObject"), params, Body((content,), promise))
    except ObjectError as error:
        if error.code != "PreconditionFailed":
            raise
