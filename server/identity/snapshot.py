"""All identities at one moment: what a process needs to decide who calls and what they may, without the store.

It holds secrets, and goes only to processes of this Hearth.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Engine, select

from server.identity import sessions
from server.identity.accounts import Accounts
from server.identity.directory import ACCESS_KEY, ACTIVE, API_KEY, GROUP, POLICY, ROLE, USER, Entity, version
from server.identity.keys import digest, open_secret
from server.identity.policy.managed import MANAGED
from server.identity.principal import root_arn
from server.settings import Settings
from server.store.store import Resource, Store, read
from server.store.tables import ResourceRow, TagRow
from server.vault.secret_box import SecretBox


@dataclass(frozen=True, slots=True)
class Holder:
    """A user, a role, or an account's root: policies are places in `Snapshot.documents`."""

    id: str
    account: str
    arn: str
    name: str
    policies: tuple[int, ...] = ()
    boundary: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AccessKey:
    id: str
    secret: str = field(repr=False)
    owner: str = ""


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    hash: str = field(repr=False)
    owner: str = ""
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`documents` are policies: what each is called, and its text."""

    version: int
    documents: tuple[tuple[str, str], ...]
    holders: tuple[Holder, ...]
    access_keys: tuple[AccessKey, ...]
    api_keys: tuple[ApiKey, ...]
    session_key: str = field(repr=False)
    """In hexadecimal."""

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Snapshot:
        """Raises TypeError or KeyError for what is none."""
        return cls(
            version=wire["version"],
            documents=tuple((id, text) for id, text in wire["documents"]),
            holders=tuple(Holder(**{**each, "policies": tuple(each["policies"])}) for each in wire["holders"]),
            access_keys=tuple(AccessKey(**each) for each in wire["access_keys"]),
            api_keys=tuple(ApiKey(**each) for each in wire["api_keys"]),
            session_key=wire["session_key"],
        )


@dataclass(frozen=True, slots=True)
class Source:
    """One policy of an identity. `kind` is IAM's PolicySourceType."""

    id: str
    kind: str
    text: str


def sources(row: Resource, groups: Iterable[Resource], policies: Mapping[str, Resource]) -> list[Source]:
    """Every policy that a user or role has: inline, attached, and those of its groups."""
    found: list[Source] = []
    for holder in (row, *groups):
        title = holder.kind.removeprefix("Iam").lower()
        found += [Source(name, title, text) for name, text in sorted(holder.document["Inline"].items())]
        found += [managed(arn, policies) for arn in holder.document["Attached"]]
    return found


def managed(arn: str, policies: Mapping[str, Resource]) -> Source:
    """The version of a managed policy that counts; `policies` are the account's own, by ARN."""
    if known := MANAGED.get(arn):
        return Source(arn, "aws-managed", known.text)
    document = policies[arn].document
    version = next(each for each in document["Versions"] if each["VersionId"] == document["DefaultVersionId"])
    return Source(arn, "user-managed", version["Document"])


class Camera:
    """Takes snapshots; remembers the secrets that it has opened."""

    def __init__(self, engine: Engine, box: SecretBox, account: str, root_keys: Iterable[str] = ()) -> None:
        """`root_keys` are API keys of the root of `account` that the store does not have."""
        self._engine = engine
        self._box = box
        self._account = account
        self._named = tuple(ApiKey("settings", digest(key), account) for key in root_keys)
        self._opened: dict[str, str] = {}

    @classmethod
    def of(cls, settings: Settings, box: SecretBox, engine: Engine, token: str) -> Camera:
        """`token` is this Hearth's own, which its command line calls with: who can read its file is the root."""
        keys = (token,) if settings.api_key is None else (token, settings.api_key)
        return cls(engine, box, settings.account, keys)

    def version(self) -> int:
        return version(self._engine)

    def take(self) -> Snapshot:
        """Raises SealBroken, VaultLocked."""
        number = self.version()  # first: what changes meanwhile makes a newer one
        accounts = Accounts(Store(self._engine, self._account, ""), self._account).active()
        rows = self._rows(accounts)
        documents: dict[Source, int] = {}
        holders = [Holder(account, account, root_arn(account), "") for account in accounts]
        holders += self._holders(rows, documents)
        keys = [row for row in rows[ACCESS_KEY] if row.status == ACTIVE]
        opened = {row.document["Sealed"]: self._secret(row) for row in keys}
        self._opened = opened
        return Snapshot(
            number,
            tuple((source.id, source.text) for source in documents),
            tuple(holders),
            tuple(AccessKey(row.name, opened[row.document["Sealed"]], row.document["Owner"]) for row in keys),
            self._named
            + tuple(
                ApiKey(row.name, row.document["Hash"], row.document["Owner"], row.document["Expires"])
                for row in rows[API_KEY]
                if row.status == ACTIVE
            ),
            sessions.key(self._engine, self._box).hex(),
        )

    def _secret(self, row: Resource) -> str:
        known = self._opened.get(row.document["Sealed"])
        return known if known is not None else open_secret(row.account, row, self._box)

    def _rows(self, accounts: Collection[str]) -> dict[str, list[Resource]]:
        kinds = [*(entity.kind for entity in (USER, GROUP, ROLE, POLICY)), ACCESS_KEY, API_KEY]
        found: dict[str, list[Resource]] = {kind: [] for kind in kinds}
        with Store(self._engine, "", "").session() as session:
            for row in session.scalars(select(ResourceRow).where(ResourceRow.kind.in_(kinds))):
                if row.account in accounts:
                    found[row.kind].append(read(row))
        return found

    def _holders(self, rows: Mapping[str, list[Resource]], documents: dict[Source, int]) -> list[Holder]:
        policies = {row.arn: row for row in rows[POLICY.kind]}
        groups = {row.document["GroupId"]: row for row in rows[GROUP.kind]}
        tagged = _tags(self._engine, (USER.kind, ROLE.kind))

        def placed(source: Source) -> int:
            return documents.setdefault(source, len(documents))

        def holder(entity: Entity, row: Resource) -> Holder:
            own = [groups[id] for id in row.document.get("Groups", ()) if id in groups]
            boundary = row.document["PermissionsBoundary"]
            return Holder(
                row.document[entity.id_member], row.account, row.arn, row.document[entity.name_member],
                tuple(placed(source) for source in sources(row, own, policies)),
                placed(managed(boundary, policies)) if boundary else None, tagged.get(row.id, {}),
            )  # fmt: skip

        return [holder(entity, row) for entity in (USER, ROLE) for row in rows[entity.kind]]


def _tags(engine: Engine, kinds: Iterable[str]) -> dict[int, dict[str, str]]:
    query = select(TagRow).join(ResourceRow).where(ResourceRow.kind.in_(list(kinds)))
    found: dict[int, dict[str, str]] = {}
    with Store(engine, "", "").session() as session:
        for row in session.scalars(query):
            found.setdefault(row.resource_id, {})[row.key] = row.value
    return found
