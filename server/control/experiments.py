"""Inference experiments as intent: what may be asked for, and the endpoint configuration that each wish means.

An experiment is a row whose document is the request. It takes effect by endpoint configurations that the controller
makes and asks the endpoint for, as UpdateEndpoint does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from server.control.operations import Context, Request
from server.errors import BadRequest, Conflict, InUse, NotFound
from server.objects.errors import ObjectError
from server.objects.fetching import Location
from server.spec import EndpointSpec
from server.store.store import Resource

KIND = "InferenceExperiment"
ENDED = ("Completed", "Cancelled")
OPEN = ("Creating", "Created", "Starting", "Running", "Updating", "Stopping")
DEFAULT_S = 7 * 86400.0
LONGEST_S = 30 * 86400.0
STOP = "stop"
"""Member of the document, not of the wire: how the experiment is to end."""

Document = Mapping[str, Any]


def schedule(given: Document, begins: float) -> dict[str, float]:
    """Start and end in seconds since 1970; what is not said is at once, and seven days. Raises BadRequest."""
    start = given.get("StartTime", begins)
    end = given.get("EndTime", start + DEFAULT_S)
    if end <= start:
        raise BadRequest("Schedule: EndTime must be after StartTime.", field="schedule.endTime")
    if end <= time.time():
        raise BadRequest("Schedule: EndTime is in the past.", field="schedule.endTime")
    if end - start > LONGEST_S:
        raise BadRequest("Schedule: an inference experiment lasts 30 days at most.", field="schedule.endTime")
    return {"StartTime": start, "EndTime": end}


def names(document: Document) -> tuple[str, str]:
    """The production variant and its shadow."""
    mode = document["ShadowModeConfig"]
    return mode["SourceModelVariantName"], mode["ShadowModelVariants"][0]["ShadowModelVariantName"]


def infrastructure(document: Document, variant: str) -> Document:
    """Instance type and count of a variant."""
    (found,) = [each for each in document["ModelVariants"] if each["VariantName"] == variant]
    inner: Document = found["InfrastructureConfig"]["RealTimeInferenceConfig"]
    return inner


def check_variants(context: Context, document: Document) -> None:
    """Raises BadRequest, or NotFound for a model."""
    variants = document["ModelVariants"]
    given = [variant["VariantName"] for variant in variants]
    if len(variants) != 2 or len(set(given)) != 2:
        raise BadRequest(
            f"ModelVariants must be two, with names of their own; got {', '.join(given)}.", field="modelVariants"
        )
    source, shadow = names(document)
    for member, name in (("SourceModelVariantName", source), ("ShadowModelVariantName", shadow)):
        if name not in given:
            raise BadRequest(f"{member} {name} is none of ModelVariants ({', '.join(given)}).", field=member)
    if source == shadow:
        raise BadRequest("The shadow variant must be another than SourceModelVariantName.", field="shadowModeConfig")
    share = document["ShadowModeConfig"]["ShadowModelVariants"][0]["SamplingPercentage"]
    if share < 0:
        raise BadRequest(f"SamplingPercentage must be from 0 to 100, got {share}.", field="samplingPercentage")
    for variant in variants:
        _check_model(context, variant)
    check_storage(document)


def check_storage(document: Document) -> None:
    if "DataStorageConfig" in document:
        try:
            Location.parse(document["DataStorageConfig"]["Destination"])
        except ObjectError as error:
            raise BadRequest(f"DataStorageConfig: {error.message}", field="dataStorageConfig.destination") from None


def _check_model(context: Context, variant: Document) -> None:
    try:
        context.store.get("Model", variant["ModelName"])
    except NotFound:
        arn = context.store.arn("Model", variant["ModelName"])
        raise NotFound(f'Could not find model "{arn}".', field="modelName") from None
    if variant["InfrastructureConfig"]["RealTimeInferenceConfig"]["InstanceCount"] < 1:
        raise BadRequest(f"Variant {variant['VariantName']}: InstanceCount must be 1 or more.", field="instanceCount")


def check_endpoint(context: Context, document: Document, experiment: str) -> None:
    """The endpoint is in service, and is what the experiment says that it is. Raises BadRequest, NotFound, InUse."""
    name = document["EndpointName"]
    try:
        endpoint = context.store.get("Endpoint", name)
    except NotFound:
        arn = context.store.arn("Endpoint", name)
        raise NotFound(f'Could not find endpoint "{arn}".', field="endpointName") from None
    if endpoint.status != "InService":
        raise BadRequest(f'Endpoint "{endpoint.arn}" is {endpoint.status}, not InService.', field="endpointName")
    for other in context.store.find(KIND, OPEN):
        if other.document["EndpointName"] == name and other.name != experiment:
            raise InUse(f'Endpoint "{endpoint.arn}" has the experiment {other.name}, which is {other.status}.')
    spec = EndpointSpec.model_validate(endpoint.document)
    if spec.shadows:
        raise InUse(f'Endpoint "{endpoint.arn}" has the shadow variant {spec.shadows[0].name} already.')
    _check_source(context, spec, document)


def _check_source(context: Context, spec: EndpointSpec, document: Document) -> None:
    source, _ = names(document)
    config = config_of(context, spec)
    variants = config["ProductionVariants"]
    if [variant["VariantName"] for variant in variants] != [source]:
        has = ", ".join(variant["VariantName"] for variant in variants)
        raise BadRequest(
            f"SourceModelVariantName {source} must be the only production variant of endpoint {spec.name}, which has "
            f"{has}.",
            field="sourceModelVariantName",
        )
    (model,) = [each["ModelName"] for each in document["ModelVariants"] if each["VariantName"] == source]
    given = {"ModelName": model, "InstanceType": infrastructure(document, source)["InstanceType"]}
    for member, value in given.items():
        if variants[0].get(member) != value:
            raise BadRequest(
                f"Variant {source} of endpoint {spec.name} has the {member} {variants[0].get(member)}, not {value}.",
                field=member,
            )


def config_of(context: Context, spec: EndpointSpec) -> Document:
    """The endpoint configuration that an endpoint has. Raises BadRequest where it has none any more."""
    name = spec.sagemaker.get("EndpointConfigName")
    try:
        return context.store.get("EndpointConfig", str(name or "")).document
    except NotFound:
        raise BadRequest(
            f"Endpoint {spec.name} has no endpoint configuration to start from"
            + (f": {name} was deleted." if name else "; it was not made by CreateEndpoint."),
            field="endpointName",
        ) from None


def started(context: Context, document: Document, spec: EndpointSpec) -> dict[str, Any]:
    """The configuration with the experiment's shadow. Raises BadRequest."""
    config = config_of(context, spec)
    source, shadow = names(document)
    (production,) = config["ProductionVariants"]
    (mode,) = document["ShadowModeConfig"]["ShadowModelVariants"]
    serving = _serving(production, spec)
    wanted = infrastructure(document, source)["InstanceCount"]
    if wanted != production.get("InitialInstanceCount", 1):
        serving["InitialInstanceCount"] = wanted
    (model,) = [each["ModelName"] for each in document["ModelVariants"] if each["VariantName"] == shadow]
    inner = infrastructure(document, shadow)
    copied = {
        "VariantName": shadow, "ModelName": model, "InstanceType": inner["InstanceType"],
        "InitialInstanceCount": inner["InstanceCount"],
        "InitialVariantWeight": serving["InitialVariantWeight"] * mode["SamplingPercentage"] / 100,
    }  # fmt: skip
    return {**config, "ProductionVariants": [serving], "ShadowProductionVariants": [copied]}


def stopped(context: Context, document: Document, spec: EndpointSpec) -> dict[str, Any]:
    """The configuration that is left once the experiment is over. Raises BadRequest."""
    config = config_of(context, spec)
    source, shadow = names(document)
    stop = document[STOP]
    sides: dict[str, list[Any]] = {"ProductionVariants": [], "ShadowProductionVariants": []}
    variants = [*config["ProductionVariants"], *config.get("ShadowProductionVariants", ())]
    found = {each["VariantName"]: _serving(each, spec) for each in variants}
    weight = found[source]["InitialVariantWeight"] if source in found else 1.0
    for name in (source, shadow):
        action = stop["actions"][name]
        if action == "Remove" or name not in found:
            continue
        kept = found[name] | _desired(stop.get("desired", ()), name)
        if action == "Promote":
            kept["InitialVariantWeight"] = weight
        production = name == source or action == "Promote"
        sides["ProductionVariants" if production else "ShadowProductionVariants"].append(kept)
    if not sides["ProductionVariants"]:
        raise BadRequest(f"Endpoint {spec.name} has none of the experiment's variants that was to be kept.")
    rest = {member: value for member, value in config.items() if member not in sides}
    return {**rest, **{side: kept for side, kept in sides.items() if kept}}


def _serving(variant: Document, spec: EndpointSpec) -> dict[str, Any]:
    """A configuration's variant with the weight and the replicas that it has now."""
    found = next((each for each in spec.fleet if each.name == variant["VariantName"]), None)
    if found is None:
        return {"InitialVariantWeight": 1.0, **variant}
    scaling = found.scaling
    fixed = scaling.max_replicas == max(1, scaling.min_replicas)
    count = {"InitialInstanceCount": scaling.min_replicas} if fixed else {}
    return {**variant, "InitialVariantWeight": found.weight, **count}


def _desired(desired: Sequence[Document], name: str) -> dict[str, Any]:
    for variant in desired:
        if variant["VariantName"] == name:
            inner = variant["InfrastructureConfig"]["RealTimeInferenceConfig"]
            return {"InstanceType": inner["InstanceType"], "InitialInstanceCount": inner["InstanceCount"]}
    return {}


def stop(document: Document, request: Request) -> dict[str, Any]:
    """How StopInferenceExperiment's request ends the experiment. Raises BadRequest."""
    source, shadow = names(document)
    given = request["ModelVariantActions"]
    for name, action in given.items():
        if name not in (source, shadow):
            raise _refused(f"{name} is no variant of the experiment")
        if action == "Promote" and name == source:
            raise _refused(f"{name} is a production variant already")
    promoted = given.get(shadow) == "Promote"
    actions = {source: "Remove" if promoted else "Retain", shadow: "Remove", **given}
    if promoted and actions[source] != "Remove":
        raise _refused(f"the promoted variant {shadow} takes the place of {source}; Remove that")
    if not promoted and actions[source] == "Remove":
        raise _refused("no production variant would be left")
    desired = request.get("DesiredModelVariants", ())
    models = {each["VariantName"]: each["ModelName"] for each in document["ModelVariants"]}
    for variant in desired:
        name = variant["VariantName"]
        if models.get(name) != variant["ModelName"] or actions.get(name) == "Remove":
            raise BadRequest(
                f"DesiredModelVariants: {name} with model {variant['ModelName']} is not kept by ModelVariantActions.",
                field="desiredModelVariants",
            )
    state = request.get("DesiredState", "Completed")
    return {"actions": actions, "desired": list(desired), "state": state, "reason": request.get("Reason")}


def _refused(why: str) -> BadRequest:
    return BadRequest(f"ModelVariantActions: {why}.", field="modelVariantActions")


def at_its_end(document: Document) -> dict[str, Any]:
    """How an experiment ends whose time is over: its shadow goes."""
    source, shadow = names(document)
    actions = {source: "Retain", shadow: "Remove"}
    return {"actions": actions, "desired": [], "state": "Completed", "reason": None}


def require(experiment: Resource, *statuses: str) -> None:
    """Raises Conflict for an experiment in another state."""
    if experiment.status not in statuses:
        raise Conflict(
            f'Inference experiment "{experiment.arn}" is {experiment.status}; it must be {" or ".join(statuses)}.'
        )
