"""What boto3 does, as the events that EventBridge would deliver; read through `/hearth/events`."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from server.cli.events_view import parse
from server.control.events import FORMS
from server.door import events as door
from server.door.app import refuse
from server.door.events import EventsApi
from server.errors import HearthError
from server.store import outbox
from server.store.store import Store
from tests.control.conftest import ROLE
from tests.control.test_endpoint_resource import settle
from tests.control.test_models import CONTAINER, make_config, make_model

PACKAGE = {
    "Containers": [{"Image": "sagemaker-scikit-learn:1.2-1", "ModelDataUrl": "s3://bucket/model.tar.gz"}],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}
ENVELOPE = {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}


@pytest.fixture
def http(store: Store) -> Iterator[httpx.Client]:
    app = Starlette(routes=EventsApi(store).routes(), exception_handlers={HearthError: refuse})
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{bound.getsockname()[1]}"
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        yield client
        server.should_exit = server.force_exit = True
        thread.join(10)


def told(http: httpx.Client, **asked: Any) -> list[dict[str, Any]]:
    reply = http.get("/hearth/events", params=asked)
    assert reply.status_code == 200, reply.text
    return list(reply.json()["events"])


def test_a_model_from_creation_to_removal(sagemaker: Any, http: httpx.Client) -> None:
    sagemaker.create_model(
        ModelName="My-Model", PrimaryContainer=CONTAINER, ExecutionRoleArn=ROLE, Tags=[{"Key": "team", "Value": "a"}]
    )
    sagemaker.delete_model(ModelName="My-Model")
    made, gone = told(http)
    assert (made["change"], gone["change"]) == ("created", "removed")
    event = made["event"]
    assert set(event) == ENVELOPE
    arn = "arn:aws:sagemaker:us-east-1:123456789012:model/my-model"
    assert (event["version"], event["source"], event["detail-type"]) == (
        "0", "aws.sagemaker", "SageMaker Model State Change",
    )  # fmt: skip
    assert (event["account"], event["region"], event["resources"]) == ("123456789012", "us-east-1", [arn])
    assert abs(datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S%z") - datetime.now(UTC)).total_seconds() < 60
    detail = event["detail"]
    created = detail.pop("CreationTime")
    assert abs(created / 1000 - time.time()) < 60
    assert detail == {
        "ModelName": "My-Model", "ModelArn": arn, "PrimaryContainer": CONTAINER, "ExecutionRoleArn": ROLE,
        "Tags": {"team": "a"},
    }  # fmt: skip
    assert gone["event"]["detail"] == event["detail"] | {"CreationTime": created}
    assert gone["event"]["id"] != event["id"]


def test_an_endpoints_life(sagemaker: Any, store: Store, http: httpx.Client) -> None:
    make_model(sagemaker)
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c", Tags=[{"Key": "k", "Value": "v"}])
    settle(store)
    settle(store)
    sagemaker.delete_endpoint(EndpointName="ep")
    store.remove(store.get("Endpoint", "ep"))
    sagemaker.delete_endpoint_config(EndpointConfigName="c")
    found = [(each["change"], each["event"]) for each in told(http)]
    assert [(change, event["detail-type"], event["detail"].get("EndpointStatus")) for change, event in found] == [
        ("created", "SageMaker Model State Change", None),
        ("created", "SageMaker Endpoint Config State Change", None),
        ("created", "SageMaker Endpoint State Change", "CREATING"),
        ("reported", "SageMaker Endpoint State Change", "IN_SERVICE"),
        ("changed", "SageMaker Endpoint State Change", "DELETING"),
        ("removed", "SageMaker Endpoint State Change", "DELETING"),
        ("removed", "SageMaker Endpoint Config State Change", None),
    ]
    detail = found[3][1]["detail"]
    assert (detail["EndpointName"], detail["EndpointConfigName"], detail["Tags"]) == ("ep", "c", {"k": "v"})
    assert detail["LastModifiedTime"] >= detail["CreationTime"] > 1.6e12
    (variant,) = detail["ProductionVariants"]
    assert (variant["VariantName"], variant["DesiredWeight"], variant["DesiredInstanceCount"]) == ("AllTraffic", 1.0, 1)


def test_an_endpoint_that_fails_says_why(sagemaker: Any, store: Store, http: httpx.Client) -> None:
    make_model(sagemaker)
    make_config(sagemaker)
    sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="c")
    settle(store, status="Failed", reason="no memory")
    detail = told(http)[-1]["event"]["detail"]
    assert (detail["EndpointStatus"], detail["FailureReason"]) == ("FAILED", "no memory")


def test_an_approval(sagemaker: Any, http: httpx.Client) -> None:
    sagemaker.create_model_package_group(ModelPackageGroupName="group")
    arn = sagemaker.create_model_package(ModelPackageGroupName="group", InferenceSpecification=PACKAGE)[
        "ModelPackageArn"
    ]
    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription="good")
    sagemaker.delete_model_package(ModelPackageName=arn)
    events = [each["event"] for each in told(http)]
    assert {event["detail-type"] for event in events} == {"SageMaker Model Package State Change"}
    assert [event["detail"]["ModelApprovalStatus"] for event in events] == [
        "PendingManualApproval", "Approved", "Approved",
    ]  # fmt: skip
    detail = events[1]["detail"]
    moments = [detail.pop("CreationTime"), detail.pop("LastModifiedTime")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", moment) for moment in moments)
    assert detail == {
        "ModelPackageGroupName": "group", "ModelPackageVersion": 1,
        "ModelPackageArn": arn, "InferenceSpecification": PACKAGE, "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []}, "ModelApprovalStatus": "Approved",
        "ApprovalDescription": "good", "Tags": {},
    }  # fmt: skip


def test_pages(sagemaker: Any, http: httpx.Client) -> None:
    for number in range(5):
        make_model(sagemaker, f"m{number}")
    first = http.get("/hearth/events?limit=2").json()
    rest = http.get("/hearth/events", params={"after": first["next"]}).json()
    names = [each["event"]["detail"]["ModelName"] for each in [*first["events"], *rest["events"]]]
    assert names == [f"m{number}" for number in range(5)]
    end = http.get("/hearth/events", params={"after": rest["next"]}).json()
    assert end == {"events": [], "next": rest["next"]}
    assert [each["event"]["detail"]["ModelName"] for each in told(http, last=2)] == ["m3", "m4"]
    for asked in ({"after": "-1"}, {"after": "x"}, {"limit": "0"}, {"limit": "1001"}, {"last": "1001"}):
        refused = http.get("/hearth/events", params=asked)
        assert refused.status_code == 400
        assert next(iter(asked)) in refused.json()["error"]["message"]


def streamed(http: httpx.Client, count: int, begun: Callable[[], object], **headers: str) -> Iterator[dict[str, Any]]:
    """The next `count` events of a stream; `begun` is called once it has begun."""
    with http.stream("GET", "/hearth/events", headers={"accept": "text/event-stream", **headers}) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = reply.iter_lines()
        assert next(lines) == ": events"
        begun()
        for number, found in enumerate(parse(lines), 1):
            yield found
            if number == count:
                return


def test_a_stream_goes_on_where_its_client_was(sagemaker: Any, http: httpx.Client) -> None:
    for number in range(3):
        make_model(sagemaker, f"m{number}")
    (first, _, _) = told(http)
    begun = partial(make_model, sagemaker, "later")
    got = list(streamed(http, 3, begun, **{"last-event-id": str(first["id"])}))
    assert [each["event"]["detail"]["ModelName"] for each in got] == ["m1", "m2", "later"]
    assert got == told(http, after=first["id"])


def test_a_stream_begins_with_what_comes(sagemaker: Any, http: httpx.Client) -> None:
    make_model(sagemaker, "before")
    (got,) = streamed(http, 1, partial(make_model, sagemaker, "after"))
    assert got["event"]["detail"]["ModelName"] == "after"
    assert json.dumps(got) == json.dumps(told(http, last=1)[0])


def test_followers_are_bounded_and_leave(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "FOLLOWERS", 1)
    follow = {"accept": "text/event-stream"}
    with http.stream("GET", "/hearth/events", headers=follow) as reply:
        lines = reply.iter_lines()
        assert next(lines) == ": events"
        assert http.get("/hearth/events", headers=follow).status_code == 429
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with http.stream("GET", "/hearth/events", headers=follow) as reply:
            if reply.status_code == 200:
                return
    pytest.fail("who left is still counted")


def test_every_kind_that_is_noted_can_be_told() -> None:
    assert FORMS.keys() == outbox.KINDS
