"""Where a request goes and what it becomes on the way, through a real HAProxy."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from functools import partial
from typing import Any

import boto3
import botocore.exceptions
import openai
import pytest
from botocore.config import Config

from tests.edge.conftest import Edge, eventually, variant

CHI_SQUARE_999 = 10.83
"""99.9th percentile at one degree of freedom."""


@pytest.mark.parametrize(
    ("path", "by"),
    [
        ("/endpoints/a/invocations", "a"),
        ("/endpoints/b/invocations-response-stream", "b"),
        ("/endpoints/b/openai/v1/chat/completions", "b"),
        ("/endpoints/b/openai/v1/models?limit=1", "b"),
        ("/invocations", "a"),
        ("/invocations-response-stream", "a"),
        ("/ping", "door"),
        ("/endpoints/a/async-invocations", "door"),
        ("/endpoints/a/metrics", "door"),
        ("/endpoints/a/openai/v1/../../metrics", "door"),
        ("/endpoints/a/openai/v1/%2e%2e/metrics", "door"),
        ("/endpoints/a/../b/invocations", "door"),
        ("/endpoints/nobody/invocations", "door"),
        ("/endpoints/%61/invocations", "door"),
        ("/endpoints//invocations", "door"),
        ("/endpoints/ep.a/invocations", "door"),
        ("/endpoints/a/AllTraffic/invocations", "door"),
        ("//endpoints/a/invocations", "door"),
        ("/invocations/x", "door"),
        ("/metrics", "door"),
        ("/", "door"),
    ],
)
def test_by_path(routed: Edge, path: str, by: str) -> None:
    assert routed.http.post(path)["me"] == by


@pytest.mark.parametrize(
    ("body", "by"),
    [
        ({"model": "a"}, "a"),
        ({"messages": [{"model": "a"}], "model": "b"}, "b"),
        ({"model": "nobody"}, "door"),
        ({"model": "a/AllTraffic"}, "door"),
        ({"model": "ep.a"}, "door"),
        ({"model": "door"}, "door"),
        ({"model": "a b"}, "door"),
        ({"model": ["a"]}, "door"),
        ({"model": {"model": "a"}}, "door"),
        ({"model": None}, "door"),
        ({"model": "a\n"}, "door"),
        ({"model": "x" * 1000}, "door"),
        ({}, "door"),
        ([], "door"),
        (b"", "door"),
        (b"\xff\x00{", "door"),
        (b'{"model": "a', "door"),
    ],
)
def test_by_model(routed: Edge, body: object, by: str) -> None:
    assert routed.http.post("/v1/chat/completions", body)["me"] == by


def test_a_model_is_read_from_posts_below_v1_only(routed: Edge) -> None:
    assert routed.http.post("/v2/chat", {"model": "a"})["me"] == "door"
    assert routed.http.post("/v1/models", {"model": "a"}, method="GET")["me"] == "door"


@pytest.mark.parametrize("size", [60_000, 70_000, 3_000_000])
def test_a_body_of_any_size_arrives_whole(routed: Edge, size: int) -> None:
    body = json.dumps({"prompt": "x" * size, "model": "a"}).encode()
    answer = routed.http.post("/v1/completions", body)
    assert (answer["me"], answer["length"]) == ("a" if size < 64_000 else "door", len(body))
    answer = routed.http.post("/endpoints/b/invocations", body)
    assert (answer["me"], answer["length"]) == ("b", len(body))


def test_a_cold_endpoint_goes_to_the_door(edge: Edge) -> None:
    edge.apply(variant("cold"))
    for path, body in (("/endpoints/cold/invocations", {}), ("/v1/completions", {"model": "cold"})):
        assert edge.http.post(path, body)["me"] == "door"


def test_the_internal_socket_says_when_there_is_no_replica(edge: Edge) -> None:
    replica = edge.replica("r")
    edge.apply(variant("warm", replica), variant("cold"))
    for name in ("cold", "nobody", "ep.warm", "warm/AllTraffic", ""):
        edge.internal.post("/v1/completions", {"model": "warm"}, {"x-hearth-endpoint": name})
        assert (edge.internal.status, edge.internal.headers["x-hearth-no-server"]) == (503, "1"), name
    answer = edge.internal.post("/anything", b"", {"x-hearth-endpoint": "warm", "x-request-id": "one"})
    assert (answer["me"], answer["headers"]["x-request-id"]) == ("r", "one")
    edge.internal.post("/anything", b"", {"x-hearth-endpoint": "warm", "x-hearth-variant": "Other"})
    assert edge.internal.status == 503
    assert not edge.door.started


def test_metrics_are_on_the_internal_socket(edge: Edge) -> None:
    assert "haproxy_process_uptime_seconds" in edge.internal.text("/metrics", method="GET")


@pytest.mark.parametrize("header", ["X-Hearth-Endpoint", "x-hearth-through", "X-HEARTH-Variant", "Forwarded"])
def test_headers_that_only_the_edge_may_set_are_stripped(routed: Edge, header: str) -> None:
    for path in ("/endpoints/a/invocations", "/elsewhere"):
        assert header.lower() not in routed.http.post(path, headers={header: "b"})["headers"]
    assert routed.http.post("/elsewhere", headers={header: "b"})["me"] == "door"


def test_the_client_address_is_the_edges_word(routed: Edge) -> None:
    answer = routed.http.post("/elsewhere", headers={"X-Forwarded-For": "1.2.3.4"})
    assert answer["headers"]["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize("given", ["mine", "A-z0.9_" * 9, "x" * 65, "a b", 'a"b', "a,b", "", None])
def test_request_ids(routed: Edge, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-Id": given}
    answer = routed.http.post("/endpoints/a/invocations", headers=headers)
    seen = answer["headers"]["x-request-id"]
    assert seen == routed.http.headers["x-request-id"]
    assert (seen == given) == (given in ("mine", "A-z0.9_" * 9))
    assert len(seen) == 36 or seen == given


def test_target_variant(edge: Edge) -> None:
    one, two = edge.replica("one"), edge.replica("two")
    edge.apply(variant("a", one, name="A"), variant("a", two, name="B", weight=0.0), variant("s", one, name="S"))
    target = "X-Amzn-SageMaker-Target-Variant"
    for name, by in (("A", "one"), ("B", "two"), ("C", "door"), ("", "door"), ("S", "door")):
        for _ in range(3):
            assert edge.http.post("/endpoints/a/invocations", headers={target: name})["me"] == by
    assert edge.http.post("/endpoints/s/invocations", headers={target: "S"})["me"] == "one"
    assert {edge.http.post("/endpoints/a/invocations")["me"] for _ in range(20)} == {"one"}
    edge.apply(variant("a", name="A"), variant("a", two, name="B", weight=0.0), variant("s", one, name="S"))
    assert edge.http.post("/endpoints/a/invocations")["me"] == "door"
    assert edge.http.post("/endpoints/a/invocations", headers={target: "B"})["me"] == "two"


def test_variants_share_traffic_by_weight(edge: Edge) -> None:
    replicas = [edge.replica(name) for name in ("A", "A", "B")]
    edge.apply(variant("a", *replicas[:2], name="A", weight=3), variant("a", replicas[2], name="B"))
    count = 2000
    seen = Counter(edge.http.post("/endpoints/a/invocations")["me"] for _ in range(count))
    expected = {"A": 0.75 * count, "B": 0.25 * count}
    assert sum((seen[name] - want) ** 2 / want for name, want in expected.items()) < CHI_SQUARE_999
    edge.apply(variant("a", *replicas[:2], name="A", weight=1), variant("a", replicas[2], name="B"))
    seen = Counter(edge.http.post("/endpoints/a/invocations")["me"] for _ in range(count // 2))
    assert abs(seen["A"] - seen["B"]) < 100


def sagemaker(edge: Edge) -> Any:
    return boto3.client(
        "sagemaker-runtime", endpoint_url=f"http://127.0.0.1:{edge.config.port}", region_name="us-east-1",
        aws_access_key_id="x", aws_secret_access_key="x", config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


def test_the_edges_own_errors_are_understood_by_the_real_clients(edge: Edge) -> None:
    edge.apply(variant("cold"))
    edge.door.close()
    edge.config.door_socket.unlink()
    with (
        contextlib.closing(sagemaker(edge)) as client,
        pytest.raises(botocore.exceptions.ClientError) as refused,
    ):
        client.invoke_endpoint(EndpointName="cold", Body=b"{}")
    assert refused.value.response["Error"]["Code"] == "ServiceUnavailable"
    assert "Hearth is starting" in refused.value.response["Error"]["Message"]
    headers = refused.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["retry-after"] == "1"
    assert headers["x-request-id"] == refused.value.response["ResponseMetadata"]["RequestId"]
    assert "x-hearth-no-server" not in headers
    with (
        openai.OpenAI(base_url=f"http://127.0.0.1:{edge.config.port}/v1", api_key="x", max_retries=0) as llm,
        pytest.raises(openai.InternalServerError) as failed,
    ):
        llm.completions.create(model="cold", prompt="x")
    assert failed.value.status_code == 503
    assert failed.value.type == "service_unavailable"


def test_a_half_sent_body_is_answered_in_bounded_time(routed: Edge) -> None:
    paths = (b"/v1/completions", b"/endpoints/a/invocations")
    connections = [socket.create_connection(("127.0.0.1", routed.config.port), timeout=60) for _ in paths]
    for path, connection in zip(paths, connections, strict=True):
        connection.sendall(b"POST " + path + b' HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{"model"')
    for connection in connections:
        with connection:
            answer = b"".join(iter(partial(connection.recv, 65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408")
        assert b"application/json" in head
        assert json.loads(body)["error"]["type"] == "request_timeout"


def test_a_client_that_leaves_is_noticed_by_the_replica(edge: Edge) -> None:
    replica = edge.replica("r")
    edge.apply(variant("a", replica))
    with socket.create_connection(("127.0.0.1", edge.config.port)) as connection:
        connection.sendall(b"POST /endpoints/a/invocations?sleep=30 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        eventually(lambda: replica.started["/endpoints/a/invocations"] == 1)
    eventually(lambda: replica.left == ["/endpoints/a/invocations"])


def test_the_log_is_json_whatever_the_client_sends(routed: Edge) -> None:
    client = routed.connection()
    client.post("/endpoints/a/invocations", b"{}", {"X-Request-Id": "logged-1"})
    client.post('/odd"\\path', {}, {"X-Request-Id": "logged-2", "X-Amzn-SageMaker-Target-Variant": '"'})
    client.post("/v1/x", {"model": 'q"\\\u0001]'}, {"X-Request-Id": "logged-3"})
    eventually(lambda: "logged-3" in routed.log.read_text())
    lines = [json.loads(line) for line in routed.log.read_text().splitlines() if line.startswith("{")]
    found = {line["request_id"]: line for line in lines}
    expected = {"endpoint": "a", "status": 200, "method": "POST", "server": "AllTraffic.0"}
    assert found["logged-1"].items() >= expected.items()
    assert found["logged-2"]["path"] == '/odd"\\path'
    assert found["logged-3"]["backend"] == "door"


def test_many_at_once(routed: Edge) -> None:
    failures: list[object] = []

    def work() -> None:
        client = routed.connection()
        for n in range(50):
            answer = client.post("/v1/completions", {"model": "ab"[n % 2]})
            if answer["me"] != "ab"[n % 2]:
                failures.append(answer)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_what_a_client_signed_reaches_the_replica_as_it_was(routed: Edge) -> None:
    given = {"Authorization": "Bearer 0123456789abcdef", "Host": "hearth.test:81", "X-Amz-Date": "20260101T000000Z"}
    seen = routed.http.post("/endpoints/a/invocations", headers=given)["headers"]
    assert {name.lower(): value for name, value in given.items()}.items() <= seen.items()
