"""GetObject and HeadObject."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.objects import checksums
from server.objects.body import Body
from server.objects.errors import ObjectError
from server.objects.local.conditions import check_read
from server.objects.local.encryption import shown
from server.objects.local.ranges import Span, span_of
from server.objects.local.records import Stored, moment
from server.objects.local.registry import Result, operation
from server.objects.reading import Params

if TYPE_CHECKING:
    from server.objects.local.store import LocalStore

_READ = (
    "Bucket Key IfMatch IfNoneMatch IfModifiedSince IfUnmodifiedSince Range PartNumber ChecksumMode "
    "ResponseCacheControl ResponseContentDisposition ResponseContentEncoding ResponseContentLanguage "
    "ResponseContentType ResponseExpires"
)


@operation(_READ)
def get_object(store: LocalStore, params: Params, _body: Body | None) -> Result:
    stored, reading = store.opened(params["Bucket"], params["Key"])
    try:
        result, span = _described(params, stored)
        reading.select(span.start, span.size)
    except BaseException:
        reading.close()
        raise
    return {**result, "Body": reading}


@operation(_READ)
def head_object(store: LocalStore, params: Params, _body: Body | None) -> Result:
    return _described(params, store.index.get(params["Bucket"], params["Key"]))[0]


def _described(params: Params, stored: Stored) -> tuple[dict[str, Any], Span]:
    """The result without its body, and which bytes that is."""
    check_read(params, stored)
    details = stored.details
    span = _asked(params, stored)
    result: dict[str, Any] = {
        "AcceptRanges": "bytes",
        "LastModified": moment(stored.modified),
        "ETag": f'"{stored.etag}"',
        "Metadata": details.metadata,
        **details.headers,
        **shown(details),
    }
    for name, value in params.items():
        if name.startswith("Response"):
            result[name.removeprefix("Response")] = _header_text(value)
    if details.tags:
        result["TagCount"] = len(details.tags)
    if "PartNumber" in params and details.upload is not None:
        result["PartsCount"] = len(stored.pieces)
    if span is not None:
        result["ContentRange"] = span.text
    elif params.get("ChecksumMode") == "ENABLED":
        result.update(shown_checksums(stored))
    whole = span or Span(0, stored.size, stored.size)
    result["ContentLength"] = whole.size
    return result, whole


def _header_text(value: str) -> str:
    """A text of the address as a header holds it: UTF-8, as headers' Latin-1."""
    return value.encode().decode("latin-1")


def _asked(params: Params, stored: Stored) -> Span | None:
    number, text = params.get("PartNumber"), params.get("Range")
    if number is None:
        return None if text is None else span_of(text, stored.size)
    if text is not None:
        raise ObjectError("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
    if number < 1:
        raise ObjectError("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive",
                          ArgumentName="partNumber", ArgumentValue=str(number))  # fmt: skip
    if number > max(1, len(stored.pieces)):
        raise ObjectError("InvalidPartNumber", ActualPartCount=str(len(stored.pieces)),
                          PartNumberRequested=str(number))  # fmt: skip
    if not stored.pieces:
        return Span(0, stored.size, stored.size) if stored.size else None
    before = sum(piece.size for piece in stored.pieces[: number - 1])
    return Span(before, stored.pieces[number - 1].size, stored.size)


def shown_checksums(stored: Stored) -> dict[str, str]:
    """Members of a result that tell the object's checksum; none where no writer sent one."""
    shown = {checksums.member(algorithm): value for algorithm, value in stored.details.checksums.items()}
    return {**shown, "ChecksumType": stored.details.checksum_type} if shown else {}
