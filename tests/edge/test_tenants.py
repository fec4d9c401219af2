"""Endpoints of several accounts under one name: what a credential says of its account leads to that account's."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from server.edge.choosing import accounts_map
from server.edge.render import render
from server.edge.routes import Backend, RouteTable, Timeouts
from server.identity import names
from server.identity.keys import new_api_key
from tests.edge.conftest import Edge, started, variant
from tests.edge.test_routes import CONFIG

OWN, ONE, OTHER, STRANGER = "123456789012", "210987654321", "210987654320", "999999999999"
FORMS = ("header", "presigned", "api key", "bearer")
numbers = st.integers(0, 10**12 - 1).map("{:012}".format)


@given(numbers, st.sampled_from(["AKIA", "ASIA"]))
def test_the_nine_letters_behind_the_prefix_are_the_account_s(account: str, prefix: str) -> None:
    beginnings = names.beginnings(account)
    assert names.access_key_id(prefix, account)[4:13] in beginnings
    assert {names.account_of(f"{prefix}{each}{'A' * 7}") for each in beginnings} == {account}


@given(st.lists(numbers, min_size=2, max_size=5, unique=True))
def test_each_hint_means_one_account(accounts: list[str]) -> None:
    own, *tenants = accounts
    lines = [line.split() for line in accounts_map(RouteTable(tenants=tuple(tenants), own=own)).splitlines()]
    assert len({hint for hint, _ in lines}) == len(lines) == 17 * len(accounts)


def test_without_tenants_nobody_s_credentials_are_looked_at() -> None:
    files = render(RouteTable((Backend("a", "V", 1, (), 1),), own=OWN), CONFIG)
    assert (files.accounts_map, "authorization" in files.config) == ("", False)


def test_a_new_account_is_another_structure() -> None:
    table = RouteTable((Backend("a", "V", 1, (), 1),), own=OWN)
    more = RouteTable(table.backends, tenants=(ONE,), own=OWN)
    assert render(more, CONFIG).structure != render(table, CONFIG).structure
    assert RouteTable.from_wire(more.to_wire()) == more


@pytest.mark.parametrize("account", ["1", "12345678901a", "1234567890123", "12345678901\n"])
def test_what_is_no_account_is_refused(account: str) -> None:
    with pytest.raises(ValueError, match="no account"):
        Backend("a", "V", 1, (), 1, account=account)
    with pytest.raises(ValueError, match="no account"):
        RouteTable(tenants=(account,), own=OWN)


def sent(account: str, form: str, path: str) -> tuple[str, dict[str, str]]:
    """The address and the headers of a request for `path` with credentials of an account."""
    if form == "api key":
        return path, {"authorization": f"Bearer {new_api_key(account)}"}
    keys = Credentials(names.access_key_id("AKIA", account), "secret")
    if form == "bearer":
        request = AWSRequest("POST", "https://sagemaker.amazonaws.com/?Action=CallWithBearerToken")
        SigV4QueryAuth(keys, "sagemaker", "us-east-1", expires=900).add_auth(request)
        token = base64.b64encode(f"{request.url.removeprefix('https://')}&Version=1".encode()).decode()
        return path, {"authorization": f"Bearer sagemaker-api-key-{token}"}
    request = AWSRequest("POST", f"http://edge{path}")
    if form == "presigned":
        SigV4QueryAuth(keys, "sagemaker", "us-east-1").add_auth(request)
        return request.url.removeprefix("http://edge"), {}
    SigV4Auth(keys, "sagemaker", "us-east-1").add_auth(request)
    return path, dict(request.headers.items())


@pytest.fixture(scope="module")
def shared() -> Iterator[Edge]:
    """An endpoint `a` of three accounts, `only` of one; accounts whose numbers differ in the last bit."""
    with started(Timeouts(body=2)) as edge:
        own, one, other = (edge.replica(name) for name in (OWN, ONE, OTHER))
        backends = [variant("a", own)]
        for account, replica in ((ONE, one), (OTHER, other)):
            backend = variant("a", replica)
            backends.append(Backend("a", backend.variant, 1, backend.servers, 64, account=account))
        only = variant("only", one)
        backends.append(Backend("only", only.variant, 1, only.servers, 64, account=ONE))
        edge.client.apply(RouteTable(tuple(backends), "a", (ONE, OTHER), OWN))
        yield edge


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("account", [OWN, ONE, OTHER])
def test_each_account_s_callers_reach_its_own_endpoint(shared: Edge, account: str, form: str) -> None:
    for path, body in (("/endpoints/a/invocations", {}), ("/invocations", {}), ("/v1/completions", {"model": "a"})):
        target, headers = sent(account, form, path)
        assert shared.http.post(target, body, headers)["me"] == account, path
    for extra in ({}, {"x-amzn-sagemaker-target-variant": "AllTraffic"}):
        target, headers = sent(account, form, "/endpoints/only/invocations")
        assert shared.http.post(target, {}, headers | extra)["me"] == (ONE if account == ONE else "door")


@pytest.mark.parametrize("form", FORMS)
def test_an_account_that_is_not_there_is_the_door_s_matter(shared: Edge, form: str) -> None:
    target, headers = sent(STRANGER, form, "/endpoints/a/invocations")
    assert shared.http.post(target, {}, headers)["me"] == "door"


@pytest.mark.parametrize(
    ("authorization", "by"),
    [
        (None, OWN),
        ("Bearer the-key-of-the-settings", OWN),
        ("Bearer hk-an-older-key-of-43-characters", OWN),
        ("Bearer", OWN),
        ("Bearer sagemaker-api-key-", "door"),
        ("Bearer sagemaker-api-key-????", "door"),
        ("AWS4-HMAC-SHA256 SignedHeaders=host, Credential=AKIA", "door"),
        ("AWS4-HMAC-SHA256 nonsense", OWN),
    ],
)
def test_who_says_nothing_of_an_account_is_this_hearth_s_own(shared: Edge, authorization: str | None, by: str) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    assert shared.http.post("/endpoints/a/invocations", {}, headers)["me"] == by


@pytest.mark.parametrize("account", [OWN, ONE])
@pytest.mark.parametrize("name", [f"{ONE}:a", f"{OTHER}:a", "own:a", ":a", f"ep.{ONE}:a"])
def test_no_name_leads_to_another_account(shared: Edge, account: str, name: str) -> None:
    target, headers = sent(account, "api key", f"/endpoints/{name}/invocations")
    assert shared.http.post(target, {}, headers)["me"] == "door"
    target, headers = sent(account, "api key", "/v1/completions")
    assert shared.http.post(target, {"model": name}, headers)["me"] == "door"


def test_the_door_forwards_by_place(shared: Edge) -> None:
    for place, account in (("a", OWN), (f"{ONE}:a", ONE), (f"{OTHER}:a", OTHER)):
        answer = shared.internal.post("/endpoints/a/invocations", {}, {"x-hearth-endpoint": place})
        assert answer["me"] == account
    assert shared.internal.text("/endpoints/a/invocations", headers={"x-hearth-endpoint": f"{OTHER}:only"})
    assert shared.internal.status == 503
