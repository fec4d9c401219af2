"""Users, groups, roles, policies and their keys of one account, as rows of the store.

    IamUser    UserId, UserName, Path, Inline, Attached, Groups (ids), PermissionsBoundary
    IamGroup   GroupId, GroupName, Path, Inline, Attached
    IamRole    RoleId, RoleName, Path, Inline, Attached, PermissionsBoundary, AssumeRolePolicyDocument, Description,
               MaxSessionDuration (seconds)
    IamPolicy  PolicyId, PolicyName, Path, Description, DefaultVersionId, Versions, Made (how many ever)
    AccessKey  name: its id; Owner (a user's id, or the account for its root), Sealed; status: Active or Inactive
    ApiKey     name: its id; Owner, Hash (SHA-256 of the key), Expires (seconds since 1970), Description

`Inline` has documents by their policy's name, `Attached` ARNs. A row's name is the name in lower case: IAM tells no
names apart by case. Every change counts the version up by which copies of all this notice that they are old, and
changes of one Hearth wait for one another, so that what one has checked still holds when it writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import IntegrityError

from server.errors import Conflict, NotFound
from server.identity import names
from server.store import tags
from server.store.listing import Query, page
from server.store.store import Resource, Store
from server.store.tables import ResourceRow

GLOBAL = "aws-global"
"""The region of rows that belong to a whole account."""

ACCESS_KEY, API_KEY = "AccessKey", "ApiKey"
ACTIVE, INACTIVE = "Active", "Inactive"

Used = Mapping[str, tuple[float, str, str]]
"""Access keys: when each was last used (seconds since 1970), for which service and in which region."""

_SYSTEM = "hearth"
_VERSION = "IdentityVersion"
_OWNED_MOST = 1000


@dataclass(frozen=True, slots=True)
class Entity:
    """A sort of what IAM names: `User` has UserName and UserId."""

    title: str
    prefix: str

    @property
    def kind(self) -> str:
        return f"Iam{self.title}"

    @property
    def name_member(self) -> str:
        return f"{self.title}Name"

    @property
    def id_member(self) -> str:
        return f"{self.title}Id"

    def arn(self, account: str, path: str, name: str) -> str:
        return f"arn:aws:iam::{account}:{self.title.lower()}{path}{name}"


USER = Entity("User", names.USER)
GROUP = Entity("Group", names.GROUP)
ROLE = Entity("Role", names.ROLE)
POLICY = Entity("Policy", names.POLICY)


class Directory:
    """One account's identities. Reads see what is written; write only what `change` gives."""

    def __init__(self, store: Store) -> None:
        self.store = store.within(GLOBAL)

    @property
    def account(self) -> str:
        return self.store.account

    @contextmanager
    def change(self) -> Iterator[Directory]:
        """This directory in one transaction, alone among those that change it; an exception undoes all."""
        _have_version(self.store.engine)
        with self.store.transaction() as unit, unit.session() as session:
            session.execute(
                update(ResourceRow)
                .where(ResourceRow.account == _SYSTEM, ResourceRow.kind == _VERSION)
                .values(counter=ResourceRow.counter + 1)
            )
            yield Directory(unit)

    def find(self, entity: Entity, name: str) -> Resource:
        """By its name as it was given. Raises NotFound in IAM's words."""
        try:
            found = self.store.get(entity.kind, name.lower())
            if found.document[entity.name_member] == name:
                return found
        except NotFound:
            pass
        raise NotFound(f"The {entity.title.lower()} with name {name} cannot be found.", field=entity.name_member)

    def by_arn(self, entity: Entity, arn: str) -> Resource | None:
        try:
            found = self.store.by_arn(arn)
        except NotFound:
            return None
        return found if found.kind == entity.kind and found.arn == arn else None

    def by_id(self, entity: Entity, id: str) -> Resource | None:
        return next((row for row in self.store.find(entity.kind) if row.document[entity.id_member] == id), None)

    def all(self, entity: Entity) -> list[Resource]:
        """By name."""
        return sorted(self.store.find(entity.kind), key=lambda row: row.name)

    def create(self, entity: Entity, name: str, path: str, document: Mapping[str, Any]) -> Resource:
        """Raises Conflict in IAM's words."""
        whole = {
            entity.name_member: name, entity.id_member: names.unique_id(entity.prefix), "Path": path, **document,
        }  # fmt: skip
        arn = entity.arn(self.account, path, name)
        try:
            return self.store.create(entity.kind, name.lower(), whole, ACTIVE, arn=arn)
        except Conflict:
            raise taken(entity, name) from None

    def create_user(
        self, name: str, path: str = "/", *, boundary: str | None = None, attached: Sequence[str] = ()
    ) -> Resource:
        """Raises Conflict in IAM's words."""
        members: dict[str, Any] = {
            "Inline": {}, "Attached": list(attached), "Groups": [], "PermissionsBoundary": boundary,
        }  # fmt: skip
        return self.create(USER, name, path, members)

    def edit(self, row: Resource, **members: Any) -> Resource:
        """Replaces members of a row's document."""
        return self.store.replace(row, {**row.document, **members}, row.status)

    def rename(self, entity: Entity, row: Resource, name: str, path: str) -> Resource:
        """Raises Conflict in IAM's words."""
        document = {**row.document, entity.name_member: name, "Path": path}
        changed = {
            "name": name.lower(), "arn": entity.arn(self.account, path, name), "document": document,
            "generation": row.generation + 1, "modified_at": datetime.now(UTC),
        }  # fmt: skip
        try:
            with self.store.session() as session:
                session.execute(update(ResourceRow).where(ResourceRow.id == row.id).values(**changed))
        except IntegrityError:
            raise taken(entity, name) from None
        return self.find(entity, name)

    def set_status(self, row: Resource, status: str) -> None:
        self.store.replace(row, row.document, status)

    def tags(self, row: Resource) -> dict[str, str]:
        return tags.read(self.store, row)

    def owned(self, kind: str, owner: str) -> list[Resource]:
        """Keys of one owner, oldest first."""
        return list(page(self.store, Query(kind=kind, facets={"Owner": owner}), _OWNED_MOST).resources)

    def key(self, kind: str, id: str) -> Resource | None:
        try:
            return self.store.get(kind, id)
        except NotFound:
            return None

    def add_key(self, kind: str, id: str, owner: str, document: Mapping[str, Any]) -> Resource:
        arn = f"arn:hearth:iam::{self.account}:{kind.lower()}/{id}"
        whole = {"Owner": owner, **document}
        return self.store.create(kind, id, whole, ACTIVE, arn=arn, facets={"Owner": owner})

    def members(self, group: Resource) -> list[Resource]:
        return [row for row in self.all(USER) if group.document["GroupId"] in row.document["Groups"]]

    def groups_of(self, user: Resource) -> list[Resource]:
        return [row for row in self.all(GROUP) if row.document["GroupId"] in user.document["Groups"]]


def taken(entity: Entity, name: str) -> Conflict:
    if entity is POLICY:
        return Conflict(f"A policy called {name} already exists. Duplicate names are not allowed.")
    return Conflict(f"{entity.title} with name {name} already exists.", field=entity.name_member)


def version(engine: Engine) -> int:
    """Counts every change of any account's identities; 0 before the first."""
    query = select(ResourceRow.counter).where(ResourceRow.account == _SYSTEM, ResourceRow.kind == _VERSION)
    with Store(engine, _SYSTEM, _SYSTEM).session() as session:
        return session.scalar(query) or 0


def note_used(store: Store, used: Used) -> None:
    for id, (at, service, region) in used.items():
        owner = store.of(names.account_of(id) or store.account)
        try:
            row = owner.within(GLOBAL).get(ACCESS_KEY, id)
        except NotFound:
            continue
        if row.observation is None or row.observation["At"] < at:
            owner.observe(row, {"At": at, "Service": service, "Region": region})


def _have_version(engine: Engine) -> None:
    system = Store(engine, _SYSTEM, _SYSTEM)
    if system.find(_VERSION):
        return
    try:
        system.create(_VERSION, "identity", {}, ACTIVE, arn="arn:hearth:iam:::version")
    except Conflict:
        return
