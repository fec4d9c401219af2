"""Models of several containers, through boto3: what is refused, and what their endpoints are to run."""

from __future__ import annotations

from typing import Any

import pytest

from server.spec import ContainerSpec, VariantSpec
from server.store.store import Store
from tests.control.conftest import ROLE
from tests.control.test_endpoint_resource import spec
from tests.control.test_models import make_config, refused

DATA = "s3://models/one.tar.gz"
CODE = {"Image": "sagemaker-scikit-learn:1.2-1", "ModelDataUrl": DATA}
DIRECT = {"InferenceExecutionConfig": {"Mode": "Direct"}}


def named(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{**CODE, "ContainerHostname": name, **more} for name in names]


def endpoint(sagemaker: Any, store: Store, **model: Any) -> VariantSpec:
    """The variant that an endpoint on a new model is to run."""
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, **model)
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    made = spec(store)
    assert made.problem is None
    return made.variants[0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"PrimaryContainer": CODE, "Containers": [CODE, CODE]}, "Exactly one of PrimaryContainer and Containers"),
        ({"Containers": []}, "Exactly one of PrimaryContainer and Containers"),
        ({"Containers": [CODE] * 16}, "Member must have length less than or equal to 15"),
        ({"Containers": named("a", "b", "a")}, "ContainerHostname must be unique; got a, b, a"),
        ({"Containers": [*named("a"), CODE]}, "needs the ContainerHostname of every container"),
        ({"Containers": [*named("a"), CODE], **DIRECT}, "Direct invocation needs the ContainerHostname of every"),
        ({"Containers": [CODE, CODE], **DIRECT}, "Direct invocation needs the ContainerHostname of every"),
        ({"Containers": named("a"), **DIRECT}, "Direct needs more than one"),
        ({"PrimaryContainer": CODE, **DIRECT}, "Direct needs more than one"),
        (
            {"Containers": named("a", "b", Mode="MultiModel", ModelDataUrl="s3://models/all/")},
            "More than one container in MultiModel mode is not supported with inference pipeline.",
        ),
        (
            {"Containers": named("a", "b"), "InferenceExecutionConfig": {"Mode": "Parallel"}},
            "Member must satisfy enum value set: [Serial, Direct]",
        ),
        ({"Containers": [*named("a"), {"ContainerHostname": "b"}]}, "needs either Image or ModelPackageName"),
        ({"Containers": named("a", "-b")}, "containers.2.member.containerHostname"),
    ],
)
def test_what_is_refused(unchecked: Any, model: dict[str, Any], message: str) -> None:
    code, said = refused(unchecked.create_model, ModelName="m", **model)
    assert code == "ValidationException"
    assert message in said
    assert unchecked.list_models()["Models"] == []


def test_a_pipeline(sagemaker: Any, store: Store) -> None:
    step: dict[str, Any] = {**CODE, "Environment": {"STEP": "1"}}
    containers = [step, {"Image": "hearth/hearth-python-lm"}, CODE]
    variant = endpoint(sagemaker, store, Containers=containers)
    assert variant.mode == "Serial"
    assert variant.model == ""
    assert variant.containers == (
        ContainerSpec(name="container-1", model=DATA, env={"STEP": "1"}),
        ContainerSpec(name="container-2", model="hearth-python-lm", task="generate"),
        ContainerSpec(name="container-3", model=DATA),
    )
    found = sagemaker.describe_model(ModelName="m")
    assert found["Containers"] == containers
    assert "InferenceExecutionConfig" not in found
    images = sagemaker.describe_endpoint(EndpointName="ep")["ProductionVariants"][0]["DeployedImages"]
    assert [image["SpecifiedImage"] for image in images] == [each["Image"] for each in containers]


def test_direct_invocation(sagemaker: Any, store: Store) -> None:
    variant = endpoint(sagemaker, store, Containers=named("one", "two"), **DIRECT)
    assert variant.mode == "Direct"
    assert [container.name for container in variant.containers] == ["one", "two"]
    assert sagemaker.describe_model(ModelName="m")["InferenceExecutionConfig"] == {"Mode": "Direct"}


def test_a_list_of_one_is_one_model(sagemaker: Any, store: Store) -> None:
    variant = endpoint(sagemaker, store, Containers=named("alone"))
    assert (variant.model, variant.containers) == (DATA, ())


def package(sagemaker: Any, *containers: dict[str, Any]) -> str:
    specification = {
        "Containers": list(containers), "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }  # fmt: skip
    made = sagemaker.create_model_package(ModelPackageName="p", InferenceSpecification=specification)
    return str(made["ModelPackageArn"])


def test_a_package_of_several_containers(sagemaker: Any, store: Store) -> None:
    arn = package(sagemaker, {**CODE, "Environment": {"A": "1", "B": "1"}}, {**CODE, "ModelDataUrl": "s3://models/two"})
    over = {"ModelPackageName": arn, "Environment": {"B": "2"}}
    variant = endpoint(sagemaker, store, Containers=[over, {**CODE, "ModelDataUrl": "s3://models/three"}])
    assert [(each.name, each.model, each.env) for each in variant.containers] == [
        ("container-1", DATA, {"A": "1", "B": "2"}),
        ("container-2", "s3://models/two", {"B": "2"}),
        ("container-3", "s3://models/three", {}),
    ]


def test_a_primary_package_of_several_containers_is_a_pipeline(sagemaker: Any, store: Store) -> None:
    arn = package(sagemaker, *named("first", "second"))
    variant = endpoint(sagemaker, store, PrimaryContainer={"ModelPackageName": arn})
    assert [container.name for container in variant.containers] == ["first", "second"]


def test_a_packages_containers_count(sagemaker: Any) -> None:
    arn = package(sagemaker, *named("first", "second"))
    too_many = [{"ModelPackageName": arn}, *named(*"abcdefghijklmn")]
    code, message = refused(sagemaker.create_model, ModelName="m", Containers=too_many)
    assert (code, message) == ("ValidationException", "A model has at most 15 containers, not 16.")
    clash = [{"ModelPackageName": arn}, *named("second")]
    assert "must be unique" in refused(sagemaker.create_model, ModelName="m", Containers=clash)[1]
    direct = {"PrimaryContainer": {"ModelPackageName": arn}, **DIRECT}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, **direct)


@pytest.mark.parametrize(
    ("containers", "reason"),
    [
        ([CODE, {"Image": "registry.example.com/own:1"}], "container container-2: Image 'registry.example.com/own:1'"),
        (
            [*named("a", Mode="MultiModel", ModelDataUrl="s3://m/p/", Image="djl-inference:0.27"), *named("b")],
            "container a: Image 'djl-inference:0.27' is served with vLLM, which holds one model",
        ),
    ],
)
def test_what_cannot_be_run_names_the_container(
    sagemaker: Any, store: Store, containers: list[dict[str, Any]], reason: str
) -> None:
    sagemaker.create_model(ModelName="m", Containers=containers)
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    assert reason in str(spec(store).problem)
