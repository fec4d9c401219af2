"""Writes differing pairs of answers into the object store, where SageMaker's data capture would put them:

    DESTINATION/ENDPOINT/VARIANT/YYYY/MM/DD/HH/MM-SS-NAME.jsonl

Blocking. An object's key comes from the pairs themselves, so that pairs that come twice are written once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from server.capture import files
from server.capture.records import Types
from server.errors import HearthError
from server.objects.errors import ObjectError
from server.objects.opening import open_storage
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
        named = config.get("ContentType")
        types = TEXTS
        if named is not None:
            types = Types(csv=named.get("CsvContentTypes", ()), json=named.get("JsonContentTypes", ()))
        records = [pair.records(types) for pair in pairs]
        at = pairs[0].at
        for variant, lines in zip((subject.production, subject.shadow), zip(*records, strict=True), strict=True):
            path = (subject.endpoint, variant, files.hour(at), f"{files.minute(at)}-{name}")
            try:
                files.write(self._of(subject.account), config["Destination"], path, lines, config.get("KmsKey"))
            except (HearthError, OSError) as error:
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
