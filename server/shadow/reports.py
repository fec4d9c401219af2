"""What was found out about shadow variants, in the store: one row for each thing that is compared.

Each replica tells its totals again and again, so that a message that is lost or comes twice changes nothing; a row
keeps the newest of each replica, and of those that are long gone the sum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from server.errors import Conflict, NotFound
from server.shadow.tally import Tally
from server.store.store import Resource, Store

KIND = "ShadowReport"
MOST_SOURCES = 32
"""Replicas whose totals a row keeps apart; those of the ones that are gone are then added up."""
GONE = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compared with an endpoint's production variant."""

    endpoint: str
    production: str
    shadow: str
    revision: str
    experiment: str | None = None
    account: str = ""
    """Whose they are; empty: this Hearth's own."""

    @property
    def id(self) -> str:
        said = "\n".join((self.account, self.endpoint, self.shadow, self.revision, self.experiment or ""))
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def keep(
    store: Store, subject: Subject, totals: Mapping[str, Mapping[str, Any]], living: Collection[str] | None
) -> None:
    """Notes the newest totals of replicas, each a tally as it travels. `living`: replicas that may tell more; None:
    any may."""
    row = _row(store, subject)
    sources = {**(row.observation or {}).get("sources", {}), **totals}
    if living is not None and len(sources) > MOST_SOURCES:
        past = Tally()
        for source in [each for each in sources if each not in living]:
            past.merge(Tally.from_wire(sources.pop(source)))
        sources[GONE] = past.to_wire()
    store.observe(row, {"sources": sources})


def _row(store: Store, subject: Subject) -> Resource:
    name = f"{subject.endpoint}.{subject.id}"
    try:
        return store.get(KIND, name)
    except NotFound:
        pass
    try:
        return store.create(KIND, name, asdict(subject), "Active")
    except Conflict:  # another was faster
        return store.get(KIND, name)


def found(store: Store, endpoint: str) -> list[dict[str, Any]]:
    """The reports on an endpoint's shadow variants, the oldest first."""
    return [_report(row) for row in store.find(KIND) if row.document["endpoint"] == endpoint]


def forget(store: Store, *, endpoint: str | None = None, experiment: str | None = None) -> None:
    """Removes an experiment's reports, or those of an endpoint that belong to no experiment."""
    for row in store.find(KIND):
        document = row.document
        if document["experiment"] == experiment and endpoint in (None, document["endpoint"]):
            store.remove(row)


def _report(row: Resource) -> dict[str, Any]:
    whole = Tally()
    for wire in (row.observation or {}).get("sources", {}).values():
        whole.merge(Tally.from_wire(wire))
    document = row.document
    return {
        "production": document["production"],
        "shadow": document["shadow"],
        "revision": document["revision"],
        "experiment": document["experiment"],
        "since": row.created_at.isoformat(),
        **whole.report(),
    }
