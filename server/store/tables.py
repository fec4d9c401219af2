"""The tables of the store. Changing one means a new migration in `migrations/versions`."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ENDPOINTS_ONLY = text("kind = 'Endpoint'")
COUNTED = BigInteger().with_variant(Integer, "sqlite")
"""SQLite's own row number is a primary key of this type and no other."""


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        }
    )


def utc(moment: datetime) -> datetime:
    """A moment as read: SQLite keeps no zone; all moments in the store are UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class ResourceRow(Base):
    """One resource: what was asked for (`document`) and what became of it (`status`).

    `generation` counts changes of the document, `observed` is the generation the controller last made
    true; only the controller writes `reason`, `observed` and `observation`. `counter` numbers what is
    made inside the resource (the versions of a group) and never goes back.
    """

    __tablename__ = "resources"
    __table_args__ = (
        UniqueConstraint("account", "region", "kind", "name"),
        Index("uq_resources_arn", "arn", unique=True),
        # One address answers for all regions and routes by the endpoint's name alone.
        Index(
            "uq_resources_endpoint_name", "account", "name", unique=True,
            sqlite_where=ENDPOINTS_ONLY, postgresql_where=ENDPOINTS_ONLY,
        ),
        Index("ix_resources_created", "account", "region", "kind", "created_at", "id"),
        Index("ix_resources_modified", "account", "region", "kind", "modified_at", "id"),
        Index("ix_resources_status", "account", "region", "kind", "status", "id"),
    )  # fmt: skip

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    account: Mapped[str] = mapped_column(String(12))
    region: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    arn: Mapped[str] = mapped_column(String(512))
    document: Mapped[dict[str, object]] = mapped_column(JSON)
    generation: Mapped[int] = mapped_column(Integer, default=1)
    observed: Mapped[int] = mapped_column(Integer, default=0)
    observation: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True), default=None)
    counter: Mapped[int] = mapped_column(Integer, default=0)
    status: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str | None] = mapped_column(Text, default=None)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    modified_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class FacetRow(Base):
    """A value of a resource's document that lists are filtered by."""

    __tablename__ = "facets"
    __table_args__ = (Index("ix_facets_key", "key", "value", "resource_id"),)

    resource_id: Mapped[int] = mapped_column(ForeignKey("resources.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(512))


class TagRow(Base):
    """One tag of a resource."""

    __tablename__ = "tags"

    resource_id: Mapped[int] = mapped_column(ForeignKey("resources.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    value: Mapped[str] = mapped_column(String(256))


class EventRow(Base):
    """A change of a resource, written in the transaction that made it, with the resource as it was then.

    Ids rise in the order of commits and are never given twice, so that a reader's position is one number.
    """

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_account", "account", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    uuid: Mapped[str] = mapped_column(String(36))
    change: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    account: Mapped[str] = mapped_column(String(12))
    region: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    arn: Mapped[str] = mapped_column(String(512))
    document: Mapped[dict[str, object]] = mapped_column(JSON)
    tags: Mapped[dict[str, str]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    modified_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class SubscriberRow(Base):
    """How far a subscriber to the events has come: the id of the last one that it is done with."""

    __tablename__ = "subscribers"

    account: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int] = mapped_column(Integer)


class MetricSeriesRow(Base):
    """A metric: a name with dimensions (canonical JSON) in a namespace. `last` is its newest point's start."""

    __tablename__ = "metric_series"
    __table_args__ = (UniqueConstraint("account", "region", "namespace", "name", "dimensions"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    account: Mapped[str] = mapped_column(String(12))
    region: Mapped[str] = mapped_column(String(32))
    namespace: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255))
    dimensions: Mapped[str] = mapped_column(Text)
    unit: Mapped[str] = mapped_column(String(32))
    last: Mapped[int] = mapped_column(BigInteger)


class MetricPointRow(Base):
    """What one source measured of a series from `start` (seconds since 1970) on, `seconds` long."""

    __tablename__ = "metric_points"
    __table_args__ = (Index("ix_metric_points_age", "seconds", "start"),)

    series_id: Mapped[int] = mapped_column(ForeignKey("metric_series.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    source: Mapped[str] = mapped_column(String(64), primary_key=True)
    seconds: Mapped[int] = mapped_column(Integer)
    data: Mapped[str] = mapped_column(Text)


class AuditEventRow(Base):
    """One event of the audit log. All columns but `seq` and `digest` say again what `event` says, for lookups.

    `event` is the canonical JSON that `digest` covers, with the digest of the row before.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_time", "account", "region", "management", "time", "seq"),
        Index("ix_audit_events_id", "event_id"),
        *(
            Index(f"ix_audit_events_{column}", "account", "region", "management", column, "time", "seq")
            for column in ("name", "source", "username", "access_key", "read_only")
        ),
    )

    seq: Mapped[int] = mapped_column(COUNTED, primary_key=True, autoincrement=False)
    account: Mapped[str] = mapped_column(String(12))
    region: Mapped[str] = mapped_column(String(32))
    management: Mapped[bool] = mapped_column(Boolean)
    time: Mapped[int] = mapped_column(BigInteger)
    """Seconds since 1970."""
    event_id: Mapped[str] = mapped_column(String(36))
    name: Mapped[str] = mapped_column(String(128))
    source: Mapped[str] = mapped_column(String(128))
    username: Mapped[str] = mapped_column(String(128))
    access_key: Mapped[str] = mapped_column(String(128))
    read_only: Mapped[bool] = mapped_column(Boolean)
    event: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))


class AuditResourceRow(Base):
    """A resource that an audited call touched, `number` of those of its event."""

    __tablename__ = "audit_resources"
    __table_args__ = tuple(
        Index(f"ix_audit_resources_{column}", "account", "region", column, "time", "seq")
        for column in ("name", "arn", "type")
    )

    seq: Mapped[int] = mapped_column(COUNTED, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    account: Mapped[str] = mapped_column(String(12))
    region: Mapped[str] = mapped_column(String(32))
    time: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(255))
    arn: Mapped[str] = mapped_column(String(512))
    type: Mapped[str] = mapped_column(String(64))


class AuditMarkRow(Base):
    """A signed end of the audit log (`server.audit.chain.Mark`): what is kept begins behind `start`, `head` is last."""

    __tablename__ = "audit_marks"

    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    seq: Mapped[int] = mapped_column(COUNTED)
    digest: Mapped[str] = mapped_column(String(64))
    mac: Mapped[str] = mapped_column(String(64))


class QuotaRow(Base):
    """A quota that an account has of its own (`server.store.quotas`)."""

    __tablename__ = "quotas"

    account: Mapped[str] = mapped_column(String(12), primary_key=True)
    code: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[float] = mapped_column(Float(53))


class QuotaRequestRow(Base):
    """An account's request for a larger quota."""

    __tablename__ = "quota_requests"
    __table_args__ = (Index("ix_quota_requests_account", "account", "region", "created_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    account: Mapped[str] = mapped_column(String(12))
    region: Mapped[str] = mapped_column(String(32))
    code: Mapped[str] = mapped_column(String(64))
    desired: Mapped[float] = mapped_column(Float(53))
    status: Mapped[str] = mapped_column(String(32))
    requester: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class TokenUseRow(Base):
    """Tokens that a caller has used of an external model in a day or a month (`server.external.budgets`)."""

    __tablename__ = "token_use"

    account: Mapped[str] = mapped_column(String(12), primary_key=True)
    endpoint: Mapped[str] = mapped_column(String(63), primary_key=True)
    principal: Mapped[str] = mapped_column(String(512), primary_key=True)
    period: Mapped[str] = mapped_column(String(10), primary_key=True)
    tokens: Mapped[int] = mapped_column(BigInteger)
