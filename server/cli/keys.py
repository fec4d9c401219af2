"""`hearth keys`: the file of master keys."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from server.cli.client import fail
from server.errors import Unavailable, VaultLocked
from server.settings import Settings
from server.store.store import connect
from server.store.tables import ResourceRow
from server.vault.vault import Vault


def rotate(settings: Settings, console: Console) -> None:
    """A new master key. Hearth may be running meanwhile; it finds the new key by itself."""
    vault = _opened(settings)
    try:
        master, count = vault.rotate()
    except VaultLocked as error:
        raise fail(error.message) from None
    finally:
        vault.close()
    console.print(f"New master key {master.id}; {count} keys are sealed by it now. Back up {vault.keyring.file}.",
                  highlight=False, soft_wrap=True)  # fmt: skip


def show(settings: Settings, console: Console) -> None:
    """The master keys' ids, and how many keys each seals."""
    vault = _opened(settings)
    try:
        vault.check()
        keys = vault.keyring.all() if vault.keyring.file.exists() else []
        sealed = vault.sealed()
    except VaultLocked as error:
        raise fail(error.message) from None
    finally:
        vault.close()
    table = Table("master key", "made", "seals", title=str(vault.keyring.file), title_justify="left")
    for key in keys:
        table.add_row(key.id, key.created, str(sealed[key.id]))
    console.print(table if keys else f"{vault.keyring.file}: not made yet, nothing is encrypted", soft_wrap=True)


def locked(settings: Settings) -> str | None:
    """What keeps a Hearth with these settings from its keys; None where nothing does, or nothing is encrypted yet."""
    if settings.database_url is None and not (settings.state_dir / "hearth.db").exists():
        return None
    vault = Vault(connect(settings.database), settings.master_keys)
    try:
        if inspect(vault.engine).has_table(ResourceRow.__tablename__):
            vault.check()
    except VaultLocked as error:
        return error.message
    except (SQLAlchemyError, Unavailable):  # the database's own trouble, which its users name
        return None
    finally:
        vault.close()
    return None


def _opened(settings: Settings) -> Vault:
    if settings.database_url is None and not (settings.state_dir / "hearth.db").exists():
        raise fail(f"There is no Hearth in {settings.state_dir} yet, so it has no keys.")
    vault = Vault(connect(settings.database), settings.master_keys)
    try:
        known = inspect(vault.engine).has_table(ResourceRow.__tablename__)
    except (SQLAlchemyError, Unavailable) as error:
        raise fail(f"The database cannot be opened: {str(error).splitlines()[0]}") from None
    if not known:
        raise fail("The database is empty: start Hearth once.")
    return vault
