"""Inference components through a real HAProxy: by header, by address, by the model that a body names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from server.edge.routes import RouteTable, Timeouts
from tests.edge.conftest import Edge, started, variant

HEADER = "X-Amzn-SageMaker-Inference-Component"
CHAT = "openai/v1/chat/completions"


@pytest.fixture(scope="module")
def hosting() -> Iterator[Edge]:
    """Endpoint `e` with the components `one` and `two`, adapter `more` on `one`; endpoint `two` has a model."""
    with started(Timeouts(body=2)) as edge:
        parts = [replace(variant("e", edge.replica(name)), component=name) for name in ("one", "two")]
        aliases = {"one": "e_one", "more": "e_one", "e_more": "e_one", "gone": "e_gone"}
        edge.client.apply(RouteTable((*parts, variant("two", edge.replica("model"))), aliases=aliases))
        yield edge


@pytest.mark.parametrize(
    ("path", "body", "header", "by"),
    [
        ("/endpoints/e/invocations", {}, "one", "one"),
        ("/endpoints/e/invocations", {}, "two", "two"),
        ("/endpoints/e/invocations-response-stream", {}, "more", "one"),
        ("/endpoints/e/invocations", {}, None, "door"),
        ("/endpoints/e/invocations", {"model": "one"}, None, "door"),
        ("/endpoints/e/invocations", {}, "none", "door"),
        ("/endpoints/e/invocations", {}, "one_two", "door"),
        ("/endpoints/two/invocations", {}, None, "model"),
        ("/endpoints/two/invocations", {}, "one", "door"),
        ("/v1/completions", {"model": "one"}, None, "one"),
        ("/v1/completions", {"model": "more"}, None, "one"),
        ("/v1/completions", {"model": "two"}, None, "model"),
        ("/v1/completions", {"model": "e"}, "two", "two"),
        ("/v1/completions", {"model": "e"}, None, "door"),
        ("/v1/completions", {"model": "gone"}, None, "door"),
        (f"/endpoints/e/{CHAT}", {"model": "two"}, None, "two"),
        (f"/endpoints/e/{CHAT}", {"model": "more"}, None, "one"),
        (f"/endpoints/e/{CHAT}", {"model": "more"}, "two", "two"),
        (f"/endpoints/e/{CHAT}", {"model": "e"}, None, "door"),
        (f"/endpoints/e/inference-components/more/{CHAT}", {"model": "e"}, None, "one"),
        (f"/endpoints/e/inference-components/two/{CHAT}", {}, "one", "two"),
        (f"/endpoints/e/inference-components/none/{CHAT}", {}, None, "door"),
        (f"/endpoints/two/{CHAT}", {"model": "two"}, None, "model"),
        (f"/endpoints/two/{CHAT}", {"model": "x"}, None, "model"),
    ],
)
def test_by_component(hosting: Edge, path: str, body: object, header: str | None, by: str) -> None:
    assert hosting.http.post(path, body, {HEADER: header} if header else {})["me"] == by


def test_a_variant_of_a_component_by_its_name(hosting: Edge) -> None:
    for name, by in (("AllTraffic", "one"), ("x", "door")):
        headers = {HEADER: "more", "X-Amzn-SageMaker-Target-Variant": name}
        assert hosting.http.post("/endpoints/e/invocations", {}, headers)["me"] == by


def test_the_door_says_which_place(hosting: Edge) -> None:
    assert hosting.internal.post("/endpoints/e/invocations", {}, {"x-hearth-endpoint": "e_two"})["me"] == "two"
