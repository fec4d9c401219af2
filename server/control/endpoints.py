"""Endpoints as intent: what a user may ask for. Validates, writes to the store, returns; never waits."""

from __future__ import annotations

from server.control import components, quotas
from server.errors import BadRequest, Conflict, NotFound
from server.spec import EndpointSpec
from server.store.quotas import Defaults
from server.store.store import Resource, Store

KIND = "Endpoint"

CHANGING = ("Creating", "Updating", "RollingBack")
SERVING = ("InService", "Updating", "RollingBack", "UpdateRollbackFailed")


def deploy(store: Store, spec: EndpointSpec, limits: Defaults | None = None) -> Resource:
    """Asks for `spec`: a new endpoint, or another version of one that is there.

    The same document again changes nothing, unless the endpoint failed: then it is tried again.
    `limits`: of the account's quotas; None: they do not bind who asks. Raises Conflict while the endpoint is being
    deleted or when two changes meet, LimitExceeded.
    """
    with store.transaction() as together:
        was, made = _deployed(together, spec)
        if limits is not None:
            quotas.check_endpoint(together, limits, was, spec)
    return made


def _deployed(store: Store, spec: EndpointSpec) -> tuple[EndpointSpec | None, Resource]:
    """What the endpoint was, and what it is now."""
    if any(variant.component for variant in spec.fleet):
        raise BadRequest("component: CreateInferenceComponent puts components on endpoints.", field="component")
    document = spec.model_dump(mode="json")
    try:
        current = store.get(KIND, spec.name)
    except NotFound:
        return None, store.create(KIND, spec.name, document, "Creating")
    if current.status == "Deleting":
        raise Conflict(f"Endpoint {spec.name!r} is being deleted; try again when it is gone.")
    if current.document == document and current.status != "Failed":
        return EndpointSpec.model_validate(document), current
    was = EndpointSpec.model_validate(current.document)
    components.check_kept(store, current, spec)
    return was, store.replace(current, document, "Creating" if current.status == "Creating" else "Updating")


def delete(store: Store, name: str) -> Resource:
    """Asks for an endpoint's removal. Raises NotFound, BadRequest while inference components are on it."""
    current = store.get(KIND, name)
    if current.status == "Deleting":
        return current
    with store.transaction() as together:
        going = together.replace(current, current.document, "Deleting")
        components.check_empty(together, going)
    return going


def describe(store: Store, name: str) -> Resource:
    """Raises NotFound, also for one that is being deleted and takes no requests any more."""
    return store.get(KIND, name)


def find(store: Store) -> list[Resource]:
    return store.find(KIND)
