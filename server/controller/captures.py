"""Writes differing pairs of answers into the object store, where SageMaker's data capture would put them:

    DESTINATION/ENDPOINT/VARIANT/YYYY/MM/DD/HH/MM-SS-NAME.jsonl

Blocking. An object's key comes from the pairs themselves, so that pairs that come twice are written once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from server.errors import HearthError
from server.objects.body import Body, Promise
from server.objects.errors import ObjectError
from server.objects.fetching import Location
from server.objects.opening import open_storage
from server.objects.operations import MODEL
from server.objects.storage import Storage
from server.settings import Settings, part
from server.shadow.pairs import TEXTS, Pair
from server.shadow.reports import Subject

log = structlog.get_logger(__name__)


class Captures:
    """Opens the object store of an account when it first has something to write into it. For many threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._storages: dict[str, Storage] = {}

    def write(self, config: Mapping[str, Any], subject: Subject, name: str, pairs: Sequence[Pair]) -> None:
        """`config`: an experiment's DataStorageConfig. What the object store refuses is logged and lost: a sample that
        cannot be kept must not hold up the beats of a replica."""
        types = config.get("ContentType")
        texts = TEXTS if types is None else tuple(each for kinds in types.values() for each in kinds)
        records = [pair.records(texts) for pair in pairs]
        at = datetime.fromtimestamp(pairs[0].at, UTC).strftime("%Y/%m/%d/%H/%M-%S")
        for variant, lines in zip((subject.production, subject.shadow), zip(*records, strict=True), strict=True):
            try:
                where = Location.parse(config["Destination"])
                prefix = f"{where.key.rstrip('/')}/" if where.key else ""
                key = f"{prefix}{subject.endpoint}/{variant}/{at}-{name}.jsonl"
                content = "".join(f"{line}\n" for line in lines).encode()
                self._put(self._of(subject.account), where.bucket, key, content, config.get("KmsKey"))
            except (HearthError, OSError) as error:
                if isinstance(error, ObjectError) and error.code == "PreconditionFailed":
                    continue  # it is there: the same pairs came before
                log.error(
                    "differing answers not kept", endpoint=subject.endpoint, experiment=subject.experiment,
                    destination=config["Destination"], error=str(error),
                )  # fmt: skip
                return

    def _of(self, account: str) -> Storage:
        """An account's objects. Raises ObjectError where another S3 keeps them: its buckets are all the own
        account's."""
        settings = self._settings
        if account and settings.objects_url is not None:
            raise ObjectError("NotImplemented", "Objects are kept in another S3 here, for one account alone.")
        if account:
            folder = part(settings.objects, account, settings.account)
            settings = settings.model_copy(update={"objects_dir": folder, "account": account})
        with self._lock:
            if account not in self._storages:
                self._storages[account] = open_storage(settings, serves=False)
            return self._storages[account]

    def _put(self, storage: Storage, bucket: str, key: str, content: bytes, kms_key: str | None) -> None:
        params: dict[str, Any] = {
            "Bucket": bucket, "Key": key, "ContentType": "application/x-ndjson", "IfNoneMatch": "*",
        }  # fmt: skip
        if kms_key:
            params |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
        promise = Promise(len(content), len(content), None, None, None, {}, ())
        storage.call(MODEL.operation_model("PutObject"), params, Body((content,), promise))
