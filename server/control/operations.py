"""What an operation gets and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.control.instances import Machine
from server.errors import VaultLocked
from server.identity.accounts import Accounts
from server.identity.principal import Principal, root
from server.store.quotas import Defaults
from server.store.store import Store
from server.vault.keys import Keys
from server.vault.secret_box import SecretBox
from server.vault.vault import Vault

Request = Mapping[str, Any]
Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Client:
    """Where a call came from, as far as the connection says."""

    address: str = ""
    user_agent: str = ""
    secure: bool = False
    access_key: str = ""
    """The key that the call is signed with, proved or not."""


@dataclass(frozen=True, slots=True)
class Context:
    """Who asks, and of what: the store as the caller's account and region see it."""

    store: Store
    machine: Machine
    request_id: str = ""
    caller: Principal | None = None
    """None: nobody was asked."""
    client: Client = field(default_factory=Client)
    logs: Path | None = None
    """Folder of the logs that callers may read."""
    vault: Vault | None = None
    """None: this part of Hearth keeps no keys."""
    own: str = ""
    """The account that manages the others; empty: the caller's."""

    @property
    def accounts(self) -> Accounts:
        return Accounts(self.store, self.own or self.account)

    quotas: Defaults = field(default_factory=Defaults)
    """Of accounts that have none of their own."""

    @property
    def keys(self) -> Keys:
        """The caller's KMS keys. Raises VaultLocked where no keys are kept."""
        return Keys(self.opened, self.store)

    @property
    def secrets(self) -> SecretBox:
        """Raises VaultLocked where no keys are kept."""
        return SecretBox(self.opened)

    @property
    def opened(self) -> Vault:
        if self.vault is None:
            raise VaultLocked("This part of Hearth keeps no keys, so it cannot encrypt or decrypt.")
        return self.vault

    @property
    def account(self) -> str:
        return self.store.account

    @property
    def region(self) -> str:
        return self.store.region

    @property
    def principal(self) -> Principal:
        """Who asks; the account itself where nobody is asked who they are."""
        return self.caller or root(self.account)


Operation = Callable[[Context, Request], Answer]
