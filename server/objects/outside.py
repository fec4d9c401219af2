"""Objects in another S3: every operation that the local store has, sent on with botocore.

A body is first taken in whole (in memory, beyond 8 MiB in a temporary file) and checked: what its sender's checksums
refute never reaches the other store, and botocore can sign it and try again. Answers stream through. Credentials
are the server's own, found as botocore finds them; the caller's are the gate's business.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

import botocore.session
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from server.objects import checksums
from server.objects.body import Body
from server.objects.errors import ObjectError
from server.objects.local.registry import OPERATIONS
from server.objects.local.writes import source_of
from server.objects.naming import check_bucket
from server.objects.operations import not_built
from server.objects.reading import Params
from server.objects.storage import BLOCK_BYTES

AWS = "aws"
_IN_MEMORY_BYTES = 8 * 1024 * 1024
_HEAD_CODES = {304: "NotModified", 403: "AccessDenied", 412: "PreconditionFailed", 416: "InvalidRange"}
"""What a HEAD's status means; such an answer has no body to say so."""


class OutsideStore:
    """`Storage` at `url`, or in AWS itself for ``aws``."""

    def __init__(self, url: str, region: str, connections: int = 64) -> None:
        config = Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=connections,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"addressing_style": "auto" if url == AWS else "path"},
        )
        session = botocore.session.get_session()
        self._client = session.create_client(
            "s3", region_name=region, endpoint_url=None if url == AWS else url, config=config
        )

    def close(self) -> None:
        self._client.close()

    def call(self, operation: Any, params: Params, body: Body | None) -> Mapping[str, Any]:
        if operation.name not in OPERATIONS:
            raise not_built(f"the operation {operation.name}")
        if operation.name == "CreateBucket":
            check_bucket(params["Bucket"])
        sent = _outgoing(params)
        if sums := operation.http_checksum:  # the algorithm of this transfer, which has been checked
            sent.pop(sums.get("requestAlgorithmMember"), None)
        with contextlib.ExitStack() as stack:
            if body is not None:
                sent["Body"] = stack.enter_context(_spooled(body))
                sent["ContentLength"] = body.size
                sent.update({checksums.member(name): value for name, value in body.checksums.items()})
            result = self._ask(operation, sent)
        return _incoming(result, params)

    def _ask(self, operation: Any, sent: Params) -> dict[str, Any]:
        try:
            result: dict[str, Any] = getattr(self._client, xform_name(operation.name))(**sent)
        except ClientError as error:
            raise _told(error, operation) from error
        except ParamValidationError as error:
            raise ObjectError("InvalidArgument", str(error)) from error
        except BotoCoreError as error:
            raise ObjectError("ServiceUnavailable", f"The object store behind Hearth failed: {error}") from error
        return result


class Passed:
    """`Content` that comes from the other store while it is read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def blocks(self) -> Iterator[bytes]:
        while block := self._stream.read(BLOCK_BYTES):
            yield block

    def close(self) -> None:
        self._stream.close()


@contextlib.contextmanager
def _spooled(body: Body) -> Iterator[IO[bytes]]:
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
        try:
            for block in body:
                file.write(block)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise ObjectError("InsufficientStorage") from error
            raise
        file.seek(0)
        yield file


def _outgoing(params: Params) -> Params:
    """As botocore wants them: it encodes sources and keys itself, and checksums were checked on the way in."""
    dropped = {"ContentMD5", "ContentLength", "SSECustomerKeyMD5", "CopySourceSSECustomerKeyMD5"}
    sent = {name: value for name, value in params.items() if name not in dropped}
    if "CopySource" in sent:
        bucket, key = source_of(sent["CopySource"])
        sent["CopySource"] = {"Bucket": bucket, "Key": key}
    for name in ("SSECustomerKey", "CopySourceSSECustomerKey"):
        if name in sent:
            sent[name] = base64.b64decode(sent[name])
    return sent


def _incoming(result: dict[str, Any], params: Params) -> dict[str, Any]:
    result.pop("ResponseMetadata", None)
    if "ExpiresString" in result:
        result["Expires"] = result.pop("ExpiresString")
    if "EncodingType" not in params:  # botocore asks for it by itself, and decodes
        result.pop("EncodingType", None)
    if "Body" in result:
        result["Body"] = Passed(result["Body"])
    return result


def _told(error: ClientError, operation: Any) -> ObjectError:
    said = dict(error.response.get("Error", {}))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    code, message = str(said.pop("Code", "InternalError")), said.pop("Message", None)
    if code.isdigit():
        missing = "NoSuchBucket" if operation.name == "HeadBucket" else "NoSuchKey"
        code = missing if status == 404 else _HEAD_CODES.get(status, "InternalError")
    details = {name: str(value) for name, value in said.items() if name not in ("Resource", "RequestId", "HostId")}
    return ObjectError(code, message, status=status, **details)
