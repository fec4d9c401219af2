"""Quotas: how much of what an account may have. Defaults come from the settings, an account's own from the store.

What is used is never counted up and down: it is read from what there is, in the transaction that asks for more.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from server.errors import NotFound
from server.settings import DEFAULT_ACCOUNT, Settings
from server.store.store import Store
from server.store.tables import QuotaRequestRow, QuotaRow, utc

UNLIMITED = 1e10
"""The largest value that Service Quotas knows stands for no limit."""
MEGABYTE = 10**6
PENDING, APPROVED, DENIED = "PENDING", "APPROVED", "DENIED"


@dataclass(frozen=True, slots=True)
class Quota:
    """`code` never changes its meaning. `setting` has its default; `period` is the unit of time of a rate."""

    code: str
    service: str
    name: str
    setting: str
    words: str
    """What is counted, in refusals and descriptions."""
    unit: str = "None"
    period: str | None = None

    def default(self, settings: Settings) -> float:
        given = getattr(settings, self.setting)
        return UNLIMITED if given is None else float(given)


ENDPOINTS = Quota("H-ENDPOINTS", "sagemaker", "Endpoints", "quota_endpoints", "Endpoints")
INSTANCES = Quota("H-INSTANCES", "sagemaker", "Instances across all endpoints", "quota_instances", "Instances")
REQUESTS = Quota("H-REQUESTS", "sagemaker", "Rate of requests to all endpoints", "quota_requests_per_second",
                 "Requests per second", period="SECOND")  # fmt: skip
TOKENS = Quota("H-TOKENS", "sagemaker", "Rate of tokens of all endpoints, read and written", "quota_tokens_per_minute",
               "Tokens per minute", period="MINUTE")  # fmt: skip
STORAGE = Quota("H-STORAGE", "s3", "Storage of all objects", "quota_storage_mb", "Megabytes", unit="Megabytes")

QUOTAS: Mapping[str, Quota] = {quota.code: quota for quota in (ENDPOINTS, INSTANCES, REQUESTS, TOKENS, STORAGE)}


@dataclass(frozen=True, slots=True)
class Defaults:
    """What an account has that has nothing of its own. Of `operator`, the root decides about increases."""

    values: Mapping[str, float] = field(default_factory=dict)
    """By code; none: no limit."""
    operator: str = DEFAULT_ACCOUNT

    @classmethod
    def of(cls, settings: Settings) -> Defaults:
        return cls({code: quota.default(settings) for code, quota in QUOTAS.items()}, settings.account)

    def value(self, quota: Quota) -> float:
        return self.values.get(quota.code, UNLIMITED)


@dataclass(frozen=True, slots=True)
class Increase:
    """A request for a larger quota, and what became of it."""

    id: str
    account: str
    region: str
    code: str
    desired: float
    status: str
    requester: str
    created_at: datetime
    updated_at: datetime


def value(store: Store, defaults: Defaults, quota: Quota, account: str | None = None) -> float:
    """What counts for `account`; None: the store's own."""
    account = account or store.account
    with store.session() as session:
        own = session.scalar(
            select(QuotaRow.value).where(QuotaRow.account == account, QuotaRow.code == quota.code)
        )
    return defaults.value(quota) if own is None else own


def limit(store: Store, defaults: Defaults, quota: Quota, account: str | None = None) -> float | None:
    """None: there is none."""
    found = value(store, defaults, quota, account)
    return None if found >= UNLIMITED else found


def own(store: Store) -> dict[str, dict[str, float]]:
    """Values that accounts have of their own, by account and code."""
    found: dict[str, dict[str, float]] = {}
    with store.session() as session:
        for row in session.scalars(select(QuotaRow).order_by(QuotaRow.account, QuotaRow.code)):
            found.setdefault(row.account, {})[row.code] = row.value
    return found


def put(store: Store, account: str, quota: Quota, value: float | None) -> None:
    """Gives an account a value of its own; None: the default again."""
    with store.session() as session:
        session.execute(delete(QuotaRow).where(QuotaRow.account == account, QuotaRow.code == quota.code))
        if value is not None:
            session.add(QuotaRow(account=account, code=quota.code, value=value))


def ask(store: Store, quota: Quota, desired: float, requester: str, *, at_once: bool) -> Increase:
    """Writes a request of the store's account and region down; `at_once`: and grants it."""
    now = datetime.now(UTC)
    row = QuotaRequestRow(
        id=uuid.uuid4().hex, account=store.account, region=store.region, code=quota.code, desired=desired,
        status=APPROVED if at_once else PENDING, requester=requester, created_at=now, updated_at=now,
    )  # fmt: skip
    with store.transaction() as together, together.session() as session:
        session.add(row)
        session.flush()
        if at_once:
            put(together, store.account, quota, desired)
        return _read(row)


def decide(store: Store, id: str, *, grant: bool) -> Increase:
    """Grants or denies any account's pending request. Raises NotFound."""
    with store.transaction() as together, together.session() as session:
        row = session.scalar(
            select(QuotaRequestRow).where(QuotaRequestRow.id == id, QuotaRequestRow.status == PENDING).with_for_update()
        )
        if row is None:
            raise NotFound(f"No request {id} is pending.")
        row.status, row.updated_at = APPROVED if grant else DENIED, datetime.now(UTC)
        if grant:
            put(together, row.account, QUOTAS[row.code], row.desired)
        return _read(row)


def requests(
    store: Store, *, everyone: bool = False, code: str | None = None, status: str | None = None
) -> list[Increase]:
    """Requests of the store's account and region, or of `everyone`, newest first."""
    query = select(QuotaRequestRow).order_by(QuotaRequestRow.created_at.desc(), QuotaRequestRow.id)
    if not everyone:
        query = query.where(QuotaRequestRow.account == store.account, QuotaRequestRow.region == store.region)
    if code is not None:
        query = query.where(QuotaRequestRow.code == code)
    if status is not None:
        query = query.where(QuotaRequestRow.status == status)
    with store.session() as session:
        return [_read(row) for row in session.scalars(query)]


def alone(session: Session, account: str) -> None:
    """Until the transaction ends, no other one that asks so counts what the account has.

    SQLite has one writer at a time anyway: there the caller has to have written something by now.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"quotas of {account}"})


def _read(row: QuotaRequestRow) -> Increase:
    return Increase(
        row.id, row.account, row.region, row.code, row.desired, row.status, row.requester,
        utc(row.created_at), utc(row.updated_at),
    )  # fmt: skip
