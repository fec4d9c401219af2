"""The resources of a call: ARNs among its own members, and names that the service makes ARNs of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from server.audit.event import Named

_BRANDS = {
    "sagemaker": "SageMaker", "iam": "IAM", "sts": "STS", "kms": "KMS", "s3": "S3", "logs": "Logs",
    "cloudwatch": "CloudWatch", "cloudtrail": "CloudTrail",
}  # fmt: skip
"""Services as CloudFormation writes them."""
_NAMED: Mapping[str, Mapping[str, str]] = {
    "iam": {
        "RoleName": "arn:aws:iam::{account}:role/{name}", "UserName": "arn:aws:iam::{account}:user/{name}",
        "GroupName": "arn:aws:iam::{account}:group/{name}",
        "InstanceProfileName": "arn:aws:iam::{account}:instance-profile/{name}",
        "PolicyName": "arn:aws:iam::{account}:policy/{name}",
    },
    "kms": {"KeyId": "arn:aws:kms:{region}:{account}:key/{name}"},
    "logs": {"logGroupName": "arn:aws:logs:{region}:{account}:log-group:{name}"},
    "monitoring": {"AlarmName": "arn:aws:cloudwatch:{region}:{account}:alarm:{name}"},
    "s3": {"Bucket": "arn:aws:s3:::{name}"},
}  # fmt: skip
_VERB = re.compile(r"^[A-Z][a-z]+")
_ARN = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]+:[^:\s]*:[^:\s]*:\S+")


def touched(
    service: str, operation: str, account: str, region: str, request: Mapping[str, Any], answer: Mapping[str, Any]
) -> list[Named]:
    """`service` is the name that requests are signed for; the call's own resource comes first, none comes twice."""
    found = dict.fromkeys(_arns(service, operation, account, region, request, answer))
    return [Named(arn, type_of(arn)) for arn in found]


def _arns(
    service: str, operation: str, account: str, region: str, request: Mapping[str, Any], answer: Mapping[str, Any]
) -> Iterator[str]:
    templates = dict(_NAMED.get(service, {}))
    if service == "sagemaker":
        noun = _VERB.sub("", operation)
        kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", noun).lower()
        templates[f"{noun}Name"] = f"arn:aws:sagemaker:{{region}}:{{account}}:{kind}/{{name}}"
    for member, template in templates.items():
        name = request.get(member)
        if isinstance(name, str) and name and not name.startswith("arn:"):
            named = name.lower() if service == "sagemaker" else name
            if service == "kms" and name.startswith("alias/"):
                template = "arn:aws:kms:{region}:{account}:{name}"
            yield template.format(account=account, region=region, name=named)
    if service == "s3" and request.get("Bucket") and request.get("Key"):
        yield f"arn:aws:s3:::{request['Bucket']}/{request['Key']}"
    for document in (answer, request):
        for value in document.values():
            if isinstance(value, str) and _ARN.fullmatch(value) and len(value) <= 512:
                yield value
            elif isinstance(value, Mapping):
                inner = value.get("Arn")
                if isinstance(inner, str) and _ARN.fullmatch(inner):
                    yield inner


def type_of(arn: str) -> str:
    """CloudFormation's type of what an ARN names, such as AWS::SageMaker::EndpointConfig."""
    _, _, service, _, _, own = arn.split(":", 5)
    brand = _BRANDS.get(service, service.capitalize())
    if service == "s3":
        return "AWS::S3::Object" if "/" in own else "AWS::S3::Bucket"
    kind = re.split(r"[/:]", own, maxsplit=1)[0]
    return f"AWS::{brand}::{''.join(part.capitalize() for part in kind.split('-'))}"[:64]
