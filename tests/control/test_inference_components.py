"""Inference components through boto3; the test plays the controller's part by writing status to the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.control import components
from server.control.environment import CACHE
from server.control.instances import Machine
from server.control.operations import Context
from server.control.resources.inference_component import create_inference_component
from server.errors import LimitExceeded
from server.spec import EndpointSpec, Resources
from server.store.quotas import INSTANCES, Defaults
from server.store.store import Store
from tests.control.conftest import ACCOUNT, ROLE
from tests.control.test_endpoint_resource import settle
from tests.control.test_models import CONTAINER, make_config, make_model, refused

HOST = {"VariantName": "AllTraffic", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 2}
NEEDS = {"NumberOfCpuCoresRequired": 0.5, "MinMemoryRequiredInMb": 1024}
SPECIFICATION = {"ModelName": "m", "ComputeResourceRequirements": NEEDS}
ADAPTER = {"BaseInferenceComponentName": "base", "Container": {"ArtifactUrl": "s3://bucket/adapter.tar.gz"}}


def create(sagemaker: Any, name: str = "base", **more: Any) -> Any:
    given = {"Specification": SPECIFICATION, "RuntimeConfig": {"CopyCount": 1}, "VariantName": "AllTraffic", **more}
    kept = {member: value for member, value in given.items() if value is not None}
    return sagemaker.create_inference_component(InferenceComponentName=name, EndpointName="ep", **kept)


def adapt(sagemaker: Any, name: str = "adapter", **more: Any) -> Any:
    return create(sagemaker, name, Specification={**ADAPTER, **more}, RuntimeConfig=None)


def report(store: Store, name: str = "base", status: str = "InService", reason: str | None = None) -> None:
    """What the controller does when it has made the document true, or cannot."""
    current = store.get(components.KIND, name)
    if components.is_base(current):
        count = components.copies(components.aim(current))
        store.observe(current, {"variants": {"AllTraffic": {"replicas": count, "weight": 1.0}}})
    assert store.report(current, status, reason)


def fleet(store: Store, name: str = "base") -> EndpointSpec:
    return components.fleet(store.get(components.KIND, name))


@pytest.fixture
def hosted(sagemaker: Any, store: Store) -> Any:
    """A client whose account has a model `m` and an endpoint `ep` without any, in service."""
    make_model(sagemaker)
    make_config(sagemaker, "c", HOST, ExecutionRoleArn=ROLE)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert store.get("Endpoint", "ep").document["problem"] is None
    settle(store)
    return sagemaker


def test_from_creation_to_service(hosted: Any, store: Store) -> None:
    arn = create(hosted, Tags=[{"Key": "k", "Value": "v"}])["InferenceComponentArn"]
    assert arn == "arn:aws:sagemaker:us-east-1:123456789012:inference-component/base"
    found = hosted.describe_inference_component(InferenceComponentName="base")
    assert found["InferenceComponentStatus"] == "Creating"
    assert found["EndpointArn"].endswith(":endpoint/ep")
    assert found["Specification"] == SPECIFICATION
    assert found["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 0}
    (variant,) = fleet(store).variants
    assert (variant.name, variant.component, variant.model) == ("AllTraffic", "base", "hearth-python-lm")
    assert variant.resources == Resources(num_cpus=0.5)
    report(store)
    found = hosted.describe_inference_component(InferenceComponentName="base")
    assert found["InferenceComponentStatus"] == "InService"
    placed = [{"InstanceType": "ml.g5.xlarge", "CurrentCopyCount": 1}]
    assert found["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1, "PlacementStatus": placed}
    assert hosted.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]


def test_the_endpoint_that_hosts_is_described(hosted: Any) -> None:
    (variant,) = hosted.describe_endpoint(EndpointName="ep")["ProductionVariants"]
    assert (variant["DesiredInstanceCount"], variant["CurrentInstanceCount"]) == (2, 2)
    assert "DeployedImages" not in variant


def test_a_container_in_place_of_a_model(hosted: Any, store: Store) -> None:
    container = {"Image": CONTAINER["Image"], "ArtifactUrl": "s3://bucket/model.tar.gz",
                 "Environment": {"OPTION_ENABLE_LORA": "true"}}  # fmt: skip
    create(hosted, Specification={"Container": container, "ComputeResourceRequirements": NEEDS})
    (variant,) = fleet(store).variants
    assert (variant.model, variant.engine) == ("s3://bucket/model.tar.gz", {"enable-lora": True})
    shown = hosted.describe_inference_component(InferenceComponentName="base")["Specification"]["Container"]
    assert shown["DeployedImage"] == {"SpecifiedImage": CONTAINER["Image"]}
    assert shown["ArtifactUrl"] == "s3://bucket/model.tar.gz"


def test_one_that_cannot_be_run_is_made_and_says_why(hosted: Any, store: Store) -> None:
    create(hosted, Specification={"Container": {"Image": "own:1"}, "ComputeResourceRequirements": NEEDS})
    assert "Image 'own:1' is not one" in str(fleet(store).problem)


def test_several_specifications_are_chosen_from_by_instance_type(hosted: Any, store: Store) -> None:
    others = [{**SPECIFICATION, "InstanceType": "ml.m5.large"}, {**SPECIFICATION, "InstanceType": "ml.g5.xlarge"}]
    others[0]["ModelName"] = "m2"
    make_model(hosted, "m2", Environment={"HF_MODEL_ID": "hearth-digits"})
    create(hosted, Specification=None, Specifications=others)
    assert fleet(store).variants[0].model == "hearth-python-lm"
    shown = hosted.describe_inference_component(InferenceComponentName="base")
    assert [each["ModelName"] for each in shown["Specifications"]] == ["m2", "m"]
    code, words = refused(lambda: create(hosted, "x", Specification=None, Specifications=others[:1]))
    assert code == "ValidationException"
    assert "No specification is for ml.g5.xlarge" in words


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"VariantName": "other"}, "VariantName must be one of AllTraffic"),
        ({"RuntimeConfig": None}, "RuntimeConfig must be given"),
        ({"RuntimeConfig": {"CopyCount": 1001}}, "above 1000"),
        ({"Specification": None}, "Exactly one of Specification"),
        ({"Specification": {"ModelName": "m"}}, "ComputeResourceRequirements must be given"),
        ({"Specification": {**SPECIFICATION, "ModelName": "nope"}}, "Could not find model"),
    ],
    ids=["variant", "runtime", "copies", "no specification", "no requirements", "model"],
)
def test_what_is_wrong_is_refused(hosted: Any, more: dict[str, Any], words: str) -> None:
    code, said = refused(lambda: create(hosted, **more))
    assert code == "ValidationException"
    assert words in said
    assert hosted.list_inference_components()["InferenceComponents"] == []


def test_an_endpoint_with_a_model_takes_none(sagemaker: Any, store: Store) -> None:
    make_model(sagemaker)
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert "is Creating" in refused(lambda: create(sagemaker))[1]
    settle(store)
    assert "has a model" in refused(lambda: create(sagemaker))[1]


def test_configurations_that_mix_both_are_refused(sagemaker: Any) -> None:
    make_model(sagemaker)
    both = [{**HOST, "ModelName": "m"}, {**HOST, "VariantName": "other"}]
    code, words = refused(lambda: make_config(sagemaker, "c", *both, ExecutionRoleArn=ROLE))
    assert code == "ValidationException"
    assert "Either every variant names a model" in words
    serverless = {"VariantName": "v", "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}}
    assert "needs a ModelName" in refused(lambda: make_config(sagemaker, "c", serverless, ExecutionRoleArn=ROLE))[1]


def test_copies_are_routed_to_as_their_variant_says(hosted: Any, store: Store) -> None:
    variant = {**HOST, "RoutingConfig": {"RoutingStrategy": "RANDOM"}}
    make_config(hosted, "random", variant, ExecutionRoleArn=ROLE)
    hosted.update_endpoint(EndpointName="ep", EndpointConfigName="random")
    settle(store)
    create(hosted)
    assert fleet(store).variants[0].routing.strategy == "RANDOM"


def test_a_cache_of_components_is_not_passed_over(hosted: Any, store: Store) -> None:
    container = {"Image": CONTAINER["Image"], "Environment": {"HF_MODEL_ID": "hearth-python-lm", CACHE: "true"}}
    create(hosted, Specification={"Container": container, "ComputeResourceRequirements": NEEDS})
    assert "response cache" in str(fleet(store).problem)


def test_data_capture_of_components_is_not_passed_over(sagemaker: Any, store: Store) -> None:
    capture = {
        "EnableCapture": True, "InitialSamplingPercentage": 100, "DestinationS3Uri": "s3://bucket/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }  # fmt: skip
    make_config(sagemaker, "c", HOST, ExecutionRoleArn=ROLE, DataCaptureConfig=capture)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert "data capture" in store.get("Endpoint", "ep").document["problem"]


def test_components_are_listed_by_endpoint_and_variant(hosted: Any, store: Store) -> None:
    create(hosted, "one")
    create(hosted, "two")
    report(store, "two")
    names = {"StatusEquals": "InService"}, {"EndpointNameEquals": "ep"}, {"VariantNameEquals": "none"}
    found = [
        [each["InferenceComponentName"] for each in hosted.list_inference_components(**f)["InferenceComponents"]]
        for f in names
    ]
    assert found == [["two"], ["two", "one"], []]


def test_copies_are_changed_in_place(hosted: Any, store: Store) -> None:
    create(hosted)
    scale = hosted.update_inference_component_runtime_config
    code, words = refused(
        scale, InferenceComponentName="base", DesiredRuntimeConfig={"CopyCount": 3}
    )
    assert code == "ValidationException"
    assert "in-progress" in words
    report(store)
    before = fleet(store).variants[0].revision
    scale(InferenceComponentName="base", DesiredRuntimeConfig={"CopyCount": 3})
    found = hosted.describe_inference_component(InferenceComponentName="base")
    assert found["InferenceComponentStatus"] == "Updating"
    assert found["RuntimeConfig"]["DesiredCopyCount"] == 3
    assert fleet(store).variants[0].revision == before
    report(store)
    scale(InferenceComponentName="base", DesiredRuntimeConfig={"CopyCount": 0})
    assert components.copies(fleet(store)) == 0


def test_another_specification_is_rolled_out(hosted: Any, store: Store) -> None:
    create(hosted, RuntimeConfig={"CopyCount": 4})
    report(store)
    make_model(hosted, "m2", Environment={"HF_MODEL_ID": "hearth-digits"})
    rolling = {"MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1}, "WaitIntervalInSeconds": 0}
    hosted.update_inference_component(
        InferenceComponentName="base", Specification={**SPECIFICATION, "ModelName": "m2"},
        DeploymentConfig={"RollingUpdatePolicy": rolling},
    )  # fmt: skip
    now = fleet(store)
    assert now.variants[0].model == "hearth-python-lm"
    assert now.pending is not None
    assert now.pending.strategy.rolling
    assert now.pending.strategy.shares == (0.25, 0.5, 0.75, 1.0)
    assert now.pending.spec.variants[0].model == "hearth-digits"
    found = hosted.describe_inference_component(InferenceComponentName="base")
    assert found["Specification"]["ModelName"] == "m2"
    assert found["LastDeploymentConfig"] == {"RollingUpdatePolicy": rolling}


def test_an_adapter_is_put_on_a_base_in_service(hosted: Any, store: Store) -> None:
    create(hosted)
    assert "is Creating; adapters" in refused(lambda: adapt(hosted))[1]
    report(store)
    adapt(hosted)
    found = hosted.describe_inference_component(InferenceComponentName="adapter")
    assert found["Specification"] == ADAPTER
    assert found["InferenceComponentStatus"] == "Creating"
    assert "RuntimeConfig" not in found
    held = {"adapter": {"url": "s3://bucket/adapter.tar.gz", "version": 1}}
    assert components.wanted_adapters(store.find(components.KIND)) == {(ACCOUNT, "base"): held}
    report(store, "adapter")
    other = {"Container": {"ArtifactUrl": "s3://bucket/other.tar.gz"}}
    hosted.update_inference_component(InferenceComponentName="adapter", Specification=other)
    held = {"adapter": {"url": "s3://bucket/other.tar.gz", "version": 2}}
    assert components.wanted_adapters(store.find(components.KIND)) == {(ACCOUNT, "base"): held}
    report(store, "adapter", "Failed", "wrong shapes")
    assert components.wanted_adapters(store.find(components.KIND)) == {}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"BaseInferenceComponentName": "nope"}, "Could not find inference component"),
        ({"Container": {"ArtifactUrl": "https://host/x.tar.gz"}}, "an s3:// address"),
        ({"Container": {"Image": "i", "ArtifactUrl": "s3://b/x"}}, "has no Image"),
        ({"ComputeResourceRequirements": NEEDS}, "has no ComputeResourceRequirements"),
        ({"ModelName": "m"}, "has no ModelName"),
    ],
    ids=["base", "https", "image", "requirements", "model"],
)
def test_what_is_no_adapter_is_refused(hosted: Any, store: Store, more: dict[str, Any], words: str) -> None:
    create(hosted)
    report(store)
    code, said = refused(lambda: adapt(hosted, **more))
    assert (code, words in said) == ("ValidationException", True), said


def test_what_others_are_on_stays(hosted: Any, store: Store) -> None:
    create(hosted)
    report(store)
    adapt(hosted)
    code, words = refused(hosted.delete_inference_component, InferenceComponentName="base")
    assert code == "ValidationException"
    assert "the adapters adapter are on it" in words
    code, words = refused(hosted.delete_endpoint, EndpointName="ep")
    assert code == "ValidationException"
    assert "hosts the inference components base, adapter" in words
    assert store.get("Endpoint", "ep").status == "InService"
    hosted.delete_inference_component(InferenceComponentName="adapter")
    hosted.delete_inference_component(InferenceComponentName="adapter")
    store.remove(store.get(components.KIND, "adapter"))
    hosted.delete_inference_component(InferenceComponentName="base")
    assert hosted.describe_inference_component(InferenceComponentName="base")["InferenceComponentStatus"] == "Deleting"
    store.remove(store.get(components.KIND, "base"))
    hosted.delete_endpoint(EndpointName="ep")
    assert "Could not find" in refused(hosted.delete_inference_component, InferenceComponentName="base")[1]


def test_a_new_configuration_keeps_the_variants_with_components(hosted: Any, store: Store) -> None:
    create(hosted)
    make_config(hosted, "other", {**HOST, "VariantName": "v2"}, ExecutionRoleArn=ROLE)
    code, words = refused(hosted.update_endpoint, EndpointName="ep", EndpointConfigName="other")
    assert code == "ValidationException"
    assert "base is on variant AllTraffic" in words
    make_config(hosted, "larger", {**HOST, "InitialInstanceCount": 3}, ExecutionRoleArn=ROLE)
    hosted.update_endpoint(EndpointName="ep", EndpointConfigName="larger")
    assert EndpointSpec.model_validate(store.get("Endpoint", "ep").document).variants[0].scaling.min_replicas == 3


def reserving(store: Store) -> Context:
    return Context(store.within("us-east-1"), Machine(cards=0, reserve=True))


def request(name: str, cards: int, copies: int) -> dict[str, Any]:
    needs = {**NEEDS, "NumberOfAcceleratorDevicesRequired": cards}
    return {
        "InferenceComponentName": name, "EndpointName": "ep", "RuntimeConfig": {"CopyCount": copies},
        "Specification": {"ModelName": "m", "ComputeResourceRequirements": needs},
    }  # fmt: skip


@pytest.mark.usefixtures("hosted")
def test_instances_that_are_reserved_bound_what_fits(store: Store) -> None:
    """Two ml.g5.xlarge have a card each."""
    create_inference_component(reserving(store), request("one", 1, 1))
    create_inference_component(reserving(store), request("two", 1, 1))
    create_inference_component(reserving(store), request("three", 1, 1))
    create_inference_component(reserving(store), request("cpu", 0, 10))
    problems = {name: fleet(store, name).problem for name in ("one", "two", "three", "cpu")}
    assert "not enough hardware" in str(problems.pop("three"))
    assert problems == {"one": None, "two": None, "cpu": None}
    assert fleet(store, "one").variants[0].resources == Resources(num_cpus=0.5, num_gpus=1, memory_mb=1024)


@pytest.mark.usefixtures("hosted")
def test_copies_count_against_the_quota_of_instances(store: Store) -> None:
    context = replace(Context(store.within("us-east-1"), Machine()), quotas=Defaults({INSTANCES.code: 3.0}))
    create_inference_component(context, request("one", 0, 2))
    with pytest.raises(LimitExceeded, match="current utilization of 2"):
        create_inference_component(context, request("two", 0, 2))
    create_inference_component(context, request("none", 0, 0))
    create_inference_component(context, request("two", 0, 1))
