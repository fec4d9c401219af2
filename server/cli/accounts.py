"""`hearth accounts`: for who owns the state folder. Organizations' API does the same, without the root's key."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from server.cli.callers import day, noted, opened
from server.cli.client import fail
from server.identity.accounts import ACTIVE, Accounts
from server.identity.keys import new_access_key
from server.objects.opening import buckets
from server.settings import Settings, SettingsError, load
from server.store.store import everywhere
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault

app = typer.Typer(no_args_is_help=True, help="Accounts: each with resources, objects, users and keys of its own.")
console = Console()

Config = Annotated[Path | None, typer.Option("--config", "-c", help="hearth.yaml; default: the one in this folder.")]
State = Annotated[Path | None, typer.Option("--state", help="State directory (default .hearth).")]


@app.command()
def create(
    name: str,
    email: Annotated[str, typer.Option(help="Whom it belongs to; no two accounts have the same.")] = "",
    config: Config = None,
    state: State = None,
) -> None:
    """Make an account and an access key of its root, which is shown this once."""
    settings = _settings(config, state)
    with opened(settings) as store:
        accounts = Accounts(store, settings.account)
        number = accounts.unused()
        key = new_access_key(number, SecretBox(Vault(store.engine, settings.master_keys)))
        accounts.create(number, name, email, key=key)
        noted(settings, store, "CreateAccount", accountId=number, accountName=name, accessKeyId=key.id)
    console.print(f"account {number}", highlight=False)
    console.print(f"aws_access_key_id = {key.id}\naws_secret_access_key = {key.secret}", highlight=False)
    if not settings.authenticates:
        typer.secho("Nobody is asked who they are here: set HEARTH_AUTH=required, or all are the same.", err=True)


@app.command(name="list")
def show(config: Config = None, state: State = None) -> None:
    """Show accounts; the first is this Hearth's own, which manages the others."""
    settings = _settings(config, state)
    with opened(settings) as store:
        endpoints = Counter(row.account for row in everywhere(store, "Endpoint"))
        table = Table("account", "name", "email", "made", "status", "endpoints", "buckets", box=None)
        own = settings.account
        held = "" if settings.objects_url else str(len(buckets(settings, own)))
        table.add_row(own, "(own)", "", "", ACTIVE, str(endpoints[own]), held)
        for row in Accounts(store, own).all():
            document, held = row.document, str(len(buckets(settings, row.name)))
            table.add_row(
                row.name, document["Name"], document["Email"], day(row.created_at), row.status,
                str(endpoints[row.name]), held,
            )  # fmt: skip
    console.print(table)


@app.command()
def close(id: str, config: Config = None, state: State = None) -> None:
    """End an account's keys and stop its endpoints; what it has is kept."""
    settings = _settings(config, state)
    with opened(settings) as store:
        _not_own(settings, id)
        Accounts(store, settings.account).close(id)
        noted(settings, store, "CloseAccount", accountId=id)
    console.print(f"{id} is closed; `hearth accounts reopen {id}` undoes that", highlight=False)


@app.command()
def reopen(id: str, config: Config = None, state: State = None) -> None:
    """Undo `close`."""
    settings = _settings(config, state)
    with opened(settings) as store:
        Accounts(store, settings.account).reopen(id)
        noted(settings, store, "ReopenAccount", accountId=id)
    console.print(f"{id} is open", highlight=False)


@app.command()
def delete(id: str, config: Config = None, state: State = None) -> None:
    """Forget an account that has no resources, objects or users any more."""
    settings = _settings(config, state)
    with opened(settings) as store:
        _not_own(settings, id)
        Accounts(store, settings.account).remove(id, buckets(settings, id))
        noted(settings, store, "DeleteAccount", accountId=id)
    console.print(f"{id} is deleted", highlight=False)


def _not_own(settings: Settings, id: str) -> None:
    if id == settings.account:
        raise fail(f"{id} is this Hearth's own account.")


def _settings(config: Path | None, state: Path | None) -> Settings:
    default = Path("hearth.yaml")
    try:
        return load(config or (default if default.exists() else None), state_dir=state)
    except SettingsError as error:
        raise fail(str(error)) from None
