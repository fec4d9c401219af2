"""Inference experiments: a shadow variant beside an endpoint's production variant, from a start to an end.

These calls write what is wanted; the controller (`server.controller.experiments`) makes it true and reports.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from server.control import experiments
from server.control.experiments import ENDED, STOP, names, require
from server.control.kind import Kind, make, plain
from server.control.listing import lists
from server.control.operations import Answer, Context, Request
from server.control.sagemaker import SAGEMAKER
from server.errors import BadRequest, Conflict, NotFound
from server.shadow import reports
from server.store.store import Resource

CHANGED = ("Description", "ModelVariants", "DataStorageConfig", "ShadowModeConfig")
"""Members of UpdateInferenceExperiment that take the place of what was there."""


def view(resource: Resource) -> dict[str, Any]:
    document, seen = resource.document, resource.observation or {}
    stop = document.get(STOP) or {}
    return {
        **document,
        "Name": resource.name,
        "Arn": resource.arn,
        "InferenceExperimentArn": resource.arn,
        "Status": resource.status,
        "StatusReason": resource.reason or stop.get("reason"),
        "CreationTime": resource.created_at,
        "LastModifiedTime": resource.modified_at,
        "CompletionTime": seen.get("completed_at"),
    }


def _any_type(_context: Context, _request: Request) -> Mapping[str, Any]:
    """There is one Type of experiment."""
    return {}


KIND = Kind(
    name=experiments.KIND, title="inference experiment", initial="Creating", view=view, filters=("Type",),
    narrow=_any_type,
)  # fmt: skip

lists(KIND)


@SAGEMAKER.operation
def create_inference_experiment(context: Context, request: Request) -> Answer:
    document = plain(request)
    document["Schedule"] = experiments.schedule(request.get("Schedule", {}), time.time())
    experiments.check_variants(context, document)
    with context.store.transaction() as store:
        experiments.check_endpoint(replace(context, store=store), document, request["Name"])
        return view(make(replace(context, store=store), KIND, request["Name"], document, request))


@SAGEMAKER.operation
def describe_inference_experiment(context: Context, request: Request) -> Answer:
    found = _find(context, request["Name"])
    endpoint = None
    with contextlib.suppress(NotFound):
        endpoint = context.store.get("Endpoint", found.document["EndpointName"])
    variants = [
        {**variant, "Status": _variant_status(found, variant["VariantName"])}
        for variant in found.document["ModelVariants"]
    ]
    return {**view(found), "EndpointMetadata": _metadata(found, endpoint), "ModelVariants": variants}


@SAGEMAKER.operation
def update_inference_experiment(context: Context, request: Request) -> Answer:
    current = _find(context, request["Name"])
    require(current, "Created", "Running")
    changed = {member: request[member] for member in CHANGED if member in request}
    document = {**current.document, **changed}
    if "Schedule" in request:
        document["Schedule"] = _rescheduled(current, request["Schedule"])
    if names(document) != names(current.document) and current.status == "Running":
        raise BadRequest("The variants of a running experiment keep their names.", field="shadowModeConfig")
    experiments.check_variants(context, document)
    _check_models(current, document)
    document["resumes"] = current.status
    return view(context.store.replace(current, document, "Updating"))


@SAGEMAKER.operation
def start_inference_experiment(context: Context, request: Request) -> Answer:
    current = _find(context, request["Name"])
    require(current, "Created")
    now = time.time()
    planned = current.document["Schedule"]
    end = planned["EndTime"] if planned["EndTime"] > now else now + experiments.DEFAULT_S
    document = {**current.document, "Schedule": {"StartTime": now, "EndTime": end}}
    return view(context.store.replace(current, document, "Starting"))


@SAGEMAKER.operation
def stop_inference_experiment(context: Context, request: Request) -> Answer:
    current = _find(context, request["Name"])
    require(current, "Created", "Running")
    wanted = experiments.stop(current.document, request)
    if current.status == "Created" and "Promote" in wanted["actions"].values():
        raise Conflict(f'Inference experiment "{current.arn}" has not started; there is nothing to promote.')
    return view(context.store.replace(current, {**current.document, STOP: wanted}, "Stopping"))


@SAGEMAKER.operation
def delete_inference_experiment(context: Context, request: Request) -> Answer:
    """With the report on its shadow variant; the endpoint stays as it is."""
    found = _find(context, request["Name"])
    require(found, "Created", *ENDED)
    with context.store.transaction() as store:
        store.remove(found)
        reports.forget(store, experiment=found.name)
    return {"InferenceExperimentArn": found.arn}


def _find(context: Context, name: str) -> Resource:
    try:
        return context.store.get(KIND.name, name)
    except NotFound:
        arn = context.store.arn(KIND.name, name)
        raise NotFound(f'Could not find inference experiment "{arn}".', field="name") from None


def _rescheduled(current: Resource, given: Mapping[str, Any]) -> dict[str, float]:
    planned = current.document["Schedule"]
    if current.status == "Running" and given.get("StartTime", planned["StartTime"]) != planned["StartTime"]:
        raise BadRequest("The experiment runs; only its EndTime can be changed.", field="schedule.startTime")
    return experiments.schedule({**planned, **given}, planned["StartTime"])


def _check_models(current: Resource, document: Mapping[str, Any]) -> None:
    source, _ = names(current.document)
    before, after = (
        {each["VariantName"]: each["ModelName"] for each in each_document["ModelVariants"]}
        for each_document in (current.document, document)
    )
    if before[source] != after.get(source):
        raise BadRequest(f"The production variant {source} keeps its model, {before[source]}.", field="modelVariants")


def _metadata(found: Resource, endpoint: Resource | None) -> dict[str, Any]:
    name = found.document["EndpointName"]
    config = (found.observation or {}).get("config")
    if endpoint is None or endpoint.status == "Deleting":
        return {"EndpointName": name, "EndpointConfigName": config}
    now = endpoint.document.get("sagemaker", {}).get("EndpointConfigName")
    return {
        "EndpointName": name,
        "EndpointConfigName": now if found.status not in ENDED else config or now,
        "EndpointStatus": endpoint.status,
        "FailureReason": endpoint.reason,
    }


def _variant_status(found: Resource, variant: str) -> str | None:
    """Where a variant of the experiment is on the endpoint; None: it is not there, and never was."""
    source, _ = names(found.document)
    removed = ((found.document.get(STOP) or {}).get("actions") or {}).get(variant) == "Remove"
    if found.status in ENDED or found.status == "Stopping":
        if not removed:
            return "InService"
        return "Deleted" if found.status in ENDED else "Deleting"
    if variant == source:
        return "InService"
    if found.status == "Updating":
        return "Updating" if found.document["resumes"] == "Running" else None
    return {"Starting": "Creating", "Running": "InService"}.get(found.status)
