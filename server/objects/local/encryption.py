"""Encryption at rest: which objects, under which key, and how that is kept with them.

Each object has a data key of its own, which encrypts its files (`server.vault.blobs`) or, where it is small, its
content in the index. The data key is kept with the object, encrypted under Hearth's own key (AES256) or a KMS key
(aws:kms) of the bucket's region, and opens for this bucket and key only.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from server.errors import Forbidden, Refusal, VaultLocked
from server.objects import key_use
from server.objects.errors import ObjectError
from server.objects.local.records import Bucket, Details
from server.objects.operations import not_built
from server.objects.reading import Params
from server.store.store import Resource
from server.vault.envelope import KEY_BYTES, seal, unseal
from server.vault.keys import MANAGED, Keys
from server.vault.system_key import SystemKey
from server.vault.vault import Vault

ENCRYPTION = "ServerSideEncryption SSEKMSKeyId SSEKMSEncryptionContext BucketKeyEnabled"
"""Parameters that `asked` reads."""

OWN, KMS = "AES256", "aws:kms"
FORMAT = 1
"""Of the files (`server.vault.blobs`) and of the content in the index."""
_INLINE = b"inline"


@dataclass(frozen=True, slots=True)
class Rule:
    """How something is to be encrypted."""

    algorithm: str
    key: str = ""
    """A KMS key as its user names it; empty: S3's own, alias/aws/s3."""
    bucket_key: bool = False
    """Only told back: each object's data key is encrypted by itself anyway."""
    context: Mapping[str, str] = field(default_factory=dict)


def asked(params: Params) -> Rule | None:
    """What a request says. Raises InvalidArgument, NotImplemented."""
    algorithm, key = params.get("ServerSideEncryption"), params.get("SSEKMSKeyId", "")
    text = params.get("SSEKMSEncryptionContext", "")
    if algorithm != KMS and (key or text):
        raise ObjectError("InvalidArgument", "Server Side Encryption with AWS KMS managed key requires HTTP header "
                          "x-amz-server-side-encryption : aws:kms", ArgumentName="x-amz-server-side-encryption",
                          ArgumentValue=algorithm or "")  # fmt: skip
    if algorithm is None:
        return None
    _check_algorithm(algorithm)
    return Rule(algorithm, key, bool(params.get("BucketKeyEnabled", False)), _context(text))


def of_bucket(configuration: Mapping[str, Any]) -> Rule:
    """What PutBucketEncryption asks for. Raises MalformedXML, InvalidArgument, NotImplemented."""
    rules = configuration.get("Rules", [])
    default = rules[0].get("ApplyServerSideEncryptionByDefault", {}) if len(rules) == 1 else {}
    if "SSEAlgorithm" not in default:
        raise ObjectError("MalformedXML", "The configuration must have one Rule, with an SSEAlgorithm.")
    if other := [name for name in rules[0] if name not in ("ApplyServerSideEncryptionByDefault", "BucketKeyEnabled")]:
        raise not_built(f"ServerSideEncryptionConfiguration.Rules.{other[0]}")
    algorithm, key = default["SSEAlgorithm"], default.get("KMSMasterKeyID", "")
    _check_algorithm(algorithm)
    if key and algorithm != KMS:
        raise ObjectError("InvalidArgument", "a KMSMasterKeyID is not applicable if the default sse algorithm is not "
                          "aws:kms", ArgumentName="KMSMasterKeyID", ArgumentValue=key)  # fmt: skip
    return Rule(algorithm, key, bool(rules[0].get("BucketKeyEnabled", False)))


def shown_rule(rule: Rule) -> dict[str, Any]:
    """As GetBucketEncryption has it."""
    default = {"SSEAlgorithm": rule.algorithm, **({"KMSMasterKeyID": rule.key} if rule.key else {})}
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": rule.bucket_key}]}


def shown(details: Details) -> dict[str, Any]:
    """Members of a result that tell how the object is encrypted; none for one that is not."""
    kept = details.encryption
    if not kept:
        return {}
    result: dict[str, Any] = {"ServerSideEncryption": kept["algorithm"]}
    if kept["algorithm"] == KMS:
        result["SSEKMSKeyId"] = kept["key"]
        if kept.get("bucket_key"):
            result["BucketKeyEnabled"] = True
    return result


def same_key(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both data keys are encrypted under the same key, or there is none in either."""
    return [one.get(name) for name in ("algorithm", "key")] == [other.get(name) for name in ("algorithm", "key")]


def sealed_inline(data_key: bytes | None, content: bytes) -> bytes:
    return content if data_key is None else seal(data_key, content, _INLINE)


def opened_inline(data_key: bytes | None, kept: bytes) -> bytes:
    return kept if data_key is None else unseal(data_key, kept, _INLINE)


class Keeper:
    """Makes and opens data keys. `always`: also for objects whose writer and bucket ask for no encryption."""

    def __init__(self, vault: Vault | None, account: str, *, always: bool) -> None:
        self._vault = vault
        self._account = account
        self._always = always and vault is not None
        self._own = None if vault is None else SystemKey(vault, "objects")

    def rule(self, params: Params, bucket: Bucket) -> Rule | None:
        """What the request, else the bucket, else the setting says."""
        return asked(params) or self.bucket_rule(bucket)

    def bucket_rule(self, bucket: Bucket) -> Rule | None:
        if bucket.encryption:
            return Rule(**bucket.encryption)
        return Rule(OWN) if self._always else None

    def seal(
        self, rule: Rule | None, bucket: Bucket, key: str, data_key: bytes | None = None
    ) -> tuple[Mapping[str, Any], bytes | None]:
        """What is kept with the object, and its data key: a new one, or `data_key` kept anew. Raises ObjectError."""
        if rule is None:
            return {}, None
        data_key = data_key or os.urandom(KEY_BYTES)
        context = _bound(rule.context, bucket.name, key)
        kept: dict[str, Any] = {"format": FORMAT, "algorithm": rule.algorithm}
        with _told():
            if rule.algorithm == KMS:
                blob, found = self._keys(bucket.region).encrypt(rule.key or f"{MANAGED}s3", data_key, context)
                _check_use("kms:GenerateDataKey", found)
                kept.update(key=found.arn, context=dict(rule.context), bucket_key=rule.bucket_key)
            else:
                blob = self._opened.encrypt(data_key, context)
        return {**kept, "wrapped": base64.b64encode(blob).decode()}, data_key

    def open(self, details: Details, bucket: str, key: str) -> bytes | None:
        """The data key of what is encrypted. Raises ObjectError where it cannot be had."""
        kept = details.encryption
        if not kept:
            return None
        if kept["format"] != FORMAT:
            raise ObjectError("InternalError", f"The object is encrypted in the format {kept['format']}; this Hearth "
                                               f"reads {FORMAT}.")  # fmt: skip
        blob, context = base64.b64decode(kept["wrapped"]), _bound(kept.get("context", {}), bucket, key)
        with _told():
            if kept["algorithm"] == KMS:
                region = kept["key"].split(":")[3]
                data_key, found, _ = self._keys(region).decrypt(blob, context, kept["key"])
                _check_use("kms:Decrypt", found)
                return data_key
            return self._opened.decrypt(blob, context)

    @property
    def _opened(self) -> SystemKey:
        if self._own is None:
            raise VaultLocked("This object store was opened without keys, so it can neither encrypt nor decrypt.")
        return self._own

    def _keys(self, region: str) -> Keys:
        if self._vault is None:
            raise VaultLocked("This object store was opened without keys, so it can neither encrypt nor decrypt.")
        return Keys(self._vault, self._vault.store(self._account, region))


def _check_use(action: str, key: Resource) -> None:
    """Raises Forbidden. S3's own key is for everyone who may use S3."""
    if key.document.get("KeyManager") != "AWS":
        key_use.check(action, key.arn)


def _bound(context: Mapping[str, str], bucket: str, key: str) -> dict[str, str]:
    return {**context, "aws:s3:arn": f"arn:aws:s3:::{bucket}/{key}"}


def _check_algorithm(algorithm: str) -> None:
    if algorithm not in (OWN, KMS):
        raise not_built(f"x-amz-server-side-encryption: {algorithm}")


def _context(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        found = json.loads(base64.b64decode(text, validate=True))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ObjectError("InvalidArgument", "The header x-amz-server-side-encryption-context must hold a JSON object "
                          "of texts in base64.", ArgumentName="x-amz-server-side-encryption-context")  # fmt: skip
    return found


@contextmanager
def _told() -> Iterator[None]:
    """KMS's errors as S3 passes them on."""
    try:
        yield
    except Refusal as error:
        raise ObjectError(f"KMS.{error.code}", error.message, status=400) from None
    except Forbidden as error:
        raise ObjectError("AccessDenied", error.message) from None
    except VaultLocked as error:
        raise ObjectError("ServiceUnavailable", error.message) from None
