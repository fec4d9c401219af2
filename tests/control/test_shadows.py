"""Shadow variants through boto3: what a configuration may say, and what endpoints tell and change of them."""

from __future__ import annotations

from typing import Any

import pytest

from server.control import capacity, quotas
from server.store.store import Store
from tests.control.conftest import client
from tests.control.test_endpoint_resource import settle, spec
from tests.control.test_models import SERVERLESS, VARIANT, make_config, make_model, refused

SHADOW = {**VARIANT, "VariantName": "Shadow", "InitialInstanceCount": 2, "InitialVariantWeight": 0.5}


@pytest.fixture
def made(sagemaker: Any, store: Store) -> Any:
    """A client with an endpoint `ep` in service, whose configuration `c` has a shadow variant."""
    make_model(sagemaker)
    make_config(sagemaker, ShadowProductionVariants=[SHADOW])
    make_config(sagemaker, "plain")
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    in_service(store)
    return sagemaker


def in_service(store: Store) -> None:
    """What the controller does, and what it sees of the shadow."""
    settle(store)
    current = store.get("Endpoint", "ep")
    seen: dict[str, Any] = dict((current.observation or {})["variants"])
    seen |= {v["name"]: {"replicas": v["scaling"]["min_replicas"], "weight": v["weight"]}
             for v in current.document["shadows"]}  # fmt: skip
    store.observe(current, {"variants": seen})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ShadowProductionVariants": [SHADOW, {**SHADOW, "VariantName": "t"}]}, "only one variant"),
        (
            {"ProductionVariants": [VARIANT, {**VARIANT, "VariantName": "b"}], "ShadowProductionVariants": [SHADOW]},
            "only one variant",
        ),
        ({"ShadowProductionVariants": [{**SHADOW, "VariantName": VARIANT["VariantName"]}]}, "unique"),
        ({"ShadowProductionVariants": [{**SHADOW, "ModelName": "none"}]}, "none"),
        ({"ShadowProductionVariants": [{**SERVERLESS, "VariantName": "s"}]}, "serverless"),
        ({"ProductionVariants": [SERVERLESS], "ShadowProductionVariants": [SHADOW]}, "serverless"),
        (
            {"ProductionVariants": [{**VARIANT, "InitialVariantWeight": 0.0}], "ShadowProductionVariants": [SHADOW]},
            "InitialVariantWeight",
        ),
    ],
)
def test_a_configuration_that_cannot_be(sagemaker: Any, given: dict[str, Any], words: str) -> None:
    make_model(sagemaker)
    request = {"EndpointConfigName": "bad", "ProductionVariants": [VARIANT], **given}
    code, message = refused(lambda: sagemaker.create_endpoint_config(**request))
    assert code == "ValidationException"
    assert words in message


def test_an_endpoint_tells_of_its_shadow(made: Any, store: Store) -> None:
    assert made.describe_endpoint_config(EndpointConfigName="c")["ShadowProductionVariants"] == [SHADOW]
    found = made.describe_endpoint(EndpointName="ep")
    (production,), (shadow,) = found["ProductionVariants"], found["ShadowProductionVariants"]
    assert (production["VariantName"], production["CurrentInstanceCount"]) == ("AllTraffic", 1)
    assert shadow["VariantName"] == "Shadow"
    assert (shadow["DesiredInstanceCount"], shadow["CurrentInstanceCount"]) == (2, 2)
    assert (shadow["DesiredWeight"], shadow["CurrentWeight"]) == (0.5, 0.5)
    assert [variant.name for variant in spec(store).fleet] == ["AllTraffic", "Shadow"]


def test_weights_and_counts_of_a_shadow_change_in_place(made: Any, store: Store) -> None:
    made.update_endpoint_weights_and_capacities(
        EndpointName="ep",
        DesiredWeightsAndCapacities=[{"VariantName": "Shadow", "DesiredWeight": 0.25, "DesiredInstanceCount": 3}],
    )
    (shadow,) = spec(store).shadows
    assert (shadow.weight, shadow.scaling.min_replicas) == (0.25, 3)
    assert spec(store).variants[0].weight == 1.0
    assert spec(store).pending is None
    found = capacity.find(spec(store), "Shadow")
    assert found is not None
    document = capacity.with_capacity(spec(store), found, "sagemaker:variant:DesiredInstanceCount", 4)
    assert document["shadows"][0]["scaling"]["min_replicas"] == 4
    assert document["variants"] == store.get("Endpoint", "ep").document["variants"]


def test_a_shadow_can_be_scaled_automatically(made: Any, address: str) -> None:


    scaling = client(address, "application-autoscaling")
    name = {
        "ServiceNamespace": "sagemaker", "ResourceId": "endpoint/ep/variant/Shadow",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }  # fmt: skip
    scaling.register_scalable_target(**name, MinCapacity=1, MaxCapacity=3)
    (found,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert found["ResourceId"] == name["ResourceId"]


def test_a_shadow_is_added_and_taken_away_by_rollouts(made: Any, store: Store) -> None:
    made.update_endpoint(EndpointName="ep", EndpointConfigName="plain")
    pending = made.describe_endpoint(EndpointName="ep")["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == "plain"
    assert "ShadowProductionVariants" not in pending
    in_service(store)
    assert "ShadowProductionVariants" not in made.describe_endpoint(EndpointName="ep")
    made.update_endpoint(EndpointName="ep", EndpointConfigName="c")
    pending = made.describe_endpoint(EndpointName="ep")["PendingDeploymentSummary"]
    (shadow,) = pending["ShadowProductionVariants"]
    assert shadow["VariantName"] == "Shadow"


def test_retained_properties_are_those_of_the_shadow_too(made: Any, store: Store) -> None:
    wanted = [{"VariantName": "Shadow", "DesiredWeight": 0.25, "DesiredInstanceCount": 3}]
    made.update_endpoint_weights_and_capacities(EndpointName="ep", DesiredWeightsAndCapacities=wanted)
    in_service(store)
    make_config(made, "again", ShadowProductionVariants=[SHADOW])
    made.update_endpoint(EndpointName="ep", EndpointConfigName="again", RetainAllVariantProperties=True)
    (shadow,) = spec(store).shadows
    assert (shadow.weight, shadow.scaling.min_replicas) == (0.25, 3)
    in_service(store)
    made.update_endpoint(
        EndpointName="ep", EndpointConfigName="again", RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
    )  # fmt: skip
    assert spec(store).shadows[0].weight == 0.5
    assert spec(store).shadows[0].scaling.min_replicas == 3


def test_a_shadow_s_replicas_are_instances_and_production_s_count_once(made: Any, store: Store) -> None:
    before = quotas.instances(spec(store))
    assert before == 3
    made.update_endpoint(EndpointName="ep", EndpointConfigName="plain")
    assert spec(store).pending is not None
    assert quotas.instances(spec(store)) == 3
