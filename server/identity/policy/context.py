"""Condition keys: what a request says of itself, its sender and its resource, as AWS's documentation names it.

Each function turns plain values into a part of `Access.context`. A key whose value is unknown is absent, never empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from server.identity.policy.principals import who
from server.identity.principal import Principal

Context = dict[str, tuple[str, ...]]


def of_principal(principal: Principal, *, role_arn: str = "", tags: Mapping[str, str] | None = None) -> Context:
    """`role_arn` is the role (with its path) whose session the principal is; `tags` are its own and its session's."""
    asking = who(principal.arn)
    kind = principal_type(principal.arn)
    found = {
        "aws:principalarn": (role_arn or principal.arn,),
        "aws:principalaccount": (principal.account,),
        "aws:principaltype": (kind,),
        "aws:userid": (principal.id,),
    }
    if kind == "User":
        found["aws:username"] = (asking.arn.rpartition("/")[2],)
    return found | _tagged("aws:principaltag", tags or {})


def principal_type(arn: str) -> str:
    """Account, User, AssumedRole or FederatedUser."""
    resource = arn.split(":", 5)[-1]
    kinds = {"user": "User", "assumed-role": "AssumedRole", "federated-user": "FederatedUser"}
    return kinds.get(resource.partition("/")[0], "Account")


def of_request(
    *, source_ip: str, secure: bool, region: str, now: datetime | None = None, user_agent: str = "", referer: str = ""
) -> Context:
    """`secure`: the client came by TLS."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    found: Context = {
        "aws:currenttime": (moment.strftime("%Y-%m-%dT%H:%M:%SZ"),),
        "aws:epochtime": (str(int(moment.timestamp())),),
        "aws:securetransport": ("true" if secure else "false",),
    }
    said = {
        "aws:sourceip": source_ip, "aws:requestedregion": region, "aws:useragent": user_agent, "aws:referer": referer,
    }  # fmt: skip
    return found | {key: (value,) for key, value in said.items() if value}


def of_request_tags(tags: Mapping[str, str], removed: Iterable[str] = ()) -> Context:
    """Tags that the request would set, and the keys that it would remove."""
    keys = (*tags, *removed)
    return _tagged("aws:requesttag", tags) | ({"aws:tagkeys": keys} if keys else {})


def of_resource(account: str, tags: Mapping[str, str], service: str = "") -> Context:
    """`account` owns the resource; a service such as sagemaker has the tags under its own name too."""
    found: Context = {"aws:resourceaccount": (account,)} if account else {}
    for prefix in ("aws", service) if service else ("aws",):
        found |= _tagged(f"{prefix}:resourcetag", tags)
    return found


def _tagged(prefix: str, tags: Mapping[str, str]) -> Context:
    """Condition keys know no case: tags whose keys differ only in that are one key of several values."""
    found: Context = {}
    for key, value in tags.items():
        name = f"{prefix}/{key.lower()}"
        found[name] = (*found.get(name, ()), value)
    return found


SAGEMAKER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("AcceleratorTypes", ("AcceleratorType",)),
    ("AcceleratorTypes", ("AcceleratorTypes",)),
    ("AppNetworkAccessType", ("AppNetworkAccessType",)),
    ("CustomerMetadataPropertiesToRemove", ("CustomerMetadataPropertiesToRemove",)),
    ("DirectInternetAccess", ("DirectInternetAccess",)),
    ("DomainId", ("DomainId",)),
    ("DomainSharingOutputKmsKey", ("SharingSettings", "S3KmsKeyId")),
    ("EnableRemoteDebug", ("EnableRemoteDebug",)),
    ("FeatureGroupDisableGlueTableCreation", ("OfflineStoreConfig", "DisableGlueTableCreation")),
    ("FeatureGroupEnableOnlineStore", ("OnlineStoreConfig", "EnableOnlineStore")),
    ("FeatureGroupOfflineStoreKmsKey", ("S3StorageConfig", "KmsKeyId")),
    ("FeatureGroupOfflineStoreS3Uri", ("S3StorageConfig", "S3Uri")),
    ("FeatureGroupOnlineStoreKmsKey", ("OnlineStoreConfig", "SecurityConfig", "KmsKeyId")),
    ("FileSystemAccessMode", ("FileSystemAccessMode",)),
    ("FileSystemDirectoryPath", ("FileSystemDataSource", "DirectoryPath")),
    ("FileSystemId", ("FileSystemId",)),
    ("FileSystemType", ("FileSystemType",)),
    ("HomeEfsFileSystemKmsKey", ("HomeEfsFileSystemKmsKeyId",)),
    ("ImageArns", ("SageMakerImageArn",)),
    ("ImageVersionArns", ("SageMakerImageVersionArn",)),
    ("InstanceTypes", ("InstanceType",)),
    ("InterContainerTrafficEncryption", ("EnableInterContainerTrafficEncryption",)),
    ("KeepAlivePeriod", ("KeepAlivePeriodInSeconds",)),
    ("MaxRuntimeInSeconds", ("MaxRuntimeInSeconds",)),
    ("MinimumInstanceMetadataServiceVersion", ("MinimumInstanceMetadataServiceVersion",)),
    ("ModelApprovalStatus", ("ModelApprovalStatus",)),
    ("ModelLifeCycle:Stage", ("ModelLifeCycle", "Stage")),
    ("ModelLifeCycle:StageStatus", ("ModelLifeCycle", "StageStatus")),
    ("NetworkIsolation", ("EnableNetworkIsolation",)),
    ("OutputKmsKey", ("OutputDataConfig", "KmsKeyId")),
    ("OutputKmsKey", ("OutputConfig", "KmsKeyId")),
    ("OutputKmsKey", ("ProcessingOutputConfig", "KmsKeyId")),
    ("OutputKmsKey", ("MonitoringOutputConfig", "KmsKeyId")),
    ("OutputKmsKey", ("TransformOutput", "KmsKeyId")),
    ("OutputKmsKey", ("DataQualityJobOutputConfig", "KmsKeyId")),
    ("OutputKmsKey", ("ModelBiasJobOutputConfig", "KmsKeyId")),
    ("OutputKmsKey", ("ModelExplainabilityJobOutputConfig", "KmsKeyId")),
    ("OutputKmsKey", ("ModelQualityJobOutputConfig", "KmsKeyId")),
    ("PipelineVersionId", ("PipelineVersionId",)),
    ("RemoteAccess", ("RemoteAccess",)),
    ("RootAccess", ("RootAccess",)),
    ("ServerlessMaxConcurrency", ("ServerlessConfig", "MaxConcurrency")),
    ("ServerlessMemorySize", ("ServerlessConfig", "MemorySizeInMB")),
    ("SpaceSharingType", ("SpaceSharingSettings", "SharingType")),
    ("StudioLifecycleConfigArns", ("LifecycleConfigArn",)),
    ("StudioLifecycleConfigArns", ("LifecycleConfigArns",)),
    ("UserProfileName", ("UserProfileName",)),
    ("VolumeKmsKey", ("VolumeKmsKeyId",)),
    ("VpcSecurityGroupIds", ("SecurityGroupIds",)),
    ("VpcSecurityGroupIds", ("SecurityGroups",)),
    ("VpcSubnets", ("SubnetId",)),
    ("VpcSubnets", ("SubnetIds",)),
    ("VpcSubnets", ("Subnets",)),
    ("WorkteamArn", ("WorkteamArn",)),
)
"""SageMaker's keys and the members of a request that fill them: the last names of the way to the value."""

VOLUMES = ("CreateEndpointConfig", "CreateNotebookInstance", "CreateDomain")
"""Operations whose own KmsKeyId is that of volumes."""

_BY_MEMBER: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
for _key, _way in SAGEMAKER:
    _BY_MEMBER.setdefault(_way[-1], []).append((f"sagemaker:{_key.lower()}", _way))


def of_sagemaker(operation: Any, request: Mapping[str, Any], models: Iterable[str] = ()) -> Context:
    """`operation` is botocore's model of the call, which tells members from a customer's own map keys (an environment
    variable called InstanceType is none); `models` are ARNs of the models that the request would serve or run."""
    found: dict[str, list[str]] = {}
    if operation.input_shape is not None:
        _walk(operation.input_shape, request, (), found)
    if operation.name in VOLUMES and "KmsKeyId" in request:
        found.setdefault("sagemaker:volumekmskey", []).append(str(request["KmsKeyId"]))
    if operation.name == "CreateFeatureGroup":
        found["sagemaker:featuregroupofflinestoreconfig"] = ["true" if "OfflineStoreConfig" in request else "false"]
    for name, value in request.get("CustomerMetadataProperties", {}).items():
        found[f"sagemaker:customermetadataproperties/{name.lower()}"] = [str(value)]
    if named := list(models):
        found["sagemaker:modelarn"] = named
    return {key: tuple(dict.fromkeys(values)) for key, values in found.items()}


def _walk(shape: Any, value: Any, way: tuple[str, ...], found: dict[str, list[str]]) -> None:
    if shape.type_name == "structure" and isinstance(value, Mapping):
        for name, inner in value.items():
            if name in shape.members:
                _walk(shape.members[name], inner, (*way, name), found)
    elif shape.type_name == "list" and isinstance(value, list | tuple):
        for item in value:
            _walk(shape.member, item, way, found)
    elif shape.type_name != "map" and way:
        for key, wanted in _BY_MEMBER.get(way[-1], ()):
            if way[-len(wanted) :] == wanted:
                found.setdefault(key, []).append(text(value))


def text(value: Any) -> str:
    """A value of a request as conditions compare it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def of_invocation(target_model: str) -> Context:
    """`target_model`: InvokeEndpoint's header X-Amzn-SageMaker-Target-Model; empty when it is not sent."""
    return {"sagemaker:targetmodel": (target_model,)} if target_model else {}


def of_pass_role(service: str, resource: str = "") -> Context:
    """`service` will wear the role, such as sagemaker.amazonaws.com, for `resource`."""
    found: Context = {"iam:passedtoservice": (service,)}
    return found | ({"iam:associatedresourcearn": (resource,)} if resource else {})


OBJECT_QUERIES = ("prefix", "delimiter", "max-keys", "versionId")
OBJECT_HEADERS = tuple(
    "x-amz-acl x-amz-copy-source x-amz-metadata-directive x-amz-server-side-encryption"
    " x-amz-server-side-encryption-aws-kms-key-id x-amz-server-side-encryption-customer-algorithm x-amz-storage-class"
    " x-amz-website-redirect-location x-amz-grant-read x-amz-grant-write x-amz-grant-read-acp x-amz-grant-write-acp"
    " x-amz-grant-full-control x-amz-content-sha256 x-amz-object-ownership if-match if-none-match".split()
)


def of_objects(query: Mapping[str, str], headers: Mapping[str, str]) -> Context:
    """An S3 request's parameters and headers (names in lower case)."""
    found: Context = {f"s3:{name.lower()}": (query[name],) for name in OBJECT_QUERIES if name in query}
    return found | {f"s3:{name}": (headers[name],) for name in OBJECT_HEADERS if name in headers}
