"""Automatic scaling as rows: targets, their policies and scheduled actions, and what was done about them.

A target's observation keeps its last changes; a scheduled action's keeps `cursor`, the moment up to which its times
have been seen to, so that each of them counts once.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select

from server.errors import NotFound
from server.store.store import Resource, Store, read
from server.store.tables import FacetRow, ResourceRow

TARGET, POLICY, ACTION, ACTIVITY = "ScalableTarget", "ScalingPolicy", "ScheduledAction", "ScalingActivity"
KEPT = 500
"""Activities that are kept of one target."""
KEPT_S = 42 * 86400
"""How long: six weeks."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is scaled."""

    namespace: str
    resource_id: str
    dimension: str

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Key:
        """From a request or a row that names it."""
        return cls(document["ServiceNamespace"], document["ResourceId"], document["ScalableDimension"])

    @property
    def members(self) -> dict[str, str]:
        return {
            "ServiceNamespace": self.namespace, "ResourceId": self.resource_id, "ScalableDimension": self.dimension,
        }  # fmt: skip

    @property
    def facet(self) -> str:
        return f"{self.namespace}|{self.resource_id}|{self.dimension}"

    @property
    def row(self) -> tuple[str, str]:
        """Kind and name of the resource that is scaled: an endpoint, or an inference component."""
        kind, name = self.resource_id.split("/")[:2]
        return ("InferenceComponent" if kind == "inference-component" else "Endpoint"), name

    @property
    def variant(self) -> str:
        """Of an endpoint; empty for an inference component."""
        return self.resource_id.partition("/variant/")[2]

    @property
    def measured(self) -> dict[str, str]:
        """Dimensions of its own metrics."""
        kind, name = self.row
        if kind == "Endpoint":
            return {"EndpointName": name, "VariantName": self.variant}
        return {"InferenceComponentName": name}

    def row_name(self, name: str = "") -> str:
        """Of the target's row, or of something of that name that belongs to it: names may be longer than a row's."""
        return hashlib.sha256(f"{self.facet}|{name}".encode()).hexdigest()[:34]


def belonging(store: Store, kind: str, key: Key) -> list[Resource]:
    """Policies, scheduled actions or activities of a target, oldest first."""
    query = (
        select(ResourceRow)
        .join(FacetRow, FacetRow.resource_id == ResourceRow.id)
        .where(*_of(key), ResourceRow.account == store.account, ResourceRow.region == store.region,
               ResourceRow.kind == kind)
    )  # fmt: skip
    with store.session() as session:
        return [read(row) for row in session.scalars(query.order_by(ResourceRow.id))]


def _of(key: Key) -> tuple[Any, ...]:
    return FacetRow.key == "target", FacetRow.value == key.facet


def record(
    store: Store, key: Key, description: str, cause: str, status: str, now: float, **more: Any
) -> Resource:
    """Writes an activity down; one that is not under way any more ends now."""
    name = str(uuid.uuid4())
    ended = {} if status in ("Pending", "InProgress") else {"EndTime": now}
    document = {
        "ActivityId": name, **key.members, "Description": description, "Cause": cause, "StartTime": now,
        **ended, **{member: value for member, value in more.items() if value is not None},
    }  # fmt: skip
    arn = f"arn:aws:application-autoscaling:{store.region}:{store.account}:scaling-activity/{name}"
    return store.create(ACTIVITY, name, document, status, arn=arn, facets={"target": key.facet})


def ended(store: Store, name: str, status: str, message: str, now: float) -> None:
    """Notes how an activity that was under way went, if it is still kept."""
    try:
        activity = store.get(ACTIVITY, name)
    except NotFound:
        return
    store.replace(activity, {**activity.document, "EndTime": now, "StatusMessage": message}, status)


def forget_old(store: Store, key: Key) -> None:
    """Keeps a target's activities within bounds."""
    with store.session() as session:
        mine = select(FacetRow.resource_id).where(*_of(key))
        oldest = session.scalars(
            select(ResourceRow.id).where(ResourceRow.kind == ACTIVITY, ResourceRow.id.in_(mine),
                                         ResourceRow.account == store.account, ResourceRow.region == store.region)
            .order_by(ResourceRow.id.desc()).offset(KEPT)
        ).all()  # fmt: skip
        if oldest:
            session.execute(delete(ResourceRow).where(ResourceRow.id.in_(oldest)))


def forget_aged(store: Store, now: float) -> None:
    """Removes activities of all accounts and regions that are older than they are kept."""
    before = datetime.fromtimestamp(now - KEPT_S, UTC)
    with store.session() as session:
        session.execute(
            delete(ResourceRow).where(ResourceRow.kind == ACTIVITY, ResourceRow.created_at < before)
        )
