"""The accounts of one Hearth: the settings' own, which is always there and manages the others, and those made.

A made one is a row of Hearth's own: its name is the account's number, its status ACTIVE or SUSPENDED, its document

    Name, Email, Request (the id by which CreateAccount's caller asks how it went; empty where there was none)

Making, closing and removing one counts the identities' version up, so every process hears of it as of a revoked key.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select

from server.errors import Conflict, InUse, NotFound
from server.identity.directory import ACCESS_KEY, API_KEY, ROLE, Directory
from server.identity.keys import NewAccessKey
from server.identity.principal import root_arn
from server.store import tags as tagging
from server.store.scaling import ACTIVITY
from server.store.store import Resource, Store, read
from server.store.tables import EventRow, MetricSeriesRow, QuotaRequestRow, QuotaRow, ResourceRow, SubscriberRow
from server.vault.keys import ALIAS, MANAGED
from server.vault.vault import KEY, SYSTEM

KIND = "Account"
ACTIVE, SUSPENDED = "ACTIVE", "SUSPENDED"
MANAGER_ROLE = "OrganizationAccountAccessRole"
"""What Organizations makes in a new account, for the one that made it."""
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
SESSION_S = 3600
"""How long a session of that role may last."""

_LOWEST, _COUNT = 10**11, 9 * 10**11


class Accounts:
    """`own` is the settings' account."""

    def __init__(self, store: Store, own: str) -> None:
        self._store = store
        self._rows = store.of(SYSTEM).within(SYSTEM)
        self.own = own

    @property
    def organization(self) -> str:
        """The organization's id: the same as long as the own account is."""
        return "o-" + hashlib.sha256(f"organization {self.own}".encode()).hexdigest()[:10]

    def arn(self, id: str) -> str:
        return f"arn:aws:organizations::{self.own}:account/{self.organization}/{id}"

    def active(self) -> tuple[str, ...]:
        """The own account first."""
        return (self.own, *(row.name for row in self.all() if row.status == ACTIVE))

    def all(self) -> list[Resource]:
        """Those made, oldest first."""
        return [row for row in self._rows.find(KIND) if row.name != self.own]

    def get(self, id: str) -> Resource:
        """Raises NotFound."""
        found = next((row for row in self.all() if row.name == id), None)
        if found is None:
            raise NotFound(f"There is no account {id}.")
        return found

    def unused(self) -> str:
        """A number that no account has."""
        taken = {self.own, *(row.name for row in self.all())}
        while (number := str(_LOWEST + secrets.randbelow(_COUNT))) in taken:
            continue
        return number

    def create(
        self, number: str, name: str, email: str = "", *, request: str = "", tags: Mapping[str, str] | None = None,
        role: str | None = None, key: NewAccessKey | None = None,
    ) -> Resource:  # fmt: skip
        """An account with the number of `unused`. `role`: one of that name is made in it, which the own account may
        assume; `key` is its root's. Raises Conflict where an account has the email."""
        with Directory(self._store.of(number)).change() as unit:
            rows = unit.store.of(SYSTEM).within(SYSTEM)
            if email and any(row.document["Email"].lower() == email.lower() for row in rows.find(KIND)):
                raise Conflict(f"An account with the email {email} already exists.")
            document = {"Name": name, "Email": email, "Request": request}
            made = rows.create(KIND, number, document, ACTIVE, arn=self.arn(number))
            tagging.add(rows, made, tags or {})
            if key is not None:
                key.keep(unit, number)
            if role is not None:
                self._manager(unit, role)
        return made

    def close(self, id: str) -> None:
        """Its keys and sessions end and its endpoints are stopped; what it has is kept. Raises NotFound, Conflict."""
        self._set(id, SUSPENDED)

    def reopen(self, id: str) -> None:
        """Raises NotFound, Conflict."""
        self._set(id, ACTIVE)

    def _set(self, id: str, status: str) -> None:
        with Directory(self._store).change() as unit:
            row = Accounts(unit.store, self.own).get(id)
            if row.status == status:
                raise Conflict(f"The account {id} is {status} already.")
            unit.store.of(SYSTEM).within(SYSTEM).replace(row, row.document, status)

    def remove(self, id: str, buckets: Sequence[str] = ()) -> None:
        """Forgets an account that has nothing. Its root's keys, the manager's role, keys that services made for it and
        measurements do not count, and go with it; its events stay in the audit log. Raises NotFound, InUse."""
        with Directory(self._store.of(id)).change() as unit, unit.store.session() as session:
            row = Accounts(unit.store, self.own).get(id)
            mine = session.scalars(select(ResourceRow).where(ResourceRow.account == id))
            held = Counter(each.kind for each in map(read, mine) if not _incidental(each, id))
            held += Counter({"Bucket": len(buckets)})
            if held:
                counted = ", ".join(f"{kind}: {count}" for kind, count in sorted(held.items()))
                raise InUse(f"The account {id} still has resources ({counted}); delete them first.")
            for table in (ResourceRow, MetricSeriesRow, EventRow, SubscriberRow, QuotaRow, QuotaRequestRow):
                session.execute(delete(table).where(table.account == id))
            unit.store.of(SYSTEM).within(SYSTEM).remove(row)

    def _manager(self, unit: Directory, name: str) -> None:
        trust = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"AWS": root_arn(self.own)}, "Action": "sts:AssumeRole"}],
        }
        unit.create(ROLE, name, "/", {
            "Inline": {}, "Attached": [ADMINISTRATOR], "AssumeRolePolicyDocument": json.dumps(trust),
            "Description": None, "MaxSessionDuration": SESSION_S, "PermissionsBoundary": None,
        })  # fmt: skip


def _incidental(row: Resource, account: str) -> bool:
    """Whether nobody made it who could take it away again, or it is a root's key."""
    if row.kind in (ACCESS_KEY, API_KEY):
        return bool(row.document["Owner"] == account)
    if row.kind == ROLE.kind:
        return bool(row.document["RoleName"] == MANAGER_ROLE)
    if row.kind == KEY:
        return row.document.get("KeyManager") == "AWS"
    return row.kind == ACTIVITY or (row.kind == ALIAS and row.name.startswith(MANAGED))

