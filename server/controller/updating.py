"""An endpoint's rollout on its replicas: what is seen of both sides, and the steps that follow. Pure.

The progress is noted in the endpoint's observation before anything is done about it, so that a controller that
is killed goes on with the same rollout. Endpoints without a rollout are `decide`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from server.controller import decide
from server.controller.decide import Delete, Deploy, Report, Seen, Settle, Step, explained, for_good, needs_deploy
from server.controller.rollout import (
    ENDED,
    FORWARD,
    NOTED,
    Fleet,
    Progress,
    Sight,
    noted,
    recall,
    replicas,
    step,
    turned,
)
from server.replicas.names import AppName, app_name
from server.spec import EndpointSpec, Rollout, Scaling, VariantSpec
from server.store.store import Resource

MOST_STEPS = 50
"""Bound on the states passed through at one look; a step without a wait needs no look of its own."""


def observation(resource: Resource, seen: Seen) -> dict[str, Any]:
    """What is there of each variant now and, while one replaces another, how far that is."""
    spec = EndpointSpec.model_validate(resource.document)
    if spec.pending is None or resource.status == "Deleting":
        return decide.observation(resource, seen)
    progress = _advanced(resource, spec, spec.pending, seen)
    return {
        "variants": _counted(spec, seen, 1.0 - progress.share),
        "pending": _counted(spec.pending.spec, seen, progress.share),
        NOTED: noted(spec.pending, progress),
    }


def refused(resource: Resource, why: str, seen: Seen) -> dict[str, Any] | None:
    """The observation of an endpoint whose rollout Ray Serve does not take: it goes back. None without a rollout."""
    pending = EndpointSpec.model_validate(resource.document).pending
    if pending is None or resource.status == "Deleting":
        return None
    progress = recall(pending, resource.observation)
    if progress.stage in FORWARD:
        progress = turned(progress, pending.strategy, why, seen.now.timestamp())
    return {**(resource.observation or {}), NOTED: noted(pending, progress)}


def steps(resource: Resource, seen: Seen) -> list[Step]:
    """The steps that bring `resource` closer to its document, or its rollout closer to its end."""
    spec = EndpointSpec.model_validate(resource.document)
    if spec.pending is None or resource.status == "Deleting":
        return decide.steps(resource, seen)
    progress = recall(spec.pending, resource.observation)
    present = [app for app in seen.apps if app.endpoint == spec.name and seen.apps[app].status != "deleting"]
    if progress.stage in ENDED:
        return _ending(spec, spec.pending, progress, present)
    wanted = _fleets(spec, spec.pending, progress)
    gone = _given_up(_apps(spec), seen)
    if progress.stage in FORWARD:
        green = [app for app in _apps(spec.pending.spec) if not for_good(app, resource.generation, seen)]
        gone |= _given_up(green, seen)
    plan: list[Step] = [Delete(app) for app in present if app not in wanted or app in gone]
    plan += [
        Deploy(owner, variant)
        for app, (owner, variant) in wanted.items()
        if app not in gone and needs_deploy(app, variant, seen)
    ]
    if progress.stage not in FORWARD:
        status = "UpdateRollbackFailed" if progress.stage == "stuck" else "RollingBack"
        report = Report(status, _words(spec.pending, progress))
        if (report.status, report.reason) != (resource.status, resource.reason):
            plan.append(report)
    return plan


def _advanced(resource: Resource, spec: EndpointSpec, rollout: Rollout, seen: Seen) -> Progress:
    progress = recall(rollout, resource.observation)
    sight = _sight(resource, spec, rollout, seen)
    for _ in range(MOST_STEPS):
        following = step(progress, rollout.strategy, rollout.asked_at, sight)
        moved = following.share != progress.share
        if following == progress or moved:
            return following  # what follows from moved traffic waits until the edge knows of it
        progress = following
    return progress


def _sight(resource: Resource, spec: EndpointSpec, rollout: Rollout, seen: Seen) -> Sight:
    blue, green = _apps(spec), _apps(rollout.spec)
    answering = {app_name(spec, variant) for variant in spec.variants}  # no traffic waits for a shadow to go back
    rung = frozenset(
        name for (region, name), at in seen.alarmed.items() if region == resource.region and at >= rollout.asked_at
    )
    failed = [
        app
        for app in green
        if app not in blue and app in seen.apps and seen.apps[app].status == "failed"
        and (for_good(app, resource.generation, seen) or seen.ready(app))
    ]  # fmt: skip
    return Sight(
        now=seen.now.timestamp(),
        blue=tuple(Fleet(_size(blue[app]), seen.ready(app)) for app in blue if app not in green and app in answering),
        green=tuple(Fleet(_size(green[app]), seen.ready(app)) for app in green if app not in blue),
        alarms=rung,
        failure=explained(failed[0], seen.apps[failed[0]], seen) if failed and seen.settled else None,
        start_timeout_s=seen.start_timeout_s,
    )


def _fleets(
    spec: EndpointSpec, rollout: Rollout, progress: Progress
) -> dict[AppName, tuple[EndpointSpec, VariantSpec]]:
    """What must run now, each variant with the scaling that it has at this step."""
    found: dict[AppName, tuple[EndpointSpec, VariantSpec]] = {}
    sides = ((spec, progress.blue(rollout.strategy)), (rollout.spec, progress.green(rollout.strategy)))
    for owner, part in sides:
        for app, variant in _apps(owner).items():
            scaling = _scaled(variant.scaling, part)
            if app in found:  # replicas of both sides
                scaling = _wider(_scaled(found[app][1].scaling, 1.0), _scaled(variant.scaling, 1.0))
            if part > 0:
                found[app] = (owner, variant.model_copy(update={"scaling": scaling}))
    return found


def _ending(spec: EndpointSpec, rollout: Rollout, progress: Progress, present: Iterable[AppName]) -> list[Step]:
    """What the other side leaves goes at once: the same may be asked for again in the next moment."""
    kept = rollout.spec if progress.stage == "finished" else spec.model_copy(update={"pending": None})
    leaving: list[Step] = [Delete(app) for app in present if app not in _apps(kept)]
    reason = None if progress.stage == "finished" else _words(rollout, progress)
    return [*leaving, Settle(kept.model_dump(mode="json"), reason)]


def _given_up(among: Iterable[AppName], seen: Seen) -> set[AppName]:
    """What died, and Ray Serve will not start again: it is made anew once it is gone."""
    failed = {app for app in among if app in seen.apps and seen.apps[app].status == "failed"}
    return {app for app in failed if seen.settled and not seen.ready(app)}


def _words(rollout: Rollout, progress: Progress) -> str:
    which = rollout.spec.sagemaker.get("EndpointConfigName", "the new version")
    back = "could not be rolled back to its end" if progress.stage == "stuck" else "was rolled back"
    return f"The deployment of {which} {back}: {progress.reason}."


def _apps(spec: EndpointSpec) -> dict[AppName, VariantSpec]:
    return {app_name(spec, variant): variant for variant in spec.fleet}


def _counted(spec: EndpointSpec, seen: Seen, share: float) -> Mapping[str, Any]:
    shadows = {variant.name for variant in spec.shadows}  # their weights are no part of the traffic
    return {
        variant.name: {
            "replicas": seen.ready(app),
            "weight": variant.weight if variant.name in shadows else round(variant.weight * share, 6),
        }
        for app, variant in _apps(spec).items()
    }


def _size(variant: VariantSpec) -> int:
    return max(1, variant.scaling.min_replicas)


def _scaled(scaling: Scaling, part: float) -> Scaling:
    """As many replicas as `part` of a fleet is; none sleeps while traffic goes from one to the other."""
    low = max(1, replicas(max(1, scaling.min_replicas), part))
    high = max(low, replicas(scaling.max_replicas, part))
    return scaling.model_copy(update={"min_replicas": low, "max_replicas": high})


def _wider(one: Scaling, other: Scaling) -> Scaling:
    low, high = max(one.min_replicas, other.min_replicas), max(one.max_replicas, other.max_replicas)
    return other.model_copy(update={"min_replicas": low, "max_replicas": high})
