"""Which component's copies a request waits for that the edge could not send on itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from server.door.components import component_of
from server.errors import BadRequest
from server.spec import EndpointSpec, Scaling, VariantSpec
from server.store.store import Resource
from tests.controller.test_components import adapter, base, fleet, variant

HEADER = b"x-amzn-sagemaker-inference-component"
ROWS = {
    "base": base(fleet(variant(1))),
    "adapter": adapter(),
    "empty": base(fleet(variant(0, name="empty"))),
}


HOST = EndpointSpec(name="ep", variants=(VariantSpec(hosts=True),))


@dataclass(frozen=True)
class Found:
    spec: EndpointSpec = HOST
    account: str = "1"
    component: str = ""


PLAIN = Found(EndpointSpec(name="ep", variants=(VariantSpec(model="m", scaling=Scaling()),)))


def find(account: str, endpoint: str, name: str) -> Resource | None:
    assert (account, endpoint) == ("1", "ep")
    return ROWS.get(name)


def scope(path: str, header: str | None) -> dict[str, Any]:
    headers = [] if header is None else [(HEADER, header.encode())]
    return {"type": "http", "method": "POST", "path": path, "headers": headers}


INVOKE, CHAT = "/endpoints/ep/invocations", "/endpoints/ep/openai/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "header", "model", "found"),
    [
        (INVOKE, "base", None, "base"),
        (INVOKE, "adapter", None, "base"),
        (CHAT, None, "adapter", "base"),
        (CHAT, "base", "ep", "base"),
        ("/endpoints/ep/inference-components/adapter/openai/v1/chat/completions", None, "ep", "base"),
    ],
)
def test_an_adapter_is_on_its_base(path: str, header: str | None, model: str | None, found: str) -> None:
    body = json.dumps({} if model is None else {"model": model}).encode()
    assert component_of(find, scope(path, header), body, Found()) == found


def test_a_component_that_was_found_by_its_name() -> None:
    assert component_of(find, scope("/v1/completions", None), b"{}", Found(component="adapter")) == "base"


@pytest.mark.parametrize(
    ("path", "header", "model", "words"),
    [
        (INVOKE, None, None, "header is required"),
        (INVOKE, None, "base", "header is required"),
        (CHAT, None, "ep", "header is required"),
        (INVOKE, "nobody", None, "nobody was not found for endpoint ep"),
        (INVOKE, "empty", None, "has no capacity"),
    ],
)
def test_what_is_refused(path: str, header: str | None, model: str | None, words: str) -> None:
    body = json.dumps({} if model is None else {"model": model}).encode()
    with pytest.raises(BadRequest, match=words) as caught:
        component_of(find, scope(path, header), body, Found())
    assert caught.value.field == "InferenceComponentName"


def test_an_endpoint_with_a_model() -> None:
    assert component_of(find, scope(INVOKE, None), b"{}", PLAIN) == ""
    with pytest.raises(BadRequest, match="is not allowed for endpoint ep"):
        component_of(find, scope(INVOKE, "base"), b"{}", PLAIN)


