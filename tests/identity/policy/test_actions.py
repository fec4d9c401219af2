"""What calls ask for, by the services' own models."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from server.identity.policy import objects
from server.identity.policy.actions import asks
from server.identity.policy.scope import Scope
from server.objects.operations import find
from server.store.store import Store

ACCOUNT = "111122223333"
REGION = "us-east-1"
SCOPE = Scope(ACCOUNT, REGION, f"arn:aws:iam::{ACCOUNT}:user/ana")
LOADER = Loader()
MODELS = {
    name: ServiceModel(LOADER.load_service_model(name, "service-2"), name)
    for name in (
        "sagemaker", "sagemaker-runtime", "sagemaker-metrics", "sagemaker-featurestore-runtime", "iam", "sts", "kms",
        "logs", "cloudwatch", "cloudtrail", "service-quotas",
    )
}  # fmt: skip
SIGNED_AS = {
    "cloudwatch": "monitoring", "service-quotas": "servicequotas",
    **{name: "sagemaker" for name in MODELS if name.startswith("sagemaker")},
}  # fmt: skip
ROLE = f"arn:aws:iam::{ACCOUNT}:role/worker"


def asked(service: str, operation: str, request: dict[str, Any], scope: Scope = SCOPE) -> list[tuple[str, ...]]:
    model = MODELS[service].operation_model(operation)
    found = asks(SIGNED_AS.get(service, service), model, request, scope)
    return [(ask.action, *(resource.removeprefix("arn:aws:") for resource in ask.resources)) for ask in found]


HERE = f"{REGION}:{ACCOUNT}"
SM = f"sagemaker:{HERE}"
CASES: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
    ("sagemaker", "CreateModel", {"ModelName": "My-Model"}, (f"{SM}:model/my-model",)),
    ("sagemaker", "DescribeModel", {"ModelName": "m"}, (f"{SM}:model/m",)),
    ("sagemaker", "ListModels", {"NameContains": "x"}, ("*",)),
    ("sagemaker", "CreateEndpointConfig", {"EndpointConfigName": "c"}, (f"{SM}:endpoint-config/c",)),
    (
        "sagemaker",
        "CreateEndpoint",
        {"EndpointName": "e", "EndpointConfigName": "c"},
        (f"{SM}:endpoint/e", f"{SM}:endpoint-config/c"),
    ),
    ("sagemaker", "UpdateEndpointWeightsAndCapacities", {"EndpointName": "e"}, (f"{SM}:endpoint/e",)),
    ("sagemaker", "DeleteEndpoint", {"EndpointName": "e"}, (f"{SM}:endpoint/e",)),
    (
        "sagemaker",
        "CreateHyperParameterTuningJob",
        {"HyperParameterTuningJobName": "t"},
        (f"{SM}:hyper-parameter-tuning-job/t",),
    ),
    ("sagemaker", "StopTrainingJob", {"TrainingJobName": "t"}, (f"{SM}:training-job/t",)),
    ("sagemaker", "CreateTransformJob", {"TransformJobName": "t", "ModelName": "m"}, (f"{SM}:transform-job/t",)),
    ("sagemaker", "CreateAutoMLJobV2", {"AutoMLJobName": "a"}, (f"{SM}:automl-job/a",)),
    (
        "sagemaker",
        "CreateTrial",
        {"TrialName": "t", "ExperimentName": "e"},
        (f"{SM}:experiment-trial/t", f"{SM}:experiment/e"),
    ),
    ("sagemaker", "CreateInferenceExperiment", {"Name": "x", "EndpointName": "e"}, (f"{SM}:inference-experiment/x",)),
    (
        "sagemaker",
        "CreateInferenceComponent",
        {"InferenceComponentName": "i", "EndpointName": "e"},
        (f"{SM}:inference-component/i", f"{SM}:endpoint/e"),
    ),
    (
        "sagemaker",
        "CreateDataQualityJobDefinition",
        {"JobDefinitionName": "d"},
        (f"{SM}:data-quality-job-definition/d",),
    ),
    ("sagemaker", "CreateUserProfile", {"DomainId": "d-1", "UserProfileName": "Ana"}, (f"{SM}:user-profile/d-1/ana",)),
    (
        "sagemaker",
        "CreateApp",
        {"DomainId": "d-1", "UserProfileName": "ana", "AppType": "JupyterLab", "AppName": "default"},
        (f"{SM}:app/d-1/ana/jupyterlab/default",),
    ),
    (
        "sagemaker",
        "DescribeHubContent",
        {"HubName": "h", "HubContentType": "Model", "HubContentName": "c"},
        (f"{SM}:hub-content/h/Model/c", f"{SM}:hub/h"),
    ),
    ("sagemaker", "CreateDomain", {"DomainName": "d"}, (f"{SM}:domain/*",)),
    ("sagemaker", "CreateModelPackage", {"ModelPackageGroupName": "g"}, (f"{SM}:model-package-group/g",)),
    (
        "sagemaker",
        "DescribeModelPackage",
        {"ModelPackageName": f"arn:aws:{SM}:model-package/G/1"},
        (f"{SM}:model-package/g/1",),
    ),
    (
        "sagemaker",
        "DescribePipelineExecution",
        {"PipelineExecutionArn": f"arn:aws:{SM}:pipeline/p/execution/x1"},
        (f"{SM}:pipeline/p/execution/x1",),
    ),
    ("sagemaker", "ListPipelineExecutions", {"PipelineName": "p"}, (f"{SM}:pipeline/p",)),
    ("sagemaker", "AddTags", {"ResourceArn": f"arn:aws:{SM}:model/M", "Tags": []}, (f"{SM}:model/m",)),
    (
        "sagemaker",
        "ListTrainingJobsForHyperParameterTuningJob",
        {"HyperParameterTuningJobName": "t"},
        (f"{SM}:hyper-parameter-tuning-job/t",),
    ),
    ("sagemaker", "Search", {"Resource": "TrainingJob"}, ("*",)),
    ("sagemaker-runtime", "InvokeEndpoint", {"EndpointName": "Prod"}, (f"{SM}:endpoint/prod",)),
    ("sagemaker-runtime", "InvokeEndpointWithResponseStream", {"EndpointName": "e"}, (f"{SM}:endpoint/e",)),
    ("sagemaker-metrics", "BatchPutMetrics", {"TrialComponentName": "t"}, (f"{SM}:experiment-trial-component/t",)),
    ("sagemaker-featurestore-runtime", "PutRecord", {"FeatureGroupName": "f"}, (f"{SM}:feature-group/f",)),
    (
        "sagemaker-featurestore-runtime",
        "BatchGetRecord",
        {"Identifiers": [{"FeatureGroupName": "f"}, {"FeatureGroupName": "g"}]},
        (f"{SM}:feature-group/f", f"{SM}:feature-group/g"),
    ),
    ("iam", "CreateUser", {"UserName": "bo", "Path": "/x/"}, (f"iam::{ACCOUNT}:user/x/bo",)),
    ("iam", "GetRole", {"RoleName": "r"}, (f"iam::{ACCOUNT}:role/r",)),
    ("iam", "PutRolePolicy", {"RoleName": "r", "PolicyName": "p"}, (f"iam::{ACCOUNT}:role/r",)),
    ("iam", "AttachRolePolicy", {"RoleName": "r", "PolicyArn": "arn:aws:x"}, (f"iam::{ACCOUNT}:role/r",)),
    ("iam", "GetPolicy", {"PolicyArn": "arn:aws:iam::aws:policy/X"}, ("iam::aws:policy/X",)),
    ("iam", "CreatePolicy", {"PolicyName": "p"}, (f"iam::{ACCOUNT}:policy/p",)),
    ("iam", "AddUserToGroup", {"UserName": "u", "GroupName": "g"}, (f"iam::{ACCOUNT}:group/g",)),
    ("iam", "ListAccessKeys", {}, (f"iam::{ACCOUNT}:user/ana",)),
    ("iam", "ListUsers", {}, ("*",)),
    ("iam", "SimulatePrincipalPolicy", {"PolicySourceArn": ROLE}, (f"iam::{ACCOUNT}:role/worker",)),
    ("sts", "AssumeRole", {"RoleArn": ROLE, "RoleSessionName": "s"}, (f"iam::{ACCOUNT}:role/worker",)),
    ("sts", "GetCallerIdentity", {}, ("*",)),
    ("kms", "Decrypt", {"KeyId": "k-1"}, (f"kms:{HERE}:key/k-1",)),
    ("kms", "CreateAlias", {"AliasName": "alias/a", "TargetKeyId": "k"}, (f"kms:{HERE}:alias/a", f"kms:{HERE}:key/k")),
    ("kms", "CreateKey", {}, ("*",)),
    ("logs", "CreateLogGroup", {"logGroupName": "/g"}, (f"logs:{HERE}:log-group:/g:log-stream:",)),
    (
        "logs",
        "GetLogEvents",
        {"logGroupIdentifier": f"arn:aws:logs:{HERE}:log-group:/g:*", "logStreamName": "s"},
        (f"logs:{HERE}:log-group:/g:log-stream:s",),
    ),
    ("cloudtrail", "LookupEvents", {}, ("*",)),
    ("cloudtrail", "StartLogging", {"Name": "t"}, (f"cloudtrail:{HERE}:trail/t",)),
]  # fmt: skip


@pytest.mark.parametrize(("service", "operation", "request_", "resources"), CASES, ids=[case[1] for case in CASES])
def test_a_call_asks_for_its_action(
    service: str, operation: str, request_: dict[str, Any], resources: tuple[str, ...]
) -> None:
    prefix = "sagemaker" if service.startswith("sagemaker") else service

    assert asked(service, operation, request_)[0] == (f"{prefix}:{operation}", *resources)


@pytest.mark.parametrize(
    ("operation", "request_", "resources"),
    [
        ("PutMetricData", {"Namespace": "n"}, ("*",)),
        ("PutMetricAlarm", {"AlarmName": "a"}, (f"cloudwatch:{HERE}:alarm:a",)),
        ("DeleteAlarms", {"AlarmNames": ["a", "b"]}, (f"cloudwatch:{HERE}:alarm:a", f"cloudwatch:{HERE}:alarm:b")),
    ],
)
def test_cloudwatch_signs_as_monitoring(operation: str, request_: dict[str, Any], resources: tuple[str, ...]) -> None:
    assert asked("cloudwatch", operation, request_)[0] == (f"cloudwatch:{operation}", *resources)


def test_more_of_a_quota_is_asked_of_that_quota() -> None:
    more = {"ServiceCode": "sagemaker", "QuotaCode": "H-ENDPOINTS", "DesiredValue": 5.0}
    assert asked("service-quotas", "RequestServiceQuotaIncrease", more)[0] == (
        "servicequotas:RequestServiceQuotaIncrease", f"servicequotas:{HERE}:sagemaker/H-ENDPOINTS",
    )  # fmt: skip
    assert asked("service-quotas", "ListServices", {})[0] == ("servicequotas:ListServices", "*")


@pytest.mark.parametrize("kind", ["Model", "Endpoint", "EndpointConfig", "TrainingJob", "ModelPackageGroup"])
def test_a_decision_and_an_answer_name_the_same_arn(kind: str) -> None:
    store = Store(None, ACCOUNT, REGION)  # type: ignore[arg-type]

    assert asked("sagemaker", f"Describe{kind}", {f"{kind}Name": "Some-Name"})[0][1] == store.arn(
        kind, "Some-Name"
    ).removeprefix("arn:aws:")


@pytest.mark.parametrize("operation", MODELS["sagemaker"].operation_names)
def test_every_operation_of_sagemakers_that_names_something_asks_for_it(operation: str) -> None:
    """Whatever an operation requires, the name "chosen" ends up in an ARN, unless nothing is named or AWS names it."""
    shape = MODELS["sagemaker"].operation_model(operation).input_shape
    required = shape.required_members if shape is not None else []
    texts = [name for name in required if shape.members[name].type_name == "string"]
    [(action, *resources), *_] = asked("sagemaker", operation, dict.fromkeys(texts, "chosen"))

    assert action == f"sagemaker:{operation}"
    named = [name for name in texts if name.endswith(("Name", "Arn", "Id")) and name != "RoleArn"]
    unnamed = ("CreateDomain", "ExtendTrainingPlan", "CreateMlflowApp", "CreatePartnerApp")
    if named and operation not in unnamed and not operation.startswith("Create"):
        assert any("chosen" in resource for resource in resources), resources


def test_roles_are_passed_wherever_they_stand() -> None:
    request = {"ModelName": "m", "ExecutionRoleArn": ROLE, "Tags": [{"Key": "Team", "Value": "red"}]}
    found = asks("sagemaker", MODELS["sagemaker"].operation_model("CreateModel"), request, SCOPE)

    assert [ask.action for ask in found] == ["sagemaker:CreateModel", "sagemaker:AddTags", "iam:PassRole"]
    assert found[1].context["sagemaker:taggingaction"] == ("CreateModel",)
    assert found[1].context["aws:requesttag/team"] == ("red",)
    assert found[2].resources == (ROLE,)
    assert found[2].context["iam:passedtoservice"] == ("sagemaker.amazonaws.com",)

    tuning = {
        "HyperParameterTuningJobName": "t",
        "TrainingJobDefinition": {"RoleArn": ROLE},
        "TrainingJobDefinitions": [{"RoleArn": f"{ROLE}2"}],
    }
    assert asked("sagemaker", "CreateHyperParameterTuningJob", tuning)[1:] == [
        ("iam:PassRole", f"iam::{ACCOUNT}:role/worker"),
        ("iam:PassRole", f"iam::{ACCOUNT}:role/worker2"),
    ]


def test_a_customers_own_map_is_no_member() -> None:
    request = {"ModelName": "m", "PrimaryContainer": {"Environment": {"RoleArn": ROLE, "ExecutionRoleArn": ROLE}}}

    assert len(asked("sagemaker", "CreateModel", request)) == 1


def test_names_that_make_no_arn_are_looked_up() -> None:
    known = {("role", "r"): "arn:aws:iam::1:role/path/r", ("key", "alias/a"): "arn:aws:kms:r:1:key/k"}
    scope = Scope(ACCOUNT, REGION, lookup=lambda kind, name: known.get((kind, name)))

    assert asked("iam", "GetRole", {"RoleName": "r"}, scope)[0][1] == "iam::1:role/path/r"
    assert asked("kms", "Encrypt", {"KeyId": "alias/a"}, scope)[0][1] == "kms:r:1:key/k"


def test_reencrypting_takes_two_actions() -> None:
    found = asked("kms", "ReEncrypt", {"SourceKeyId": "a", "DestinationKeyId": "b"})

    assert [action for action, *_ in found] == ["kms:ReEncryptFrom", "kms:ReEncryptTo"]


S3_CASES: list[tuple[str, str, dict[str, str], dict[str, str], list[tuple[str, str]]]] = [
    ("GET", "/", {}, {}, [("s3:ListAllMyBuckets", "*")]),
    ("GET", "/b", {"list-type": "2"}, {}, [("s3:ListBucket", "arn:aws:s3:::b")]),
    ("HEAD", "/b", {}, {}, [("s3:ListBucket", "arn:aws:s3:::b")]),
    ("PUT", "/b", {}, {}, [("s3:CreateBucket", "arn:aws:s3:::b")]),
    ("GET", "/b", {"versions": ""}, {}, [("s3:ListBucketVersions", "arn:aws:s3:::b")]),
    ("GET", "/b", {"uploads": ""}, {}, [("s3:ListBucketMultipartUploads", "arn:aws:s3:::b")]),
    ("DELETE", "/b", {"lifecycle": ""}, {}, [("s3:PutLifecycleConfiguration", "arn:aws:s3:::b")]),
    ("PUT", "/b", {"cors": ""}, {}, [("s3:PutBucketCORS", "arn:aws:s3:::b")]),
    ("GET", "/b/k/x", {}, {}, [("s3:GetObject", "arn:aws:s3:::b/k/x")]),
    ("HEAD", "/b/k", {}, {}, [("s3:GetObject", "arn:aws:s3:::b/k")]),
    ("GET", "/b/k", {"versionId": "1"}, {}, [("s3:GetObjectVersion", "arn:aws:s3:::b/k")]),
    ("GET", "/b/k", {"tagging": ""}, {}, [("s3:GetObjectTagging", "arn:aws:s3:::b/k")]),
    ("DELETE", "/b/k", {}, {}, [("s3:DeleteObject", "arn:aws:s3:::b/k")]),
    ("DELETE", "/b/k", {"versionId": "1"}, {}, [("s3:DeleteObjectVersion", "arn:aws:s3:::b/k")]),
    ("PUT", "/b/k", {"partNumber": "1", "uploadId": "u"}, {}, [("s3:PutObject", "arn:aws:s3:::b/k")]),
    ("POST", "/b/k", {"uploads": ""}, {}, [("s3:PutObject", "arn:aws:s3:::b/k")]),
    ("GET", "/b/k", {"uploadId": "u"}, {}, [("s3:ListMultipartUploadParts", "arn:aws:s3:::b/k")]),
    (
        "PUT",
        "/b/k",
        {},
        {"x-amz-tagging": "a=b", "x-amz-acl": "private"},
        [
            ("s3:PutObject", "arn:aws:s3:::b/k"),
            ("s3:PutObjectTagging", "arn:aws:s3:::b/k"),
            ("s3:PutObjectAcl", "arn:aws:s3:::b/k"),
        ],
    ),
    (
        "PUT",
        "/b/k",
        {},
        {"x-amz-copy-source": "/src/a%20b?versionId=1"},
        [("s3:PutObject", "arn:aws:s3:::b/k"), ("s3:GetObjectVersion", "arn:aws:s3:::src/a b")],
    ),
]


@pytest.mark.parametrize(("method", "path", "query", "headers", "wanted"), S3_CASES)
def test_s3_requests(
    method: str, path: str, query: dict[str, str], headers: dict[str, str], wanted: list[tuple[str, str]]
) -> None:
    bucket, _, key = path[1:].partition("/")
    operation = find(method, bucket, key, query, headers).name
    found = objects.asks(operation, bucket, key, query, headers)

    assert [(ask.action, *ask.resources) for ask in found] == wanted


def test_deleting_many_asks_for_each() -> None:
    found = objects.asks("DeleteObjects", "b", "", {"delete": ""}, {}, keys=[("x", False), ("y", True), ("z", False)])

    assert [(ask.action, ask.resources) for ask in found] == [
        ("s3:DeleteObject", ("arn:aws:s3:::b/x", "arn:aws:s3:::b/z")),
        ("s3:DeleteObjectVersion", ("arn:aws:s3:::b/y",)),
    ]
