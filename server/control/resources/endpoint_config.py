"""Endpoint configurations: production variants and what they run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.control import capture
from server.control.endpoints import CHANGING
from server.control.kind import Kind, creates, deletes, describes, find
from server.control.listing import lists
from server.control.operations import Context, Request
from server.control.resources.model import KIND as MODEL
from server.errors import BadRequest, InUse
from server.store.store import Resource

KIND = Kind(name="EndpointConfig", title="endpoint configuration")

def _check(context: Context, request: Request) -> None:
    every = [*request["ProductionVariants"], *request.get("ShadowProductionVariants", ())]
    names = [variant["VariantName"] for variant in every]
    if len(set(names)) != len(names):
        raise BadRequest(f"Variant names must be unique; got {', '.join(names)}.", field="productionVariants")
    _check_shadows(request["ProductionVariants"], request.get("ShadowProductionVariants", ()))
    if "ShadowProductionVariants" in request and "AsyncInferenceConfig" in request:
        raise BadRequest("Asynchronous endpoints have no shadow variants.", field="shadowProductionVariants")
    capture.check(request.get("DataCaptureConfig"))
    for variant in every:
        _check_variant(context, variant, "ExecutionRoleArn" in request)
    modelled = ["ModelName" in variant for variant in every]
    if not all(modelled) and (any(modelled) or "ShadowProductionVariants" in request):
        raise BadRequest(
            "Either every variant names a model, or none does and inference components are put on them; shadow "
            "variants need a model.",
            field="modelName",
        )


def _check_shadows(production: Sequence[Mapping[str, Any]], shadows: Sequence[Mapping[str, Any]]) -> None:
    """Shadow variants copy what one production variant is asked, on instances."""
    if not shadows:
        return
    if len(shadows) > 1 or len(production) > 1:
        raise BadRequest(
            "With ShadowProductionVariants there can be only one variant in ProductionVariants and one in "
            f"ShadowProductionVariants; got {len(production)} and {len(shadows)}.",
            field="shadowProductionVariants",
        )
    for variant in (*production, *shadows):
        if "ServerlessConfig" in variant:
            raise BadRequest(
                f"Variant {variant['VariantName']} is serverless; shadow variants, and the variants that they shadow, "
                "need an InstanceType.",
                field="serverlessConfig",
            )
    if production[0].get("InitialVariantWeight", 1.0) <= 0:
        raise BadRequest(
            f"Variant {production[0]['VariantName']} needs an InitialVariantWeight above 0: a shadow variant's share "
            "is relative to it.",
            field="initialVariantWeight",
        )


def _check_variant(context: Context, variant: Mapping[str, Any], components: bool) -> None:
    name = variant["VariantName"]
    if "ModelName" in variant:
        find(context, MODEL, variant["ModelName"])
    elif not components:
        raise BadRequest(f"Variant {name} needs a ModelName.", field="modelName")
    if ("ServerlessConfig" in variant) == ("InstanceType" in variant or "InstancePools" in variant):
        raise BadRequest(f"Variant {name} needs either InstanceType or ServerlessConfig.", field="instanceType")
    if "ModelName" not in variant and "ServerlessConfig" in variant:
        raise BadRequest(f"Variant {name} is serverless; it needs a ModelName.", field="modelName")
    serverless = variant.get("ServerlessConfig", {})
    if serverless and "InitialInstanceCount" in variant:
        raise BadRequest(f"Variant {name} is serverless; it has no InitialInstanceCount.", field="initialInstanceCount")
    if serverless.get("ProvisionedConcurrency", 0) > serverless.get("MaxConcurrency", 0):
        raise BadRequest(
            f"Variant {name}: ProvisionedConcurrency is above MaxConcurrency.", field="provisionedConcurrency"
        )
    managed = variant.get("ManagedInstanceScaling", {})
    if managed.get("MinInstanceCount", 0) > managed.get("MaxInstanceCount", float("inf")):
        raise BadRequest(f"Variant {name}: MinInstanceCount is above MaxInstanceCount.", field="minInstanceCount")


def _unused(context: Context, config: Resource) -> None:
    for endpoint in context.store.find("Endpoint", CHANGING):
        if config.name in _named(endpoint.document):
            raise InUse(
                f'Cannot delete endpoint configuration "{config.arn}": endpoint "{endpoint.arn}" is '
                f"{endpoint.status} with it."
            )


def _named(endpoint: Mapping[str, Any]) -> list[str | None]:
    """The configurations of an endpoint: its own and, during a rollout, the one that replaces it."""
    pending = endpoint.get("pending")
    specs = [endpoint, *([pending["spec"]] if pending else [])]
    return [spec.get("sagemaker", {}).get("EndpointConfigName") for spec in specs]


creates(KIND, _check)
describes(KIND)
lists(KIND)
deletes(KIND, _unused)
