"""Which storage the settings ask for: one for each account, so that no call of one can meet what is another's."""

from __future__ import annotations

import threading

from server.objects.errors import ObjectError
from server.objects.local.encryption import Keeper
from server.objects.local.index import Index
from server.objects.local.store import LocalStore
from server.objects.outside import OutsideStore
from server.objects.quota import StorageQuota
from server.objects.storage import Storage
from server.settings import Settings, part
from server.store.store import connect
from server.vault.vault import Vault


def open_storage(settings: Settings, vault: Vault | None = None, *, serves: bool = True) -> Storage:
    """The own account's; the caller closes it. `serves`: this is the process that answers S3's clients; others only
    fetch.

    `vault` stays its owner's; None: one of its own, over the settings' database.
    """
    if settings.objects_url is not None:
        return OutsideStore(settings.objects_url, settings.region)
    own = None if vault else Vault(connect(settings.database), settings.master_keys)
    used = vault or own
    assert used is not None
    keeper = Keeper(used, settings.account, always=settings.encrypt)
    quota = StorageQuota(used.engine, settings)
    return LocalStore(
        settings.objects, settings.account, sweep=serves, keeper=keeper, owned=own, quota=quota.bytes
    )


def buckets(settings: Settings, account: str) -> list[str]:
    """Names of an account's buckets, as they are in the folder."""
    file = part(settings.objects, account, settings.account) / "index.db"
    if not file.exists():
        return []
    index = Index(file)
    try:
        return [bucket.name for bucket in index.buckets()]
    finally:
        index.close()


class Tenants:
    """The storages of the accounts beside the own one, each opened when it is first asked for. For many threads."""

    def __init__(self, settings: Settings, vault: Vault | None) -> None:
        self._settings = settings
        self._vault = vault
        self._mutex = threading.Lock()
        self._open: dict[str, Storage] = {}

    def of(self, account: str) -> Storage | None:
        """None: it is the own account. Raises NotImplemented where another S3 keeps the objects: its buckets are all
        the own account's."""
        settings = self._settings
        if account in ("", settings.account):
            return None
        if settings.objects_url is not None:
            raise ObjectError("NotImplemented", "Objects are kept in another S3 here, for one account alone.")
        with self._mutex:
            if account not in self._open:
                folder = part(settings.objects, account, settings.account)
                named = settings.model_copy(update={"objects_dir": folder, "account": account})
                self._open[account] = open_storage(named, self._vault)
            return self._open[account]

    def close(self) -> None:
        with self._mutex:
            for storage in self._open.values():
                storage.close()
            self._open.clear()
