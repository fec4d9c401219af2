"""The managed policies of AWS's own that people attach, by ARN.

Documents are AWS's, less the actions of services that Hearth does not answer for: nobody can ask for those here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from server.identity.policy.document import CURRENT, Use
from server.identity.policy.policy import Policy, compile_policy

Statement = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Managed:
    name: str
    description: str
    statements: tuple[Statement, ...]
    path: str = "/"
    version: str = "v1"
    """DefaultVersionId."""

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::aws:policy{self.path}{self.name}"

    @property
    def document(self) -> dict[str, Any]:
        return {"Version": CURRENT, "Statement": [dict(statement) for statement in self.statements]}

    @property
    def text(self) -> str:
        return json.dumps(self.document, indent=4)


def _allow(*actions: str, resource: str | list[str] = "*", sid: str = "", **more: Any) -> Statement:
    return {**({"Sid": sid} if sid else {}), "Effect": "Allow", "Action": list(actions), "Resource": resource, **more}


_STUDIO = ["domain", "user-profile", "app", "space", "partner-app", "flow-definition", "training-plan"]
_ANY = "arn:aws:sagemaker:*:*:"
_OWNER = f"{_ANY}user-profile/${{sagemaker:DomainId}}/${{sagemaker:UserProfileName}}"
_BUCKETS = [f"arn:aws:s3:::*{name}*" for name in ("SageMaker", "Sagemaker", "sagemaker")]

_FULL_ACCESS = (
    {
        "Sid": "AllowAllNonAdminSageMakerActions",
        "Effect": "Allow",
        "Action": ["sagemaker:*"],
        "NotResource": [f"{_ANY}{kind}/*" for kind in (*_STUDIO, "reserved-capacity")],
    },
    _allow(
        "sagemaker:AddTags", resource=[f"{_ANY}space/*"], sid="AllowAddTagsForSpace",
        Condition={"StringEquals": {"sagemaker:TaggingAction": "CreateSpace"}},
    ),
    _allow("sagemaker:AddTags", resource=[f"{_ANY}app/*"], sid="AllowAddTagsForApp"),
    _allow(
        "sagemaker:CreateTrainingJob", "sagemaker:CreateCluster", "sagemaker:UpdateCluster",
        "sagemaker:DescribeTrainingPlan",
        resource=[f"{_ANY}training-plan/*", f"{_ANY}reserved-capacity/*"], sid="AllowUseOfTrainingPlanResources",
    ),
    _allow(
        "sagemaker:CreatePresignedDomainUrl", "sagemaker:DescribeDomain", "sagemaker:ListDomains",
        "sagemaker:DescribeUserProfile", "sagemaker:ListUserProfiles", "sagemaker:DescribeSpace",
        "sagemaker:ListSpaces", "sagemaker:DescribeApp", "sagemaker:ListApps",
        sid="AllowStudioActions",
    ),
    _allow(
        "sagemaker:CreateApp", "sagemaker:DeleteApp",
        resource=f"{_ANY}app/*/*/*/*", sid="AllowAppActionsForUserProfile",
        Condition={"Null": {"sagemaker:OwnerUserProfileArn": "true"}},
    ),
    _allow(
        "sagemaker:CreateApp", "sagemaker:DeleteApp",
        resource=f"{_ANY}app/${{sagemaker:DomainId}}/*/*/*", sid="AllowAppActionsForSharedSpaces",
        Condition={"StringEquals": {"sagemaker:SpaceSharingType": ["Shared"]}},
    ),
    _allow(
        "sagemaker:CreateSpace", "sagemaker:UpdateSpace", "sagemaker:DeleteSpace",
        resource=f"{_ANY}space/${{sagemaker:DomainId}}/*", sid="AllowMutatingActionsOnSharedSpacesWithoutOwner",
        Condition={"Null": {"sagemaker:OwnerUserProfileArn": "true"}},
    ),
    _allow(
        "sagemaker:CreateSpace", "sagemaker:UpdateSpace", "sagemaker:DeleteSpace",
        resource=f"{_ANY}space/${{sagemaker:DomainId}}/*", sid="RestrictMutatingActionsOnSpacesToOwnerUserProfile",
        Condition={
            "ArnLike": {"sagemaker:OwnerUserProfileArn": _OWNER},
            "StringEquals": {"sagemaker:SpaceSharingType": ["Private", "Shared"]},
        },
    ),
    _allow(
        "sagemaker:*", resource=[f"{_ANY}flow-definition/*"], sid="AllowFlowDefinitionActions",
        Condition={"StringEqualsIfExists": {"sagemaker:WorkteamType": ["private-crowd", "vendor-crowd"]}},
    ),
    _allow(
        "application-autoscaling:DeleteScalingPolicy", "application-autoscaling:DeleteScheduledAction",
        "application-autoscaling:DeregisterScalableTarget", "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DescribeScalingActivities", "application-autoscaling:DescribeScalingPolicies",
        "application-autoscaling:DescribeScheduledActions", "application-autoscaling:PutScalingPolicy",
        "application-autoscaling:PutScheduledAction", "application-autoscaling:RegisterScalableTarget",
        "cloudwatch:DeleteAlarms", "cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData",
        "cloudwatch:GetMetricStatistics", "cloudwatch:ListMetrics", "cloudwatch:PutMetricAlarm",
        "cloudwatch:PutMetricData", "iam:ListRoles", "kms:DescribeKey", "kms:ListAliases", "logs:CreateLogDelivery",
        "logs:CreateLogGroup", "logs:CreateLogStream", "logs:DeleteLogDelivery", "logs:Describe*",
        "logs:GetLogDelivery", "logs:GetLogEvents", "logs:ListLogDeliveries", "logs:PutLogEvents",
        "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
        sid="AllowAWSServiceActions",
    ),
    _allow(
        "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
        resource=[*_BUCKETS, "arn:aws:s3:::*aws-glue*"], sid="AllowS3ObjectActions",
    ),
    _allow(
        "s3:GetObject", resource=["arn:aws:s3:::*"], sid="AllowS3GetObjectWithSageMakerExistingObjectTag",
        Condition={"StringEqualsIgnoreCase": {"s3:ExistingObjectTag/SageMaker": "true"}},
    ),
    _allow(
        "s3:CreateBucket", "s3:GetBucketLocation", "s3:ListBucket", "s3:ListAllMyBuckets", "s3:GetBucketCors",
        "s3:PutBucketCors",
        sid="AllowS3BucketActions",
    ),
    _allow("s3:GetBucketAcl", "s3:PutObjectAcl", resource=_BUCKETS, sid="AllowS3BucketACL"),
    _allow(
        "iam:PassRole", resource="arn:aws:iam::*:role/*", sid="AllowPassRoleToSageMaker",
        Condition={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
    ),
    _allow("sagemaker:ListTags", resource=[f"{_ANY}user-profile/*"], sid="AllowListTagsForUserProfile"),
)  # fmt: skip

_ALL: tuple[Managed, ...] = (
    Managed("AdministratorAccess", "Provides full access to AWS services and resources.", (_allow("*"),)),
    Managed(
        "PowerUserAccess",
        "Provides full access to AWS services and resources, but does not allow management of Users and groups.",
        (
            {"Effect": "Allow", "NotAction": ["iam:*", "organizations:*", "account:*"], "Resource": "*"},
            _allow("iam:CreateServiceLinkedRole", "iam:DeleteServiceLinkedRole", "iam:ListRoles"),
        ),
        version="v12",
    ),
    Managed(
        "ReadOnlyAccess",
        "Provides read-only access to AWS services and resources.",
        (
            _allow(
                "cloudtrail:Describe*", "cloudtrail:Get*", "cloudtrail:List*", "cloudtrail:LookupEvents",
                "cloudwatch:Describe*", "cloudwatch:Get*", "cloudwatch:List*", "iam:Generate*", "iam:Get*",
                "iam:List*", "iam:Simulate*", "kms:Describe*", "kms:Get*", "kms:List*", "logs:Describe*",
                "logs:FilterLogEvents", "logs:Get*", "logs:ListTagsForResource", "logs:ListTagsLogGroup",
                "logs:StartLiveTail", "logs:StartQuery", "logs:StopLiveTail", "logs:StopQuery",
                "logs:TestMetricFilter", "s3:DescribeJob", "s3:Get*", "s3:List*", "sagemaker:Describe*",
                "sagemaker:GetSearchSuggestions", "sagemaker:List*", "sagemaker:Search", "sts:GetAccessKeyInfo",
                "sts:GetCallerIdentity", "sts:GetSessionToken",
            ),
        ),
    ),
    Managed(
        "AmazonSageMakerFullAccess",
        "Provides full access to Amazon SageMaker via the AWS Management Console and SDK."
        " Also provides select access to related services (e.g., S3, ECR, CloudWatch Logs).",
        _FULL_ACCESS,
        version="v29",
    ),
    Managed(
        "AmazonSageMakerReadOnly",
        "Provides read only access to Amazon SageMaker via the AWS Management Console and SDK.",
        (
            _allow(
                "sagemaker:Describe*", "sagemaker:List*", "sagemaker:BatchGetMetrics",
                "sagemaker:GetDeviceRegistration", "sagemaker:GetDeviceFleetReport", "sagemaker:GetSearchSuggestions",
                "sagemaker:BatchGetRecord", "sagemaker:GetRecord", "sagemaker:Search", "sagemaker:QueryLineage",
                "sagemaker:GetLineageGroupPolicy", "sagemaker:BatchDescribeModelPackage",
                "sagemaker:GetModelPackageGroupPolicy",
            ),
            _allow(
                "application-autoscaling:DescribeScalableTargets", "application-autoscaling:DescribeScalingActivities",
                "application-autoscaling:DescribeScalingPolicies", "application-autoscaling:DescribeScheduledActions",
                "cloudwatch:DescribeAlarms",
            ),
        ),
        version="v11",
    ),
    Managed(
        "AmazonS3FullAccess",
        "Provides full access to all buckets via the AWS Management Console.",
        (_allow("s3:*"),),
        version="v2",
    ),
    Managed(
        "AmazonS3ReadOnlyAccess",
        "Provides read only access to all buckets via the AWS Management Console.",
        (_allow("s3:Get*", "s3:List*", "s3:Describe*"),),
        version="v3",
    ),
    Managed(
        "CloudWatchLogsFullAccess",
        "Provides full access to CloudWatch Logs",
        (_allow("logs:*", sid="CloudWatchLogsFullAccess"),),
        version="v8",
    ),
    Managed(
        "CloudWatchLogsReadOnlyAccess",
        "Provides read only access to CloudWatch Logs",
        (
            _allow(
                "logs:Describe*", "logs:Get*", "logs:List*", "logs:StartQuery", "logs:StopQuery",
                "logs:TestMetricFilter", "logs:FilterLogEvents", "logs:StartLiveTail", "logs:StopLiveTail",
                sid="CloudWatchLogsReadOnlyAccess",
            ),
        ),
        version="v12",
    ),
    Managed(
        "IAMFullAccess",
        "Provides full access to IAM via the AWS Management Console.",
        (_allow("iam:*"),),
        version="v2",
    ),
    Managed(
        "IAMReadOnlyAccess",
        "Provides read only access to IAM via the AWS Management Console.",
        (
            _allow(
                "iam:GenerateCredentialReport", "iam:GenerateServiceLastAccessedDetails", "iam:Get*", "iam:List*",
                "iam:SimulateCustomPolicy", "iam:SimulatePrincipalPolicy",
            ),
        ),
        version="v4",
    ),
)  # fmt: skip

MANAGED: Mapping[str, Managed] = {managed.arn: managed for managed in _ALL}


@cache
def compiled(arn: str) -> Policy:
    """Raises LookupError, listing the ARNs there are, for another."""
    if arn not in MANAGED:
        raise LookupError(f"{arn} is none of {', '.join(MANAGED)}")
    return compile_policy(MANAGED[arn].text, id=MANAGED[arn].name, use=Use.AWS)
