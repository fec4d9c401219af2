"""KMS keys: rows of one account and region, their states, and what is encrypted under them.

    KmsKey     name: the key's id; status: Enabled, Disabled, PendingDeletion; document: Description, KeyManager,
               Policy, Backing (`server.vault.vault`), DeletionDate, and while rotation is on RotationPeriod (days)
               and NextRotation
    KmsAlias   name: alias/...; document: TargetKeyId

What is due happens when the key is next looked at: a rotation, or the end of a key that was to be deleted.
Errors are KMS's own, as `Refusal`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from server.errors import Conflict, Forbidden, NotFound, Refusal, SealBroken
from server.store import tags as tagging
from server.store.store import Resource, Store
from server.vault.envelope import Context, decrypt, encrypt, read
from server.vault.vault import KEY, Vault

ALIAS = "KmsAlias"
MANAGED = "alias/aws/"
"""Begins the aliases of keys that services use where none is named; such a key is made when it is first used."""

_ARN = re.compile(r"arn:aws:kms:([a-z0-9-]+):(\d{12}):(key/.+|alias/.+)", re.DOTALL)
_ATTEMPTS = 5

Change = Callable[[dict[str, Any]], None]


class Keys:
    """The KMS keys of one account in one region."""

    def __init__(self, vault: Vault, store: Store) -> None:
        self._vault = vault
        self.store = store
        self.now = vault.now

    def arn(self, path: str) -> str:
        """Of ``key/ID`` or ``alias/NAME``."""
        return f"arn:aws:kms:{self.store.region}:{self.store.account}:{path}"

    def resolve(self, named: str, *, aliases: bool = True) -> Resource:
        """The key that an id, an ARN or (with `aliases`) an alias names. Raises NotFoundException, and Forbidden for
        another account's, there or not."""
        path = self._path(named)
        if path.startswith("alias/"):
            if not aliases:
                raise Refusal("NotFoundException", f"Invalid keyId '{named}': an alias does not do here.")
            return self._behind(path)
        try:
            found = self.store.get(KEY, path)
        except NotFound:
            raise self._no_key(path) from None
        if self._over(found):
            self.destroy(found)
            raise self._no_key(path)
        return found

    def _path(self, named: str) -> str:
        """A key's id or ``alias/NAME``."""
        if not named.startswith("arn:"):
            return named
        match = _ARN.fullmatch(named)
        if match is None:
            raise Refusal("NotFoundException", f"Invalid arn {named}")
        if match[2] != self.store.account:
            raise Forbidden(f"You are not authorized to use {named}: the resource does not exist in this Region, no "
                            "resource-based policies allow access, or a resource-based policy explicitly denies access")
        if match[1] != self.store.region:
            raise Refusal("NotFoundException", f"Invalid arn {match[1]}")
        return match[3].removeprefix("key/")

    def _behind(self, alias: str) -> Resource:
        for _ in range(_ATTEMPTS):
            try:
                return self.resolve(self.store.get(ALIAS, alias).document["TargetKeyId"])
            except NotFound:
                if not alias.startswith(MANAGED):
                    raise Refusal("NotFoundException", f"Alias {self.arn(alias)} is not found.") from None
            try:
                return self.create({
                    "KeyManager": "AWS", "Description": f"Default key that protects {alias.removeprefix(MANAGED)} "
                    "data when no other key is defined",
                }, alias=alias)  # fmt: skip
            except Conflict:
                continue
        raise Conflict(f"{alias} is being changed; try again.")

    def _no_key(self, id: str) -> Refusal:
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", id):
            return Refusal("NotFoundException", f"Invalid keyId '{id}'")
        return Refusal("NotFoundException", f"Key '{self.arn(f'key/{id}')}' does not exist")

    def create(
        self, document: Mapping[str, Any], *, alias: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Resource:
        """Raises Conflict where the alias is taken."""
        id = str(uuid4())
        arn = self.arn(f"key/{id}")
        policy = document.get("Policy") or default_policy(self.store.account)
        whole = {**document, "Policy": policy, "Backing": [self._vault.made(arn)]}
        with self.store.transaction() as unit:
            made = unit.create(KEY, id, whole, "Enabled", arn=arn)
            if tags:
                tagging.add(unit, made, tags)
            if alias is not None:
                self._add_alias(unit, alias, made)
        return made

    def add_alias(self, alias: str, found: Resource) -> None:
        """Raises Conflict where it is taken."""
        self._add_alias(self.store, alias, found)

    def _add_alias(self, store: Store, alias: str, found: Resource) -> None:
        target = {"TargetKeyId": found.name}
        store.create(ALIAS, alias, target, "Active", arn=self.arn(alias), facets=target)

    def change(self, found: Resource, change: Change | None = None, status: str | None = None) -> Resource:
        """`change` is made to the newest document, whoever else changes it meanwhile."""
        for _ in range(_ATTEMPTS):
            document = dict(found.document)
            if change is not None:
                change(document)
            try:
                return self.store.replace(found, document, status or found.status)
            except Conflict:
                found = self.resolve(found.name)
        raise Conflict(f"{found.arn} is being changed; try again.")

    def rotate(self, found: Resource, origin: str) -> Resource:
        """A new backing key encrypts from now on. `origin`: AUTOMATIC or ON_DEMAND."""
        entry = self._vault.made(found.arn, origin)

        def add(document: dict[str, Any]) -> None:
            if origin == "AUTOMATIC" and not _due(document, self.now()):
                return  # another process was faster
            document["Backing"] = [*document["Backing"], entry]
            if origin == "AUTOMATIC":
                document["NextRotation"] = after(self.now(), document["RotationPeriod"])

        return self.change(found, add)

    def usable(self, named: str) -> Resource:
        """The key, if it may encrypt and decrypt now. Raises NotFoundException, DisabledException,
        KMSInvalidStateException."""
        found = self.resolve(named)
        check_enabled(found)
        return found

    def encrypt(self, named: str, value: bytes, context: Context) -> tuple[bytes, Resource]:
        found = self.usable(named)
        if _due(found.document, self.now()):
            found = self.rotate(found, "AUTOMATIC")
        backing, secret = self._vault.newest(found)
        return encrypt(UUID(found.name), backing, secret, value, context), found

    def decrypt(self, blob: bytes, context: Context, named: str | None = None) -> tuple[bytes, Resource, bytes]:
        """The value, its key, and the id of the backing key. Raises InvalidCiphertextException, and
        IncorrectKeyException where it was encrypted under another key than `named`."""
        asked = None if named is None else self.usable(named)
        try:
            envelope = read(blob)
            found = asked or self.usable(str(envelope.key))
            if found.name != str(envelope.key):
                raise Refusal("IncorrectKeyException", "The key ID in the request does not identify a CMK that can "
                                                       "perform this operation.")  # fmt: skip
            secret = self._vault.named(found, envelope.backing)
            return decrypt(envelope, secret, context), found, envelope.backing
        except SealBroken as error:
            raise Refusal("InvalidCiphertextException", error.message) from None
        except Refusal as error:
            if error.code == "NotFoundException":
                raise Forbidden("The ciphertext refers to a customer master key that does not exist, does not exist in "
                                "this region, or you are not allowed to access.") from None  # fmt: skip
            raise

    def destroy(self, found: Resource) -> None:
        """The key, its backing keys and its aliases are gone for good, and with them what was encrypted under them."""
        with self.store.transaction() as unit:
            for alias in unit.find(ALIAS):
                if alias.document["TargetKeyId"] == found.name:
                    unit.remove(alias)
            try:
                unit.remove(found)
            except Conflict:  # cancelled, or another process was faster
                return

    def _over(self, found: Resource) -> bool:
        return found.status == "PendingDeletion" and moment(found.document["DeletionDate"]) <= self.now()

    def destroy_due(self) -> None:
        for found in self.store.find(KEY, ("PendingDeletion",)):
            if self._over(found):
                self.destroy(found)


def check_enabled(found: Resource) -> None:
    check_not_pending(found)
    if found.status == "Disabled":
        raise Refusal("DisabledException", f"{found.arn} is disabled.")


def check_not_pending(found: Resource) -> None:
    if found.status == "PendingDeletion":
        raise Refusal("KMSInvalidStateException", f"{found.arn} is pending deletion.")


def sweep(vault: Vault) -> int:
    """Destroys, in all accounts and regions, the keys whose time is over; how many."""
    pending = vault.pending()
    for account, region in sorted(set(pending)):
        Keys(vault, vault.store(account, region)).destroy_due()
    return len(pending) - len(vault.pending())


def default_policy(account: str) -> str:
    """Lets the account's IAM policies decide."""
    statement = {
        "Sid": "Enable IAM User Permissions", "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": "kms:*", "Resource": "*",
    }  # fmt: skip
    return json.dumps({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]})


def after(start: datetime, days: int) -> str:
    return (start + timedelta(days=days)).isoformat()


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _due(document: Mapping[str, Any], now: datetime) -> bool:
    return "NextRotation" in document and moment(document["NextRotation"]) <= now
