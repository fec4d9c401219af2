"""Which storage the settings ask for."""

from __future__ import annotations

from server.objects.local.store import LocalStore
from server.objects.outside import OutsideStore
from server.objects.storage import Storage
from server.settings import Settings


def open_storage(settings: Settings, *, serves: bool = True) -> Storage:
    """The caller closes it. `serves`: this is the process that answers S3's clients; others only fetch."""
    if settings.objects_url is not None:
        return OutsideStore(settings.objects_url, settings.region)
    return LocalStore(settings.objects, settings.account, sweep=serves)
