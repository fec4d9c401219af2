"""The model registry through boto3: groups, versions, approval, cards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.store.store import Store
from tests.control.conftest import ROLE
from tests.control.test_models import make_config, refused

SPECIFICATION = {
    "Containers": [{"Image": "sagemaker-scikit-learn:1.2-1", "ModelDataUrl": "s3://bucket/model.tar.gz"}],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}


@pytest.fixture
def group(sagemaker: Any) -> Any:
    sagemaker.create_model_package_group(
        ModelPackageGroupName="Prices", ModelPackageGroupDescription="of houses", Tags=[{"Key": "a", "Value": "1"}]
    )
    return sagemaker


def register(sagemaker: Any, **more: Any) -> str:
    made = sagemaker.create_model_package(
        ModelPackageGroupName="Prices", InferenceSpecification=SPECIFICATION, **more
    )  # fmt: skip
    return str(made["ModelPackageArn"])


def versions(sagemaker: Any, **filters: Any) -> list[int]:
    found = sagemaker.list_model_packages(ModelPackageGroupName="Prices", **filters)["ModelPackageSummaryList"]
    return [package["ModelPackageVersion"] for package in found]


def test_a_group_is_described_by_name_and_by_arn(group: Any) -> None:
    found = group.describe_model_package_group(ModelPackageGroupName="Prices")
    assert found["ModelPackageGroupArn"].endswith(":model-package-group/prices")
    assert found["ModelPackageGroupStatus"] == "Completed"
    assert found["ModelPackageGroupDescription"] == "of houses"
    assert found["CreatedBy"] == {"IamIdentity": {"Arn": "arn:aws:iam::123456789012:root"}}
    again = group.describe_model_package_group(ModelPackageGroupName=found["ModelPackageGroupArn"])
    assert again["ModelPackageGroupName"] == "Prices"
    assert group.list_tags(ResourceArn=found["ModelPackageGroupArn"])["Tags"] == [{"Key": "a", "Value": "1"}]
    assert len(group.list_model_package_groups()["ModelPackageGroupSummaryList"]) == 1
    shared = group.list_model_package_groups(CrossAccountFilterOption="CrossAccount")
    assert shared["ModelPackageGroupSummaryList"] == []


def test_versions_count_up_and_never_come_back(group: Any) -> None:
    assert register(group).endswith(":model-package/prices/1")
    second = register(group)
    group.delete_model_package(ModelPackageName=second)
    assert register(group).endswith("/3")
    assert versions(group) == [1, 3]
    found = group.describe_model_package(ModelPackageName="Prices/3")
    assert (found["ModelPackageGroupName"], found["ModelPackageVersion"]) == ("Prices", 3)
    assert "ModelPackageName" not in found
    assert found["ModelPackageStatus"] == "Completed"
    assert found["ModelPackageStatusDetails"] == {"ValidationStatuses": []}
    assert found["InferenceSpecification"] == SPECIFICATION
    assert refused(group.describe_model_package, ModelPackageName=second)[0] == "ValidationException"


def test_the_same_token_makes_one_version(group: Any) -> None:
    assert register(group, ClientToken="t-1") == register(group, ClientToken="t-1")
    assert versions(group) == [1]


def test_approval_and_its_history(group: Any, store: Store) -> None:
    first, second = register(group), register(group, ModelApprovalStatus="Approved")
    assert group.describe_model_package(ModelPackageName=first)["ModelApprovalStatus"] == "PendingManualApproval"
    group.update_model_package(ModelPackageArn=first, ModelApprovalStatus="Rejected", ApprovalDescription="too slow")
    found = group.describe_model_package(ModelPackageName=first)
    assert (found["ModelApprovalStatus"], found["ApprovalDescription"]) == ("Rejected", "too slow")
    assert found["LastModifiedBy"]["IamIdentity"]["Arn"].endswith(":root")
    assert versions(group, ModelApprovalStatus="Rejected") == [1]
    assert versions(group, ModelApprovalStatus="Approved") == [2]
    assert second.endswith("/2")
    history = store.get("ModelPackage", "Prices/1").document["ApprovalHistory"]
    assert [entry["ModelApprovalStatus"] for entry in history] == ["PendingManualApproval", "Rejected"]


def test_properties_are_added_and_removed(group: Any) -> None:
    arn = register(group, CustomerMetadataProperties={"a": "1", "b": "2"})
    group.update_model_package(
        ModelPackageArn=arn, CustomerMetadataProperties={"c": "3"}, CustomerMetadataPropertiesToRemove=["a"]
    )
    found = group.describe_model_package(ModelPackageName=arn)
    assert found["CustomerMetadataProperties"] == {"b": "2", "c": "3"}
    extra = [{"Name": "gpu", "Containers": SPECIFICATION["Containers"]}]
    group.update_model_package(ModelPackageArn=arn, AdditionalInferenceSpecificationsToAdd=extra)
    assert group.describe_model_package(ModelPackageName=arn)["AdditionalInferenceSpecifications"] == extra
    assert "unique" in refused(
        group.update_model_package, ModelPackageArn=arn, AdditionalInferenceSpecificationsToAdd=extra
    )[1]  # fmt: skip


def test_many_packages_at_once(group: Any) -> None:
    arn, missing = register(group), "arn:aws:sagemaker:us-east-1:123456789012:model-package/none/1"
    found = group.batch_describe_model_package(ModelPackageArnList=[arn, missing])
    assert found["ModelPackageSummaries"][arn]["InferenceSpecification"] == SPECIFICATION
    assert missing in found["BatchDescribeModelPackageErrorMap"][missing]["ErrorResponse"]
    alone = group.batch_describe_model_package(ModelPackageArnList=[arn])
    assert "BatchDescribeModelPackageErrorMap" not in alone


def test_packages_without_a_group(group: Any) -> None:
    register(group)
    group.create_model_package(ModelPackageName="alone", InferenceSpecification=SPECIFICATION)
    listed = group.list_model_packages()["ModelPackageSummaryList"]
    assert [package["ModelPackageName"] for package in listed] == ["alone"]
    assert len(group.list_model_packages(ModelPackageType="Both")["ModelPackageSummaryList"]) == 2
    (versioned,) = group.list_model_packages(ModelPackageType="Versioned")["ModelPackageSummaryList"]
    assert versioned["ModelPackageVersion"] == 1
    assert "ModelPackageName" not in versioned
    assert group.describe_model_package(ModelPackageName="alone")["ModelPackageName"] == "alone"


def test_a_group_with_versions_stays(group: Any) -> None:
    arn = register(group)
    code, message = refused(group.delete_model_package_group, ModelPackageGroupName="Prices")
    assert code == "ConflictException"
    assert "still contains" in message
    assert group.describe_model_package_group(ModelPackageGroupName="Prices")
    group.delete_model_package(ModelPackageName=arn)
    group.delete_model_package_group(ModelPackageGroupName="Prices")


@pytest.mark.parametrize(
    ("package", "code", "words"),
    [
        ({}, "ValidationException", "Exactly one of"),
        ({"ModelPackageGroupName": "none"}, "ValidationException", "Could not find model package group"),
        ({"ModelPackageName": "alone"}, "ConflictException", "already existing"),
        ({"ModelPackageName": "x", "CertifyForMarketplace": True}, "ValidationException", "marketplace"),
        (
            {"ModelPackageName": "x", "SourceAlgorithmSpecification": {"SourceAlgorithms": [{"AlgorithmName": "a"}]}},
            "ValidationException",
            "no algorithms",
        ),
    ],
)
def test_a_package_that_cannot_be(group: Any, package: dict[str, Any], code: str, words: str) -> None:
    group.create_model_package(ModelPackageName="alone", InferenceSpecification=SPECIFICATION)
    got, message = refused(group.create_model_package, **package)
    assert (got, words in message) == (code, True)


def test_a_model_of_a_package_becomes_an_endpoint(group: Any, store: Store) -> None:
    arn = register(group)
    group.create_model(ModelName="m", Containers=[{"ModelPackageName": arn}], ExecutionRoleArn=ROLE)
    make_config(group)
    group.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    document = store.get("Endpoint", "ep").document
    assert document["problem"] is None
    assert document["variants"][0]["model"] == "s3://bucket/model.tar.gz"


CARD = {"ModelCardName": "Card", "Content": '{"model_overview": {"model_id": "m", "x": 1}}', "ModelCardStatus": "Draft"}


def test_a_card_has_versions(sagemaker: Any) -> None:
    arn = sagemaker.create_model_card(**CARD)["ModelCardArn"]
    sagemaker.update_model_card(ModelCardName="Card", Content='{"two": 2}')
    sagemaker.update_model_card(ModelCardName="Card", ModelCardStatus="Approved")
    found = sagemaker.describe_model_card(ModelCardName=arn)
    assert (found["ModelCardVersion"], found["ModelCardStatus"], found["Content"]) == (2, "Approved", '{"two": 2}')
    first = sagemaker.describe_model_card(ModelCardName="Card", ModelCardVersion=1)
    assert (first["ModelCardVersion"], first["ModelCardStatus"], first["Content"]) == (1, "Draft", CARD["Content"])
    assert first["ModelCardArn"] == arn
    meta = sagemaker.describe_model_card(ModelCardName="Card", ModelCardVersion=1, IncludedData="MetadataOnly")
    assert json.loads(meta["Content"]) == {"model_overview": {"model_id": "m"}}
    listed = sagemaker.list_model_card_versions(ModelCardName="Card", SortOrder="Ascending")
    summaries = listed["ModelCardVersionSummaryList"]
    states = [(each["ModelCardVersion"], each["ModelCardStatus"]) for each in summaries]
    assert states == [(1, "Draft"), (2, "Approved")]
    (summary,) = sagemaker.list_model_cards(ModelCardStatus="Approved")["ModelCardSummaries"]
    assert summary["ModelCardName"] == "Card"
    assert sagemaker.list_model_cards(ModelCardStatus="Draft")["ModelCardSummaries"] == []


def test_a_deleted_card_takes_its_versions_along(sagemaker: Any) -> None:
    sagemaker.create_model_card(**CARD)
    sagemaker.update_model_card(ModelCardName="Card", Content="{}")
    sagemaker.delete_model_card(ModelCardName="Card")
    for call in (sagemaker.describe_model_card, sagemaker.list_model_card_versions, sagemaker.delete_model_card):
        assert refused(call, ModelCardName="Card")[0] == "ResourceNotFound"
    sagemaker.create_model_card(**CARD)
    assert sagemaker.describe_model_card(ModelCardName="Card")["ModelCardVersion"] == 1


def test_a_card_that_cannot_be(sagemaker: Any) -> None:
    assert "JSON object" in refused(sagemaker.create_model_card, **{**CARD, "Content": "[]"})[1]
    sagemaker.create_model_card(**CARD)
    assert refused(sagemaker.create_model_card, **CARD)[0] == "ConflictException"
    code, message = refused(sagemaker.update_model_card, ModelCardName="Card", Content="{}", ModelCardStatus="Approved")
    assert (code, "one call" in message) == ("ValidationException", True)
    assert refused(sagemaker.describe_model_card, ModelCardName="Card", ModelCardVersion=7)[0] == "ResourceNotFound"
    assert refused(sagemaker.update_model_card, ModelCardName="none", Content="{}")[0] == "ResourceNotFound"
