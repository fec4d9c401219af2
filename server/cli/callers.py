"""`hearth users` and API keys: for who owns the state folder. Everything else is IAM's API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Column, Table

from server.audit.local import note
from server.cli.client import fail
from server.control.iam.policies import attachable
from server.errors import HearthError
from server.identity.accounts import Accounts
from server.identity.directory import ACCESS_KEY, ACTIVE, API_KEY, USER, Directory
from server.identity.keys import add_api_key, new_access_key
from server.identity.principal import root
from server.settings import Settings
from server.store.migrate import migrate
from server.store.store import Resource, Store, connect
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault

ROOT = "root"
_DAY_S = 86400


def create_user(
    settings: Settings, name: str, policies: list[str], console: Console, account: str | None = None
) -> None:
    """A user with an access key, shown this once. `account` None: the own one."""
    with _directory(settings, account) as unit:
        made = new_access_key(unit.account, SecretBox(Vault(unit.store.engine, settings.master_keys)))
        with unit.change() as changing:
            user = changing.create_user(name, attached=[attachable(changing, arn) for arn in policies])
            made.keep(changing, user.document["UserId"])
        noted(settings, unit.store, "CreateUser", userName=name, policyArns=policies, accessKeyId=made.id)
    console.print(f"user {name}", highlight=False)
    console.print(f"aws_access_key_id = {made.id}\naws_secret_access_key = {made.secret}", highlight=False)


def list_users(settings: Settings, console: Console, account: str | None = None) -> None:
    with _directory(settings, account) as unit:
        table = Table("user", "made", "access keys", "API keys", "policies", box=None)
        for row in unit.all(USER):
            document = row.document
            counts = [str(len(unit.owned(kind, document["UserId"]))) for kind in (ACCESS_KEY, API_KEY)]
            named = [arn.rpartition("/")[2] for arn in document["Attached"]] + sorted(document["Inline"])
            table.add_row(document["UserName"], day(row.created_at), *counts, ", ".join(named))
    console.print(table if table.row_count else "no users; `hearth users create NAME` makes one")


def create_key(
    settings: Settings, user: str, days: int | None, description: str, console: Console, account: str | None = None
) -> None:
    """An API key, shown this once."""
    expires = None if days is None else time.time() + days * _DAY_S
    with _directory(settings, account) as unit:
        with unit.change() as changing:
            owner = changing.account if user == ROOT else changing.find(USER, user).document["UserId"]
            row, key = add_api_key(changing, owner, expires, description)
        noted(settings, unit.store, "CreateApiKey", userName=user, keyId=row.name, days=days)
    console.print(key, highlight=False)


def list_keys(settings: Settings, console: Console, account: str | None = None) -> None:
    with _directory(settings, account) as unit:
        names = {row.document["UserId"]: row.document["UserName"] for row in unit.all(USER)} | {unit.account: ROOT}
        id = Column("key", overflow="fold", min_width=21)
        table = Table(id, "of", "kind", "status", "made", "ends", "last used", "", box=None)
        for kind in (ACCESS_KEY, API_KEY):
            for row in unit.store.find(kind):
                used = (row.observation or {}).get("At")
                table.add_row(
                    row.name, names.get(row.document["Owner"], ""), kind, _status(row), day(row.created_at),
                    _moment(row.document.get("Expires")), _moment(used), row.document.get("Description", ""),
                )  # fmt: skip
    console.print(table if table.row_count else "no keys; `hearth keys create` makes one")


def revoke_key(settings: Settings, id: str, console: Console, account: str | None = None) -> None:
    """Ends an access key or an API key for good."""
    with _directory(settings, account) as unit:
        with unit.change() as changing:
            row = changing.key(ACCESS_KEY, id) or changing.key(API_KEY, id)
            if row is None:
                raise fail(f"There is no key {id}; `hearth keys list` shows those there are.")
            changing.store.remove(row)
        noted(settings, unit.store, "RevokeKey", keyId=id)
    console.print(f"{id} is revoked", highlight=False)


def noted(settings: Settings, store: Store, name: str, **parameters: object) -> None:
    """Has the audit log say what was done here; whoever owns the state folder is the own account's root."""
    note(settings, store, name, parameters, root(settings.account))


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """The own account's store. A HearthError ends the command with its message."""
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = connect(settings.database)
    try:
        migrate(engine)
        yield Store(engine, settings.account, settings.region)
    except HearthError as error:
        raise fail(error.message) from None
    finally:
        engine.dispose()


@contextmanager
def _directory(settings: Settings, account: str | None) -> Iterator[Directory]:
    with opened(settings) as store:
        if account is not None and account != settings.account:
            store = store.of(Accounts(store, settings.account).get(account).name)
        yield Directory(store)


def _status(row: Resource) -> str:
    expires = row.document.get("Expires")
    return "Expired" if expires is not None and time.time() >= expires and row.status == ACTIVE else row.status


def day(moment: datetime) -> str:
    return moment.date().isoformat()


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="minutes")
