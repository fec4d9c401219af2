"""What buckets and keys may be called."""

from __future__ import annotations

import re

from server.objects.errors import ObjectError

MAX_KEY_BYTES = 1024

RESERVED_BUCKETS = frozenset({"endpoints", "invocations", "invocations-response-stream", "ping"})
"""First parts of paths that the edge treats as its own, so a bucket of that name could not be reached there."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_bucket(name: str) -> None:
    """Raises InvalidBucketName that says what is wrong with `name`."""
    if name in RESERVED_BUCKETS:
        raise ObjectError(
            "InvalidBucketName",
            f"The specified bucket is not valid: /{name} is an address of Hearth's own; choose another name.",
            BucketName=name,
        )
    plain = _BUCKET.fullmatch(name) and ".." not in name and not _ADDRESS.fullmatch(name)
    if not plain or name.startswith(_PREFIXES) or name.endswith(_SUFFIXES):
        raise ObjectError(
            "InvalidBucketName",
            "The specified bucket is not valid: 3 to 63 of a-z, 0-9, '.' and '-', first and last a letter or digit, "
            "no '..', no IP address, no prefix or suffix that S3 reserves.",
            BucketName=name,
        )


def check_key(key: str) -> None:
    """Raises KeyTooLongError; any other text is a key."""
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        raise ObjectError("KeyTooLongError", Size=str(size), MaxSizeAllowed=str(MAX_KEY_BYTES))
