"""What an operator sees: the command line, metrics, logs and the page."""

from __future__ import annotations

import json
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.pictures import digits
from tests.running.conftest import LLM, VISION, Hearth


def test_status_shows_every_endpoint(hearth: Hearth) -> None:
    shown = hearth.cli("status")
    assert shown.returncode == 0, shown.stderr
    for name in hearth.endpoints():
        assert name in shown.stdout
    assert "1 of 1-1" in shown.stdout


def test_a_second_up_on_the_same_state_is_refused(hearth: Hearth) -> None:
    again = hearth.cli("up", "--port", "1025")
    assert again.returncode == 1
    assert "already runs" in again.stderr


def test_up_on_a_taken_port_says_so(hearth: Hearth) -> None:
    again = hearth.cli("up", "--state", str(hearth.folder / "other"))
    assert again.returncode == 1
    assert f"Port {hearth.port} is taken" in again.stderr


def test_metrics_of_everything_are_at_one_place(hearth: Hearth) -> None:
    hearth.http.post(f"/endpoints/{VISION}/invocations", content=digits(1)[0][0], headers={"content-type": "image/png"})
    hearth.http.post(f"/endpoints/{VISION}/invocations", content=b"x", headers={"content-type": "image/png"})
    families = {family.name: family for family in text_string_to_metric_families(hearth.http.get("/metrics").text)}
    for name in (
        "Invocations",
        "Invocation4XXErrors",
        "ModelLatency",
        "OverheadLatency",
        "vllm:generation_tokens",
        "haproxy_backend_http_responses",
        "hearth_replicas",
    ):
        assert name in families, name
    counts = {
        sample.labels["EndpointName"]: sample.value
        for sample in families["Invocations"].samples
        if sample.name.endswith("_total") and sample.labels["VariantName"] == "AllTraffic"
    }
    assert counts[VISION] >= 2


def test_one_request_id_from_the_edge_to_the_replica(hearth: Hearth) -> None:
    reply = hearth.http.post(
        "/v1/completions", json={"model": LLM, "prompt": "x", "max_tokens": 1}, headers={"x-request-id": "trace-me-42"}
    )
    assert reply.headers["x-request-id"] == "trace-me-42"
    hearth.wait("the edge logged it", lambda: "trace-me-42" in hearth.cli("logs", "edge", "-n", "200").stdout)
    hearth.wait("the replica logged it", lambda: "trace-me-42" in hearth.cli("logs", LLM, "-n", "200").stdout)


def test_a_deployed_endpoint_can_be_called_and_deleted(hearth: Hearth) -> None:
    done = hearth.cli("deploy", "mine", "--model", "hearth-digits", "--cpus", "0.5")
    assert done.returncode == 0, done.stderr
    request = urllib.request.Request(
        f"{hearth.url}/endpoints/mine/invocations", digits(1)[0][0], {"content-type": "image/png"}
    )
    with urllib.request.urlopen(request) as reply:
        assert json.loads(reply.read())
    assert hearth.cli("delete", "mine").returncode == 0
    hearth.wait("it is gone", lambda: "mine" not in hearth.endpoints())
    assert hearth.cli("delete", "mine").returncode == 1


def test_the_page_names_endpoints_and_ways_to_call_them(hearth: Hearth) -> None:
    page = hearth.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for text in (LLM, VISION, "boto3", "openai", "curl"):
        assert text in page.text


def test_control_calls_that_are_not_built_say_so(hearth: Hearth) -> None:
    reply = hearth.http.post("/", headers={"x-amz-target": "SageMaker.ListTrainingJobs"}, content=b"{}")
    assert reply.status_code == 400
    assert reply.json()["__type"] == "UnknownOperationException"
