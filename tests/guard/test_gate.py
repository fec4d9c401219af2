"""A replica that asks who calls: signed requests, API keys and bearer tokens, each refused in its dialect's words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import httpx
import openai
import pytest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, EventStreamError

from server.guard.gate import Gate
from server.identity.authority import Authority
from server.identity.judge import Judge
from server.identity.keys import digest
from server.identity.sessions import Session, Sessions
from server.identity.snapshot import AccessKey, ApiKey, Holder, Snapshot
from tests.fixtures.fake_engines import EchoText, text_engines
from tests.fixtures.served import IDENTITY, Served, guarded, serving
from tests.identity.test_bearer import token

ACCOUNT = "123456789012"
ENDPOINT = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/m"
SEALING = bytes(range(32))
BODY = json.dumps({"inputs": "one two"})


def document(*actions: str, effect: str = "Allow", resource: str = ENDPOINT, **more: Any) -> str:
    statement = {"Effect": effect, "Action": list(actions), "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


DOCUMENTS = {
    "may": document("sagemaker:InvokeEndpoint*", "sagemaker:CallWithBearerToken"),
    "plain": document("sagemaker:InvokeEndpoint"),
    "denied": document("sagemaker:*", effect="Deny"),
    "nothing": document("s3:*"),
    "from-there": document("sagemaker:*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
}
USERS = {
    "may": ("may",), "plain": ("plain",), "denied": ("may", "denied"), "nothing": ("nothing",),
    "from-there": ("from-there",),
}  # fmt: skip


def snapshot(version: int = 1, without: str = "") -> Snapshot:
    """A user with an access key and an API key for each of `USERS`, and the root; `without` has lost its keys."""
    places = list(DOCUMENTS)
    holders = [
        Holder(f"AIDA{name}", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/{name}", name, tuple(map(places.index, policies)))
        for name, policies in USERS.items()
    ]
    kept = [name for name in USERS if name != without]
    return Snapshot(
        version,
        tuple(DOCUMENTS.items()),
        (Holder(ACCOUNT, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ""), *holders),
        tuple(AccessKey(f"AK{name}", f"secret-of-{name}", f"AIDA{name}") for name in kept),
        (
            *(ApiKey(f"K{name}", digest(f"hk-{name}"), f"AIDA{name}") for name in kept),
            ApiKey("Kroot", digest("hk-root"), ACCOUNT),
            ApiKey("Kended", digest("hk-ended"), ACCOUNT, time.time() - 1),
        ),
        SEALING.hex(),
    )


def gate() -> Gate:
    made = Gate(Authority(), Judge(), IDENTITY, required=True)
    made.authority.load(snapshot())
    return made


@pytest.fixture(scope="module")
def asking() -> Gate:
    return gate()


@pytest.fixture(scope="module")
def replica(asking: Gate) -> Iterator[Served]:
    with serving(guarded(text_engines(EchoText()), gate=asking)) as served:
        yield served


def runtime(replica: Served, name: str, *, secret: str = "", session: str | None = None) -> Any:
    client = boto3.client(
        "sagemaker-runtime", endpoint_url=replica.url, region_name="us-east-1", aws_access_key_id=f"AK{name}",
        aws_secret_access_key=secret or f"secret-of-{name}", aws_session_token=session,
        config=Config(retries={"max_attempts": 0}, read_timeout=20),
    )  # fmt: skip
    replica.clients.append(client)
    return client


def invoked(client: Any) -> Any:
    return client.invoke_endpoint(EndpointName="m", ContentType="application/json", Body=BODY)


def refused(client: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        invoked(client)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def chat(replica: Served, key: str, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    return httpx.post(
        replica.url + path, json=body, headers={"authorization": f"Bearer {key}", **headers}, trust_env=False
    )


def test_a_signed_request_is_answered(replica: Served) -> None:
    assert invoked(runtime(replica, "may"))["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize("name", ["denied", "nothing", "from-there"])
def test_who_may_not_is_told_so_in_aws_s_words(replica: Served, name: str) -> None:
    code, status, message = refused(runtime(replica, name))
    assert (code, status) == ("AccessDeniedException", 403)
    asked = f"User: arn:aws:iam::{ACCOUNT}:user/{name} is not authorized to perform: sagemaker:InvokeEndpoint"
    why = {
        "denied": "with an explicit deny in an identity-based policy",
    }.get(name, "because no identity-based policy allows the sagemaker:InvokeEndpoint action")
    assert message == f"{asked} on resource: {ENDPOINT} {why}"


def test_a_stream_is_an_action_of_its_own(replica: Served) -> None:
    asked = {"EndpointName": "m", "ContentType": "application/json", "Body": BODY}
    assert list(runtime(replica, "may").invoke_endpoint_with_response_stream(**asked)["Body"])
    with pytest.raises((ClientError, EventStreamError)) as caught:
        runtime(replica, "plain").invoke_endpoint_with_response_stream(**asked)
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"


def test_conditions_see_where_a_request_comes_from(replica: Served) -> None:
    assert chat(replica, "hk-from-there", **{"x-forwarded-for": "10.1.2.3"}).status_code == 200
    assert chat(replica, "hk-from-there", **{"x-forwarded-for": "11.1.2.3"}).status_code == 403


@pytest.mark.parametrize(
    ("name", "secret", "code"),
    [("nobody", "", "UnrecognizedClientException"), ("may", "wrong", "InvalidSignatureException")],
)
def test_wrong_keys_are_refused(replica: Served, name: str, secret: str, code: str) -> None:
    assert refused(runtime(replica, name, secret=secret))[:2] == (code, 403)


def test_a_changed_body_is_refused(replica: Served) -> None:
    client = runtime(replica, "may")
    other = BODY.replace("one", "six")
    client.meta.events.register("before-send.*", lambda request, **_: setattr(request, "body", other))
    assert refused(client)[0] == "InvalidSignatureException"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/endpoints/m/invocations", 403, "MissingAuthenticationTokenException"),
        ("/endpoints/m/invocations-response-stream", 403, "MissingAuthenticationTokenException"),
        ("/v1/chat/completions", 401, "invalid_api_key"),
        ("/endpoints/m/openai/v1/chat/completions", 401, "invalid_api_key"),
        ("/invocations", 403, "unauthorized"),
        ("/elsewhere", 403, "MissingAuthenticationTokenException"),
    ],
)
def test_nobody_comes_in_without_credentials(replica: Served, path: str, status: int, said: str) -> None:
    reply = httpx.post(replica.url + path, json={"inputs": "x"}, trust_env=False)
    assert reply.status_code == status
    assert said in reply.text + reply.headers.get("x-amzn-errortype", "")


def test_ping_is_open(replica: Served) -> None:
    assert httpx.get(f"{replica.url}/ping", trust_env=False).status_code == 200


def test_an_openai_client_s_key(replica: Served) -> None:
    client = openai.OpenAI(base_url=f"{replica.url}/v1", api_key="hk-may", max_retries=0)
    replica.clients.append(client)
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    assert client.chat.completions.create(**asked).choices
    with pytest.raises(openai.AuthenticationError) as unknown:
        client.with_options(api_key="hk-unknown").chat.completions.create(**asked)
    assert (unknown.value.status_code, unknown.value.code) == (401, "invalid_api_key")
    with pytest.raises(openai.PermissionDeniedError) as denied:
        client.with_options(api_key="hk-denied").chat.completions.create(**asked)
    assert "with an explicit deny" in denied.value.message


@pytest.mark.parametrize(("key", "status"), [("hk-root", 200), ("hk-ended", 401), ("hk-nothing", 403), ("x", 401)])
def test_api_keys(replica: Served, key: str, status: int) -> None:
    assert chat(replica, key).status_code == status


def test_sagemaker_s_bearer_token_needs_its_own_permission(replica: Served) -> None:
    path = "/endpoints/m/openai/v1/chat/completions"
    assert chat(replica, token(Credentials("AKmay", "secret-of-may")), path).status_code == 200
    reply = chat(replica, token(Credentials("AKplain", "secret-of-plain")), path)
    assert reply.status_code == 403
    assert "sagemaker:CallWithBearerToken" in reply.json()["error"]["message"]
    assert chat(replica, token(Credentials("AKmay", "secret-of-plain")), path).status_code == 401


def session(expires_at: float, policies: tuple[str, ...] | None = None) -> Session:
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/r/s"
    return Session("ASIA" + str(int(expires_at * 10))[-8:], "s3cret", ACCOUNT, arn, "AROA:s", "AIDAmay",
                   time.time(), expires_at, policies)  # fmt: skip


def sessioned(replica: Served, made: Session, token: str | None = None) -> Any:
    client = runtime(replica, "x", secret=made.secret, session=token or Sessions(SEALING).token(made))
    client._request_signer._credentials.access_key = made.access_key
    return client


def test_a_session_is_verified_from_its_token_alone(replica: Served) -> None:
    assert invoked(sessioned(replica, session(time.time() + 60)))["ResponseMetadata"]["HTTPStatusCode"] == 200
    bound = session(time.time() + 61, (document("sagemaker:InvokeEndpointAsync"),))
    assert "no session policy allows" in refused(sessioned(replica, bound))[2]
    both = Sessions(SEALING).token(bound)
    path = "/endpoints/m/openai/v1/chat/completions"
    assert chat(replica, token(Credentials(bound.access_key, bound.secret, both)), path).status_code == 403


def test_a_session_ends(replica: Served) -> None:
    assert refused(sessioned(replica, session(time.time() - 1)))[:2] == ("ExpiredTokenException", 403)
    made = session(time.time() + 62)
    client = sessioned(replica, made)
    invoked(client)
    foreign = Sessions(bytes(32)).token(made)
    assert refused(sessioned(replica, replace(made, access_key="ASIAX"), foreign))[0] == "UnrecognizedClientException"


def test_a_revoked_key_ends_with_the_next_snapshot(replica: Served, asking: Gate) -> None:
    client = runtime(replica, "may")
    invoked(client)
    assert chat(replica, "hk-may").status_code == 200
    asking.authority.load(snapshot(2, without="may"))
    try:
        assert refused(client)[0] == "UnrecognizedClientException"
        assert chat(replica, "hk-may").status_code == 401
    finally:
        asking.authority.load(snapshot(3))
    invoked(client)


def test_a_replica_that_does_not_know_lets_nobody_in() -> None:
    unknown = Gate(Authority(), Judge(), IDENTITY)
    with serving(guarded(text_engines(EchoText()), gate=unknown)) as served:
        assert chat(served, "hk-root").status_code == 503
        unknown.required = False
        assert chat(served, "whatever").status_code == 200


def test_a_snapshot_travels_whole() -> None:
    made = snapshot()
    assert Snapshot.from_wire(json.loads(json.dumps(made.to_wire()))) == made
    assert "secret-of-may" not in repr(made)
    assert made.session_key not in repr(made)


def test_which_keys_were_used_is_noted_once(replica: Served, asking: Gate) -> None:
    asking.authority.take_used()
    invoked(runtime(replica, "may"))
    used = asking.authority.take_used()
    assert list(used) == ["AKmay"]
    at, service, region = used["AKmay"]
    assert (abs(at - time.time()) < 60, service, region) == (True, "sagemaker", "us-east-1")
    assert asking.authority.take_used() == {}
