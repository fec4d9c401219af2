"""The resources that a SageMaker call acts on, derived from the service model.

An operation is a verb and a noun. The member that names its resource is the one whose stem is the noun or begins it
(EndpointName of UpdateEndpointWeightsAndCapacities), or that ends it (JobDefinitionName of
CreateDataQualityJobDefinition, plain Name). How the ARN goes on is in the pattern of the model's KINDArn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from server.identity.policy.scope import Scope

ALSO: Mapping[str, tuple[str, ...]] = {
    "CreateEndpoint": ("EndpointConfigName",),
    "UpdateEndpoint": ("EndpointConfigName",),
    "CreateInferenceComponent": ("EndpointName",),
    "CreateTrial": ("ExperimentName",),
    "AssociateTrialComponent": ("TrialName",),
    "DisassociateTrialComponent": ("TrialName",),
    "CreateClusterSchedulerConfig": ("ClusterArn",),
    "CreateComputeQuota": ("ClusterArn",),
    "CreateHubContentPresignedUrls": ("HubName",),
    "CreateHubContentReference": ("HubName",),
    "DeleteHubContent": ("HubName",),
    "DeleteHubContentReference": ("HubName",),
    "DescribeHubContent": ("HubName",),
    "ImportHubContent": ("HubName",),
    "ListHubContentVersions": ("HubName",),
    "UpdateHubContent": ("HubName",),
    "UpdateHubContentReference": ("HubName",),
    "AddAssociation": ("SourceArn", "DestinationArn"),
    "DeleteAssociation": ("SourceArn", "DestinationArn"),
    "AddTags": ("ResourceArn",),
    "DeleteTags": ("ResourceArn",),
    "ListTags": ("ResourceArn",),
    "StartSession": ("ResourceIdentifier",),
    "BatchDescribeModelPackage": ("ModelPackageArnList",),
    "CreateModelPackage": ("ModelPackageGroupName", "ModelPackageName"),
    "ListPipelineExecutionSteps": ("PipelineExecutionArn",),
    "BatchGetRecord": ("Identifiers",),
}
"""Members besides the noun's own that the reference asks permission for."""

COMPOSED: Mapping[str, tuple[str, ...]] = {
    "App": ("DomainId", "UserProfileName|SpaceName", "AppType", "AppName"),
    "Device": ("DeviceFleetName", "'device", "DeviceName"),
    "HubContent": ("HubName", "HubContentType", "HubContentName"),
    "ImageVersion": ("ImageName", "Version|'*"),
    "Job": ("JobCategory", "JobName"),
    "Space": ("DomainId", "SpaceName"),
    "UserProfile": ("DomainId", "UserProfileName"),
}
"""Kinds whose ARNs hold several names; one after ' is itself, | parts alternatives."""

GENERATED = frozenset(("Artifact", "Domain", "MlflowApp", "PartnerApp", "ClusterSchedulerConfig", "ComputeQuota"))
"""Kinds whose ARN a Create cannot know: it asks for any."""

OTHERWISE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "CreateModelPackage": (),
    "CreatePresignedDomainUrl": (("UserProfileName", "UserProfile"),),
    "DeleteEdgeDeploymentStage": (("EdgeDeploymentPlanName", "EdgeDeploymentPlan"),),
    "StartEdgeDeploymentStage": (("EdgeDeploymentPlanName", "EdgeDeploymentPlan"),),
    "StopEdgeDeploymentStage": (("EdgeDeploymentPlanName", "EdgeDeploymentPlan"),),
    "ListStageDevices": (("EdgeDeploymentPlanName", "EdgeDeploymentPlan"),),
    "DescribeFeatureMetadata": (("FeatureGroupName", "FeatureGroup"),),
    "UpdateFeatureMetadata": (("FeatureGroupName", "FeatureGroup"),),
    "DeleteImageVersion": (("ImageName", "ImageVersion"),),
    "DescribeImageVersion": (("ImageName", "ImageVersion"),),
    "UpdateImageVersion": (("ImageName", "ImageVersion"),),
    "ExtendTrainingPlan": (),
    "ListInferenceRecommendationsJobSteps": (("JobName", "InferenceRecommendationsJob"),),
    "UpdateMonitoringAlert": (("MonitoringScheduleName", "MonitoringSchedule"),),
    "UpdatePipelineVersion": (("PipelineArn", "Pipeline"),),
}
"""Operations whose own resource is not where the rule looks."""

PATHS: Mapping[str, str] = {
    "Device": "device-fleet",
    "Trial": "experiment-trial",
    "TrialComponent": "experiment-trial-component",
}
"""Where no ARN's pattern in the call's own model says so."""

KINDS: Mapping[str, str] = {"Identifiers": "FeatureGroup"}
"""Members that say less of their kind than others do."""

CASED = ("hub-content", "job", "partner-app")
"""Paths of ARNs that keep the case of their names."""

_BATCH = re.compile(r"(?:Batch)?[A-Z][a-z]+")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NAMES = ("Name", "Arn", "Id")
"""Endings of members that hold a resource's name."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How an operation's resources are found: (member, kind), the noun's own first."""

    members: tuple[tuple[str, str], ...]
    generated: str = ""
    """The path of a kind whose ARN is made by the call."""


def resources(operation: Any, request: Mapping[str, Any], scope: Scope) -> Iterator[str]:
    """ARNs, with names in lower case as SageMaker has them; none for a call on everything."""
    rule = _rule(operation.service_model, operation.name)
    if rule.generated:
        yield scope.arn("sagemaker", f"{rule.generated}/*")
    for member, kind in rule.members:
        given = request.get(member)
        for value in given if isinstance(given, list | tuple) else [given]:
            name = value.get("FeatureGroupName") if isinstance(value, Mapping) else value
            if name and isinstance(name, str):
                yield _arn(operation.service_model, kind, name, request, scope)


def model_arns(names: Iterator[str] | list[str], scope: Scope) -> list[str]:
    """For the key sagemaker:ModelArn."""
    return [name if name.startswith("arn:") else scope.arn("sagemaker", f"model/{name.lower()}") for name in names]


def _arn(model: Any, kind: str, value: str, request: Mapping[str, Any], scope: Scope) -> str:
    if not value.startswith("arn:"):
        parts = [_part(part, request) for part in COMPOSED.get(kind, ())]
        name = "/".join(parts) if parts and all(parts) else value
        value = scope.arn("sagemaker", f"{path_of(model, kind)}/{name}")
    return value if value.split(":", 5)[-1].startswith(CASED) else value.lower()


def _part(alternatives: str, request: Mapping[str, Any]) -> str:
    for part in alternatives.split("|"):
        if part.startswith("'"):
            return part[1:]
        if request.get(part):
            return str(request[part])
    return ""


@lru_cache(maxsize=1024)
def path_of(model: Any, kind: str) -> str:
    """What stands before the name in a kind's ARNs: hyper-parameter-tuning-job, experiment-trial."""
    if kind in PATHS:
        return PATHS[kind]
    if f"{kind}Arn" in model.shape_names:
        pattern = str(model.shape_for(f"{kind}Arn").metadata.get("pattern", ""))
        if found := re.search(r":sagemaker:.*:([a-z][a-z-]*)\\?/", pattern):
            return found[1]
    return _WORDS.sub("-", kind).lower()


@lru_cache(maxsize=1024)
def _rule(model: Any, name: str) -> Rule:
    shape = model.operation_model(name).input_shape
    members = list(shape.members) if shape is not None else []
    required = list(shape.required_members) if shape is not None else []
    also = tuple((member, KINDS.get(member) or _stem(member)) for member in ALSO.get(name, ()) if member in members)
    noun = _noun(name)
    if name in OTHERWISE:
        return Rule((*OTHERWISE[name], *also))
    if noun in GENERATED and name == f"Create{noun}":
        return Rule(also, path_of(model, noun))
    if name.startswith("List"):
        members = required
    own = _own(noun, [member for member in members if member not in ALSO.get(name, ())], required)
    return Rule((*own, *also))


def _own(noun: str, members: list[str], required: list[str]) -> tuple[tuple[str, str], ...]:
    """The member that names the noun, and the noun's kind."""
    named = [(member, _stem(member)) for member in members if member.endswith(_NAMES)]
    begins = [(member, stem) for member, stem in named if stem and noun.startswith(stem)]
    if begins:
        return (max(begins, key=lambda found: len(found[1])),)
    ends = [member for member, stem in named if noun.endswith(stem) and member in required]
    if ends:
        return ((max(ends, key=len), noun),)
    others = [(member, stem) for member, stem in named if stem and member in required and stem != "Role"]
    return tuple(others[:1])


def _noun(name: str) -> str:
    noun = name[_BATCH.match(name).end() :]  # type: ignore[union-attr]
    _, found, after = noun.partition("For")
    if found and after[:1].isupper():
        noun = after
    return noun.removeprefix("Presigned").removesuffix("Url")


def _stem(member: str) -> str:
    for ending in ("ArnList", *_NAMES):
        if member.endswith(ending):
            return member.removesuffix(ending)
    return member
