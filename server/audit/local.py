"""What the machine's owner does without a request: commands that act on the state folder, and what a file declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.audit.caller import Caller
from server.audit.event import Call, Named, record
from server.audit.keeper import Keeper
from server.audit.log import AuditLog
from server.audit.redaction import redact
from server.settings import Settings
from server.store.store import Store

COMMAND, FILE = "the hearth command", "hearth.yaml"


def note(
    settings: Settings, store: Store, name: str, parameters: Mapping[str, Any], by: Caller, *, agent: str = COMMAND,
    resources: tuple[Named, ...] = (),
) -> None:  # fmt: skip
    """Returns once the event `name` is on disk, in the log of `store`'s account. Raises Unavailable."""
    call = Call(
        source="hearth.internal", name=name, account=store.account, region=settings.region, read_only=False, caller=by,
        user_agent=agent, parameters=redact(parameters), resources=resources,
    )  # fmt: skip
    log = AuditLog(store.engine, Keeper(settings.state_dir))
    try:
        log.commit(record(call))
    finally:
        log.close()
