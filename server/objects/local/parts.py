"""UploadPart, UploadPartCopy and ListParts."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

from server.objects import checksums
from server.objects.body import MAX_PUT_BYTES, Body
from server.objects.errors import ObjectError
from server.objects.local.encryption import shown
from server.objects.local.listing import limit_of
from server.objects.local.ranges import copied_span
from server.objects.local.records import Part, Upload, moment
from server.objects.local.registry import Result, operation
from server.objects.local.writes import CHECKSUMS, COPY_CONDITIONS, digested, opened_source
from server.objects.reading import Params

if TYPE_CHECKING:
    from server.objects.local.store import LocalStore

MAX_PARTS = 10_000


@operation(f"Bucket Key UploadId PartNumber Body {CHECKSUMS}")
def upload_part(store: LocalStore, params: Params, body: Body | None) -> Result:
    assert body is not None
    number = _number(params)
    upload = store.index.upload(params["Bucket"], params["Key"], params["UploadId"])
    algorithm = algorithm_of(upload)
    if algorithm is not None:
        if body.algorithms not in ((), (algorithm,)):
            raise ObjectError("InvalidRequest", f"Checksum Type mismatch occurred, expected checksum Type: "
                              f"{algorithm.lower()}, actual checksum Type: {body.algorithms[0].lower()}")  # fmt: skip
        body.want(algorithm)
    store.check_room(body.size - _replaced(store, upload, number))
    piece = store.blobs.write(body, store.keeper.open(upload.details, upload.bucket, upload.key))
    part = Part(number, piece.size, body.md5, int(time.time()), piece.blob, body.checksums, piece.salt)
    _keep(store, upload, part)
    return {"ETag": f'"{part.etag}"', **_shown_checksums(part), **shown(upload.details)}


@operation(f"Bucket Key UploadId PartNumber CopySource CopySourceRange {COPY_CONDITIONS}")
def upload_part_copy(store: LocalStore, params: Params, _body: Body | None) -> Result:
    number = _number(params)
    upload = store.index.upload(params["Bucket"], params["Key"], params["UploadId"])
    data_key = store.keeper.open(upload.details, upload.bucket, upload.key)
    source, reading = opened_source(store, params)
    md5 = hashlib.md5(usedforsecurity=False)
    algorithm = algorithm_of(upload)
    digests = {} if algorithm is None else {algorithm: checksums.digest(algorithm)}
    try:
        size = source.size
        if "CopySourceRange" in params:
            span = copied_span(params["CopySourceRange"], source.size)
            reading.select(span.start, span.size)
            size = span.size
        if size > MAX_PUT_BYTES:
            raise ObjectError("InvalidRequest", "The specified copy source is larger than the maximum allowable size "
                                                f"for a copy source: {MAX_PUT_BYTES}")  # fmt: skip
        store.check_room(size - _replaced(store, upload, number))
        piece = store.blobs.write(digested(reading.blocks(), (md5, *digests.values())), data_key)
    finally:
        reading.close()
    computed = {name: checksums.encoded(digest) for name, digest in digests.items()}
    part = Part(number, piece.size, md5.hexdigest(), int(time.time()), piece.blob, computed, piece.salt)
    _keep(store, upload, part)
    result = {"ETag": f'"{part.etag}"', "LastModified": moment(part.modified), **_shown_checksums(part)}
    return {"CopyPartResult": result, **shown(upload.details)}


@operation("Bucket Key UploadId MaxParts PartNumberMarker")
def list_parts(store: LocalStore, params: Params, _body: Body | None) -> Result:
    upload = store.index.upload(params["Bucket"], params["Key"], params["UploadId"])
    limit, marker = limit_of(params, "MaxParts", "max-parts"), params.get("PartNumberMarker", 0)
    found = store.index.parts(upload.id, marker, limit + 1)
    shown = found[:limit]
    result: dict[str, Any] = {
        "Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.id,
        "Initiator": store.owner, "Owner": store.owner, "StorageClass": "STANDARD",
        "PartNumberMarker": marker, "MaxParts": limit, "IsTruncated": limit > 0 and len(found) > limit,
        "NextPartNumberMarker": shown[-1].number if shown else 0, "Parts": [_listed(part) for part in shown],
    }  # fmt: skip
    if (algorithm := algorithm_of(upload)) is not None:
        result.update(ChecksumAlgorithm=algorithm, ChecksumType=upload.details.checksum_type)
    return result


def algorithm_of(upload: Upload) -> str | None:
    """The checksum that the upload was begun with."""
    return next(iter(upload.details.checksums), None)


def _listed(part: Part) -> Result:
    return {
        "PartNumber": part.number, "LastModified": moment(part.modified), "ETag": f'"{part.etag}"', "Size": part.size,
        **_shown_checksums(part),
    }  # fmt: skip


def _shown_checksums(part: Part) -> dict[str, str]:
    return {checksums.member(algorithm): value for algorithm, value in part.checksums.items()}


def _number(params: Params) -> int:
    number = int(params["PartNumber"])
    if not 1 <= number <= MAX_PARTS:
        raise ObjectError("InvalidArgument", f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive",
                          ArgumentName="partNumber", ArgumentValue=str(number))  # fmt: skip
    return number


def _replaced(store: LocalStore, upload: Upload, number: int) -> int:
    """Bytes of the part that has the number now."""
    return sum(part.size for part in store.index.parts(upload.id, number - 1, 1) if part.number == number)


def _keep(store: LocalStore, upload: Upload, part: Part) -> None:
    """The part takes its number, if the upload is still open."""
    try:
        with store.growing():
            store.index.upload(upload.bucket, upload.key, upload.id)
            replaced = store.index.put_part(upload.id, part)
    except BaseException:
        store.blobs.discard([part.blob])
        raise
    store.blobs.discard(replaced)
