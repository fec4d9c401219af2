"""Texts that make a matcher try everything: none may cost more than a moment, and none before who asks is known."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from server.control import shapes
from server.control.log_pattern import matcher
from server.control.patterns import TIME_S, Patience
from server.control.scope import scope
from server.control.services import SERVICES
from server.errors import BadRequest, Refusal
from server.identity.policy.patterns import Text
from server.objects.request import is_object_request

BOUND_S = 2.0
SEEDS = ("a", "-", "a-", "0", "/", "s3://a", "a/", "1.", ":", ".", "_", "=", "a=", "a.b-", " ", "\u00e9", "a:b/c-")


def spent(work: Callable[[], object]) -> float:
    """CPU seconds of this thread."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def patterns() -> Iterator[tuple[str, int]]:
    """Every pattern of every service here, with the longest text it is asked about."""
    for service in SERVICES.values():
        model = ServiceModel(Loader().load_service_model(service.name, "service-2"), service.name)
        for name in model.shape_names:
            facts = model.shape_for(name).metadata
            if "pattern" in facts:
                yield facts["pattern"], min(facts.get("max", 4000), 4000)


def test_every_pattern_of_every_model_ends() -> None:
    slow = []
    for pattern, longest in dict(patterns()).items():
        for seed in SEEDS:
            text = (seed * longest)[: longest - 1] + "\n"
            if spent(lambda text=text, pattern=pattern: Patience().matches(pattern,
                                                                           text)) > BOUND_S:  # type: ignore[misc]
                slow.append((pattern, seed))
    assert not slow


def test_a_request_has_one_time_for_all_its_texts() -> None:
    """The slowest pattern of SageMaker's, a hundred times in one request."""
    evil = "a-" * 2000 + "!"
    given = {"Name": "n", "SchedulerConfig": {"PriorityClasses": [{"Name": evil, "Weight": 1}] * 100}}
    request = {**given, "ClusterArn": "arn:aws:sagemaker:us-east-1:123456789012:cluster/a1b2c3d4e5f6"}

    def read() -> None:
        with pytest.raises(BadRequest):
            shapes.read(SERVICES["sagemaker"].input("CreateClusterSchedulerConfig"), request)

    assert spent(read) < TIME_S + BOUND_S


HEADERS = [
    "AWS4-HMAC-SHA256 " + "a" * 60_000,
    "AWS4-HMAC-SHA256 Credential=" + "a" * 60_000,
    "AWS4-HMAC-SHA256 " + "Credential=" * 5_000,
    "AWS4-HMAC-SHA256 Credential=" + "a/" * 30_000,
    "AWS4-HMAC-SHA256 " + "Credential=a/20260101/" * 2_500,
    "AWS4-HMAC-SHA256" + "," * 60_000,
]


@pytest.mark.parametrize("header", HEADERS, ids=[text[:40] for text in HEADERS])
def test_a_signature_is_found_in_one_pass(header: str) -> None:
    """Before anything is known of its sender, as every request is asked whose it is."""
    asgi = {"type": "http", "headers": [(b"authorization", header.encode())], "query_string": b""}
    assert spent(lambda: scope({"authorization": header}, {})) < 0.1
    assert spent(lambda: scope({}, {"X-Amz-Credential": header})) < 0.1
    assert spent(lambda: is_object_request(asgi)) < 0.1


FILTERS = ['"' + "\\a" * 500, " " * 1000 + '"', "?" * 1024, '"a" ' * 250, '"\\"' * 340, "-" * 1024]


@pytest.mark.parametrize("text", FILTERS, ids=[text[:6] for text in FILTERS])
def test_log_filters(text: str) -> None:
    def match() -> None:
        with contextlib.suppress(Refusal):
            matcher(text)("a" * 100_000)

    assert spent(match) < BOUND_S


WILD = ["*a" * 500, "*" * 1000 + "b", "?*" * 500, "a*" * 300 + "b", "*" + "a" * 1000 + "*b", "${" * 60_000,
        "${'" * 40_000 + "}", "${a,'" * 20_000]  # fmt: skip


@pytest.mark.parametrize("pattern", WILD, ids=[text[:8] for text in WILD])
def test_policy_texts(pattern: str) -> None:
    assert spent(lambda: Text(pattern, variables=True).matches("a" * 2000, {})) < BOUND_S
