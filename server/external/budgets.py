"""Tokens that each caller has used of an endpoint, by day and month (UTC), in the store: all replicas count together,
and what is counted is on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from server.errors import Throttled
from server.external.options import Budget
from server.identity.principal import Principal, root_arn
from server.store.store import Store
from server.store.tables import TokenUseRow

UNITS: Mapping[str, str] = {"tokens_per_day": "day", "tokens_per_month": "month"}


class OverBudget(Throttled):
    """The caller has no tokens left until the period ends."""


def now_utc() -> datetime:
    return datetime.now(UTC)


class Budgets:
    """Of one endpoint of the store's account. Blocking; for many threads and processes."""

    def __init__(
        self, store: Store, endpoint: str, default: Budget, own: Mapping[str, Budget],
        now: Callable[[], datetime] = now_utc,
    ) -> None:  # fmt: skip
        self._store = store
        self._endpoint = endpoint
        self._default = default
        self._own = own
        self._now = now

    @property
    def limited(self) -> bool:
        return any(_limits(budget) for budget in (self._default, *self._own.values()))

    def check(self, principal: Principal | None) -> None:
        """Raises OverBudget. Requests that are answered meanwhile may go beyond the budget together."""
        holder = who(principal, self._store.account)
        limits = _limits(self._own.get(holder, self._default))
        if not limits:
            return
        now = self._now()
        periods = _periods(now)
        used = self.used(holder)
        for name, limit in limits.items():
            if used.get(periods[name], 0) >= limit:
                unit = UNITS[name]
                raise OverBudget(
                    f"The budget of {limit} tokens a {unit} is used up; the next {unit} (UTC) has another.",
                    retry_after=max(1, int((_ends(now, name) - now).total_seconds())),
                )

    def spend(self, principal: Principal | None, tokens: int) -> None:
        """Counts tokens; they are on disk when this returns."""
        if tokens <= 0 or not self.limited:
            return
        holder, periods = who(principal, self._store.account), tuple(_periods(self._now()).values())
        for period in periods:
            while not self._add(holder, period, periods, tokens):
                continue

    def used(self, holder: str) -> dict[str, int]:
        """By period, as `2026-11-24` and `2026-11`."""
        query = select(TokenUseRow.period, TokenUseRow.tokens).where(*self._of(holder))
        with self._store.session() as session:
            return {str(period): int(tokens) for period, tokens in session.execute(query)}

    def _add(self, holder: str, period: str, kept: tuple[str, ...], tokens: int) -> bool:
        """False: another made the row meanwhile."""
        try:
            with self._store.session() as session:
                if not self._added(session, holder, period, tokens):
                    session.execute(delete(TokenUseRow).where(*self._of(holder), TokenUseRow.period.not_in(kept)))
                    named = {"account": self._store.account, "endpoint": self._endpoint, "principal": holder}
                    session.add(TokenUseRow(**named, period=period, tokens=tokens))
        except IntegrityError:
            return False
        return True

    def _added(self, session: Session, holder: str, period: str, tokens: int) -> bool:
        found = session.execute(
            update(TokenUseRow)
            .where(*self._of(holder), TokenUseRow.period == period)
            .values(tokens=TokenUseRow.tokens + tokens)
        )
        return bool(getattr(found, "rowcount", 0))

    def _of(self, holder: str) -> tuple[Any, ...]:
        return (
            TokenUseRow.account == self._store.account,
            TokenUseRow.endpoint == self._endpoint,
            TokenUseRow.principal == holder,
        )


def who(principal: Principal | None, account: str) -> str:
    """Whose budget it is: a session's is its role's, as its name is whatever its caller likes. `account`: where
    nobody is asked, everyone is its root."""
    if principal is None:
        return root_arn(account)
    kind, _, rest = principal.arn.partition(":assumed-role/")
    return f"{kind}:assumed-role/{rest.partition('/')[0]}" if rest else principal.arn


def _limits(budget: Budget) -> dict[str, int]:
    return {name: value for name in UNITS if (value := getattr(budget, name)) is not None}


def _periods(now: datetime) -> dict[str, str]:
    return {"tokens_per_day": f"{now:%Y-%m-%d}", "tokens_per_month": f"{now:%Y-%m}"}


def _ends(now: datetime, name: str) -> datetime:
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if name == "tokens_per_day":
        return day + timedelta(days=1)
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
