"""The controller's part of the audit log: data calls that replicas report, and days that have been kept long enough."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from server.audit.event import service_record
from server.audit.keeper import Keeper, KeyProblem
from server.audit.log import DROPPED, AuditLog
from server.audit.retention import remove_old
from server.audit.sampling import DataCall, event
from server.beat import Beat
from server.errors import Unavailable
from server.identity.principal import root
from server.settings import Settings
from server.store.store import Store

log = structlog.get_logger(__name__)

SWEEP_S = 3600.0


class Auditor:
    """Writes into the log what only the controller hears of."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._engine = store.engine
        self._keeper = Keeper(settings.state_dir)
        self._log = AuditLog(store.engine, self._keeper)

    def hear(self, beat: Beat, message: dict[str, Any]) -> None:
        """The calls that came with a beat. Raises TypeError, KeyError or ValueError for what is no such message."""
        account, region = beat.account or self._settings.account, self._settings.region
        calls = [DataCall.from_wire(each) for each in message["sampled"]]
        for call in calls:
            self._log.record(event(call, beat.endpoint, beat.variant, account, region, root(account)))
        if dropped := int(message["dropped"]):
            log.error("a replica dropped data calls of the audit log", replica=beat.replica_id, count=dropped)
            details = {"count": dropped, "replica": beat.replica_id}
            self._log.record(service_record(account, region, DROPPED, details))

    async def sweep_forever(self) -> None:
        """Removes old days at the start and every hour."""
        while True:
            try:
                await asyncio.to_thread(self._sweep)
            except (SQLAlchemyError, Unavailable, KeyProblem, OSError) as error:
                log.error("old audit events could not be removed", error=str(error))
            await asyncio.sleep(SWEEP_S)

    def _sweep(self) -> None:
        settings = self._settings
        removed = remove_old(
            self._engine, self._keeper, settings.audit_keep_days, settings.account, settings.region, datetime.now(UTC)
        )
        if removed:
            log.info("old audit events were removed", count=removed, kept_days=settings.audit_keep_days)

    def close(self) -> None:
        self._log.close()
