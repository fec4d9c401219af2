"""What the controller does next for one inference component. Pure.

A base component is decided as an endpoint with that one variant is (`updating`), seen as if there were no other. An
adapter is where the beats of its base's replicas say that it is.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, Protocol

from server.control.components import KIND, as_endpoint, base_of, copies, fleet, is_base
from server.controller import updating
from server.controller.decide import Delete, Forget, Report, Seen, Settle, Step
from server.spec import EndpointSpec
from server.store.store import Resource


class Decider(Protocol):
    """How resources of a kind are decided; a module is one."""

    def observation(self, resource: Resource, seen: Seen, /) -> dict[str, Any]: ...

    def refused(self, resource: Resource, why: str, seen: Seen, /) -> dict[str, Any] | None: ...

    def steps(self, resource: Resource, seen: Seen, /) -> list[Step]: ...


def decider(resource: Resource) -> Decider:
    return sys.modules[__name__] if resource.kind == KIND else updating


STATUS = {"RollingBack": "Updating", "UpdateRollbackFailed": "Failed"}
"""States of endpoints that components do not have."""


def observation(component: Resource, seen: Seen) -> dict[str, Any]:
    """What is there of it now, as of an endpoint; nothing of an adapter."""
    if not is_base(component):
        return {}
    return updating.observation(as_endpoint(component), seen.on(component.name))


def refused(component: Resource, why: str, seen: Seen) -> dict[str, Any] | None:
    """See `updating.refused`."""
    return updating.refused(as_endpoint(component), why, seen.on(component.name))


def steps(component: Resource, seen: Seen) -> list[Step]:
    """The steps that bring `component` closer to its document; none when it is as it should be."""
    base = base_of(component)
    if base is not None:
        return _adapter(component, seen.on(base))
    here, spec = seen.on(component.name), fleet(component)
    if component.status != "Deleting" and spec.pending is None and spec.problem is None and not copies(spec):
        return _empty(component, here)
    found = updating.steps(as_endpoint(component), replace(here, start_timeout_s=_patience(spec, here)))
    return [own for step in found if (own := _own(component, step)) is not None]


def _patience(spec: EndpointSpec, here: Seen) -> float:
    """Seconds that a copy may take to start: what its StartupParameters say together, if they say any."""
    startup: Any = spec.sagemaker.get("StartupParameters") or {}
    return float(sum(startup.values())) or here.start_timeout_s


def _own(component: Resource, step: Step) -> Step | None:
    """A step of an endpoint's as one of the component's."""
    match step:
        case Settle(document, reason):
            return Settle({**component.document, "fleet": document}, reason)
        case Report(status, reason):
            report = Report(STATUS.get(status, status), reason)
            return None if (report.status, report.reason) == (component.status, component.reason) else report
    return step


def _empty(component: Resource, here: Seen) -> list[Step]:
    """Without copies it has no application: nothing wakes it but another copy count."""
    if here.apps:
        return [Delete(app) for app, state in here.apps.items() if state.status != "deleting"]
    return [] if component.status == "InService" or not here.settled else [Report("InService")]


def _adapter(adapter: Resource, on: Seen) -> list[Step]:
    """`on`: what there is of its base."""
    held = [beat.adapters.get(adapter.name) for beat in on.beats if beat.phase == "ready"]
    if adapter.status == "Deleting":
        return [] if any(held) or not on.settled else [Forget()]
    if adapter.status == "Failed" or not on.settled:
        return []
    newest = [each for each in held if each is not None and each["version"] == adapter.generation]
    errors = [str(each["error"]) for each in newest if each["error"]]
    if errors and (adapter.status != "InService" or len(errors) == len(held)):
        return [Report("Failed", errors[0])]
    if adapter.status == "InService":
        return []
    # A base without copies loads it when it has one.
    if not on.apps or (held and len(newest) == len(held)):
        return [Report("InService")]
    if (on.now - adapter.modified_at).total_seconds() > on.start_timeout_s:
        return [Report("Failed", f"not loaded by every copy of its base within {on.start_timeout_s:.0f} s")]
    return []
