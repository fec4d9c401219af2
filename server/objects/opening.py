"""Which storage the settings ask for."""

from __future__ import annotations

from server.objects.local.encryption import Keeper
from server.objects.local.store import LocalStore
from server.objects.outside import OutsideStore
from server.objects.quota import StorageQuota
from server.objects.storage import Storage
from server.settings import Settings
from server.store.store import connect
from server.vault.vault import Vault


def open_storage(settings: Settings, vault: Vault | None = None, *, serves: bool = True) -> Storage:
    """The caller closes it. `serves`: this is the process that answers S3's clients; others only fetch.

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
