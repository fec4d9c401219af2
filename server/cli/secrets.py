"""`hearth secrets`: keys of providers, for whoever owns the state folder. Put and replaced, never shown."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from server.cli.callers import day, noted, opened
from server.cli.client import fail
from server.external import secrets
from server.identity.accounts import Accounts
from server.settings import Settings, SettingsError, load
from server.store.store import Store
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault

app = typer.Typer(no_args_is_help=True, help="Keys of providers that external models ask; encrypted, never shown.")
console = Console()

Config = Annotated[Path | None, typer.Option("--config", "-c", help="hearth.yaml; default: the one in this folder.")]
State = Annotated[Path | None, typer.Option("--state", help="State directory (default .hearth).")]
Account = Annotated[str | None, typer.Option(help="Another account's number; default: the own one.")]


@app.command()
def put(name: str, config: Config = None, state: State = None, account: Account = None) -> None:
    """Keep a key, read from standard input or asked for, in place of one of the same name."""
    value = typer.prompt(name, hide_input=True) if sys.stdin.isatty() else sys.stdin.read()
    with _of(config, state, account) as (settings, store):
        box = SecretBox(Vault(store.engine, settings.master_keys))
        secrets.put(store, box, name, value.strip().encode())
        noted(settings, store, "PutProviderSecret", secretName=name)
    console.print(f"secret {name} is kept", highlight=False)


@app.command(name="list")
def show(config: Config = None, state: State = None, account: Account = None) -> None:
    """Show the names of secrets."""
    with _of(config, state, account) as (_, store):
        table = Table("secret", "made", "changed", box=None)
        for row in secrets.every(store):
            table.add_row(row.name, day(row.created_at), day(row.modified_at))
    console.print(table if table.row_count else "no secrets; `hearth secrets put NAME` keeps one")


@app.command()
def delete(name: str, config: Config = None, state: State = None, account: Account = None) -> None:
    """Forget a secret."""
    with _of(config, state, account) as (settings, store):
        secrets.remove(store, name)
        noted(settings, store, "DeleteProviderSecret", secretName=name)
    console.print(f"secret {name} is gone", highlight=False)


@contextmanager
def _of(config: Path | None, state: Path | None, account: str | None) -> Iterator[tuple[Settings, Store]]:
    default = Path("hearth.yaml")
    try:
        settings = load(config or (default if default.exists() else None), state_dir=state)
    except SettingsError as error:
        raise fail(str(error)) from None
    with opened(settings) as store:
        if account is not None and account != settings.account:
            store = store.of(Accounts(store, settings.account).get(account).name)
        yield settings, store
