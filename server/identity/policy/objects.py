"""What an S3 request must be allowed to do: S3's actions are not its operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

from server.identity.policy.actions import EVERYTHING, Ask
from server.identity.policy.context import of_objects

ACTIONS: Mapping[str, str] = {
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteBucketAnalyticsConfiguration": "PutAnalyticsConfiguration",
    "DeleteBucketCors": "PutBucketCORS",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketIntelligentTieringConfiguration": "PutIntelligentTieringConfiguration",
    "DeleteBucketInventoryConfiguration": "PutInventoryConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "DeleteBucketMetricsConfiguration": "PutMetricsConfiguration",
    "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
    "DeleteBucketReplication": "PutReplicationConfiguration",
    "DeleteBucketTagging": "PutBucketTagging",
    "DeleteObjects": "DeleteObject",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "GetBucketAnalyticsConfiguration": "GetAnalyticsConfiguration",
    "GetBucketCors": "GetBucketCORS",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketIntelligentTieringConfiguration": "GetIntelligentTieringConfiguration",
    "GetBucketInventoryConfiguration": "GetInventoryConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetBucketMetricsConfiguration": "GetMetricsConfiguration",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "GetBucketReplication": "GetReplicationConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListBucketAnalyticsConfigurations": "GetAnalyticsConfiguration",
    "ListBucketIntelligentTieringConfigurations": "GetIntelligentTieringConfiguration",
    "ListBucketInventoryConfigurations": "GetInventoryConfiguration",
    "ListBucketMetricsConfigurations": "GetMetricsConfiguration",
    "ListBuckets": "ListAllMyBuckets",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjectVersions": "ListBucketVersions",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListParts": "ListMultipartUploadParts",
    "PutBucketAccelerateConfiguration": "PutAccelerateConfiguration",
    "PutBucketAnalyticsConfiguration": "PutAnalyticsConfiguration",
    "PutBucketCors": "PutBucketCORS",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketIntelligentTieringConfiguration": "PutIntelligentTieringConfiguration",
    "PutBucketInventoryConfiguration": "PutInventoryConfiguration",
    "PutBucketLifecycle": "PutLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "PutBucketMetricsConfiguration": "PutMetricsConfiguration",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    "PutBucketReplication": "PutReplicationConfiguration",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "SelectObjectContent": "GetObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
}
"""Operations whose action is called otherwise."""

VERSIONED: Mapping[str, str] = {
    "DeleteObject": "DeleteObjectVersion",
    "DeleteObjectTagging": "DeleteObjectVersionTagging",
    "GetObject": "GetObjectVersion",
    "GetObjectAcl": "GetObjectVersionAcl",
    "GetObjectAttributes": "GetObjectVersionAttributes",
    "GetObjectTagging": "GetObjectVersionTagging",
    "PutObjectAcl": "PutObjectVersionAcl",
    "PutObjectTagging": "PutObjectVersionTagging",
}
"""Actions of a request that names a version."""

WRITES = frozenset(("PutObject", "CopyObject", "CreateMultipartUpload"))
COPIES = frozenset(("CopyObject", "UploadPartCopy"))
DELETES_MANY = "DeleteObjects"


def asks(
    operation: str,
    bucket: str,
    key: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    keys: Iterable[tuple[str, bool]] = (),
) -> tuple[Ask, ...]:
    """Everything a request needs. `operation` is the S3 model's, as `server.objects.operations.find` tells it from
    method, path and subresource; `keys` are those that DeleteObjects names, and whether by version."""
    context = of_objects(query, headers)
    if operation == DELETES_MANY:
        named = list(keys)
        plain = tuple(arn(bucket, name) for name, version in named if not version)
        versions = tuple(arn(bucket, name) for name, version in named if version)
        both = (Ask("s3:DeleteObject", plain, context), Ask("s3:DeleteObjectVersion", versions, context))
        return tuple(ask for ask in both if ask.resources)
    return tuple(_asks(operation, arn(bucket, key), "versionId" in query, headers, context))


def arn(bucket: str, key: str = "") -> str:
    """The bucket's ARN, or an object's; everything when there is no bucket."""
    if not bucket:
        return EVERYTHING
    return f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"


def _asks(
    operation: str, resource: str, version: bool, headers: Mapping[str, str], context: Mapping[str, tuple[str, ...]]
) -> Iterator[Ask]:
    action = ACTIONS.get(operation, operation)
    yield Ask(f"s3:{VERSIONED.get(action, action) if version else action}", (resource,), context)
    if operation in WRITES and "x-amz-tagging" in headers:
        yield Ask("s3:PutObjectTagging", (resource,), context)
    if operation in WRITES and any(name == "x-amz-acl" or name.startswith("x-amz-grant-") for name in headers):
        yield Ask("s3:PutObjectAcl", (resource,), context)
    if operation in COPIES:
        path, _, asked = headers.get("x-amz-copy-source", "").partition("?")
        source, _, key = unquote(path).removeprefix("/").partition("/")
        yield Ask("s3:GetObjectVersion" if asked.startswith("versionId=") else "s3:GetObject", (arn(source, key),))
