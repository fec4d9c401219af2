"""What the controller does next for one endpoint. Pure: sees a snapshot, names the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypeVar

from server.beat import Beat
from server.replicas.names import AppName, app_name
from server.spec import EndpointSpec, Scaling, VariantSpec
from server.store.store import Resource

Value = TypeVar("Value")
AppStatus = Literal["deploying", "running", "failed", "deleting", "unhealthy"]


@dataclass(frozen=True, slots=True)
class App:
    """A Ray Serve application as it is: its status, the reason for it, and its replica count."""

    status: AppStatus
    message: str = ""
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class Deploy:
    spec: EndpointSpec
    variant: VariantSpec


@dataclass(frozen=True, slots=True)
class Delete:
    app: AppName


@dataclass(frozen=True, slots=True)
class Report:
    status: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    """The endpoint is gone; its row may go too."""


@dataclass(frozen=True, slots=True)
class Settle:
    """A rollout is over: `document` is the endpoint's from now on, and it is in service."""

    document: Mapping[str, Any]
    reason: str | None = None


Step = Deploy | Delete | Report | Forget | Settle


TRIES = 3
"""How often replicas that die without a word are started before their endpoint is Failed."""


@dataclass(frozen=True, slots=True)
class Tried:
    """How often an application was made anew for one generation of its endpoint."""

    generation: int
    times: int

    @classmethod
    def again(cls, before: Tried | None, generation: int) -> Tried:
        return cls(generation, 1 if before is None or before.generation != generation else before.times + 1)


@dataclass(frozen=True, slots=True)
class Seen:
    """A snapshot: applications by name, the scaling each was last deployed with, and all beats."""

    apps: Mapping[AppName, App]
    scaled: Mapping[AppName, Scaling]
    beats: tuple[Beat, ...]
    now: datetime
    start_timeout_s: float
    settled: bool = True
    """False while a replica may not have beaten yet to a controller that has just started."""
    tried: Mapping[AppName, Tried] = field(default_factory=dict)
    alarmed: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """When alarms (region and name) were in ALARM last, in seconds since 1970; of those that rollouts watch."""

    def ready(self, app: AppName) -> int:
        """How many replicas of `app` are ready."""
        return sum(beat.phase == "ready" and _fleet(beat) == _key(app) for beat in self.beats)

    def on(self, component: str) -> Seen:
        """As if there were nothing but one inference component; empty: but endpoints' own variants."""
        return replace(
            self,
            apps=_on(self.apps, component),
            scaled=_on(self.scaled, component),
            tried=_on(self.tried, component),
            beats=tuple(beat for beat in self.beats if beat.component == component),
        )

    def serves(self, app: AppName, variant: VariantSpec) -> bool:
        """Whether `app` can take its traffic: its least number of replicas is ready, or it sleeps and will wake."""
        state = self.apps.get(app)
        may_sleep = variant.scaling.min_replicas == 0
        asleep = may_sleep and state is not None and state.status == "running" and state.replicas == 0
        return asleep or self.ready(app) >= max(1, variant.scaling.min_replicas)


def steps(resource: Resource, seen: Seen) -> list[Step]:
    """The steps that bring `resource` closer to its document; none when it is as it should be."""
    present = [app for app in seen.apps if app.endpoint == resource.name]
    if resource.status == "Deleting":
        return [Delete(app) for app in present if seen.apps[app].status != "deleting"] or (
            [] if present else [Forget()]
        )
    spec = EndpointSpec.model_validate(resource.document)
    if spec.problem is not None:
        removed: list[Step] = [Delete(app) for app in present if seen.apps[app].status != "deleting"]
        told = (resource.status, resource.reason) == ("Failed", spec.problem)
        return removed if told else [*removed, Report("Failed", spec.problem)]
    wanted = {app_name(spec, variant): variant for variant in spec.fleet}
    again = [app for app in wanted if _deserves_another_try(resource, app, seen)]
    plan: list[Step] = [Delete(app) for app in again]  # Ray Serve has given it up; it is made anew once it is gone
    plan += [
        Deploy(spec, variant)
        for app, variant in wanted.items()
        if app not in again and needs_deploy(app, variant, seen)
    ]
    plan += [Delete(app) for app in present if app not in wanted and _replaced(app, wanted, seen)]
    report = None if again else _report(resource, wanted, seen)
    if report is not None and (report.status, report.reason) != (resource.status, resource.reason):
        plan.append(report)
    return plan


def observation(resource: Resource, seen: Seen) -> dict[str, Any]:
    """What is there of each variant now: ready replicas, whatever document they were made from, and its weight."""
    ready = [beat.variant for beat in seen.beats if beat.endpoint == resource.name and beat.phase == "ready"]
    return {
        "variants": {
            variant["name"]: {"replicas": _there(variant, ready), "weight": variant["weight"]}
            for variant in (*resource.document["variants"], *resource.document.get("shadows", ()))
        }
    }


def _there(variant: Mapping[str, Any], ready: Sequence[str]) -> int:
    """A variant for inference components has no replicas: what was asked for of its instances is there."""
    return int(variant["scaling"]["min_replicas"]) if variant.get("hosts") else ready.count(variant["name"])


def needs_deploy(app: AppName, variant: VariantSpec, seen: Seen) -> bool:
    state = seen.apps.get(app)
    return state is None or (state.status != "deleting" and seen.scaled.get(app) != variant.scaling)


def _deserves_another_try(resource: Resource, app: AppName, seen: Seen) -> bool:
    """Whether an application that Ray Serve has given up is to be made anew.

    It is where the endpoint was asked for again since, where it served before, and a few times where its replicas
    died without saying why: they were killed, which is nobody's fault that asked for them.
    """
    if not seen.settled or app not in seen.apps or seen.apps[app].status != "failed" or seen.ready(app):
        return False
    if resource.status == "InService":
        return True
    if resource.status not in ("Creating", "Updating") or _too_late(resource, seen):
        return False
    return not for_good(app, resource.generation, seen)


def for_good(app: AppName, generation: int, seen: Seen) -> bool:
    """Whether a failed application was tried enough for this generation: its replicas said why, or died often."""
    tried = seen.tried.get(app)
    if tried is None or tried.generation != generation:
        return False
    return _own_words(app, seen) is not None or tried.times >= TRIES


def _too_late(resource: Resource, seen: Seen) -> bool:
    return (seen.now - resource.modified_at).total_seconds() > seen.start_timeout_s


def _replaced(app: AppName, wanted: Mapping[AppName, VariantSpec], seen: Seen) -> bool:
    """Whether an application of an older document has nothing left to do."""
    if seen.apps[app].status == "deleting":
        return False
    successors = [other for other in wanted if other.variant == app.variant] or list(wanted)
    return all(seen.serves(other, wanted[other]) for other in successors)


def _report(resource: Resource, wanted: Mapping[AppName, VariantSpec], seen: Seen) -> Report | None:
    if not seen.settled:
        return None
    if all(seen.serves(app, variant) for app, variant in wanted.items()):
        # The reason of a rollout that went back stays until something else is asked for.
        return Report("InService", resource.reason if resource.status == "InService" else None)
    if resource.status == "InService":
        return None
    failed = [(app, seen.apps[app]) for app in wanted if app in seen.apps and seen.apps[app].status == "failed"]
    if failed:
        app, state = failed[0]
        return Report("Failed", explained(app, state, seen))
    if _too_late(resource, seen):
        return Report("Failed", f"not ready within {seen.start_timeout_s:.0f} s")
    return None


def explained(app: AppName, state: App, seen: Seen) -> str:
    """A replica's own words where there are any: they name the cause, Ray Serve's name the attempt."""
    return f"variant {app.variant}: {_own_words(app, seen) or _last_line(state.message)}"


def _own_words(app: AppName, seen: Seen) -> str | None:
    """Why its replicas failed, as the newest of them said."""
    own = [beat.detail for beat in seen.beats if beat.phase == "failed" and _fleet(beat) == _key(app)]
    return own[-1] if own else None


def _last_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else "the replica could not start"


def _on(found: Mapping[AppName, Value], component: str) -> dict[AppName, Value]:
    return {name: value for name, value in found.items() if name.component == component}


Fleet = tuple[str, str, str, str]
"""Endpoint, variant, revision and inference component."""


def _key(app: AppName) -> Fleet:
    return (app.endpoint, app.variant, app.revision, app.component)


def _fleet(beat: Beat) -> Fleet:
    return (beat.endpoint, beat.variant, beat.revision, beat.component)
