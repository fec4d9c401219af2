"""Models and endpoint configurations, through boto3."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from server.control.instances import Machine
from server.control.operations import Context
from server.store.store import Store
from tests.control.conftest import ROLE, client

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/djl-inference:0.33.0-lmi15.0.0-cu128"
CONTAINER = {"Image": IMAGE, "Environment": {"HF_MODEL_ID": "hearth-python-lm", "OPTION_MAX_MODEL_LEN": "512"}}
VARIANT = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}


def refused(call: Any, **arguments: Any) -> tuple[str, str]:
    """Code and message of the error that a call ends in."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert caught.value.response["ResponseMetadata"]["RequestId"]
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def make_model(sagemaker: Any, name: str = "m", **container: Any) -> str:
    return str(
        sagemaker.create_model(
            ModelName=name, PrimaryContainer={**CONTAINER, **container}, ExecutionRoleArn=ROLE
        )["ModelArn"]
    )  # fmt: skip


def make_config(sagemaker: Any, name: str = "c", *variants: dict[str, Any], **more: Any) -> str:
    made = sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=list(variants) or [VARIANT], **more
    )
    return str(made["EndpointConfigArn"])


def test_a_model_is_described_as_it_was_asked_for(sagemaker: Any) -> None:
    arn = make_model(sagemaker, "My-Model")
    assert arn == "arn:aws:sagemaker:us-east-1:123456789012:model/my-model"
    found = sagemaker.describe_model(ModelName="My-Model")
    assert found["ModelArn"] == arn
    assert found["PrimaryContainer"] == CONTAINER
    assert found["ExecutionRoleArn"] == ROLE
    assert found["CreationTime"].tzinfo is not None
    assert set(found) == {
        "ModelName", "ModelArn", "PrimaryContainer", "ExecutionRoleArn", "CreationTime", "ResponseMetadata",
    }  # fmt: skip


def test_an_unknown_image_is_stored(sagemaker: Any) -> None:
    make_model(sagemaker, Image="registry.example.com/own:1")
    assert sagemaker.describe_model(ModelName="m")["PrimaryContainer"]["Image"] == "registry.example.com/own:1"


def test_a_taken_name_is_refused_in_any_case_of_its_letters(sagemaker: Any) -> None:
    make_model(sagemaker, "one")
    for name in ("one", "ONE"):
        code, message = refused(sagemaker.create_model, ModelName=name, PrimaryContainer=CONTAINER)
        assert code == "ValidationException"
        assert message.startswith("Cannot create already existing model")


def test_a_deleted_model_is_gone(sagemaker: Any) -> None:
    make_model(sagemaker)
    sagemaker.delete_model(ModelName="m")
    for call in (sagemaker.describe_model, sagemaker.delete_model):
        code, message = refused(call, ModelName="m")
        assert (code, message) == (
            "ValidationException",
            'Could not find model "arn:aws:sagemaker:us-east-1:123456789012:model/m".',
        )


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({}, "Exactly one of PrimaryContainer and Containers"),
        ({"PrimaryContainer": CONTAINER, "Containers": [CONTAINER]}, "Exactly one of"),
        ({"PrimaryContainer": {"Environment": {}}}, "either Image or ModelPackageName"),
        ({"PrimaryContainer": {"ModelPackageName": "none"}}, "Could not find model package"),
        (
            {
                "PrimaryContainer": {
                    "Image": "a", "ModelDataUrl": "s3://b/k",
                    "ModelDataSource": {"S3DataSource": {
                        "S3Uri": "s3://b/k/", "S3DataType": "S3Prefix", "CompressionType": "None"}},
                }
            },
            "cannot be given together",
        ),
        ({"PrimaryContainer": CONTAINER, "Tags": [{"Key": "a", "Value": "1"}] * 2}, "more than"),
        ({"PrimaryContainer": CONTAINER, "Tags": [{"Key": "aws:x", "Value": "1"}]}, "begin with aws:"),
    ],
)  # fmt: skip
def test_a_model_that_contradicts_itself_changes_nothing(sagemaker: Any, model: dict[str, Any], words: str) -> None:
    code, message = refused(sagemaker.create_model, ModelName="m", **model)
    assert code == "ValidationException"
    assert words in message
    assert sagemaker.list_models()["Models"] == []


def test_a_configuration_is_described_as_it_was_asked_for(sagemaker: Any) -> None:
    make_model(sagemaker)
    arn = make_config(sagemaker, Tags=[{"Key": "team", "Value": "a"}])
    assert arn.endswith(":endpoint-config/c")
    found = sagemaker.describe_endpoint_config(EndpointConfigName="c")
    assert found["ProductionVariants"] == [VARIANT]
    assert "Tags" not in found
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "a"}]
    sagemaker.delete_endpoint_config(EndpointConfigName="c")
    assert refused(sagemaker.describe_endpoint_config, EndpointConfigName="c")[0] == "ValidationException"


SERVERLESS = {"VariantName": "v", "ModelName": "m", "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ([{**VARIANT, "ModelName": "none"}], "Could not find model"),
        ([VARIANT, VARIANT], "unique"),
        ([{"VariantName": "v", "InstanceType": "ml.m5.large"}], "needs a ModelName"),
        ([{"VariantName": "v", "ModelName": "m"}], "either InstanceType or ServerlessConfig"),
        ([{**SERVERLESS, "InstanceType": "ml.m5.large"}], "either InstanceType or ServerlessConfig"),
        ([{**SERVERLESS, "InitialInstanceCount": 1}], "no InitialInstanceCount"),
        (
            [{**SERVERLESS, "ServerlessConfig": {
                "MemorySizeInMB": 1024, "MaxConcurrency": 2, "ProvisionedConcurrency": 3}}],
            "ProvisionedConcurrency is above",
        ),
        ([{**VARIANT, "ManagedInstanceScaling": {"MinInstanceCount": 3, "MaxInstanceCount": 1}}], "MinInstanceCount"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_is_refused(sagemaker: Any, variants: list[dict[str, Any]], words: str) -> None:
    make_model(sagemaker)
    code, message = refused(sagemaker.create_endpoint_config, EndpointConfigName="c", ProductionVariants=variants)
    assert code == "ValidationException"
    assert words in message
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []


def test_each_region_has_its_own(sagemaker: Any, address: str) -> None:
    make_model(sagemaker)
    elsewhere = client(address, region="eu-west-1")
    assert elsewhere.list_models()["Models"] == []
    assert ":eu-west-1:" in make_model(elsewhere)
    assert ":us-east-1:" in sagemaker.describe_model(ModelName="m")["ModelArn"]
    elsewhere.close()


def test_who_am_i(address: str) -> None:
    sts = client(address, "sts")
    assert sts.get_caller_identity()["Account"] == "123456789012"
    with pytest.raises(ClientError, match="InvalidAction"):
        sts.get_federation_token(Name="me")
    sts.close()


def test_another_query_service_is_refused(address: str) -> None:
    sns = client(address, "sns")
    with pytest.raises(ClientError, match="InvalidAction"):
        sns.list_topics()
    sns.close()


def test_a_context_knows_its_account_and_region(store: Store) -> None:
    context = Context(store.within("eu-west-1"), Machine())
    assert (context.account, context.region) == ("123456789012", "eu-west-1")
