"""The control plane's calls as pure functions: a reference that the running one is held to.

A call takes a world to the next one and to the part of its answer that the world decides; or it is refused, and the
world stays. Reads are calls too. Only what `sequence.py` sends is described. Here are models and endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from benchmarks.crash.world import CHANGING, Config, Endpoint, Model, Things, Variant, World

Request = Mapping[str, Any]
Answer = Mapping[str, Any]

IMAGE, NO_IMAGE = "sagemaker-scikit-learn:1", "registry.example.com/own:1"
"""One that Hearth has a runtime for, and one that it has not."""


class Refused(Exception):
    """The call must be answered by a 400."""


Rule = Callable[[Things, Request], Answer]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Registers `def create_model(things, request)`, which changes `things` unless it raises Refused."""
    RULES[function.__name__] = function
    return function


def apply(world: World, operation: str, request: Request) -> tuple[World, Answer]:
    """Raises Refused."""
    things = dict(world)
    answer = RULES[operation](things, request)
    return frozenset(things.items()), answer


def there(things: Things, kind: str, name: str) -> Any:
    found = things.get((kind, name))
    if found is None:
        raise Refused(f"no {kind} {name}")
    return found


def free(things: Things, kind: str, name: str) -> None:
    if (kind, name) in things:
        raise Refused(f"{kind} {name} is there")


def tags_of(request: Request) -> frozenset[tuple[str, str]]:
    return frozenset((tag["Key"], tag["Value"]) for tag in request.get("Tags", ()))


@rule
def create_model(things: Things, request: Request) -> Answer:
    name, container = request["ModelName"], request["PrimaryContainer"]
    free(things, "Model", name)
    answer = container["Environment"]["ANSWER"]
    things["Model", name] = Model(tags_of(request), answer, container["Image"] == IMAGE)
    return {}


@rule
def describe_model(things: Things, request: Request) -> Answer:
    model: Model = there(things, "Model", request["ModelName"])
    return {"ModelName": request["ModelName"], "PrimaryContainer": {"Environment": {"ANSWER": model.answer}}}


@rule
def create_endpoint_config(things: Things, request: Request) -> Answer:
    name = request["EndpointConfigName"]
    variants = tuple(
        Variant(each["VariantName"], each["ModelName"], each["InitialVariantWeight"], each["InitialInstanceCount"])
        for each in request["ProductionVariants"]
    )
    for variant in variants:
        there(things, "Model", variant.model)
    free(things, "EndpointConfig", name)
    things["EndpointConfig", name] = Config(tags_of(request), variants)
    return {}


@rule
def describe_endpoint_config(things: Things, request: Request) -> Answer:
    config: Config = there(things, "EndpointConfig", request["EndpointConfigName"])
    return {"ProductionVariants": [{"VariantName": v.name, "ModelName": v.model} for v in config.variants]}


def _served(things: Things, config_name: str) -> tuple[tuple[Variant, ...], bool]:
    """A configuration's variants with their models' answers, and whether they can be run."""
    config: Config = there(things, "EndpointConfig", config_name)
    models = [things.get(("Model", variant.model)) for variant in config.variants]
    variants = tuple(
        replace(variant, model="", answer=model.answer if isinstance(model, Model) else "")
        for variant, model in zip(config.variants, models, strict=True)
    )
    return variants, all(isinstance(model, Model) and model.runnable for model in models)


@rule
def create_endpoint(things: Things, request: Request) -> Answer:
    name, config = request["EndpointName"], request["EndpointConfigName"]
    variants, runnable = _served(things, config)
    free(things, "Endpoint", name)
    things["Endpoint", name] = Endpoint(tags_of(request), config, variants, "Creating", runnable)
    return {}


def _changeable(things: Things, name: str) -> Endpoint:
    found: Endpoint = there(things, "Endpoint", name)
    if found.status in (*CHANGING, "Deleting"):
        raise Refused(f"{name} is {found.status}")
    return found


@rule
def update_endpoint(things: Things, request: Request) -> Answer:
    name, config = request["EndpointName"], request["EndpointConfigName"]
    found = _changeable(things, name)
    variants, runnable = _served(things, config)
    if not runnable:
        raise Refused(f"{config} cannot be run")
    if found.status == "InService" and _shape(variants) != _shape(found.variants):
        things["Endpoint", name] = replace(found, status="Updating", pending=(config, variants))
    else:
        things["Endpoint", name] = Endpoint(found.tags, config, variants, "Updating")
    return {}


def _shape(variants: tuple[Variant, ...]) -> set[tuple[str, str, float]]:
    """What an endpoint in service changes by a rollout; numbers of replicas change in place."""
    return {(variant.name, variant.answer, variant.weight) for variant in variants}


@rule
def update_endpoint_weights_and_capacities(things: Things, request: Request) -> Answer:
    found = _changeable(things, request["EndpointName"])
    wanted = {each["VariantName"]: each for each in request["DesiredWeightsAndCapacities"]}
    if set(wanted) - {variant.name for variant in found.variants}:
        raise Refused("no such variant")
    variants = tuple(
        replace(
            variant,
            weight=wanted.get(variant.name, {}).get("DesiredWeight", variant.weight),
            count=wanted.get(variant.name, {}).get("DesiredInstanceCount", variant.count),
        )
        for variant in found.variants
    )
    things["Endpoint", request["EndpointName"]] = replace(found, variants=variants, status="Updating")
    return {}


@rule
def describe_endpoint(things: Things, request: Request) -> Answer:
    found: Endpoint = there(things, "Endpoint", request["EndpointName"])
    answer: dict[str, Any] = {
        "EndpointStatus": found.status,
        "EndpointConfigName": found.config,
        "PendingDeploymentSummary": {"EndpointConfigName": found.pending[0]} if found.pending else None,
    }
    if found.runnable:
        answer["ProductionVariants"] = [
            {"VariantName": v.name, "DesiredWeight": v.weight, "DesiredInstanceCount": v.count} for v in found.variants
        ]
    return answer


@rule
def delete_endpoint(things: Things, request: Request) -> Answer:
    found: Endpoint = there(things, "Endpoint", request["EndpointName"])
    things["Endpoint", request["EndpointName"]] = replace(found, status="Deleting")
    return {}


@rule
def delete_model(things: Things, request: Request) -> Answer:
    there(things, "Model", request["ModelName"])
    del things["Model", request["ModelName"]]
    return {}


@rule
def delete_endpoint_config(things: Things, request: Request) -> Answer:
    name = request["EndpointConfigName"]
    there(things, "EndpointConfig", name)
    for thing in things.values():
        if isinstance(thing, Endpoint) and thing.status in CHANGING and name in (thing.config, *(thing.pending or ())):
            raise Refused(f"an endpoint is {thing.status} with {name}")
    del things["EndpointConfig", name]
    return {}
