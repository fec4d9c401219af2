"""The simulator's answers, and AWS's managed policies seen through it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from server.identity.policy.document import Use
from server.identity.policy.managed import MANAGED, compiled
from server.identity.policy.policy import compile_policy
from server.identity.policy.simulate import Simulation, context_keys, entries, simulate

ACCOUNT = "111122223333"
ANA = f"arn:aws:iam::{ACCOUNT}:user/ana"
SM = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}"
TEXT = """{
  "Version": "2012-10-17",
  "Statement": [
    {"Sid": "Read", "Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::${aws:PrincipalTag/team}/*"},
    {
      "Effect": "Deny", "Action": "s3:*", "Resource": "*",
      "Condition": {"Bool": {"aws:SecureTransport": "false"}}
    }
  ]
}"""


def simulation(text: str = TEXT, **more: Any) -> Simulation:
    return Simulation(ANA, ACCOUNT, [compile_policy(text, id="PolicyInputList.1")], **more)


def test_results_are_as_the_model_has_them() -> None:
    context = entries([
        {"ContextKeyName": "aws:PrincipalTag/Team", "ContextKeyValues": ["red"], "ContextKeyType": "string"},
    ])  # fmt: skip
    [found] = simulate(simulation(context=context), ["s3:GetObject"], ["arn:aws:s3:::red/k"])
    model = ServiceModel(Loader().load_service_model("iam", "service-2"), "iam")
    shape = model.operation_model("SimulateCustomPolicy").output_shape.members["EvaluationResults"].member

    assert found == {
        "EvalActionName": "s3:GetObject",
        "EvalResourceName": "arn:aws:s3:::red/k",
        "EvalDecision": "allowed",
        "MatchedStatements": [
            {
                "SourcePolicyId": "PolicyInputList.1",
                "SourcePolicyType": "IAM Policy",
                "StartPosition": {"Line": 4, "Column": 5},
                "EndPosition": {"Line": 4, "Column": 115},
            }
        ],
        "MissingContextValues": ["aws:SecureTransport"],
    }
    assert not ParamValidator().validate(found, shape).has_errors()


def test_the_place_of_a_statement_is_its_text() -> None:
    context = {"aws:SecureTransport": ("false",)}
    [found] = simulate(simulation(context=context), ["s3:GetObject"])
    start, end = found["MatchedStatements"][0]["StartPosition"], found["MatchedStatements"][0]["EndPosition"]
    lines = TEXT.splitlines()

    assert found["EvalDecision"] == "explicitDeny"
    assert (start["Line"], end["Line"]) == (5, 8)
    assert lines[4][start["Column"] - 1] == "{"
    assert lines[7][end["Column"] - 2] == "}"


def test_each_action_on_each_resource() -> None:
    found = simulate(simulation(), ["s3:GetObject", "s3:PutObject"], ["arn:aws:s3:::a/k", "arn:aws:s3:::b/k"])

    assert [(one["EvalActionName"], one["EvalResourceName"][-3:]) for one in found] == [
        ("s3:GetObject", "a/k"), ("s3:GetObject", "b/k"), ("s3:PutObject", "a/k"), ("s3:PutObject", "b/k"),
    ]  # fmt: skip
    assert {one["EvalDecision"] for one in found} == {"implicitDeny"}
    assert simulate(simulation(), ["s3:GetObject"])[0]["EvalResourceName"] == "*"


def test_keys_that_the_service_fills_are_not_missing() -> None:
    found = simulate(simulation(supplied=frozenset({"aws:securetransport"})), ["s3:GetObject"])

    assert found[0]["MissingContextValues"] == ["aws:PrincipalTag/team"]
    assert context_keys([compile_policy(TEXT)]) == ["aws:PrincipalTag/team", "aws:SecureTransport"]


def test_a_boundary_is_told_apart() -> None:
    everything = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    only_s3 = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}
    bounded = simulation(json.dumps(everything), boundary=compile_policy(only_s3, id="Boundary"))
    s3, sqs = simulate(bounded, ["s3:GetObject", "sqs:SendMessage"])

    assert s3["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": True}
    assert sqs["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": False}
    assert (s3["EvalDecision"], sqs["EvalDecision"]) == ("allowed", "implicitDeny")
    assert [one["SourcePolicyType"] for one in s3["MatchedStatements"]] == ["IAM Policy", "PermissionsBoundary Policy"]


MANAGED_CASES: list[tuple[str, str, str, dict[str, tuple[str, ...]], bool]] = [
    ("AdministratorAccess", "iam:CreateUser", "*", {}, True),
    ("PowerUserAccess", "sagemaker:CreateModel", f"{SM}:model/m", {}, True),
    ("PowerUserAccess", "iam:CreateUser", "*", {}, False),
    ("PowerUserAccess", "iam:ListRoles", "*", {}, True),
    ("ReadOnlyAccess", "sagemaker:DescribeModel", f"{SM}:model/m", {}, True),
    ("ReadOnlyAccess", "sagemaker:InvokeEndpoint", f"{SM}:endpoint/e", {}, False),
    ("ReadOnlyAccess", "s3:PutObject", "arn:aws:s3:::b/k", {}, False),
    ("AmazonSageMakerFullAccess", "sagemaker:CreateModel", f"{SM}:model/m", {}, True),
    ("AmazonSageMakerFullAccess", "sagemaker:ListModels", "*", {}, True),
    ("AmazonSageMakerFullAccess", "sagemaker:CreateDomain", f"{SM}:domain/*", {}, False),
    ("AmazonSageMakerFullAccess", "sagemaker:DescribeDomain", f"{SM}:domain/d-1", {}, True),
    ("AmazonSageMakerFullAccess", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/r", {}, False),
    (
        "AmazonSageMakerFullAccess",
        "iam:PassRole",
        f"arn:aws:iam::{ACCOUNT}:role/r",
        {"iam:PassedToService": ("sagemaker.amazonaws.com",)},
        True,
    ),
    ("AmazonSageMakerFullAccess", "s3:GetObject", "arn:aws:s3:::sagemaker-us-east-1-1/k", {}, True),
    ("AmazonSageMakerFullAccess", "s3:GetObject", "arn:aws:s3:::private/k", {}, False),
    (
        "AmazonSageMakerFullAccess",
        "sagemaker:CreateApp",
        f"{SM}:app/d-1/ana/jupyterlab/default",
        {
            "sagemaker:DomainId": ("d-1",),
            "sagemaker:SpaceSharingType": ("Shared",),
            "sagemaker:OwnerUserProfileArn": ("x",),
        },
        True,
    ),
    ("AmazonSageMakerReadOnly", "sagemaker:Search", "*", {}, True),
    ("AmazonSageMakerReadOnly", "sagemaker:DeleteModel", f"{SM}:model/m", {}, False),
    ("AmazonS3FullAccess", "s3:DeleteBucket", "arn:aws:s3:::b", {}, True),
    ("AmazonS3ReadOnlyAccess", "s3:GetObject", "arn:aws:s3:::b/k", {}, True),
    ("AmazonS3ReadOnlyAccess", "s3:DeleteObject", "arn:aws:s3:::b/k", {}, False),
    ("CloudWatchLogsReadOnlyAccess", "logs:FilterLogEvents", "*", {}, True),
    ("CloudWatchLogsReadOnlyAccess", "logs:DeleteLogGroup", "*", {}, False),
    ("CloudWatchLogsFullAccess", "logs:DeleteLogGroup", "*", {}, True),
    ("IAMFullAccess", "iam:DeleteUser", "*", {}, True),
    ("IAMFullAccess", "s3:GetObject", "*", {}, False),
    ("IAMReadOnlyAccess", "iam:SimulatePrincipalPolicy", "*", {}, True),
    ("IAMReadOnlyAccess", "iam:CreateUser", "*", {}, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "action", "resource", "context", "allowed"), MANAGED_CASES)
def test_managed_policies(
    name: str, action: str, resource: str, context: dict[str, tuple[str, ...]], allowed: bool
) -> None:
    policy = compiled(f"arn:aws:iam::aws:policy/{name}")
    [found] = simulate(Simulation(ANA, ACCOUNT, [policy], context=context), [action], [resource])

    assert (found["EvalDecision"] == "allowed") == allowed


def test_every_managed_policy_is_one() -> None:
    for arn, managed in MANAGED.items():
        assert arn == f"arn:aws:iam::aws:policy/{managed.name}"
        assert compile_policy(managed.document, use=Use.AWS).statements
    with pytest.raises(LookupError, match="AdministratorAccess"):
        compiled("arn:aws:iam::aws:policy/Unknown")
