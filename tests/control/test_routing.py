"""RoutingConfig of a production variant, from boto3 to what is run and what the edge routes by."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from server import spec as specs
from server.controller.publish import route_table
from server.controller.registry import Registry
from server.edge.routes import Routing
from server.store.store import Store
from tests.control.test_endpoint_resource import spec
from tests.control.test_models import VARIANT, make_config, make_model

PREFIX = {"PrefixLength": 4096, "ConcurrencyThreshold": 8}


def made(sagemaker: Any, routing: dict[str, Any]) -> None:
    make_model(sagemaker)
    make_config(sagemaker, "c", {**VARIANT, "RoutingConfig": routing})
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")


@pytest.mark.parametrize(
    ("routing", "wanted"),
    [
        ({"RoutingStrategy": "RANDOM"}, Routing("RANDOM")),
        ({"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}, Routing()),
        ({"RoutingStrategy": "PREFIX_AWARE", "PrefixAwareRoutingConfig": PREFIX}, Routing("PREFIX_AWARE", 4096, 8)),
    ],
)
def test_a_strategy_reaches_the_edge(sagemaker: Any, store: Store, routing: dict[str, Any], wanted: Routing) -> None:
    made(sagemaker, routing)
    assert spec(store).problem is None
    (backend,) = route_table([store.get("Endpoint", "ep")], Registry(), None).backends
    assert backend.routing == wanted


@pytest.mark.parametrize(
    ("routing", "words"),
    [
        ({"RoutingStrategy": "KV_AWARE"}, "KV_AWARE cannot be followed"),
        ({"RoutingStrategy": "PREFIX_AWARE"}, "PrefixLength and ConcurrencyThreshold"),
        (
            {"RoutingStrategy": "PREFIX_AWARE", "PrefixAwareRoutingConfig": {"PrefixLength": 1024}},
            "needs ConcurrencyThreshold",
        ),
        ({"RoutingStrategy": "RANDOM", "PrefixAwareRoutingConfig": PREFIX}, "needs the RoutingStrategy PREFIX_AWARE"),
    ],
)
def test_what_cannot_be_followed_is_said(sagemaker: Any, store: Store, routing: dict[str, Any], words: str) -> None:
    made(sagemaker, routing)
    assert words in str(spec(store).problem)


def test_lengths_are_the_service_models(sagemaker: Any) -> None:
    config = {"RoutingStrategy": "PREFIX_AWARE", "PrefixAwareRoutingConfig": {**PREFIX, "PrefixLength": 65537}}
    with pytest.raises(ClientError, match="65536"):
        made(sagemaker, config)


def test_another_strategy_needs_no_new_replicas() -> None:
    variant = specs.VariantSpec(model="m")
    assert variant.model_copy(update={"routing": specs.Routing(strategy="RANDOM")}).revision == variant.revision
