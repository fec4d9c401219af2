"""The store: what should be, kept in SQL. Every write is one transaction; an acknowledged one is on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, create_engine, delete, event, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from server.errors import Conflict, NotFound
from server.store.tables import ResourceRow


@dataclass(frozen=True, slots=True)
class Resource:
    """One row, read. `document` is what was asked for; see `ResourceRow`."""

    kind: str
    name: str
    arn: str
    document: Mapping[str, Any]
    generation: int
    observed: int
    status: str
    reason: str | None
    created_at: datetime
    modified_at: datetime


class Store:
    """Resources of one account and region."""

    def __init__(self, engine: Engine, account: str, region: str) -> None:
        self.engine = engine
        self.account = account
        self.region = region

    def create(self, kind: str, name: str, document: Mapping[str, Any], status: str) -> Resource:
        """Raises Conflict when the name is taken."""
        now = datetime.now(UTC)
        row = ResourceRow(
            account=self.account, region=self.region, kind=kind, name=name, arn=self.arn(kind, name),
            document=dict(document), generation=1, observed=0, status=status, reason=None,
            created_at=now, modified_at=now,
        )  # fmt: skip
        try:
            with Session(self.engine) as session, session.begin():
                session.add(row)
                session.flush()
                return _read(row)
        except IntegrityError:
            raise Conflict(f"{kind} {name!r} already exists.") from None

    def get(self, kind: str, name: str) -> Resource:
        """Raises NotFound."""
        with Session(self.engine) as session:
            row = session.scalar(self._one(kind, name))
            if row is None:
                raise NotFound(f"{kind} {name!r} not found.")
            return _read(row)

    def find(self, kind: str) -> list[Resource]:
        """All resources of a kind, oldest first."""
        query = select(ResourceRow).where(
            ResourceRow.account == self.account, ResourceRow.region == self.region, ResourceRow.kind == kind
        )
        with Session(self.engine) as session:
            return [_read(row) for row in session.scalars(query.order_by(ResourceRow.created_at, ResourceRow.id))]

    def replace(self, current: Resource, document: Mapping[str, Any], status: str) -> Resource:
        """Asks for another document. Raises Conflict when `current` is not the newest generation."""
        now = datetime.now(UTC)
        statement = (
            update(ResourceRow)
            .where(*self._match(current.kind, current.name), ResourceRow.generation == current.generation)
            .values(
                document=dict(document),
                generation=current.generation + 1,
                status=status,
                reason=None,
                modified_at=now,
            )
        )
        self._swap(statement, current)
        return self.get(current.kind, current.name)

    def report(self, current: Resource, status: str, reason: str | None = None) -> bool:
        """The controller's word on `current`'s generation; False when a newer one was asked for meanwhile."""
        statement = (
            update(ResourceRow)
            .where(*self._match(current.kind, current.name), ResourceRow.generation == current.generation)
            .values(status=status, reason=reason, observed=current.generation, modified_at=datetime.now(UTC))
        )
        with Session(self.engine) as session, session.begin():
            return _changed(session.execute(statement)) == 1

    def remove(self, current: Resource) -> None:
        """Forgets a resource whose removal is done."""
        statement = delete(ResourceRow).where(
            *self._match(current.kind, current.name), ResourceRow.generation == current.generation
        )
        self._swap(statement, current)

    def arn(self, kind: str, name: str) -> str:
        """SageMaker's ARN for a resource; names in ARNs are lower case there."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind.lower()}/{name.lower()}"

    def _swap(self, statement: Any, current: Resource) -> None:
        with Session(self.engine) as session, session.begin():
            if _changed(session.execute(statement)) != 1:
                raise Conflict(f"{current.kind} {current.name!r} was changed by someone else; try again.")

    def _match(self, kind: str, name: str) -> tuple[Any, ...]:
        return (
            ResourceRow.account == self.account,
            ResourceRow.region == self.region,
            ResourceRow.kind == kind,
            ResourceRow.name == name,
        )

    def _one(self, kind: str, name: str) -> Any:
        return select(ResourceRow).where(*self._match(kind, name))


def connect(url: str) -> Engine:
    """An engine on `url`; SQLite gets write-ahead logging with full sync, so that commits survive a crash."""
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _changed(result: Any) -> int:
    return int(result.rowcount)


def _read(row: ResourceRow) -> Resource:
    return Resource(
        kind=row.kind, name=row.name, arn=row.arn, document=row.document, generation=row.generation,
        observed=row.observed, status=row.status, reason=row.reason,
        created_at=_utc(row.created_at), modified_at=_utc(row.modified_at),
    )  # fmt: skip


def _utc(moment: datetime) -> datetime:
    """SQLite keeps no zone; all moments in the store are UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
