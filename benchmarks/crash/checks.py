"""Whether Hearth is what its users were told: every answer, every replica, every route, and nothing else."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable

import httpx
import psutil
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.crash.legal import Violation
from benchmarks.crash.sequence import LISTS, Sequence, arn, listing
from benchmarks.crash.site import Site, Unasked
from benchmarks.crash.user import client
from benchmarks.crash.world import Endpoint, World

HEAL_S = 120.0
"""How long everything may take to be as it was asked for, once nothing is killed any more."""
LOOK_S = 0.3
INVOCATIONS = 6


def answers(sequence: Sequence) -> None:
    """Waits until the endpoint is in no state that passes, then reads all there may be. Raises Violation."""
    user = sequence.user
    if not user.settle(sequence.endpoint, HEAL_S):
        raise Violation(f"{sequence.endpoint} is {user.status(sequence.endpoint)} after {HEAL_S:.0f} s")
    for number in range(3):
        user.call("describe_model", ModelName=f"{sequence.name}-m{number}")
    for number in range(2):
        user.call("describe_endpoint_config", EndpointConfigName=f"{sequence.name}-c{number}")
    user.call("describe_endpoint", EndpointName=sequence.endpoint)
    for operation in LISTS:
        user.call(operation, **listing(sequence.name))
    if user.call("describe_model_package_group", ModelPackageGroupName=sequence.group) is not None:
        user.call("list_model_packages", ModelPackageGroupName=sequence.group, MaxResults=100)
    for (kind, name), _ in sequence.world:
        if kind == "ModelPackage":
            user.call("describe_model_package", ModelPackageName=arn("model-package", name))
    for kind, names in (("model", "m0 m1 m2"), ("endpoint-config", "c0 c1"), ("endpoint", "e")):
        for name in names.split():
            user.call("list_tags", ResourceArn=arn(kind, f"{sequence.name}-{name}"))


def invocations(url: str, sequence: Sequence) -> None:
    """Every variant of an endpoint in service answers as its model does. Raises Violation."""
    found = dict(sequence.world).get(("Endpoint", sequence.endpoint))
    if not isinstance(found, Endpoint) or found.status != "InService":
        return
    runtime = client(url, "sagemaker-runtime")
    try:
        for variant in found.variants:
            _says(runtime, sequence.endpoint, {variant.answer}, TargetVariant=variant.name)
        for _ in range(INVOCATIONS):
            _says(runtime, sequence.endpoint, {each.answer for each in found.variants})
    finally:
        runtime.close()


def _says(runtime: object, endpoint: str, wanted: set[str], **more: str) -> None:
    """A replica that was killed just now may still be starting: errors are waited out, a wrong answer is not."""
    deadline = time.monotonic() + HEAL_S
    while True:
        try:
            reply = runtime.invoke_endpoint(EndpointName=endpoint, Body=b"?", ContentType="text/plain", **more)  # type: ignore[attr-defined]
            break
        except (ClientError, BotoCoreError) as error:
            if time.monotonic() > deadline:
                raise Violation(f"{endpoint} {more} does not answer: {error}") from error
            time.sleep(LOOK_S)
    if (said := reply["Body"].read().decode()) not in wanted:
        raise Violation(f"{endpoint} {more} answers {said!r}, not one of {sorted(wanted)}")


def machinery(site: Site, sequences: Iterable[Sequence], within_s: float = HEAL_S) -> None:
    """Ray and the edge hold what the endpoints need and nothing else. Raises Violation."""
    sequences = list(sequences)
    prefixes = tuple(f"{each.name}-" for each in sequences)
    endpoints = [thing for each in sequences for thing in _endpoints(each.world)]
    replicas = Counter({
        (name, variant.name): variant.count
        for name, found in endpoints if found.status == "InService" for variant in found.variants
    })  # fmt: skip

    def ours(names: Iterable[str]) -> Counter[tuple[str, str]]:
        parted = (name.split(":")[1:3] for name in names)
        return Counter((endpoint, variant) for endpoint, variant in parted if endpoint.startswith(prefixes))

    def told() -> Counter[tuple[str, str]]:
        found = (each for each in site.replicas() if each["phase"] == "ready")
        return Counter((each["endpoint"], each["variant"]) for each in found if each["endpoint"].startswith(prefixes))

    _until("replicas that beat", told, replicas, within_s)
    _until("replica processes", lambda: ours(site.replica_processes().values()), replicas, within_s)
    _until(
        "endpoints that the edge knows",
        lambda: {name for name in site.routed() if name.startswith(prefixes)},
        {name for name, _ in endpoints},
        within_s,
    )
    _until("applications of Ray Serve", lambda: ours(site.apps()), Counter(dict.fromkeys(replicas, 1)), within_s)


def _endpoints(world: World) -> list[tuple[str, Endpoint]]:
    return [(name, thing) for (_, name), thing in world if isinstance(thing, Endpoint)]


def _until(what: str, look: Callable[[], object], wanted: object, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    seen: object = None
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, KeyError, psutil.Error, Unasked):
            if (seen := look()) == wanted:
                return
        time.sleep(LOOK_S)
    raise Violation(f"{what}: {seen}, not {wanted}, after {within_s:.0f} s")


def remove(sequence: Sequence) -> None:
    """Deletes all there is, and waits until it is gone. Raises Violation."""
    user = sequence.user
    if user.status(sequence.endpoint) is not None:
        user.call("delete_endpoint", EndpointName=sequence.endpoint)
        user.settle(sequence.endpoint, HEAL_S)
    for (kind, name), _ in sequence.world:
        if kind == "Model":
            user.call("delete_model", ModelName=name)
        elif kind == "EndpointConfig":
            user.call("delete_endpoint_config", EndpointConfigName=name)
        elif kind == "ModelPackage":
            user.call("delete_model_package", ModelPackageName=arn("model-package", name))
    if any(kind == "ModelPackageGroup" for (kind, _), _ in sequence.world):
        user.call("delete_model_package_group", ModelPackageGroupName=sequence.group)
    for operation in LISTS:
        user.call(operation, **listing(sequence.name))
    if sequence.world:
        raise Violation(f"{sequence.name}: still there: {sorted(key for key, _ in sequence.world)}")
