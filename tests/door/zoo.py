"""One of everything in one account, every name of which holds the same word; and requests that name it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks.fuzz.shapes import document
from server.settings import part
from tests.door.serving import Asking, Keys, allow, policy

HERE, NOWHERE = "zebra", "okapi"
"""In the name of all that there is, and of as many things that there are not; of the same length."""
UNIQUE = re.compile(r"(?:AKIA|ASIA|AIDA|AROA|AGPA|ANPA|ACCA)[A-Z0-9]{16,17}|[0-9a-f]{8}-[0-9a-f-]{27}|hk-\S+")
CHAT, VARIANT = f"{HERE}-endpoint", "AllTraffic"
RESOURCE = f"endpoint/{CHAT}/variant/{VARIANT}"
SCALED = {
    "ServiceNamespace": "sagemaker", "ResourceId": RESOURCE,
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}  # fmt: skip


@dataclass
class Zoo:
    """What `fill` made: by member of a request, what it has in this account, and the texts that name it."""

    account: str
    named: dict[str, str] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    def tell(self, answer: Any) -> Any:
        """Remembers what an answer says that is this account's alone."""
        self.told |= {text for text in texts(answer) if HERE in text or self.account in text or UNIQUE.search(text)}
        return answer


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name != "ResponseMetadata":
                yield str(name)
                yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def fill(door: Asking, account: str, keys: Keys) -> Zoo:
    zoo = Zoo(account)
    iam, tags = door.client("iam", keys), [{"Key": f"{HERE}-key", "Value": f"{HERE}-value"}]
    user = zoo.tell(iam.create_user(UserName=f"{HERE}-user", Tags=tags))["User"]
    role = zoo.tell(iam.create_role(RoleName=f"{HERE}-role", Tags=tags, AssumeRolePolicyDocument=json.dumps({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"}],
    })))["Role"]  # fmt: skip
    zoo.tell(iam.create_group(GroupName=f"{HERE}-group"))
    iam.add_user_to_group(GroupName=f"{HERE}-group", UserName=f"{HERE}-user")
    managed = zoo.tell(iam.create_policy(PolicyName=f"{HERE}-policy", PolicyDocument=policy(allow("s3:*"))))["Policy"]
    iam.attach_user_policy(UserName=f"{HERE}-user", PolicyArn=managed["Arn"])
    iam.put_user_policy(UserName=f"{HERE}-user", PolicyName=f"{HERE}-inline", PolicyDocument=policy(allow("s3:*")))
    access = zoo.tell(iam.create_access_key(UserName=f"{HERE}-user"))["AccessKey"]
    service = zoo.tell(iam.create_service_specific_credential(
        UserName=f"{HERE}-user", ServiceName="sagemaker.amazonaws.com"))["ServiceSpecificCredential"]  # fmt: skip
    sagemaker = door.client("sagemaker", keys)
    model = zoo.tell(sagemaker.create_model(
        ModelName=f"{HERE}-model", ExecutionRoleArn=role["Arn"], Tags=tags,
        PrimaryContainer={"Image": "pytorch-inference:1", "ModelDataUrl": f"s3://{HERE}-bucket/{HERE}.tar.gz"},
    ))  # fmt: skip
    sagemaker.create_endpoint_config(EndpointConfigName=f"{HERE}-config", ProductionVariants=[{
        "VariantName": VARIANT, "ModelName": f"{HERE}-model", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large",
    }])  # fmt: skip
    endpoint = zoo.tell(sagemaker.create_endpoint(EndpointName=CHAT, EndpointConfigName=f"{HERE}-config", Tags=tags))
    zoo.tell(sagemaker.create_model_package_group(ModelPackageGroupName=f"{HERE}-group"))
    package = zoo.tell(sagemaker.create_model_package(
        ModelPackageGroupName=f"{HERE}-group", ModelPackageDescription=f"{HERE} package",
        InferenceSpecification={"Containers": [{"Image": "onnx:1"}], "SupportedContentTypes": ["text/csv"],
                                "SupportedResponseMIMETypes": ["text/csv"]},
    ))  # fmt: skip
    zoo.tell(sagemaker.create_model_card(ModelCardName=f"{HERE}-card", Content="{}", ModelCardStatus="Draft"))
    kms = door.client("kms", keys)
    key = zoo.tell(kms.create_key(Description=f"{HERE} key", Tags=[{"TagKey": f"{HERE}-k", "TagValue": HERE}]))
    key = key["KeyMetadata"]
    kms.create_alias(AliasName=f"alias/{HERE}-alias", TargetKeyId=key["KeyId"])
    cloudwatch = door.client("cloudwatch", keys)
    cloudwatch.put_metric_data(Namespace=f"{HERE}/space", MetricData=[{
        "MetricName": f"{HERE}-metric", "Value": 1.0, "Dimensions": [{"Name": "EndpointName", "Value": CHAT}],
    }])  # fmt: skip
    cloudwatch.put_metric_alarm(
        AlarmName=f"{HERE}-alarm", Namespace=f"{HERE}/space", MetricName=f"{HERE}-metric", Threshold=1.0, Period=60,
        Statistic="Sum", EvaluationPeriods=1, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    scaling = door.client("application-autoscaling", keys)
    scaling.register_scalable_target(**SCALED, MinCapacity=1, MaxCapacity=2)
    zoo.tell(scaling.put_scaling_policy(
        PolicyName=f"{HERE}-scaling", PolicyType="TargetTrackingScaling", **SCALED,
        TargetTrackingScalingPolicyConfiguration={"TargetValue": 5.0, "PredefinedMetricSpecification": {
            "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}},
    ))  # fmt: skip
    scaling.put_scheduled_action(
        ScheduledActionName=f"{HERE}-action", Schedule="rate(1 day)", ScalableTargetAction={"MinCapacity": 1}, **SCALED
    )
    folder = part(door.settings.log_dir, account, door.settings.account) / "endpoints" / CHAT
    folder.mkdir(parents=True)
    (folder / f"{VARIANT}-{HERE}1.log").write_text(f"{HERE} says hello\n")
    group = f"/aws/sagemaker/Endpoints/{CHAT}"
    arn = f"arn:aws:logs:us-east-1:{account}:log-group:{group}"
    zoo.named = {
        **SCALED,
        "UserName": user["UserName"], "RoleName": role["RoleName"], "GroupName": f"{HERE}-group",
        "PolicyArn": managed["Arn"], "PolicySourceArn": user["Arn"], "PermissionsBoundary": managed["Arn"],
        "PolicyName": f"{HERE}-inline", "AccessKeyId": access["AccessKeyId"],
        "ServiceSpecificCredentialId": service["ServiceSpecificCredentialId"], "RoleArn": role["Arn"],
        "EndpointName": CHAT, "EndpointConfigName": f"{HERE}-config", "ModelName": f"{HERE}-model",
        "ModelPackageGroupName": f"{HERE}-group", "ModelPackageName": package["ModelPackageArn"],
        "ModelPackageArn": package["ModelPackageArn"], "ModelPackageArnList": package["ModelPackageArn"],
        "ModelCardName": f"{HERE}-card", "ResourceArn": model["ModelArn"], "ExecutionRoleArn": role["Arn"],
        "NameContains": HERE, "KeyId": key["Arn"], "SourceKeyId": key["Arn"], "DestinationKeyId": key["KeyId"],
        "TargetKeyId": key["KeyId"], "AliasName": f"alias/{HERE}-alias", "KmsKeyId": key["Arn"],
        "AlarmName": f"{HERE}-alarm", "AlarmNames": f"{HERE}-alarm", "AlarmNamePrefix": HERE,
        "MetricName": f"{HERE}-metric", "Namespace": f"{HERE}/space", "ResourceId": RESOURCE, "ResourceIds": RESOURCE,
        "PolicyNames": f"{HERE}-scaling", "ScheduledActionName": f"{HERE}-action",
        "ScheduledActionNames": f"{HERE}-action", "ResourceARN": endpoint["EndpointArn"], "AccountId": account,
        "logGroupName": group, "logGroupIdentifier": arn, "logGroupNamePrefix": group,
        "logStreamName": f"{VARIANT}/{HERE}1",
        "PathPrefix": f"/{HERE}/", "AttributeValue": CHAT, "PolicyInputList": policy(allow("s3:*")),
    }  # fmt: skip
    zoo.told |= {key["KeyId"], key["Arn"], f"{HERE} says hello"}
    return zoo


def elsewhere(named: Mapping[str, str]) -> dict[str, str]:
    """The same for things that are not there."""
    return {member: value if value in SCALED.values() else _other(value) for member, value in named.items()} | {
        member: _other(named[member]) for member in ("ResourceId", "ResourceIds")
    }


def _other(text: str) -> str:
    """Another name, or another id of the same form; an account's number stays one."""
    if HERE in text:
        return text.replace(HERE, NOWHERE)
    if text.isdigit():
        return text[::-1]
    head, _, tail = text.rpartition("/")
    swapped = re.sub(r"[A-Z2-7a-f0-9](?=[A-Z2-7a-f0-9]{0,3}$)", lambda found: _letter(found[0]), tail)
    return f"{head}/{swapped}" if head else swapped


def _letter(letter: str) -> str:
    first = "A" if letter.isupper() else "a" if letter.isalpha() else "2"
    return {"A": "B", "a": "b", "2": "3"}.get(letter, first)


def request(shape: Any, named: Mapping[str, str], seed: int, *, optional: bool) -> Any:
    """A request with the members that are required, and with `optional` those that name something."""
    return {} if shape is None else _value(shape, named, Random(seed), "", optional)


def _value(shape: Any, named: Mapping[str, str], random: Random, member: str, optional: bool) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return {
            name: _value(inner, named, random, name, optional)
            for name, inner in shape.members.items()
            if name in shape.required_members or (optional and _names(inner, name, named))
        }
    if kind == "list":
        return [_value(shape.member, named, random, member, optional)]
    if kind == "string" and member in named and (not shape.enum or named[member] in shape.enum):
        return named[member]
    if kind == "blob":
        return b"YQ=="
    return document(shape, random, 6)


def _names(shape: Any, member: str, named: Mapping[str, str]) -> bool:
    inner = shape.member if shape.type_name == "list" else shape
    return member in named and inner.type_name == "string"
