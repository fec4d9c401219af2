"""Carries out what Application Auto Scaling was asked for: bounds, schedules and policies become capacities.

Every ten seconds each scalable target is looked at anew. A new capacity, the activity that tells why, and the target's
memory of it are one transaction; the reconciling loop then makes the endpoint's document true.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from server.control import capacity
from server.control.autoscaling.targets import MAX_CAPACITY, forget
from server.controller.evidence import Evidence, evidence, was_asked
from server.controller.timetable import Timetable
from server.errors import Conflict, LimitExceeded, NotFound, Unavailable
from server.metrics.alarm import LATE_S
from server.metrics.scaling import Bounds, Decision, Past, Suspended, decide
from server.metrics.tracking import PROVISIONED
from server.spec import EndpointSpec, VariantSpec
from server.store.quotas import Defaults
from server.store.scaling import TARGET, Key, ended, forget_aged, forget_old, record
from server.store.store import Resource, Store, everywhere

log = structlog.get_logger(__name__)

LOOK_S = 10.0
SPARE_S = 0.2


@dataclass(frozen=True, slots=True)
class Scene:
    """One target, as it is looked at: the store of its region, its endpoint and variant, and what is there. An
    inference component is an endpoint with one variant."""

    store: Store
    target: Resource
    key: Key
    endpoint: Resource
    spec: EndpointSpec
    variant: VariantSpec
    now: float
    limits: Defaults

    @property
    def memory(self) -> dict[str, Any]:
        return dict(self.target.observation or {})

    @property
    def past(self) -> Past:
        kept = self.memory
        return Past(kept.get("scaled_out"), kept.get("scaled_in"), kept.get("before_out"))

    @property
    def replicas(self) -> int | None:
        """Ready ones; None: nobody has counted yet."""
        seen: Any = (self.endpoint.observation or {}).get("variants", {})
        found: int | None = seen.get(self.variant.name, {}).get("replicas")
        return found

    @property
    def bounds(self) -> Bounds:
        """The target's, as far as the variant can go."""
        config = capacity.serverless(self.spec, self.variant.name) or {}
        limit = config.get("MaxConcurrency", MAX_CAPACITY)
        return Bounds(*(min(self.target.document[member], limit) for member in ("MinCapacity", "MaxCapacity")))

    @property
    def suspended(self) -> Suspended:
        state = self.target.document["SuspendedState"]
        return Suspended(state["DynamicScalingInSuspended"], state["DynamicScalingOutSuspended"])

    @property
    def words(self) -> str:
        return capacity.WORDS[self.key.dimension]


class Scaler:
    """Looks after the scalable targets of all accounts and regions."""

    def __init__(
        self, store: Store, patience_s: float, clock: Callable[[], float] = time.time, limits: Defaults | None = None
    ) -> None:
        """`patience_s`: how long a new capacity may take to be there; `limits`: of accounts' quotas."""
        self._store = store
        self._patience_s = patience_s
        self._clock = clock
        self._limits = limits or Defaults()
        self._timetable = Timetable()

    async def watch_forever(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.look)
            except (SQLAlchemyError, Unavailable) as error:
                log.warning("scalable targets not looked at", error=type(error).__name__)
            # When replicas' newest period has just come in.
            await asyncio.sleep(LOOK_S - (self._clock() - LATE_S - SPARE_S) % LOOK_S)

    def look(self) -> None:
        """Looks at every target once."""
        now = self._clock()
        for target in everywhere(self._store, TARGET):
            store = self._store.of(target.account).within(target.region)
            try:
                self._timetable.carry_out(store, target, now)
                self._see(store, target.name, now)
            except (Conflict, NotFound):  # changed or gone meanwhile: the next look sees what it is now
                log.info("scalable target changed while looked at", resource=target.document["ResourceId"])
            except ValueError:  # one that cannot be scaled must not stop the others
                log.exception("scalable target not scaled", resource=target.document["ResourceId"])
        forget_aged(self._store, now)

    def _see(self, store: Store, name: str, now: float) -> None:
        target = store.get(TARGET, name)
        key = Key.of(target.document)
        try:
            endpoint = store.get(*key.row)
        except NotFound:
            log.info("scalable target of what was deleted removed", resource=key.resource_id)
            forget(store, target)
            return
        spec = capacity.spec_of(endpoint)
        variant = capacity.scaled(spec, key)
        if variant is None:
            return
        scene = Scene(store, target, key, endpoint, spec, variant, now, self._limits)
        if self._settled(scene):
            scene = replace(scene, target=store.get(TARGET, name))
        if endpoint.status == "InService":
            _scale(scene)

    def _settled(self, scene: Scene) -> bool:
        """Notes how the activity under way ended, if it did; its cooldown counts from then on."""
        memory = scene.memory
        if memory.get("open") is None:
            return False
        status, message = self._outcome(scene, memory)
        if status is None:
            return False
        with scene.store.transaction() as together:
            ended(together, memory["open"], status, message, scene.now)
            together.observe(scene.target, {**memory, "open": None, memory["direction"]: scene.now})
        return True

    def _outcome(self, scene: Scene, memory: dict[str, Any]) -> tuple[str | None, str]:
        done = f"Successfully set {scene.words} to {memory['desired']}. Change successfully fulfilled by sagemaker."
        if scene.endpoint.status == "Failed":
            return "Failed", f"Failed to set {scene.words} to {memory['desired']}: {scene.endpoint.reason}"
        if capacity.capacity(scene.spec, scene.variant, scene.key.dimension) != memory["desired"]:
            return "Overridden", "Another change of the endpoint came first."
        exact = scene.key.dimension != PROVISIONED
        wanted = memory["desired"] if exact else scene.variant.scaling.min_replicas
        there = scene.replicas
        if there is not None and (there == wanted if exact else there >= wanted):
            return "Successful", done
        if scene.now - memory[memory["direction"]] > self._patience_s:
            return "Unfulfilled", f"{there or 0} of {wanted} replicas are there after {self._patience_s:.0f} seconds."
        return None, ""


def _scale(scene: Scene) -> None:
    """Decides, and writes down what was decided."""
    asked = capacity.capacity(scene.spec, scene.variant, scene.key.dimension)
    there = scene.replicas
    if asked is None and there is None:
        return
    current = asked if asked is not None else there or 0
    serving = current if scene.key.dimension == PROVISIONED else there if there is not None else current
    found = evidence(scene.store, scene.key, scene.past, serving, scene.now)
    policies = [each.policy for each in found]
    decision = decide(current, policies, scene.past, scene.bounds, scene.suspended, scene.now)
    if decision.desired == 0 and current == 0 and _woken(scene):
        _change(scene, current, 1, "a request woke the variant", None)
    elif decision.desired != current:
        _change(scene, current, decision.desired, _cause(scene, decision, current, found), decision.why)
    elif asked is None:
        _change(scene, current, current, "the scalable target was registered", None)
    elif decision.not_scaled and scene.memory.get("not_scaled") != decision.not_scaled:
        _not_scaled(scene, decision, _cause(scene, decision, current, found))


def _woken(scene: Scene) -> bool:
    """Whether a request came to a variant that sleeps, and may have a replica."""
    if scene.bounds.maximum < 1 or scene.suspended.scale_out or not scene.replicas:
        return False
    return was_asked(scene.store, scene.key, max(scene.past.changed, scene.target.created_at.timestamp()), scene.now)


def _cause(scene: Scene, decision: Decision, current: int, found: list[Evidence]) -> str:
    """In Application Auto Scaling's words."""
    for each in found:
        if each.policy.name == decision.policy:
            inward = decision.desired < current or decision.not_scaled == "AlreadyAtMinCapacity"
            alarm = each.low_alarm if inward else each.high_alarm
            return f"monitor alarm {alarm} in state ALARM triggered policy {decision.policy}"
    side, bound = ("minimum", scene.bounds.minimum) if current < decision.desired else ("maximum", scene.bounds.maximum)
    return f"{side} capacity was set to {bound}"


def _change(scene: Scene, current: int, desired: int, cause: str, details: str | None) -> None:
    """Asks for another capacity, which the account's quota may not have room for. Raises Conflict when the endpoint was
    changed meanwhile."""
    try:
        _changed(scene, current, desired, cause, details)
    except LimitExceeded as error:
        _refused(scene, desired, cause, error.message)


def _refused(scene: Scene, desired: int, cause: str, why: str) -> None:
    """Once for each capacity and reason, until another one was set."""
    if scene.memory.get("refused") == [desired, why]:
        return
    words = f"Setting {scene.words} to {desired}."
    message = f"Failed to set {scene.words} to {desired}. Reason: {why}"
    with scene.store.transaction() as together:
        record(together, scene.key, words, cause, "Failed", scene.now, StatusMessage=message)
        together.observe(scene.target, {**scene.memory, "refused": [desired, why]})
        forget_old(together, scene.key)


def _changed(scene: Scene, current: int, desired: int, cause: str, details: str | None) -> None:
    document = capacity.with_capacity(scene.spec, scene.variant, scene.key.dimension, desired)
    memory, now = scene.memory, scene.now
    direction = "scaled_out" if desired >= current else "scaled_in"
    with scene.store.transaction() as together:
        capacity.keep(together, scene.endpoint, document, scene.limits)
        if memory.get("open") is not None:
            ended(together, memory["open"], "Overridden", f"A new {scene.words} was set meanwhile.", now)
        words = f"Setting {scene.words} to {desired}."
        activity = record(together, scene.key, words, cause, "InProgress", now, Details=details or None)
        memory |= {"open": activity.name, "desired": desired, "direction": direction, direction: now}
        memory |= {"not_scaled": None, "refused": None} | ({"before_out": current} if direction == "scaled_out" else {})
        together.observe(scene.target, memory)
        forget_old(together, scene.key)
    log.info("scaling", resource=scene.key.resource_id, was=current, now=desired, cause=cause, details=details)


def _not_scaled(scene: Scene, decision: Decision, cause: str) -> None:
    """Once for each reason, until another capacity was set."""
    bounds, code = scene.bounds, decision.not_scaled
    number = {
        "AlreadyAtMaxCapacity": {"MaxCapacity": bounds.maximum},
        "AlreadyAtMinCapacity": {"MinCapacity": bounds.minimum},
        "AlreadyAtDesiredCapacity": {"CurrentCapacity": decision.desired},
    }[code or ""]
    status = "Successful" if code == "AlreadyAtDesiredCapacity" else "Failed"
    with scene.store.transaction() as together:
        record(
            together, scene.key, "Attempting to scale due to alarm triggered", cause, status, scene.now,
            Details=decision.why or None, NotScaledReasons=[{"Code": code, **number}],
        )  # fmt: skip
        together.observe(scene.target, {**scene.memory, "not_scaled": code})
        forget_old(together, scene.key)
