"""Condition keys, and policies that read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from server.identity.policy import context
from server.identity.policy.evaluate import Access, evaluate
from server.identity.policy.policy import compile_policy
from server.identity.principal import Principal, root

ACCOUNT = "111122223333"
SAGEMAKER = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")


def of(operation: str, request: dict[str, Any], **more: Any) -> dict[str, tuple[str, ...]]:
    return context.of_sagemaker(SAGEMAKER.operation_model(operation), request, **more)


@pytest.mark.parametrize(
    ("principal", "wanted"),
    [
        (root(ACCOUNT), {"aws:principaltype": ("Account",)}),
        (
            Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/path/ana", "AIDAX"),
            {"aws:principaltype": ("User",), "aws:username": ("ana",), "aws:userid": ("AIDAX",)},
        ),
        (
            Principal(ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/run", "AROAX:run", session=True),
            {"aws:principaltype": ("AssumedRole",), "aws:principalarn": (f"arn:aws:iam::{ACCOUNT}:role/p/worker",)},
        ),
    ],
)
def test_principals(principal: Principal, wanted: dict[str, tuple[str, ...]]) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/p/worker" if principal.session else ""
    found = context.of_principal(principal, role_arn=role, tags={"Team": "red"})

    assert wanted.items() <= found.items()
    assert ("aws:username" in found) == (wanted["aws:principaltype"] == ("User",))
    assert found["aws:principaltag/team"] == ("red",)


def test_requests() -> None:
    now = datetime(2026, 7, 1, tzinfo=UTC)

    assert context.of_request(source_ip="192.0.2.1", secure=True, region="us-east-1", now=now) == {
        "aws:currenttime": ("2026-07-01T00:00:00Z",),
        "aws:epochtime": ("1782864000",),
        "aws:securetransport": ("true",),
        "aws:sourceip": ("192.0.2.1",),
        "aws:requestedregion": ("us-east-1",),
    }


def test_tags_whose_keys_differ_in_case_are_one_key_of_two_values() -> None:
    found = context.of_request_tags({"Team": "red", "team": "blue"}, ["old"])
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    red = compile_policy(
        {"Version": "2012-10-17", "Statement": {**allow, "Condition": {"StringEquals": {"aws:RequestTag/team": "red"}}}}
    )

    assert found["aws:tagkeys"] == ("Team", "team", "old")
    assert not evaluate(Access("x", ACCOUNT, "a:B", "*", found), [red]).allowed


def test_resources() -> None:
    assert context.of_resource(ACCOUNT, {"Team": "red"}, "sagemaker") == {
        "aws:resourceaccount": (ACCOUNT,),
        "aws:resourcetag/team": ("red",),
        "sagemaker:resourcetag/team": ("red",),
    }


def test_an_endpoint_configs_keys() -> None:
    variants = [
        {"InstanceType": "ml.t3.medium", "ModelName": "a"},
        {"InstanceType": "ml.p5.48xlarge", "ModelName": "b"},
        {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}},
    ]
    request = {
        "EndpointConfigName": "c", "KmsKeyId": "k", "ProductionVariants": variants, "EnableNetworkIsolation": True,
        "VpcConfig": {"Subnets": ["s-1", "s-2"], "SecurityGroupIds": ["g"]},
    }  # fmt: skip

    assert of("CreateEndpointConfig", request, models=["arn:a", "arn:b"]) == {
        "sagemaker:instancetypes": ("ml.t3.medium", "ml.p5.48xlarge"),
        "sagemaker:serverlessmemorysize": ("2048",),
        "sagemaker:serverlessmaxconcurrency": ("5",),
        "sagemaker:networkisolation": ("true",),
        "sagemaker:vpcsubnets": ("s-1", "s-2"),
        "sagemaker:vpcsecuritygroupids": ("g",),
        "sagemaker:volumekmskey": ("k",),
        "sagemaker:modelarn": ("arn:a", "arn:b"),
    }


def test_a_training_jobs_keys() -> None:
    request = {
        "OutputDataConfig": {"KmsKeyId": "out", "S3OutputPath": "s3://b"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "VolumeKmsKeyId": "vol", "KeepAlivePeriodInSeconds": 60},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "EnableInterContainerTrafficEncryption": False,
        "InputDataConfig": [{"DataSource": {"FileSystemDataSource": {"FileSystemId": "fs", "DirectoryPath": "/d"}}}],
    }

    assert of("CreateTrainingJob", request) == {
        "sagemaker:outputkmskey": ("out",),
        "sagemaker:instancetypes": ("ml.m5.large",),
        "sagemaker:volumekmskey": ("vol",),
        "sagemaker:keepaliveperiod": ("60",),
        "sagemaker:maxruntimeinseconds": ("3600",),
        "sagemaker:intercontainertrafficencryption": ("false",),
        "sagemaker:filesystemid": ("fs",),
        "sagemaker:filesystemdirectorypath": ("/d",),
    }


def test_a_customers_own_names_fill_no_key() -> None:
    environment = {"InstanceType": "ml.t3.medium", "EnableNetworkIsolation": "true"}

    assert of("CreateTrainingJob", {"Environment": environment, "HyperParameters": environment}) == {}


@pytest.mark.parametrize(("key", "way"), context.SAGEMAKER)
def test_every_way_is_one_of_the_models(key: str, way: tuple[str, ...]) -> None:
    """A renamed member would make its key silently absent."""
    shapes = [SAGEMAKER.shape_for(name) for name in SAGEMAKER.shape_names]

    def holds(shape: Any, left: tuple[str, ...]) -> bool:
        while shape.type_name == "list":
            shape = shape.member
        if not left:
            return True
        members = shape.members if shape.type_name == "structure" else {}
        return left[0] in members and holds(members[left[0]], left[1:])

    assert any(holds(shape, way) for shape in shapes), key


def test_invocations_and_objects() -> None:
    assert context.of_invocation("a.tar.gz") == {"sagemaker:targetmodel": ("a.tar.gz",)}
    assert context.of_invocation("") == {}
    assert context.of_objects({"prefix": "a/", "versionId": "3"}, {"x-amz-acl": "private", "other": "x"}) == {
        "s3:prefix": ("a/",),
        "s3:versionid": ("3",),
        "s3:x-amz-acl": ("private",),
    }
