"""The store: what should be, kept in SQL. Every write is one transaction; an acknowledged one is on disk."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import URL, Engine, create_engine, delete, event, make_url, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from server.errors import Conflict, NotFound
from server.store import outbox
from server.store.outage import name_outages
from server.store.tables import FacetRow, ResourceRow, TagRow, utc

LOCK_S = 10
"""How long a statement waits for another writer."""
CONNECT_S = 5
"""How long a database server may take to let us in."""
THREADS = 32
"""As many as a process calls the store from at most, so that none waits for a connection."""
SILENCE_S = 20
"""After how long a connection to a machine that acknowledges nothing is given up."""


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
    observation: Mapping[str, Any] | None = None
    region: str = ""
    id: int = 0
    account: str = ""


class Store:
    """Resources of one account: of all its regions, or of one (`within`). New ones go into `region`.

    Every call raises Unavailable when the database is not there or stays locked; what it would have written is then
    all there or not at all.
    """

    def __init__(
        self, engine: Engine, account: str, region: str, *, bound: bool = False, session: Session | None = None
    ) -> None:
        self.engine = engine
        self.account = account
        self.region = region
        self._bound = bound
        self._session = session

    def within(self, region: str) -> Store:
        """This store as one region sees it."""
        return Store(self.engine, self.account, region, bound=True, session=self._session)

    def of(self, account: str) -> Store:
        """The same of another account, in the same transaction."""
        return Store(self.engine, account, self.region, bound=self._bound, session=self._session)

    @contextmanager
    def transaction(self) -> Iterator[Store]:
        """This store with every call in one transaction, which an exception undoes."""
        with self.session() as session:
            yield Store(self.engine, self.account, self.region, bound=self._bound, session=session)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """The transaction under way, or one of its own."""
        if self._session is not None:
            yield self._session
            return
        with Session(self.engine) as session, session.begin():
            yield session

    def create(
        self,
        kind: str,
        name: str,
        document: Mapping[str, Any],
        status: str,
        *,
        arn: str | None = None,
        facets: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Resource:
        """Raises Conflict when the name is taken, in any case of its letters."""
        now = datetime.now(UTC)
        row = ResourceRow(
            account=self.account, region=self.region, kind=kind, name=name, arn=arn or self.arn(kind, name),
            document=dict(document), generation=1, observed=0, counter=0, status=status, reason=None,
            created_at=now, modified_at=now,
        )  # fmt: skip
        try:
            with self.session() as session:
                session.add(row)
                session.flush()
                session.add_all(FacetRow(resource_id=row.id, key=k, value=v) for k, v in (facets or {}).items())
                session.add_all(TagRow(resource_id=row.id, key=k, value=v) for k, v in (tags or {}).items())
                session.flush()
                made = read(row)
                outbox.note(session, self.account, made, "created")
                return made
        except IntegrityError:
            raise Conflict(f"{kind} {name!r} already exists.") from None

    def get(self, kind: str, name: str) -> Resource:
        """Raises NotFound."""
        with self.session() as session:
            row = session.scalar(select(ResourceRow).where(*self._match(kind), ResourceRow.name == name))
            if row is None:
                raise NotFound(f"{kind} {name!r} not found.")
            return read(row)

    def by_arn(self, arn: str) -> Resource:
        """By its ARN, or by one with the name in its own case. Raises NotFound."""
        with self.session() as session:
            row = session.scalar(
                select(ResourceRow)
                .where(*self._match(None), ResourceRow.arn.in_((arn, arn.lower())))
                .order_by(ResourceRow.arn != arn)
            )
            if row is None:
                raise NotFound(f"{arn} not found.")
            return read(row)

    def find(self, kind: str, status: tuple[str, ...] = ()) -> list[Resource]:
        """All resources of a kind (in one of the states, if any are named), oldest first."""
        query = select(ResourceRow).where(*self._match(kind))
        if status:
            query = query.where(ResourceRow.status.in_(status))
        with self.session() as session:
            return [read(row) for row in session.scalars(query.order_by(ResourceRow.created_at, ResourceRow.id))]

    def replace(
        self,
        current: Resource,
        document: Mapping[str, Any],
        status: str,
        *,
        reason: str | None = None,
        facets: Mapping[str, str] | None = None,
    ) -> Resource:
        """Asks for another document; `reason` is the controller's, if it is the one that does.

        Raises Conflict when `current` is not the newest generation.
        """
        values: dict[str, Any] = {
            "document": dict(document), "generation": current.generation + 1, "status": status, "reason": reason,
            "modified_at": datetime.now(UTC),
        }  # fmt: skip
        with self.session() as session:
            _swap(session, update(ResourceRow).where(*_same(current)).values(**values), current)
            if facets is not None:
                session.execute(delete(FacetRow).where(FacetRow.resource_id == current.id))
                session.add_all(FacetRow(resource_id=current.id, key=k, value=v) for k, v in facets.items())
            outbox.note(session, self.account, dataclasses.replace(current, **values), "changed")
        return self.get(current.kind, current.name)

    def count(self, current: Resource) -> int:
        """Counts `current` up by one and gives its number. Raises NotFound when it is gone."""
        statement = (
            update(ResourceRow)
            .where(ResourceRow.id == current.id)
            .values(counter=ResourceRow.counter + 1)
            .returning(ResourceRow.counter)
        )
        with self.session() as session:
            number = session.scalar(statement)
        if number is None:
            raise NotFound(f"{current.kind} {current.name!r} not found.")
        return int(number)

    def report(self, current: Resource, status: str, reason: str | None = None) -> bool:
        """The controller's word on `current`'s generation; False when a newer one was asked for meanwhile."""
        values: dict[str, Any] = {
            "status": status, "reason": reason, "observed": current.generation, "modified_at": datetime.now(UTC),
        }  # fmt: skip
        with self.session() as session:
            if _changed(session.execute(update(ResourceRow).where(*_same(current)).values(**values))) != 1:
                return False
            if (status, reason) != (current.status, current.reason):
                outbox.note(session, self.account, dataclasses.replace(current, **values), "reported")
            return True

    def observe(self, current: Resource, observation: Mapping[str, Any]) -> None:
        """The controller's note of what is there now, whatever was asked for meanwhile."""
        with self.session() as session:
            session.execute(
                update(ResourceRow).where(ResourceRow.id == current.id).values(observation=dict(observation))
            )

    def remove(self, current: Resource) -> None:
        """Forgets a resource whose removal is done. Raises Conflict when it was changed meanwhile."""
        with self.session() as session:
            outbox.note(session, self.account, current, "removed")
            _swap(session, delete(ResourceRow).where(*_same(current)), current)

    def arn(self, kind: str, name: str) -> str:
        """SageMaker's ARN for a resource; names in ARNs are lower case there."""
        path = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", kind).lower()
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{path}/{name.lower()}"

    def _match(self, kind: str | None) -> tuple[Any, ...]:
        found: list[Any] = [ResourceRow.account == self.account]
        if self._bound:
            found.append(ResourceRow.region == self.region)
        if kind is not None:
            found.append(ResourceRow.kind == kind)
        return tuple(found)


def everywhere(store: Store, kind: str) -> list[Resource]:
    """All resources of a kind, of every account and region, oldest first: for what Hearth does for all of them."""
    query = select(ResourceRow).where(ResourceRow.kind == kind).order_by(ResourceRow.created_at, ResourceRow.id)
    with store.session() as session:
        return [read(row) for row in session.scalars(query)]


def connect(url: str) -> Engine:
    """An engine on `url`; SQLite gets write-ahead logging with full sync, so that commits survive a crash.

    Every wait is bounded: for a connection, for a lock, and for a server whose machine is gone.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, max_overflow=THREADS)
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        engine = create_engine(parsed, max_overflow=THREADS, pool_pre_ping=True, connect_args=_bounded(parsed))
    name_outages(engine)
    return engine


def _bounded(url: URL) -> dict[str, Any]:
    """libpq's own bounds, those that `url` does not name."""
    bounds = {
        "connect_timeout": CONNECT_S,
        "tcp_user_timeout": SILENCE_S * 1000,
        "keepalives_idle": SILENCE_S,
        "options": f"-c lock_timeout={LOCK_S}s -c idle_in_transaction_session_timeout={SILENCE_S}s",
    }
    return {name: value for name, value in bounds.items() if name not in url.query}


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    bound = f"busy_timeout={round(LOCK_S * 1000)}"
    for pragma in (bound, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _same(current: Resource) -> tuple[Any, ...]:
    return ResourceRow.id == current.id, ResourceRow.generation == current.generation


def _swap(session: Session, statement: Any, current: Resource) -> None:
    if _changed(session.execute(statement)) != 1:
        raise Conflict(f"{current.kind} {current.name!r} was changed by someone else; try again.")


def _changed(result: Any) -> int:
    return int(result.rowcount)


def read(row: ResourceRow) -> Resource:
    """A row as the rest of Hearth knows it."""
    return Resource(
        kind=row.kind, name=row.name, arn=row.arn, document=row.document, generation=row.generation,
        observed=row.observed, status=row.status, reason=row.reason,
        created_at=utc(row.created_at), modified_at=utc(row.modified_at),
        observation=row.observation, region=row.region, id=row.id, account=row.account,
    )  # fmt: skip

