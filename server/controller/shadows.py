"""Shadow variants, as the controller sees them: whom production replicas send copies to, and what they found out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from server.beat import Beat
from server.controller.captures import Captures
from server.controller.registry import Registry, ready
from server.controller.tenants import tenant
from server.errors import Unavailable
from server.shadow import reports
from server.shadow.copies import Target
from server.shadow.pairs import Pair
from server.shadow.reports import Subject
from server.shadow.tally import Tally
from server.spec import EndpointSpec, VariantSpec
from server.store.store import Resource, Store, everywhere

log = structlog.get_logger(__name__)

EXPERIMENT = "InferenceExperiment"
COMPARING = ("Starting", "Running", "Updating", "Stopping")
"""States of an experiment in which its shadow variant is compared."""
FLUSH_S = 1.0
MOST_SUBJECTS = 256
MOST_KEPT = 4096
MOST_WRITING = 16
"""Batches of pairs on their way into the object store at once."""


Place = tuple[str, str, str, str]
"""Account (empty: the own one), endpoint, variant and revision."""


@dataclass(frozen=True, slots=True)
class _Shadowed:
    """A production variant and its shadow."""

    subject: Subject
    production: VariantSpec
    shadow: VariantSpec
    region: str
    storage: Mapping[str, Any] | None
    """The experiment's DataStorageConfig."""


class Shadows:
    """Its state is rebuilt from the store and the beats."""

    def __init__(self, store: Store, captures: Captures, own: str) -> None:
        """`own`: this Hearth's account."""
        self._own = own
        self._store = store
        self._captures = captures
        self._shadowed: dict[Place, _Shadowed] = {}
        """By production variant."""
        self._alone: frozenset[Place] = frozenset()
        """Those that are shadows and nothing else."""
        self._subjects: dict[str, _Shadowed] = {}
        """Those of now, and those before that replicas may still tell of."""
        self._newest: dict[str, dict[str, Mapping[str, Any]]] = {}
        """Totals that are not in the store yet, by subject and replica."""
        self._kept: dict[tuple[str, str], Mapping[str, Any]] = {}
        """Totals that are, by subject and replica."""
        self._writing: set[asyncio.Task[None]] = set()

    def look(self, endpoints: Iterable[Resource]) -> None:
        """Takes note of all shadow variants that there are now. Blocking."""
        experiments = {
            (each.account, each.document["EndpointName"]): each
            for each in everywhere(self._store, EXPERIMENT)
            if each.status in COMPARING
        }
        shadowed = {}
        shadows, answering = set(), set()
        for resource in endpoints:
            if resource.status == "Deleting":
                continue
            account, spec = tenant(resource.account, self._own), EndpointSpec.model_validate(resource.document)
            for side in (*([spec.pending.spec] if spec.pending else []), spec):  # what serves now comes last: it stays
                shadows |= {(account, resource.name, each.name, each.revision) for each in side.shadows}
                answering |= {(account, resource.name, each.name, each.revision) for each in side.variants}
                for found in _shadowed(resource, account, side, experiments.get((resource.account, resource.name))):
                    shadowed[account, resource.name, found.production.name, found.production.revision] = found
        known = {each.subject.id: each for each in shadowed.values()}
        self._subjects = {**(self._subjects if len(self._subjects) < MOST_SUBJECTS else {}), **known}
        self._shadowed = shadowed
        self._alone = frozenset(shadows - answering)

    def target(self, beat: Beat, registry: Registry) -> dict[str, Any] | None:
        """Where the replica of `beat` has to send copies; None: nowhere."""
        found = self._shadowed.get(_place(beat))
        if found is None:
            return None
        shadow = found.shadow
        replicas = ready(registry.within(beat.account).of(beat.endpoint, shadow.name, shadow.revision))
        return Target(
            subject=found.subject.id,
            variant=shadow.name,
            share=min(1.0, shadow.weight / found.production.weight) if found.production.weight else 0.0,
            keeps=found.storage is not None,
            timeout_s=shadow.limits.request_timeout_s,
            replicas=tuple((replica.host, replica.port) for replica in replicas),
        ).to_wire()

    def has(self, beat: Beat) -> bool:
        """Whether the replica of `beat` answers nothing but copies."""
        return _place(beat) in self._alone

    def hear(self, beat: Beat, message: Mapping[str, Any]) -> None:
        """Takes what came with a beat. Raises KeyError, TypeError or ValueError for what is no such message."""
        pairs = [Pair.from_wire(each) for each in message["pairs"]]
        first = int(message["first"])
        for subject, wire in message["tallies"].items():
            Tally.from_wire(wire)
            if self._kept.get((subject, beat.replica_id)) != wire:
                self._newest.setdefault(str(subject), {})[beat.replica_id] = wire
        for subject in {pair.subject for pair in pairs}:
            found = self._subjects.get(subject)
            if found is not None and found.storage is not None:
                wanted = [pair for pair in pairs if pair.subject == subject]
                self._write(found.storage, found.subject, f"{beat.replica_id}-{first}", wanted)

    def _write(self, storage: Mapping[str, Any], subject: Subject, name: str, pairs: list[Pair]) -> None:
        if len(self._writing) >= MOST_WRITING:
            log.warning("differing answers not kept: the object store is slow", endpoint=subject.endpoint)
            return
        task = asyncio.create_task(asyncio.to_thread(self._captures.write, storage, subject, name, pairs))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def flush_forever(self, living: Callable[[], Collection[str] | None]) -> None:
        """`living`: the replicas that may tell more; None while that is not known."""
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await asyncio.to_thread(self.flush, living())
            except (SQLAlchemyError, Unavailable) as error:
                log.warning("shadow reports not kept", error=type(error).__name__)

    def flush(self, living: Collection[str] | None) -> None:
        """Brings what was heard into the store. What the store does not take comes again with the next beats."""
        for subject in list(self._newest):
            totals = dict(self._newest.pop(subject))
            if (found := self._subjects.get(subject)) is not None:
                store = self._store.of(found.subject.account or self._own).within(found.region)
                reports.keep(store, found.subject, totals, living)
                self._kept |= {(subject, replica): wire for replica, wire in totals.items()}
        if len(self._kept) > MOST_KEPT:
            self._kept = {}


def _place(beat: Beat) -> Place:
    return beat.account, beat.endpoint, beat.variant, beat.revision


def _shadowed(
    resource: Resource, account: str, spec: EndpointSpec, experiment: Resource | None
) -> Iterable[_Shadowed]:
    for shadow in spec.shadows:
        (production,) = spec.variants
        mine = experiment if experiment is not None and _is_of(experiment, shadow) else None
        subject = Subject(
            resource.name, production.name, shadow.name, shadow.revision, None if mine is None else mine.name, account
        )
        storage = None if mine is None else mine.document.get("DataStorageConfig")
        yield _Shadowed(subject, production, shadow, resource.region, storage)


def _is_of(experiment: Resource, shadow: VariantSpec) -> bool:
    """Whether `shadow` is the one that the experiment compares."""
    (wanted,) = experiment.document["ShadowModeConfig"]["ShadowModelVariants"]
    return bool(wanted["ShadowModelVariantName"] == shadow.name)
