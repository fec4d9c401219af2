"""Model packages: versions of a model in a group, each approved, rejected or waiting, or one without a group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from server.control import kind as kinds
from server.control.kind import Kind, deletes, describes, find, make, plain
from server.control.listing import lists
from server.control.operations import Answer, Context, Request
from server.control.resources.model_package_group import KIND as GROUP
from server.control.sagemaker import SAGEMAKER
from server.errors import BadRequest, Conflict, NotFound
from server.store.listing import Query, page
from server.store.store import Resource

FACETS = ("ModelPackageGroupName", "ModelApprovalStatus", "ClientToken")
TYPE, UNVERSIONED = "ModelPackageType", "Unversioned"
REPLACED = (
    "ModelApprovalStatus", "ModelPackageRegistrationType", "ApprovalDescription", "InferenceSpecification",
    "SourceUri", "ModelCard", "ModelLifeCycle",
)  # fmt: skip
"""Members of UpdateModelPackage that take the place of what was there."""
NOT_RUN: Mapping[str, str] = {
    "ValidationSpecification": "validation jobs cannot be run yet",
    "SourceAlgorithmSpecification": "there are no algorithms to make a package from",
}


def view(resource: Resource) -> dict[str, Any]:
    """Only a package without a group has a name; a version goes by its ARN, as on AWS, and SDKs rely on that."""
    return {
        **kinds.view(resource),
        "ModelPackageName": None if "ModelPackageGroupName" in resource.document else resource.name,
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
    }


def _facets(document: Mapping[str, Any]) -> dict[str, str]:
    versioned = "Versioned" if "ModelPackageGroupName" in document else UNVERSIONED
    return {**{name: document[name] for name in FACETS if name in document}, TYPE: versioned}


def _narrow(context: Context, request: Request) -> dict[str, Any]:
    facets: dict[str, str] = {}
    if "ModelPackageGroupName" in request:
        facets["ModelPackageGroupName"] = find(context, GROUP, request["ModelPackageGroupName"]).name
    if "ModelApprovalStatus" in request:
        facets["ModelApprovalStatus"] = request["ModelApprovalStatus"]
    wanted = request.get(TYPE, "Both" if "ModelPackageGroupName" in request else UNVERSIONED)
    return {"facets": facets if wanted == "Both" else {**facets, TYPE: wanted}}


KIND = Kind(
    name="ModelPackage",
    title="model package",
    initial="Completed",
    view=view,
    facets=_facets,
    ascending=True,
    filters=("ModelApprovalStatus", "ModelPackageGroupName", "ModelPackageType"),
    narrow=_narrow,
)

describes(KIND)
lists(KIND)
deletes(KIND)


@SAGEMAKER.operation
def create_model_package(context: Context, request: Request) -> Answer:
    """A new version of a group's model, or a package by itself. The same ClientToken again answers the same package."""
    if ("ModelPackageName" in request) == ("ModelPackageGroupName" in request):
        raise BadRequest("Exactly one of ModelPackageName and ModelPackageGroupName must be given.")
    for member, words in NOT_RUN.items():
        if member in request:
            raise BadRequest(f"{member}: {words}.", field=member)
    if request.get("CertifyForMarketplace"):
        raise BadRequest("CertifyForMarketplace: there is no marketplace here.", field="CertifyForMarketplace")
    if made := _made_before(context, request):
        return view(made)
    document = {**plain(request), **({"ClientToken": request["ClientToken"]} if "ClientToken" in request else {})}
    try:
        if "ModelPackageName" in request:
            return view(make(context, KIND, request["ModelPackageName"], document, request))
        return view(_version(context, document, request))
    except Conflict:
        if made := _made_before(context, request):  # by the same call, which came twice at once
            return view(made)
        raise


@SAGEMAKER.operation
def update_model_package(context: Context, request: Request) -> Answer:
    """Approves, rejects or describes a package anew; what it was before is kept with it."""
    current = find(context, KIND, request["ModelPackageArn"])
    document = {**current.document, **{name: request[name] for name in REPLACED if name in request}}
    properties = {**document.get("CustomerMetadataProperties", {}), **request.get("CustomerMetadataProperties", {})}
    for key in request.get("CustomerMetadataPropertiesToRemove", ()):
        properties.pop(key, None)
    if properties:
        document["CustomerMetadataProperties"] = properties
    else:
        document.pop("CustomerMetadataProperties", None)
    if added := request.get("AdditionalInferenceSpecificationsToAdd"):
        document["AdditionalInferenceSpecifications"] = _with(document, added)
    if "ModelApprovalStatus" in request:
        document["ApprovalHistory"] = [*document.get("ApprovalHistory", ()), _entry(context, request)]
    document["LastModifiedBy"] = {"IamIdentity": {"Arn": context.principal.arn}}
    return view(context.store.replace(current, document, current.status, facets=_facets(document)))


@SAGEMAKER.operation
def batch_describe_model_package(context: Context, request: Request) -> Answer:
    """Many packages at once; those that cannot be found are named apart."""
    found: dict[str, Any] = {}
    missing: dict[str, Any] = {}
    for arn in request["ModelPackageArnList"]:
        try:
            found[arn] = view(find(context, KIND, arn))
        except NotFound as error:
            missing[arn] = {"ErrorCode": "ValidationException", "ErrorResponse": error.message}
    return {"ModelPackageSummaries": found or None, "BatchDescribeModelPackageErrorMap": missing or None}


def _made_before(context: Context, request: Request) -> Resource | None:
    if "ClientToken" not in request:
        return None
    found = page(context.store, Query(KIND.name, facets={"ClientToken": request["ClientToken"]}), 1).resources
    return found[0] if found else None


def _version(context: Context, document: dict[str, Any], request: Request) -> Resource:
    """The group's next version; a number is never given twice, nor two to one ClientToken."""
    group = find(context, GROUP, request["ModelPackageGroupName"])
    with context.store.transaction() as store:
        try:
            number = store.count(group)
        except NotFound:
            raise Conflict(f'Model package group "{group.arn}" was deleted meanwhile.') from None
        inside = replace(context, store=store)
        if _made_before(inside, request):  # counting holds the group, so nobody else is between here and the end
            raise Conflict(f"ClientToken {request['ClientToken']!r} is taken.")
        document |= {"ModelPackageGroupName": group.name, "ModelPackageVersion": number}
        document.setdefault("ModelApprovalStatus", "PendingManualApproval")
        document["ApprovalHistory"] = [_entry(context, document)]
        return make(inside, KIND, f"{group.name}/{number}", document, request)


def _entry(context: Context, request: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the approval's history."""
    return {
        "ModelApprovalStatus": request["ModelApprovalStatus"],
        "ApprovalDescription": request.get("ApprovalDescription"),
        "Time": datetime.now(UTC).timestamp(),
        "By": context.principal.arn,
    }


def _with(document: Mapping[str, Any], added: list[dict[str, Any]]) -> list[dict[str, Any]]:
    present = document.get("AdditionalInferenceSpecifications", [])
    names = [each["Name"] for each in (*present, *added)]
    if len(set(names)) != len(names):
        raise BadRequest("AdditionalInferenceSpecifications: names must be unique.")
    return [*present, *added]
