"""Search through boto3."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.control.test_models import VARIANT, make_config, make_model, refused
from tests.control.test_registry import SPECIFICATION


@pytest.fixture
def packages(sagemaker: Any) -> Any:
    """Three versions in a group, the second approved and tagged."""
    sagemaker.create_model_package_group(ModelPackageGroupName="g")
    for number in range(3):
        more = {"ModelApprovalStatus": "Approved", "Tags": [{"Key": "team", "Value": "blue"}]} if number == 1 else {}
        sagemaker.create_model_package(
            ModelPackageGroupName="g", InferenceSpecification=SPECIFICATION,
            CustomerMetadataProperties={"n": str(number)}, **more,
        )  # fmt: skip
    return sagemaker


def found(sagemaker: Any, *filters: tuple[str, ...], resource: str = "ModelPackage", **more: Any) -> list[Any]:
    listed = [dict(zip(("Name", "Operator", "Value"), each, strict=False)) for each in filters]
    expression = {"SearchExpression": {"Filters": listed}} if listed else {}
    pages = sagemaker.get_paginator("search").paginate(Resource=resource, **{**expression, **more})
    return [result[resource] for page in pages for result in page["Results"]]


def versions(*arguments: Any, **more: Any) -> list[int]:
    return [record["ModelPackageVersion"] for record in found(*arguments, **more)]


def test_filters(packages: Any) -> None:
    assert versions(packages) == [3, 2, 1]
    assert versions(packages, ("ModelApprovalStatus", "Equals", "Approved")) == [2]
    assert versions(packages, ("ModelApprovalStatus", "NotEquals", "Approved")) == [3, 1]
    assert versions(packages, ("ModelPackageVersion", "GreaterThan", "1"), SortOrder="Ascending") == [2, 3]
    assert versions(packages, ("ModelPackageVersion", "LessThanOrEqualTo", "2")) == [2, 1]
    assert versions(packages, ("Tags.team", "Equals", "blue")) == [2]
    assert versions(packages, ("Tags.team", "NotExists")) == [3, 1]
    assert versions(packages, ("ModelPackageGroupName", "Contains", "g"), ("Tags.team", "Exists")) == [2]
    assert versions(packages, ("CustomerMetadataProperties.n", "In", "0, 2")) == [3, 1]
    assert versions(packages, ("InferenceSpecification.Containers.Image", "Contains", "scikit")) == [3, 2, 1]
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert versions(packages, ("CreationTime", "LessThan", future)) == [3, 2, 1]
    assert versions(packages, ("CreationTime", "GreaterThan", future)) == []


def test_expressions_and_sorting(packages: Any) -> None:
    either = {
        "Operator": "Or",
        "Filters": [{"Name": "ModelPackageVersion", "Value": "1"}],
        "SubExpressions": [{"Filters": [{"Name": "ModelApprovalStatus", "Value": "Approved"}]}],
    }
    assert versions(packages, SearchExpression=either, SortBy="ModelPackageVersion", SortOrder="Ascending") == [1, 2]
    nested = {
        "NestedPropertyName": "InferenceSpecification.Containers",
        "Filters": [
            {"Name": "InferenceSpecification.Containers.Image", "Operator": "Contains", "Value": "scikit"},
            {"Name": "InferenceSpecification.Containers.ModelDataUrl", "Operator": "Exists"},
        ],
    }
    assert len(found(packages, SearchExpression={"NestedFilters": [nested]})) == 3


def test_pages(packages: Any) -> None:
    first = packages.search(Resource="ModelPackage", MaxResults=2)
    assert first["TotalHits"] == {"Value": 3, "Relation": "EqualTo"}
    second = packages.search(Resource="ModelPackage", MaxResults=2, NextToken=first["NextToken"])
    shown = [result["ModelPackage"]["ModelPackageVersion"] for page in (first, second) for result in page["Results"]]
    assert shown == [3, 2, 1]
    assert "NextToken" not in second
    assert "NextToken" in refused(packages.search, Resource="ModelPackageGroup", NextToken=first["NextToken"])[1]


def test_every_kind_can_be_found(packages: Any) -> None:
    make_model(packages)
    make_config(packages)
    packages.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    packages.create_model_card(ModelCardName="card", Content="{}", ModelCardStatus="Draft")
    (model,) = found(packages, ("ModelName", "Equals", "m"), resource="Model")
    assert model["Model"]["ModelName"] == "m"
    (endpoint,) = found(packages, ("ProductionVariants.VariantName", "Equals", "AllTraffic"), resource="Endpoint")
    assert (endpoint["EndpointStatus"], VARIANT["VariantName"]) == ("Creating", "AllTraffic")
    assert [card["ModelCardName"] for card in found(packages, resource="ModelCard")] == ["card"]
    assert [group["ModelPackageGroupName"] for group in found(packages, resource="ModelPackageGroup")] == ["g"]
    assert found(packages, CrossAccountFilterOption="CrossAccount") == []


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"Resource": "TrainingJob"}, "cannot be searched yet"),
        ({"SearchExpression": {"Filters": [{"Name": "Nothing", "Value": "1"}]}}, "no property"),
        ({"SearchExpression": {"Filters": [{"Name": "ModelPackageVersion", "Value": "x"}]}}, "is no integer"),
        ({"SearchExpression": {"Filters": [{"Name": "ModelPackageVersion"}]}}, "needs a Value"),
        ({"SearchExpression": {"Filters": [{"Name": "CreationTime", "Value": "soon"}]}}, "is no timestamp"),
        (
            {"SearchExpression": {"Filters": [{"Name": "Domain", "Operator": "GreaterThan", "Value": "1"}]}},
            "text",
        ),
        ({"SearchExpression": {"Filters": [{"Name": "InferenceSpecification", "Value": "1"}]}}, "other properties"),
        ({"SearchExpression": {"Operator": "Or"}}, "1 to 50"),
        ({"SortBy": "Nothing"}, "no property"),
        ({"VisibilityConditions": [{"Key": "a", "Value": "b"}]}, "hide"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched(sagemaker: Any, request_: dict[str, Any], words: str) -> None:
    code, message = refused(sagemaker.search, **{"Resource": "ModelPackage", **request_})
    assert code == "ValidationException"
    assert words in message
