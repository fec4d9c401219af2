"""Multipart uploads: begun, completed, aborted, listed. Completing names the parts' files in order; no data moves."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from server.objects import checksums
from server.objects.body import Body
from server.objects.errors import ObjectError
from server.objects.local.description import DESCRIPTION, described
from server.objects.local.encryption import ENCRYPTION, shown
from server.objects.local.listing import encoder, limit_of
from server.objects.local.pages import after, page
from server.objects.local.parts import algorithm_of
from server.objects.local.reads import shown_checksums
from server.objects.local.records import Details, Part, Piece, Stored, Upload, moment
from server.objects.local.registry import Result, operation
from server.objects.local.writes import CHECKSUMS
from server.objects.naming import check_key
from server.objects.reading import Params

if TYPE_CHECKING:
    from server.objects.local.store import LocalStore

MIN_PART_BYTES = 5 * 1024**2
"""Of every part but the last."""

_TYPES = {"CRC64NVME": ("FULL_OBJECT",), "CRC32": ("COMPOSITE", "FULL_OBJECT"), "CRC32C": ("COMPOSITE", "FULL_OBJECT")}
"""Checksum types of an algorithm, the usual one first; a hash can only be COMPOSITE."""


@operation(f"Bucket Key ChecksumType {DESCRIPTION} {ENCRYPTION}")
def create_multipart_upload(store: LocalStore, params: Params, _body: Body | None) -> Result:
    check_key(params["Key"])
    details = _with_checksum(described(params), params.get("ChecksumAlgorithm"), params.get("ChecksumType"))
    bucket = store.index.bucket(params["Bucket"])
    encryption, _ = store.keeper.seal(store.keeper.rule(params, bucket), bucket, params["Key"])
    details = replace(details, encryption=encryption)
    name = f"{time.time_ns():016x}{secrets.token_hex(24)}"  # in order of time, as listings have them
    upload = Upload(name, bucket.name, params["Key"], int(time.time()), details)
    with store.index.change():
        store.index.bucket(upload.bucket)
        store.index.add_upload(upload)
    result = {"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.id, **shown(details)}
    if (algorithm := algorithm_of(upload)) is not None:
        result.update(ChecksumAlgorithm=algorithm, ChecksumType=details.checksum_type)
    return result


def _with_checksum(details: Details, algorithm: str | None, kind: str | None) -> Details:
    if algorithm is None:
        if kind is not None:
            raise ObjectError("InvalidRequest", "x-amz-checksum-type needs x-amz-checksum-algorithm.")
        return details
    checksums.check_algorithm(algorithm)
    kinds = _TYPES.get(algorithm, ("COMPOSITE",))
    if kind is not None and kind not in kinds:
        raise ObjectError("InvalidRequest", f"The {kind} checksum type cannot be used with the "
                                            f"{algorithm.lower()} checksum algorithm.")  # fmt: skip
    return replace(details, checksums={algorithm: ""}, checksum_type=kind or kinds[0])


@operation(f"Bucket Key UploadId MultipartUpload ChecksumType MpuObjectSize IfMatch IfNoneMatch {CHECKSUMS}")
def complete_multipart_upload(store: LocalStore, params: Params, _body: Body | None) -> Result:
    bucket, key, name = params["Bucket"], params["Key"], params["UploadId"]
    try:
        upload = store.index.upload(bucket, key, name)
        stored = _assembled(upload, _chosen(store, upload, params), params)
        store.commit(stored, params, upload=name)
    except ObjectError as error:
        # A client that lost the answer asks again.
        done = store.index.find(bucket, key) if error.code == "NoSuchUpload" else None
        if done is None or done.details.upload != name:
            raise
        stored = done
    return {
        "Location": f"/{bucket}/{key}", "Bucket": bucket, "Key": key, "ETag": f'"{stored.etag}"',
        **shown_checksums(stored), **shown(stored.details),
    }  # fmt: skip


def _chosen(store: LocalStore, upload: Upload, params: Params) -> list[Part]:
    """The parts that the request names. Raises MalformedXML, InvalidPartOrder, InvalidPart, EntityTooSmall."""
    named: Sequence[dict[str, Any]] = params.get("MultipartUpload", {}).get("Parts", [])
    if not named or any("PartNumber" not in one or "ETag" not in one for one in named):
        raise ObjectError("MalformedXML", "CompleteMultipartUpload must name one part or more, each with its "
                                          "PartNumber and ETag.")  # fmt: skip
    numbers = [one["PartNumber"] for one in named]
    if numbers != sorted(set(numbers)):
        raise ObjectError("InvalidPartOrder", UploadId=upload.id)
    present = {part.number: part for part in store.index.parts(upload.id)}
    parts = [_matching(one, present, upload) for one in named]
    for part in parts[:-1]:
        if part.size < MIN_PART_BYTES:
            raise ObjectError("EntityTooSmall", ProposedSize=str(part.size), MinSizeAllowed=str(MIN_PART_BYTES),
                              PartNumber=str(part.number), ETag=part.etag)  # fmt: skip
    return parts


def _matching(named: dict[str, Any], present: dict[int, Part], upload: Upload) -> Part:
    part = present.get(named["PartNumber"])
    sent = {name.removeprefix("Checksum"): value for name, value in named.items() if name.startswith("Checksum")}
    if (
        part is None
        or part.etag != named["ETag"].strip('"')
        or any(part.checksums.get(algorithm) != value for algorithm, value in sent.items())
    ):
        raise ObjectError("InvalidPart", UploadId=upload.id, PartNumber=str(named["PartNumber"]), ETag=named["ETag"])
    return part


def _assembled(upload: Upload, parts: Sequence[Part], params: Params) -> Stored:
    size = sum(part.size for part in parts)
    if params.get("MpuObjectSize", size) != size:
        raise ObjectError("InvalidRequest", f"The provided 'x-amz-mp-object-size' header does not match what was "
                                            f"computed: {size}.")  # fmt: skip
    etag = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
    details = replace(upload.details, checksums=_checksum(upload, parts), upload=upload.id)
    stored = Stored(
        upload.bucket, upload.key, size, f"{etag.hexdigest()}-{len(parts)}", int(time.time()), details,
        tuple(Piece(part.blob, part.size, part.salt) for part in parts),
    )  # fmt: skip
    _verify(stored, params)
    return stored


def _checksum(upload: Upload, parts: Sequence[Part]) -> dict[str, str]:
    algorithm = algorithm_of(upload)
    if algorithm is None:
        return {}
    if upload.details.checksum_type == "COMPOSITE":
        return {algorithm: checksums.composite(algorithm, (part.checksums[algorithm] for part in parts))}
    return {algorithm: checksums.whole(algorithm, ((part.checksums[algorithm], part.size) for part in parts))}


def _verify(stored: Stored, params: Params) -> None:
    """The checksum of the whole that the request may state."""
    kind = params.get("ChecksumType", stored.details.checksum_type)
    if stored.details.checksums and kind != stored.details.checksum_type:
        raise ObjectError("InvalidRequest", f"The upload was created using the {stored.details.checksum_type} checksum "
                          f"mode. The complete request must use the same checksum mode.")  # fmt: skip
    for algorithm in checksums.ALGORITHMS:
        stated = params.get(checksums.member(algorithm))
        if stated is not None and stated != stored.details.checksums.get(algorithm):
            raise ObjectError("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")


@operation("Bucket Key UploadId")
def abort_multipart_upload(store: LocalStore, params: Params, _body: Body | None) -> Result:
    with store.index.change():
        upload = store.index.upload(params["Bucket"], params["Key"], params["UploadId"])
        blobs = store.index.drop_upload(upload.id)
    store.blobs.discard(blobs)
    return {}


@operation("Bucket Delimiter EncodingType KeyMarker MaxUploads Prefix UploadIdMarker")
def list_multipart_uploads(store: LocalStore, params: Params, _body: Body | None) -> Result:
    bucket, prefix, delimiter = params["Bucket"], params.get("Prefix", ""), params.get("Delimiter", "")
    store.index.bucket(bucket)
    marker, name = params.get("KeyMarker", ""), params.get("UploadIdMarker", "")
    start = after(marker, prefix, delimiter) if marker else b""
    uploads = [
        upload
        for upload in store.index.uploads(bucket, marker.encode())
        if upload.key.encode() >= start or (name and upload.key == marker and upload.id > name)
    ]
    limit, encode = limit_of(params, "MaxUploads", "max-uploads"), encoder(params)
    found = page(partial(_between, uploads), prefix, delimiter, b"", limit)
    result: dict[str, Any] = {
        "Bucket": bucket, "KeyMarker": encode(marker), "UploadIdMarker": name, "Prefix": encode(prefix),
        "MaxUploads": limit, "IsTruncated": found.truncated,
        "Uploads": [_listed(store, upload, encode(upload.key)) for upload in found.rows],
        "CommonPrefixes": [{"Prefix": encode(common)} for common in found.prefixes],
    }  # fmt: skip
    if found.truncated:
        result["NextKeyMarker"] = encode(found.last)
        result["NextUploadIdMarker"] = next((u.id for u in reversed(found.rows) if u.key == found.last), "")
    result.update({name: encode(params[name]) for name in ("Delimiter", "EncodingType") if params.get(name)})
    return result


def _between(uploads: Sequence[Upload], start: bytes, end: bytes | None, _limit: int) -> Sequence[Upload]:
    return [upload for upload in uploads if upload.key.encode() >= start and (not end or upload.key.encode() < end)]


def _listed(store: LocalStore, upload: Upload, key: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "UploadId": upload.id, "Key": key, "Initiated": moment(upload.initiated), "StorageClass": "STANDARD",
        "Owner": store.owner, "Initiator": store.owner,
    }  # fmt: skip
    if (algorithm := algorithm_of(upload)) is not None:
        shown.update(ChecksumAlgorithm=algorithm, ChecksumType=upload.details.checksum_type)
    return shown
