"""Accounts as the controller tells them apart: this Hearth's own is the empty one, in beats, applications, routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from server.identity.accounts import Accounts
from server.replicas.names import AppName
from server.replicas.plan import Home
from server.settings import part
from server.store.store import Resource, Store, everywhere

Value = TypeVar("Value")


def tenant(account: str, own: str) -> str:
    """An account as it is told apart."""
    return "" if account == own else account


def within(found: Mapping[AppName, Value], account: str) -> dict[AppName, Value]:
    """What there is of one account's applications, as if there were no other."""
    return {replace(name, account=""): value for name, value in found.items() if name.account == account}


def living(store: Store, kind: str) -> tuple[tuple[str, ...], list[Resource]]:
    """The accounts that are not closed, the own one first, and their resources of a kind."""
    accounts = Accounts(store, store.account).active()
    return accounts, [resource for resource in everywhere(store, kind) if resource.account in accounts]


def home_of(home: Home, resource: Resource, own: str) -> Home:
    """Where the replicas of an endpoint belong. `home` is the `own` account's."""
    account = resource.account
    if account == own:
        return replace(home, region=resource.region)
    logs, cache, objects = (
        part(Path(folder), account, own) for folder in (home.log_dir, home.cache_dir, home.objects_dir)
    )
    if Path(home.log_dir).is_dir():
        logs.mkdir(parents=True, exist_ok=True)
    # What another S3 keeps is all the own account's.
    return replace(
        home, region=resource.region, account=account, tenant=account, log_dir=str(logs), cache_dir=str(cache),
        objects_dir=str(objects), objects_url=None,
    )  # fmt: skip
