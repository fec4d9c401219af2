"""DeploymentConfig through boto3: what is refused, what it becomes, and what is shown of a rollout."""

from __future__ import annotations

import time
from typing import Any

import pytest

from server.controller.rollout import Progress, noted
from server.spec import EndpointSpec, Strategy
from server.store.store import Store
from tests.control.conftest import client
from tests.control.test_endpoint_resource import settle
from tests.control.test_models import VARIANT, make_config, make_model, refused

PERCENT = {"Type": "CAPACITY_PERCENT", "Value": 25}
ONE = {"Type": "INSTANCE_COUNT", "Value": 1}


def blue_green(kind: str, wait: int = 60, *, policy: dict[str, Any] | None = None, **sizes: Any) -> dict[str, Any]:
    routing = {"Type": kind, "WaitIntervalInSeconds": wait, **sizes}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **(policy or {})}}


def rolling(batch: dict[str, Any], wait: int = 60, **more: Any) -> dict[str, Any]:
    return {"RollingUpdatePolicy": {"MaximumBatchSize": batch, "WaitIntervalInSeconds": wait, **more}}


def watching(*names: str) -> dict[str, Any]:
    return {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in names]}}


@pytest.fixture
def alarm(address: str) -> Any:
    """Makes an alarm."""
    cloudwatch = client(address, "cloudwatch")

    def make(name: str) -> None:
        cloudwatch.put_metric_alarm(
            AlarmName=name, Namespace="AWS/SageMaker", MetricName="Invocation5XXErrors", Statistic="Sum", Period=60,
            EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold",
        )  # fmt: skip

    yield make
    cloudwatch.close()


@pytest.fixture
def served(sagemaker: Any, store: Store) -> Any:
    """A client whose endpoint `ep` of four replicas is in service, with a configuration `d` of another model."""
    make_model(sagemaker)
    make_model(sagemaker, "second", Environment={"HF_MODEL_ID": "org/other"})
    make_config(sagemaker, "c", {**VARIANT, "InitialInstanceCount": 4})
    make_config(sagemaker, "d", {**VARIANT, "ModelName": "second", "InitialInstanceCount": 4})
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    settle(store)
    return sagemaker


def update(served: Any, store: Store, deployment: dict[str, Any] | None = None, **more: Any) -> Strategy:
    asked = {"DeploymentConfig": deployment} if deployment is not None else {}
    served.update_endpoint(EndpointName="ep", EndpointConfigName="d", **asked, **more)
    pending = EndpointSpec.model_validate(store.get("Endpoint", "ep").document).pending
    assert pending is not None
    assert pending.spec.variants[0].model == "org/other"
    return pending.strategy


@pytest.mark.parametrize(
    ("deployment", "strategy"),
    [
        (None, Strategy()),
        (blue_green("ALL_AT_ONCE", 30), Strategy(bake_s=30)),
        (
            blue_green("CANARY", CanarySize=ONE, policy={
                "TerminationWaitInSeconds": 120, "MaximumExecutionTimeoutInSeconds": 600}),
            Strategy(shares=(0.25, 1), bake_s=60, termination_wait_s=120, timeout_s=600),
        ),
        (blue_green("CANARY", CanarySize={**PERCENT, "Value": 5}), Strategy(shares=(0.05, 1), bake_s=60)),
        (blue_green("LINEAR", LinearStepSize=PERCENT), Strategy(shares=(0.25, 0.5, 0.75, 1), bake_s=60)),
        (
            blue_green("LINEAR", LinearStepSize={**PERCENT, "Value": 30}),
            Strategy(shares=(0.3, 0.6, 0.3 * 3, 1), bake_s=60),
        ),
        (rolling({**ONE, "Value": 2}), Strategy(shares=(0.5, 1), rolling=True, bake_s=60)),
        (
            rolling(PERCENT, RollbackMaximumBatchSize={**PERCENT, "Value": 50}, MaximumExecutionTimeoutInSeconds=700),
            Strategy(shares=(0.25, 0.5, 0.75, 1), rolling=True, rollback_step=0.5, bake_s=60, timeout_s=700),
        ),
    ],
)  # fmt: skip
def test_a_policy_becomes_a_strategy(served: Any, store: Store, deployment: Any, strategy: Strategy) -> None:
    assert update(served, store, deployment) == strategy
    assert served.describe_endpoint(EndpointName="ep").get("LastDeploymentConfig") == deployment


@pytest.mark.parametrize(
    ("deployment", "words"),
    [
        (blue_green("ALL_AT_ONCE") | rolling(PERCENT), "only one of BlueGreenUpdatePolicy and RollingUpdatePolicy"),
        (blue_green("CANARY"), "CanarySize is required when the traffic routing type is CANARY"),
        (blue_green("LINEAR"), "LinearStepSize is required when the traffic routing type is LINEAR"),
        (blue_green("LINEAR", LinearStepSize=PERCENT, CanarySize=PERCENT), "CanarySize cannot be specified"),
        (blue_green("ALL_AT_ONCE", CanarySize=PERCENT), "CanarySize cannot be specified"),
        (blue_green("CANARY", CanarySize={**PERCENT, "Value": 51}), "between 0% and 50%"),
        (blue_green("CANARY", CanarySize={**ONE, "Value": 3}), "of variant AllTraffic"),
        (blue_green("LINEAR", LinearStepSize={**PERCENT, "Value": 9}), "between 10% and 50%"),
        (rolling({**PERCENT, "Value": 4}), "between 5% and 50%"),
        (rolling({**ONE, "Value": 3}), "MaximumBatchSize (3, INSTANCE_COUNT)"),
        (
            blue_green("LINEAR", 300, LinearStepSize=PERCENT, policy={"MaximumExecutionTimeoutInSeconds": 1200}),
            "must be larger than the total waiting time of the deployment, which is 1200 seconds",
        ),
        (watching("nobody-made-it"), "the CloudWatch alarms [nobody-made-it] do not exist"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(served: Any, store: Store, deployment: Any, words: str) -> None:
    before = store.get("Endpoint", "ep")
    for call, name in ((served.update_endpoint, "ep"), (served.create_endpoint, "another")):
        code, message = refused(call, EndpointName=name, EndpointConfigName="d", DeploymentConfig=deployment)
        assert code == "ValidationException"
        assert words in message
    assert store.get("Endpoint", "ep") == before
    assert refused(served.describe_endpoint, EndpointName="another")


@pytest.mark.parametrize(
    "deployment",
    [blue_green("ALL_AT_ONCE", 3601), rolling(PERCENT, MaximumExecutionTimeoutInSeconds=599), watching(*"abcdefghijk")],
)
def test_the_service_models_own_bounds_hold(unchecked: Any, served: Any, deployment: Any) -> None:
    code, _ = refused(unchecked.update_endpoint, EndpointName="ep", EndpointConfigName="d", DeploymentConfig=deployment)
    assert code == "ValidationException"


def test_alarms_are_of_the_endpoints_region(served: Any, store: Store, alarm: Any, address: str) -> None:
    alarm("errors")
    assert update(served, store, watching("errors")).alarms == ("errors",)
    elsewhere = client(address, region="eu-west-1")
    make_model(elsewhere)
    make_config(elsewhere, "c")
    message = refused(
        elsewhere.create_endpoint, EndpointName="two", EndpointConfigName="c", DeploymentConfig=watching("errors")
    )[1]
    assert "[errors] do not exist" in message
    elsewhere.close()


def test_the_last_deployment_configuration_is_used_again_when_asked_for(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_model(sagemaker, "second", Environment={"HF_MODEL_ID": "org/other"})
    make_config(sagemaker, "c")
    make_config(sagemaker, "d", {**VARIANT, "ModelName": "second"})
    canary = blue_green("CANARY", CanarySize=PERCENT)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c", DeploymentConfig=canary)
    settle(store)
    assert sagemaker.describe_endpoint(EndpointName="ep")["LastDeploymentConfig"] == canary
    assert update(sagemaker, store).shares == (1.0,)
    settle(store)
    sagemaker.update_endpoint(EndpointName="ep", EndpointConfigName="c", RetainDeploymentConfig=True)
    pending = store.get("Endpoint", "ep").document["pending"]
    assert pending["strategy"]["shares"] == [0.25, 1.0]


def test_a_rollout_is_described_while_it_goes_on(served: Any, store: Store) -> None:
    before = time.time()
    update(served, store, blue_green("CANARY", CanarySize=PERCENT))
    found = served.describe_endpoint(EndpointName="ep")
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("Updating", "c")
    pending = found["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == "d"
    assert pending["StartTime"].timestamp() == pytest.approx(before, abs=10)
    (variant,) = pending["ProductionVariants"]
    assert (variant["VariantName"], variant["DesiredInstanceCount"]) == ("AllTraffic", 4)
    assert variant["VariantStatus"][0]["Status"] == "Creating"

    current = store.get("Endpoint", "ep")
    rollout = EndpointSpec.model_validate(current.document).pending
    assert rollout is not None
    progress = Progress("baking", before, high=0.25, share=0.25)
    seen = {"AllTraffic": {"replicas": 4, "weight": 0.25}}
    store.observe(current, {"variants": {}, "pending": seen, "rollout": noted(rollout, progress)})
    (variant,) = served.describe_endpoint(EndpointName="ep")["PendingDeploymentSummary"]["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (4, 0.25)
    (status,) = variant["VariantStatus"]
    assert status["Status"] == "Baking"
    assert "25% of the traffic" in status["StatusMessage"]


@pytest.mark.parametrize("status", ["Updating", "RollingBack", "UpdateRollbackFailed"])
def test_what_may_be_asked_of_an_endpoint_during_a_rollout(served: Any, store: Store, status: str) -> None:
    update(served, store)
    assert store.report(store.get("Endpoint", "ep"), status, "an alarm")
    assert "in-progress" in refused(
        served.update_endpoint_weights_and_capacities,
        EndpointName="ep", DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredWeight": 2}],
    )[1]  # fmt: skip
    if status == "UpdateRollbackFailed":
        served.update_endpoint(EndpointName="ep", EndpointConfigName="c")
        assert store.get("Endpoint", "ep").document["pending"] is None
    else:
        assert "in-progress" in refused(served.update_endpoint, EndpointName="ep", EndpointConfigName="c")[1]
        for config in ("c", "d"):
            assert status in refused(served.delete_endpoint_config, EndpointConfigName=config)[1]
    served.delete_endpoint(EndpointName="ep")
    assert served.describe_endpoint(EndpointName="ep")["EndpointStatus"] == "Deleting"


def test_another_number_of_replicas_alone_changes_in_place(served: Any, store: Store) -> None:
    make_config(served, "more", {**VARIANT, "InitialInstanceCount": 6})
    served.update_endpoint(EndpointName="ep", EndpointConfigName="more")
    document = store.get("Endpoint", "ep").document
    assert document["pending"] is None
    assert document["variants"][0]["scaling"]["min_replicas"] == 6
