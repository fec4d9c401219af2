"""Endpoints through boto3; the test plays the controller's part by writing status to the store, as it does."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import WaiterError

from server.control import endpoints
from server.spec import EndpointSpec, Scaling, VariantSpec
from server.store.store import Store
from tests.control.conftest import client
from tests.control.test_models import SERVERLESS, VARIANT, make_config, make_model, refused

QUICK = {"Delay": 0.1, "MaxAttempts": 10}


def spec(store: Store, name: str = "ep") -> EndpointSpec:
    return EndpointSpec.model_validate(store.get("Endpoint", name).document)


def settle(store: Store, name: str = "ep", status: str = "InService", reason: str | None = None) -> None:
    """What the controller does when it has made the document true, or cannot."""
    current = store.get("Endpoint", name)
    if (pending := current.document.get("pending")) is not None:
        current = store.replace(current, pending["spec"], status)
    variants = {v["name"]: {"replicas": v["scaling"]["min_replicas"], "weight": v["weight"]}
                for v in current.document["variants"]}  # fmt: skip
    store.observe(current, {"variants": variants})
    assert store.report(current, status, reason)


@pytest.fixture
def made(sagemaker: Any) -> Any:
    """A client whose account has a model `m`, a configuration `c` and an endpoint `ep` with it."""
    make_model(sagemaker)
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c", Tags=[{"Key": "k", "Value": "v"}])
    return sagemaker


def test_from_model_to_service(made: Any, store: Store) -> None:
    found = made.describe_endpoint(EndpointName="ep")
    assert found["EndpointStatus"] == "Creating"
    assert found["EndpointArn"] == "arn:aws:sagemaker:us-east-1:123456789012:endpoint/ep"
    (variant,) = spec(store).variants
    assert (variant.model, variant.task) == ("hearth-python-lm", "generate")
    assert variant.engine == {"max-model-len": 512}
    assert variant.scaling == Scaling()

    waited = 0

    def look(**_: Any) -> None:
        """The controller is done once the waiter has looked for the first time."""
        nonlocal waited
        waited += 1
        if waited == 1:
            settle(store)

    looks = "response-received.sagemaker.DescribeEndpoint"
    made.meta.events.register(looks, look)
    made.get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig=QUICK)
    made.meta.events.unregister(looks, look)
    assert waited == 2
    found = made.describe_endpoint(EndpointName="ep")
    assert found["EndpointConfigName"] == "c"
    assert found["ProductionVariants"] == [
        {
            "VariantName": "AllTraffic", "CurrentWeight": 1.0, "DesiredWeight": 1.0,
            "CurrentInstanceCount": 1, "DesiredInstanceCount": 1,
            "DeployedImages": [{"SpecifiedImage": made.describe_model(ModelName="m")["PrimaryContainer"]["Image"]}],
        }
    ]  # fmt: skip
    assert "FailureReason" not in found
    assert made.list_tags(ResourceArn=found["EndpointArn"])["Tags"] == [{"Key": "k", "Value": "v"}]


def test_a_deleted_endpoint_is_waited_for(made: Any, store: Store) -> None:
    settle(store)
    made.delete_endpoint(EndpointName="ep")
    made.delete_endpoint(EndpointName="ep")
    assert made.describe_endpoint(EndpointName="ep")["EndpointStatus"] == "Deleting"
    assert "Cannot update in-progress" in refused(
        made.update_endpoint, EndpointName="ep", EndpointConfigName="c"
    )[1]  # fmt: skip
    store.remove(store.get("Endpoint", "ep"))
    made.get_waiter("endpoint_deleted").wait(EndpointName="ep", WaiterConfig=QUICK)
    for call in (made.describe_endpoint, made.delete_endpoint):
        code, message = refused(call, EndpointName="ep")
        assert code == "ValidationException"
        assert message.startswith("Could not find endpoint")


def test_a_failure_is_described(made: Any, store: Store) -> None:
    settle(store, status="Failed", reason="no such model " * 200)
    with pytest.raises(WaiterError):
        made.get_waiter("endpoint_in_service").wait(EndpointName="ep", WaiterConfig=QUICK)
    assert len(made.describe_endpoint(EndpointName="ep")["FailureReason"]) == 1024


def test_an_unknown_image_makes_the_endpoint_fail_by_name(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker, Image="registry.example.com/own:1")
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    problem = spec(store).problem
    assert problem is not None
    for words in ("AllTraffic", "registry.example.com/own:1", "djl-inference", "hearth/hearth-digits"):
        assert words in problem


def test_more_replicas_than_can_be_are_a_problem_of_the_variant(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_config(sagemaker, "c", {**VARIANT, "InitialInstanceCount": 5000})
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert "variant AllTraffic: min_replicas: Input should be less than or equal to 1000" in str(spec(store).problem)


def test_no_weight_at_all_is_a_problem(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_config(sagemaker, "c", {**VARIANT, "InitialVariantWeight": 0.0})
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert "InitialVariantWeight" in str(spec(store).problem)


def test_a_model_deleted_after_its_configuration_was_made(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_config(sagemaker)
    sagemaker.delete_model(ModelName="m")
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert "model 'm' was deleted" in str(spec(store).problem)


def test_an_update_changes_the_model(made: Any, store: Store) -> None:
    assert "in-progress" in refused(made.update_endpoint, EndpointName="ep", EndpointConfigName="c")[1]
    settle(store)
    make_model(made, "second", Environment={"HF_MODEL_ID": "org/other"})
    make_config(made, "d", {**VARIANT, "ModelName": "second"})
    made.update_endpoint(EndpointName="ep", EndpointConfigName="d")
    found = made.describe_endpoint(EndpointName="ep")
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("Updating", "c")
    assert found["PendingDeploymentSummary"]["EndpointConfigName"] == "d"
    settle(store)
    assert spec(store).variants[0].model == "org/other"
    found = made.describe_endpoint(EndpointName="ep")
    assert found["EndpointConfigName"] == "d"
    assert "PendingDeploymentSummary" not in found


def test_an_update_that_cannot_be_run_leaves_the_endpoint_alone(made: Any, store: Store) -> None:
    settle(store)
    make_model(made, "bad", Image="own:1")
    make_config(made, "d", {**VARIANT, "ModelName": "bad"})
    code, message = refused(made.update_endpoint, EndpointName="ep", EndpointConfigName="d")
    assert code == "ValidationException"
    assert "own:1" in message
    found = made.describe_endpoint(EndpointName="ep")
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "c")


def test_a_failed_endpoint_may_be_mended(made: Any, store: Store) -> None:
    settle(store, status="Failed", reason="no")
    made.update_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert made.describe_endpoint(EndpointName="ep")["EndpointStatus"] == "Updating"


PAIR = ({**VARIANT, "VariantName": "a", "InitialVariantWeight": 3.0}, {**VARIANT, "VariantName": "b"})


def test_weights_and_capacities(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_config(sagemaker, "c", *PAIR)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert [v.weight for v in spec(store).variants] == [3.0, 1.0]
    settle(store)
    before = [v.revision for v in spec(store).variants]
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="ep",
        DesiredWeightsAndCapacities=[{"VariantName": "b", "DesiredWeight": 7, "DesiredInstanceCount": 2}],
    )
    found = sagemaker.describe_endpoint(EndpointName="ep")
    assert found["EndpointStatus"] == "Updating"
    second = found["ProductionVariants"][1]
    assert (second["CurrentWeight"], second["DesiredWeight"]) == (1.0, 7.0)
    assert (second["CurrentInstanceCount"], second["DesiredInstanceCount"]) == (1, 2)
    assert [v.revision for v in spec(store).variants] == before, "replicas that run must stay"
    settle(store)
    make_config(sagemaker, "d", *PAIR)
    sagemaker.update_endpoint(
        EndpointName="ep", EndpointConfigName="d", RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredInstanceCount"}],
    )  # fmt: skip
    assert [(v.weight, v.scaling.min_replicas) for v in spec(store).variants] == [(3.0, 1), (7.0, 1)]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"VariantName": "none", "DesiredWeight": 1}, "Could not find variant"),
        ({"VariantName": "AllTraffic", "DesiredWeight": 0}, "weight above 0"),
        ({"VariantName": "AllTraffic", "ServerlessUpdateConfig": {"MaxConcurrency": 3}}, "not serverless"),
        ({"VariantName": "AllTraffic", "DesiredInstanceCount": 5000}, "1000"),
    ],
)
def test_weights_that_cannot_be_change_nothing(made: Any, store: Store, wanted: dict[str, Any], words: str) -> None:
    settle(store)
    before = store.get("Endpoint", "ep")
    code, message = refused(
        made.update_endpoint_weights_and_capacities, EndpointName="ep", DesiredWeightsAndCapacities=[wanted]
    )
    assert code == "ValidationException"
    assert words in message
    assert store.get("Endpoint", "ep") == before


def test_serverless_sleeps_and_is_resized(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_config(sagemaker, "c", SERVERLESS)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    (variant,) = spec(store).variants
    assert (variant.scaling.min_replicas, variant.scaling.max_replicas, variant.limits.max_in_flight) == (0, 5, 5)
    settle(store)
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="ep",
        DesiredWeightsAndCapacities=[{"VariantName": "v", "ServerlessUpdateConfig": {"MaxConcurrency": 9}}],
    )
    (variant,) = spec(store).variants
    assert (variant.scaling.max_replicas, variant.limits.max_in_flight) == (9, 9)
    (shown,) = sagemaker.describe_endpoint(EndpointName="ep")["ProductionVariants"]
    assert shown["DesiredServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 9}
    assert "DesiredInstanceCount" not in shown
    settle(store)
    code, message = refused(
        sagemaker.update_endpoint_weights_and_capacities,
        EndpointName="ep", DesiredWeightsAndCapacities=[{"VariantName": "v", "DesiredInstanceCount": 2}],
    )  # fmt: skip
    assert code == "ValidationException"
    assert "serverless" in message
    update = {"MaxConcurrency": 3, "ProvisionedConcurrency": 4}
    code, message = refused(
        sagemaker.update_endpoint_weights_and_capacities,
        EndpointName="ep", DesiredWeightsAndCapacities=[{"VariantName": "v", "ServerlessUpdateConfig": update}],
    )  # fmt: skip
    assert code == "ValidationException"
    assert "ProvisionedConcurrency 4 is above MaxConcurrency 3" in message


def test_managed_scaling_is_a_range(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    managed = {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 4}
    make_config(sagemaker, "c", {**VARIANT, "ManagedInstanceScaling": managed})
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    scaling = spec(store).variants[0].scaling
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 4)
    assert sagemaker.describe_endpoint(EndpointName="ep")["ProductionVariants"][0]["ManagedInstanceScaling"] == managed


def test_what_is_not_built_is_never_pretended(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_config(sagemaker, "c", AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://b/k"}})
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert "asynchronous" in (spec(store).problem or "")


def test_a_deployment_configuration_is_remembered(made: Any, store: Store) -> None:
    settle(store)
    policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {
        "Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}}  # fmt: skip
    made.update_endpoint(EndpointName="ep", EndpointConfigName="c", DeploymentConfig=policy)
    assert made.describe_endpoint(EndpointName="ep")["LastDeploymentConfig"] == policy
    settle(store)
    made.update_endpoint(EndpointName="ep", EndpointConfigName="c", RetainDeploymentConfig=True)
    assert made.describe_endpoint(EndpointName="ep")["LastDeploymentConfig"] == policy


def test_a_configuration_in_use_by_a_changing_endpoint_stays(made: Any, store: Store) -> None:
    code, message = refused(made.delete_endpoint_config, EndpointConfigName="c")
    assert code == "ValidationException"
    assert "endpoint/ep" in message
    assert made.describe_endpoint_config(EndpointConfigName="c")
    settle(store)
    made.delete_endpoint_config(EndpointConfigName="c")


def test_an_endpoint_needs_its_configuration_and_a_free_name(made: Any, address: str) -> None:
    code, message = refused(made.create_endpoint, EndpointName="two", EndpointConfigName="none")
    assert (code, message.split('"')[0]) == ("ValidationException", "Could not find endpoint configuration ")
    assert "already existing endpoint" in refused(made.create_endpoint, EndpointName="ep", EndpointConfigName="c")[1]
    elsewhere = client(address, region="eu-west-1")
    make_model(elsewhere)
    make_config(elsewhere)
    message = refused(elsewhere.create_endpoint, EndpointName="ep", EndpointConfigName="c")[1]
    assert "already existing" in message, "one address routes by the name alone"
    elsewhere.close()


def test_what_hearth_deployed_is_shown_as_it_is(sagemaker: Any, store: Store) -> None:
    variant = VariantSpec(model="hearth-digits", scaling=Scaling(min_replicas=2, max_replicas=2))
    endpoints.deploy(store, EndpointSpec(name="mine", variants=(variant,)))
    found = sagemaker.describe_endpoint(EndpointName="mine")
    assert found["EndpointStatus"] == "Creating"
    assert found["ProductionVariants"] == [
        {"VariantName": "AllTraffic", "DesiredWeight": 1.0, "DesiredInstanceCount": 2}
    ]
    assert "EndpointConfigName" not in found
    assert [e["EndpointName"] for e in sagemaker.list_endpoints(StatusEquals="Creating")["Endpoints"]] == ["mine"]
    settle(store, "mine")
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="mine", DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}]
    )
    assert spec(store, "mine").variants[0].scaling.min_replicas == 3
    sagemaker.delete_endpoint(EndpointName="mine")
    assert store.get("Endpoint", "mine").status == "Deleting"
