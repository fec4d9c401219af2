"""SageMaker's DeploymentConfig: what is refused of it, the strategy it becomes, and how far that is in its words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.errors import BadRequest, NotFound
from server.spec import EndpointSpec, Strategy
from server.store import alarms
from server.store.store import Store

Policy = Mapping[str, Any]

LARGEST = 0.5
"""No batch is more than half of a variant (CapacitySize in the service model)."""
LEAST_STEP = {"CanarySize": 0.0, "LinearStepSize": 0.1, "MaximumBatchSize": 0.05}
"""Least part of a variant by the size's member (the service model's descriptions)."""
SIZE_OF = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
ALARMS = "AutoRollbackConfiguration.Alarms"
TOLERANCE = 1e-9

STATUS = {
    "creating": ("Creating", "New replicas start"),
    "baking": ("Baking", "Alarms are watched"),
    "terminating": ("Baking", "All traffic has moved; the old replicas are kept a while"),
    "reverting": ("Deleting", "Traffic goes back to the old replicas"),
    "stuck": ("Deleting", "The old replicas for the traffic that should go back do not start"),
}
"""VariantStatus of what is rolled out, by the rollout's stage."""


def strategy(store: Store, deployment: Policy, spec: EndpointSpec) -> Strategy:
    """How `deployment` brings `spec` about; nothing said is all at once. Raises BadRequest."""
    blue_green, rolling = deployment.get("BlueGreenUpdatePolicy"), deployment.get("RollingUpdatePolicy")
    if blue_green is not None and rolling is not None:
        raise _refused("only one of BlueGreenUpdatePolicy and RollingUpdatePolicy can be specified", "DeploymentConfig")
    watched = _alarms(store, deployment.get("AutoRollbackConfiguration", {}).get("Alarms", ()))
    if rolling is not None:
        made = _rolling(rolling, spec)
    elif blue_green is not None:
        made = _blue_green(blue_green, spec)
    else:
        made = Strategy()
    return made.model_copy(update={"alarms": watched})


def moves_traffic(old: EndpointSpec, new: EndpointSpec) -> bool:
    """Whether `new` differs in more than numbers of replicas and a shadow's share; those change in place."""

    def shape(spec: EndpointSpec) -> tuple[dict[str, tuple[str, float]], dict[str, str]]:
        weighed = {variant.name: (variant.revision, variant.weight) for variant in spec.variants}
        return weighed, {variant.name: variant.revision for variant in spec.shadows}

    return shape(old) != shape(new)


def variant_status(pending: Policy, rollout: Policy) -> dict[str, Any]:
    """Of every variant that is rolled out; `rollout` is what the controller noted of it."""
    if rollout.get("asked_at") != pending["asked_at"]:
        rollout = {"stage": "creating", "since": pending["asked_at"], "share": 0.0}
    status, words = STATUS.get(rollout["stage"], ("Baking", "All is done"))
    message = f"{words}; {rollout['share']:.0%} of the traffic is on the new replicas."
    return {"Status": status, "StatusMessage": message, "StartTime": rollout["since"]}


def _blue_green(policy: Policy, spec: EndpointSpec) -> Strategy:
    routing = policy["TrafficRoutingConfiguration"]
    kind = routing["Type"]
    wanted = SIZE_OF.get(kind)
    for member in SIZE_OF.values():
        if (member in routing) != (member == wanted):
            verb = "is required" if member == wanted else "cannot be specified"
            raise _refused(f"{member} {verb} when the traffic routing type is {kind}", member)
    shares: tuple[float, ...] = (1.0,)
    if wanted is not None:
        part = _part(routing[wanted], wanted, spec)
        shares = (part, 1.0) if kind == "CANARY" else _steps(part)
    wait, termination = routing["WaitIntervalInSeconds"], policy.get("TerminationWaitInSeconds", 0)
    made = Strategy(shares=shares, bake_s=wait, termination_wait_s=termination, timeout_s=_limit(policy))
    return _in_time(made)


def _rolling(policy: Policy, spec: EndpointSpec) -> Strategy:
    part = _part(policy["MaximumBatchSize"], "MaximumBatchSize", spec)
    back = policy.get("RollbackMaximumBatchSize")
    return _in_time(
        Strategy(
            shares=_steps(part),
            rolling=True,
            rollback_step=1.0 if back is None else min(1.0, min(_parts(back, spec).values())),
            bake_s=policy["WaitIntervalInSeconds"],
            timeout_s=_limit(policy),
        )
    )


def _limit(policy: Policy) -> float | None:
    found: float | None = policy.get("MaximumExecutionTimeoutInSeconds")
    return found


def _in_time(made: Strategy) -> Strategy:
    waits = len(made.shares) * made.bake_s + made.termination_wait_s
    if made.timeout_s is not None and made.timeout_s <= waits:
        raise _refused(
            f"MaximumExecutionTimeoutInSeconds ({made.timeout_s:.0f}) must be larger than the total waiting time of "
            f"the deployment, which is {waits:.0f} seconds",
            "MaximumExecutionTimeoutInSeconds",
        )
    return made


def _part(size: Policy, member: str, spec: EndpointSpec) -> float:
    """`size` as a part of the traffic: of several variants' parts the smallest. Raises BadRequest."""
    parts = _parts(size, spec)
    for name, part in parts.items():
        if not LEAST_STEP[member] - TOLERANCE <= part <= LARGEST + TOLERANCE:
            raise _refused(
                f"{member} ({size['Value']}, {size['Type']}) must be between {LEAST_STEP[member]:.0%} and "
                f"{LARGEST:.0%} of the total instance count of variant {name}",
                member,
            )
    return min(parts.values())


def _parts(size: Policy, spec: EndpointSpec) -> dict[str, float]:
    if size["Type"] == "CAPACITY_PERCENT":
        return {variant.name: size["Value"] / 100 for variant in spec.variants}
    return {variant.name: size["Value"] / max(1, variant.scaling.min_replicas) for variant in spec.variants}


def _steps(part: float) -> tuple[float, ...]:
    """Multiples of `part`, and 1."""
    count = int((1 - TOLERANCE) / part)
    return (*(part * number for number in range(1, count + 1)), 1.0)


def _alarms(store: Store, given: Any) -> tuple[str, ...]:
    if not all("AlarmName" in alarm for alarm in given):
        raise _refused("every alarm of AutoRollbackConfiguration needs an AlarmName", ALARMS)
    names = [alarm["AlarmName"] for alarm in given]
    missing = [name for name in dict.fromkeys(names) if not _exists(store, name)]
    if missing:
        raise _refused(
            f"the CloudWatch alarms [{', '.join(missing)}] do not exist in this account and region", ALARMS
        )
    return tuple(dict.fromkeys(names))


def _exists(store: Store, name: str) -> bool:
    try:
        store.get(alarms.KIND, name)
    except NotFound:
        return False
    return True


def _refused(why: str, field: str) -> BadRequest:
    return BadRequest(f"Invalid DeploymentConfig: {why}.", field=field)
