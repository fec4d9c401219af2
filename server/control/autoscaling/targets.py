"""Scalable targets: what is scaled, and between which capacities. The scaler keeps them there."""

from __future__ import annotations

import contextlib
from typing import Any

from server.control import capacity, quotas
from server.control.autoscaling.listed import bad, check_tags, key, missing, page
from server.control.autoscaling.service import AUTOSCALING
from server.control.operations import Answer, Context, Request
from server.errors import Conflict, LimitExceeded, NotFound, Refusal
from server.metrics.tracking import COPIES, PROVISIONED
from server.store import tags
from server.store.alarms import KIND as ALARM
from server.store.scaling import ACTION, POLICY, TARGET, Key, belonging
from server.store.store import Resource, Store

MAX_TARGETS = 3000
MAX_CAPACITY = 1000
"""Replicas that a variant may have (`server.spec.Scaling`)."""
SUSPENDED = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
ROLE = "aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
ROLE += "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


@AUTOSCALING.operation
def register_scalable_target(context: Context, request: Request) -> Answer:
    """A new target, or other values for one that is there; the scaler then moves the capacity into its range."""
    found = key(request)
    limit = _limit(context, found)
    _check_quota(context, found, request)
    with context.store.transaction() as store:
        try:
            current = store.get(TARGET, found.row_name())
        except NotFound:
            return {"ScalableTargetARN": _new(context, store, found, request, limit).arn}
        if request.get("Tags"):
            raise bad("The scalable target that you tried to tag already exists. To update tags on an existing "
                      "scalable target, use the TagResource API.", "Tags")  # fmt: skip
        document = _document(found, request, current.document, limit)
        try:
            replaced = store.replace(current, document, current.status)
        except Conflict as error:
            raise Refusal("ConcurrentUpdateException", error.message) from None
    return {"ScalableTargetARN": replaced.arn}


def _new(context: Context, store: Store, found: Key, request: Request, limit: int) -> Resource:
    for member, words in (("MinCapacity", "minimum"), ("MaxCapacity", "maximum")):
        if member not in request:
            raise bad(f"A {words} capacity is required to register a new scalable target ({member}).", member)
    if len(store.find(TARGET)) >= MAX_TARGETS:
        raise Refusal("LimitExceededException", f"There are {MAX_TARGETS} scalable targets already.")
    role = {"RoleARN": f"arn:aws:iam::{context.account}:role/{ROLE}"}
    name = found.row_name()
    arn = f"arn:aws:application-autoscaling:{context.region}:{context.account}:scalable-target/{name}"
    try:
        made = store.create(TARGET, name, _document(found, request, role, limit), "Active", arn=arn)
    except Conflict:
        raise Refusal("ConcurrentUpdateException", "The scalable target is being registered; try again.") from None
    check_tags(request.get("Tags", {}))
    try:
        tags.add(store, made, request.get("Tags", {}))
    except LimitExceeded as error:
        raise bad(error.message, "Tags") from None
    return made


def _document(found: Key, request: Request, before: Request, limit: int) -> dict[str, Any]:
    """`before` with what the request gives."""
    given = {name: request[name] for name in ("MinCapacity", "MaxCapacity", "RoleARN") if name in request}
    suspended = dict.fromkeys(SUSPENDED, False) | dict(before.get("SuspendedState", {}))
    document = {**before, **found.members, **given, "SuspendedState": suspended | request.get("SuspendedState", {})}
    check_range(document["MinCapacity"], document["MaxCapacity"], limit)
    return document


def check_range(minimum: int, maximum: int, limit: int = MAX_CAPACITY) -> None:
    """Raises Refusal for capacities that no variant can have."""
    if minimum < 0:
        raise bad(f"Minimum capacity cannot be less than 0, got {minimum}", "MinCapacity")
    if maximum < minimum:
        raise bad("Maximum capacity cannot be less than minimum capacity", "MaxCapacity")
    if maximum > limit:
        raise bad(f"Maximum capacity cannot be greater than {limit}, got {maximum}", "MaxCapacity")


def _limit(context: Context, found: Key) -> int:
    """The most that the variant can have. Raises Refusal when it does not exist or has no such dimension."""
    what = "inference component" if found.dimension == COPIES else "endpoint"
    try:
        spec = capacity.spec_of(context.store.get(*found.row))
    except NotFound:
        raise bad(f"SageMaker {what} doesn't exist: {found.resource_id}", "ResourceId") from None
    except ValueError as error:
        raise bad(f"SageMaker {what} has no copies: {error}", "ResourceId") from None
    if found.dimension == COPIES:
        return MAX_CAPACITY
    if capacity.find(spec, found.variant) is None:
        raise bad(f"SageMaker endpoint variant doesn't exist: {found.resource_id}", "ResourceId")
    config = capacity.serverless(spec, found.variant)
    if (config is not None) != (found.dimension == PROVISIONED):
        kind = "a serverless variant" if config is not None else "a variant on instances"
        raise bad(f"{found.resource_id} is {kind}; it has no {found.dimension}.", "ScalableDimension")
    return MAX_CAPACITY if config is None else int(config["MaxConcurrency"])


def _check_quota(context: Context, found: Key, request: Request) -> None:
    """Raises LimitExceeded where the account's quota of instances has no room for the greatest capacity."""
    if found.dimension != PROVISIONED and "MaxCapacity" in request:
        spec = capacity.spec_of(context.store.get(*found.row))
        variant = found.variant or spec.variants[0].name
        quotas.check_capacity(context.store, context.quotas, spec, variant, request["MaxCapacity"])


@AUTOSCALING.operation
def describe_scalable_targets(context: Context, request: Request) -> Answer:
    ids = request.get("ResourceIds")
    if "ScalableDimension" in request and not ids:
        raise bad("A scalable dimension was specified without a resource ID.", "ResourceIds")
    found = [
        each
        for each in context.store.find(TARGET)
        if each.document["ServiceNamespace"] == request["ServiceNamespace"]
        and (not ids or each.document["ResourceId"] in ids)
        and request.get("ScalableDimension") in (None, each.document["ScalableDimension"])
    ]
    return page("DescribeScalableTargets", request, found, _view, "ScalableTargets")


def _view(each: Resource) -> dict[str, Any]:
    return {**each.document, "CreationTime": each.created_at, "ScalableTargetARN": each.arn}


@AUTOSCALING.operation
def deregister_scalable_target(context: Context, request: Request) -> Answer:
    """With its policies, their alarms, and its scheduled actions; the capacity stays as it is."""
    found = key(request)
    try:
        current = context.store.get(TARGET, found.row_name())
    except NotFound:
        raise missing("scalable target found", found) from None
    try:
        forget(context.store, current)
    except Conflict as error:
        raise Refusal("ConcurrentUpdateException", error.message) from None
    return {}


def forget(store: Store, target: Resource) -> None:
    """Removes a target and all that belongs to it in one transaction. Raises Conflict when it was changed."""
    found = Key.of(target.document)
    with store.transaction() as together:
        together.remove(target)
        for policy in belonging(together, POLICY, found):
            forget_policy(together, policy)
        for action in belonging(together, ACTION, found):
            together.remove(action)


def forget_policy(store: Store, policy: Resource) -> None:
    """Removes a policy and the alarms that were made for it."""
    store.remove(policy)
    for name in policy.document.get("OwnAlarms", ()):
        with contextlib.suppress(NotFound):
            store.remove(store.get(ALARM, name))
