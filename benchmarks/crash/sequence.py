"""What one user does: makes, changes and removes resources, at random but for the order that makes sense."""

from __future__ import annotations

import io
import random
import tarfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.crash.faults import Faults
from benchmarks.crash.rules import IMAGE, NO_IMAGE
from benchmarks.crash.user import User, client
from benchmarks.crash.world import Endpoint, World

BUCKET, KEY = "crash-models", "says/model.tar.gz"
CODE = """
import os

def model_fn(model_dir):
    return os.environ["ANSWER"]

def transform_fn(model, body, content_type, accept):
    return model, "text/plain"
"""
"""What every model runs; it answers what its Environment says."""

DELAYS_S = (0.0, 0.002, 0.01, 0.1)
"""From a call's beginning to the fault: some hit its transaction, some what the controller then does."""
PATIENT = 0.6
"""How often a user waits for an endpoint before the next call."""
SETTLE_S = 60.0
ACCOUNT = "123456789012"

Action = Callable[[], object]


def upload(url: str) -> None:
    """Puts the one archive that all models have into the object store."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        entry = tarfile.TarInfo("code/inference.py")
        entry.size = len(CODE)
        tar.addfile(entry, io.BytesIO(CODE.encode()))
    s3 = client(url, "s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=made.getvalue())
    s3.close()


class Sequence:
    """One user's calls, all on names that begin with `name`. The same seed makes the same choices."""

    def __init__(self, name: str, seed: int, user: User, *, serves: bool) -> None:
        self.name = name
        self.user = user
        self.serves = serves
        self.endpoint = f"{name}-e"
        self.group = f"{name}-g"
        self._chance = random.Random(f"{seed}/{name}")
        self._answers = 0

    def run(self, faults: Faults, kinds: list[str]) -> None:
        """All calls; a fault of each of `kinds` begins while one of them is under way. Raises Violation."""
        steps = list(self._steps())
        struck = dict(zip(self._chance.sample(range(len(steps)), len(kinds)), kinds, strict=True))
        fault: threading.Thread | None = None
        try:
            for index, step in enumerate(steps):
                if index in struck:
                    if fault is not None:
                        fault.join()
                    fault = self._strike(faults.all[struck[index]])
                self._persist(step)
                for _ in range(self._chance.choice((0, 0, 1, 2))):
                    self._aside()
        finally:
            if fault is not None:
                fault.join()

    def _strike(self, fault: Callable[[random.Random], None]) -> threading.Thread:
        chance = random.Random(self._chance.random())
        timer = threading.Timer(self._chance.choice(DELAYS_S), fault, (chance,))
        timer.start()
        return timer

    def _persist(self, step: Action) -> None:
        """A user to whom nobody answered mostly tries again."""
        for _ in range(3):
            step()
            if self.user.answered or self._chance.random() < 0.3:
                return

    def _steps(self) -> Iterator[Action]:
        """The calls in an order that makes sense; what each of them asks for is chosen when it is made."""
        for number in (0, 1):
            yield partial(self._create_model, number)
        yield lambda: self._create_config(0, 2 if self._chance.random() < 0.3 else 1)
        yield self._create_endpoint
        yield self._wait
        yield lambda: self._create_config(1, 1)
        if self.serves:
            yield lambda: self._update_endpoint(1)
            yield self._wait
            yield self._chance.choice((self._resize, lambda: self._update_endpoint(0)))
        else:
            yield self._create_group
            yield self._create_package
            yield self._create_package
            yield self._approve
        yield from self._chance.choice(((), (self._delete_endpoint,), (self._delete_endpoint, self._create_again)))

    def _aside(self) -> None:
        """Something small in between."""
        every = (
            self._tag, self._untag, self._list, self._describe, self._delete_model, self._delete_config,
            lambda: self._create_model(2), self._create_group, self._create_package, self._approve,
        )  # fmt: skip
        self._chance.choice(every)()

    # What is there, in one of the possible worlds.

    @property
    def world(self) -> World:
        return self.user.legal.world

    def _names(self, kind: str) -> list[str]:
        return sorted(name for (other, name), _ in self.world if other == kind)

    def _wait(self) -> None:
        if self._chance.random() < PATIENT:
            self.user.settle(self.endpoint, SETTLE_S)

    # Calls.

    def _create_model(self, number: int) -> None:
        self._answers += 1
        runnable = self.serves and number < 2
        self.user.call(
            "create_model",
            ModelName=f"{self.name}-m{number}",
            PrimaryContainer={
                "Image": IMAGE if runnable else NO_IMAGE,
                "ModelDataUrl": f"s3://{BUCKET}/{KEY}",
                "Environment": {"ANSWER": f"{self.name}-{self._answers}"},
            },
        )

    def _create_config(self, number: int, variants: int) -> None:
        models = [f"{self.name}-m{(number + index) % 2}" for index in range(variants)]
        made = [
            {"VariantName": f"v{index}", "ModelName": model, "InstanceType": "ml.t2.medium",
             "InitialInstanceCount": 1, "InitialVariantWeight": 1.0}
            for index, model in enumerate(models)
        ]  # fmt: skip
        self.user.call("create_endpoint_config", EndpointConfigName=f"{self.name}-c{number}", ProductionVariants=made)

    def _create_endpoint(self, number: int = 0) -> None:
        tags = [{"Key": "made", "Value": str(number)}]
        self.user.call(
            "create_endpoint", EndpointName=self.endpoint, EndpointConfigName=f"{self.name}-c{number}", Tags=tags
        )

    def _create_again(self) -> None:
        self.user.settle(self.endpoint, SETTLE_S)
        self._create_endpoint(1)

    def _update_endpoint(self, number: int) -> None:
        self.user.call(
            "update_endpoint", EndpointName=self.endpoint, EndpointConfigName=f"{self.name}-c{number}"
        )

    def _resize(self) -> None:
        found = dict(self.world).get(("Endpoint", self.endpoint))
        if not isinstance(found, Endpoint):
            return
        wanted: list[Mapping[str, Any]] = [{"VariantName": each.name, "DesiredWeight": 1.0} for each in found.variants]
        last = {**wanted[-1], "DesiredWeight": 3.0, "DesiredInstanceCount": 2 if len(wanted) == 1 else 1}
        self.user.call(
            "update_endpoint_weights_and_capacities",
            EndpointName=self.endpoint, DesiredWeightsAndCapacities=[*wanted[:-1], last],
        )  # fmt: skip

    def _delete_endpoint(self) -> None:
        self.user.call("delete_endpoint", EndpointName=self.endpoint)

    def _delete_model(self) -> None:
        self.user.call("delete_model", ModelName=f"{self.name}-m2")

    def _delete_config(self) -> None:
        self.user.call("delete_endpoint_config", EndpointConfigName=f"{self.name}-c{self._chance.choice((0, 1))}")

    def _create_group(self) -> None:
        self.user.call("create_model_package_group", ModelPackageGroupName=self.group)

    def _create_package(self) -> None:
        """The token is the call's own: tries of boto3's and of the user's are one call."""
        request = {
            "ModelPackageGroupName": self.group,
            "ModelApprovalStatus": "PendingManualApproval",
            "ClientToken": str(uuid.UUID(int=self._chance.getrandbits(128))),
        }
        self._persist(lambda: self.user.call("create_model_package", **request))

    def _approve(self) -> None:
        if packages := self._names("ModelPackage"):
            self.user.call(
                "update_model_package",
                ModelPackageArn=arn("model-package", self._chance.choice(packages)),
                ModelApprovalStatus=self._chance.choice(("Approved", "Rejected")),
            )

    def _arn(self) -> str | None:
        """Of something that is there."""
        kinds = {"Model": "model", "EndpointConfig": "endpoint-config", "Endpoint": "endpoint"}
        every = [arn(kinds[kind], name) for (kind, name), _ in sorted(self.world, key=str) if kind in kinds]
        return self._chance.choice(every) if every else None

    def _tag(self) -> None:
        if found := self._arn():
            tag = {"Key": self._chance.choice("abc"), "Value": str(self._chance.randrange(100))}
            self.user.call("add_tags", ResourceArn=found, Tags=[tag])

    def _untag(self) -> None:
        if found := self._arn():
            self.user.call("delete_tags", ResourceArn=found, TagKeys=[self._chance.choice("abc")])

    def _list(self) -> None:
        operation = self._chance.choice(LISTS)
        self.user.call(operation, **listing(self.name))

    def _describe(self) -> None:
        self.user.status(self.endpoint)


LISTS = ("list_models", "list_endpoint_configs", "list_endpoints", "list_model_package_groups")


def listing(user: str) -> dict[str, Any]:
    return {"NameContains": f"{user}-", "SortBy": "Name", "SortOrder": "Ascending", "MaxResults": 100}


def arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:{kind}/{name}"
