"""PutObject and CopyObject."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from server.objects import checksums
from server.objects.body import Body
from server.objects.checksums import Digest
from server.objects.errors import ObjectError
from server.objects.local.conditions import check_read, check_write
from server.objects.local.content import Reading
from server.objects.local.description import DESCRIPTION, described, described_copy
from server.objects.local.encryption import ENCRYPTION, asked, same_key, sealed_inline, shown
from server.objects.local.reads import shown_checksums
from server.objects.local.records import Piece, Stored, moment
from server.objects.local.registry import Result, operation
from server.objects.naming import check_key
from server.objects.operations import not_built
from server.objects.reading import Params

if TYPE_CHECKING:
    from server.objects.local.store import LocalStore

INLINE_BYTES = 16 * 1024
"""Content up to this size is kept in the index."""

CHECKSUMS = " ".join(checksums.member(algorithm) for algorithm in checksums.ALGORITHMS)
COPY_CONDITIONS = (
    "CopySourceIfMatch CopySourceIfNoneMatch CopySourceIfModifiedSince CopySourceIfUnmodifiedSince "
    "ExpectedSourceBucketOwner"
)


@operation(f"Bucket Key Body IfMatch IfNoneMatch {DESCRIPTION} {CHECKSUMS} {ENCRYPTION}")
def put_object(store: LocalStore, params: Params, body: Body | None) -> Result:
    assert body is not None
    bucket, key = params["Bucket"], params["Key"]
    check_key(key)
    details = described(params)
    # Refused before the body is read where that is already clear; `commit` looks again.
    target = store.index.bucket(bucket)
    present = store.index.find(bucket, key)
    check_write(params, key, present)
    store.check_room(body.size - (present.size if present else 0))
    encryption, data_key = store.keeper.seal(store.keeper.rule(params, target), target, key)
    small = body.size <= INLINE_BYTES
    inline = sealed_inline(data_key, b"".join(body)) if small else b""
    pieces = () if small else (store.blobs.write(body, data_key),)
    details = replace(details, checksums=body.checksums, encryption=encryption)
    stored = Stored(bucket, key, body.size, body.md5, int(time.time()), details, pieces, inline)
    _commit(store, stored, params)
    return {"ETag": f'"{stored.etag}"', **shown_checksums(stored), **shown(details)}


@operation(
    f"Bucket Key CopySource MetadataDirective TaggingDirective IfMatch IfNoneMatch {DESCRIPTION} {COPY_CONDITIONS} "
    f"{ENCRYPTION}"
)
def copy_object(store: LocalStore, params: Params, _body: Body | None) -> Result:
    bucket, key = params["Bucket"], params["Key"]
    check_key(key)
    target = store.index.bucket(bucket)
    rule = store.keeper.rule(params, target)
    source, reading = opened_source(store, params)
    try:
        replaced = "REPLACE" in (params.get("MetadataDirective"), params.get("TaggingDirective"))
        if (source.bucket, source.key) == (bucket, key) and not replaced and asked(params) is None:
            raise ObjectError(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes.",
            )
        present = store.index.find(bucket, key)
        store.check_room(source.size - (present.size if present else 0))
        details = described_copy(params, source.details)
        wanted = params.get("ChecksumAlgorithm")
        if wanted is not None and wanted not in details.checksums:
            details = replace(details, checksums=_computed(wanted, reading), checksum_type="FULL_OBJECT")
        encryption, data_key = store.keeper.seal(rule, target, key, reading.data_key)
        if same_key(encryption, source.details.encryption):
            pieces, inline = _copied(store, source.pieces), source.inline
        else:
            encryption, data_key = store.keeper.seal(rule, target, key)
            pieces, inline = _rewritten(store, source, reading, data_key)
    finally:
        reading.close()
    details = replace(details, encryption=encryption)
    stored = replace(
        source, bucket=bucket, key=key, modified=int(time.time()), details=details, pieces=pieces, inline=inline
    )
    _commit(store, stored, params)
    result = {"ETag": f'"{stored.etag}"', "LastModified": moment(stored.modified), **shown_checksums(stored)}
    return {"CopyObjectResult": result, **shown(details)}


def opened_source(store: LocalStore, params: Params) -> tuple[Stored, Reading]:
    """What x-amz-copy-source names, if the request's conditions on it hold."""
    bucket, key = source_of(params["CopySource"])
    owner = params.get("ExpectedSourceBucketOwner", store.account)
    if owner != store.account:
        raise ObjectError("AccessDenied", f"Access Denied: the source's owner is {store.account}, not {owner}.")
    stored, reading = store.opened(bucket, key)
    try:
        check_read(params, stored, "CopySource")
    except ObjectError:
        reading.close()
        raise
    return stored, reading


def source_of(text: str) -> tuple[str, str]:
    """Bucket and key of a copy's source. Raises InvalidArgument, NotImplemented for a version."""
    path, _, version = text.removeprefix("/").partition("?versionId=")
    if version not in ("", "null"):
        raise not_built("versionId of a copy's source")
    bucket, _, key = unquote(path, errors="replace").removeprefix("/").partition("/")
    if not bucket or not key:
        raise ObjectError("InvalidArgument", "Copy Source must mention the source bucket and key: "
                          "sourcebucket/sourcekey",
                          ArgumentName="x-amz-copy-source", ArgumentValue=text)  # fmt: skip
    return bucket, key


def digested(blocks: Iterator[bytes], digests: tuple[Digest, ...]) -> Iterator[bytes]:
    """The blocks as they are, each one counted into `digests` on its way."""
    for block in blocks:
        for digest in digests:
            digest.update(block)
        yield block


def _computed(algorithm: str, reading: Reading) -> dict[str, str]:
    checksums.check_algorithm(algorithm)
    digest = checksums.digest(algorithm)
    for _ in digested(reading.blocks(), (digest,)):
        pass
    return {algorithm: checksums.encoded(digest)}


def _copied(store: LocalStore, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    copies: list[Piece] = []
    try:
        for piece in pieces:
            copies.append(store.blobs.copy(piece))  # noqa: PERF401 - what was copied must be known if one fails
    except BaseException:
        store.blobs.discard(copy.blob for copy in copies)
        raise
    return tuple(copies)


def _rewritten(
    store: LocalStore, source: Stored, reading: Reading, data_key: bytes | None
) -> tuple[tuple[Piece, ...], bytes]:
    """Files like the source's, and content in the index like its, under another key."""
    if not source.pieces:
        return (), sealed_inline(data_key, b"".join(reading.blocks()))
    made: list[Piece] = []
    start = 0
    try:
        for piece in source.pieces:
            reading.select(start, piece.size)
            made.append(store.blobs.write(reading.blocks(), data_key))
            start += piece.size
    except BaseException:
        store.blobs.discard(piece.blob for piece in made)
        raise
    return tuple(made), b""


def _commit(store: LocalStore, stored: Stored, params: Params) -> None:
    try:
        store.commit(stored, params)
    except BaseException:
        store.blobs.discard(piece.blob for piece in stored.pieces)
        raise
