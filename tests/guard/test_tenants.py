"""A replica and callers of another account, whom nothing leads to it: told what an account without it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from server.dialects.errors import endpoint_not_found
from server.door.refusal import refusal
from server.guard.gate import Gate
from server.identity.authority import Authority
from server.identity.judge import Judge
from server.identity.keys import digest
from server.identity.sessions import Session
from server.identity.snapshot import ApiKey, Holder
from tests.fixtures.fake_engines import EchoText, text_engines
from tests.fixtures.served import IDENTITY, Served, guarded, serving
from tests.guard.test_gate import document, refused, sessioned, snapshot

OTHER = "210987654321"
PATHS = (
    "/endpoints/m/invocations", "/endpoints/m/invocations-response-stream", "/endpoints/m/openai/v1/completions",
    "/v1/completions", "/invocations",
)  # fmt: skip


@pytest.fixture(scope="module")
def replica() -> Iterator[Served]:
    """Of the endpoint `m`, with the identities of its account and of another that has a root, `may` and `mute`."""
    known = snapshot()
    root, may = Holder(OTHER, OTHER, f"arn:aws:iam::{OTHER}:root", ""), f"arn:aws:iam::{OTHER}:user/may"
    users = (Holder("AIDAm", OTHER, may, "may", (len(known.documents),)),
             Holder("AIDAx", OTHER, f"arn:aws:iam::{OTHER}:user/mute", "mute"))  # fmt: skip
    keys = (ApiKey("Kr", digest("hk-other-root"), OTHER), ApiKey("Km", digest("hk-other-may"), "AIDAm"),
            ApiKey("Kx", digest("hk-other-mute"), "AIDAx"))  # fmt: skip
    gate = Gate(Authority(), Judge(), IDENTITY, required=True)
    gate.authority.load(replace(
        known, documents=(*known.documents, ("all", document("sagemaker:*", resource="*"))),
        holders=(*known.holders, root, *users), api_keys=(*known.api_keys, *keys),
    ))  # fmt: skip
    with serving(guarded(text_engines(EchoText()), gate=gate)) as served:
        yield served


def asked(replica: Served, path: str, key: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", "x-request-id": "r"}
    body = {"model": "m", "inputs": "one", "prompt": "one"}
    return httpx.post(replica.url + path, json=body, headers=headers, trust_env=False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["hk-other-root", "hk-other-may"])
def test_it_says_what_the_door_says_where_there_is_no_such_endpoint(replica: Served, path: str, key: str) -> None:
    reply = asked(replica, path, key)
    if path == "/invocations":  # reached behind the edge under the endpoint's own path alone
        assert (reply.status_code, OTHER in reply.text) == (404, True)
        return
    wanted = refusal(endpoint_not_found("m", OTHER), path, "r")
    assert (reply.status_code, reply.content) == (wanted.status_code, wanted.body)
    kept = {name: value for name, value in reply.headers.items() if name not in ("date", "server", "x-request-id")}
    assert kept == {name: value for name, value in wanted.headers.items() if name != "x-request-id"}
    assert IDENTITY.account not in reply.text


@pytest.mark.parametrize("path", PATHS[:4])
def test_who_may_not_ask_in_its_own_account_is_told_that(replica: Served, path: str) -> None:
    reply = asked(replica, path, "hk-other-mute")
    assert reply.status_code == 403
    assert f"arn:aws:sagemaker:us-east-1:{OTHER}:endpoint/m" in reply.text
    assert IDENTITY.account not in reply.text


def test_a_session_is_its_role_s_account(replica: Served) -> None:
    """Wherever the one came from who assumed it."""
    now = time.time()
    arn = f"arn:aws:sts::{OTHER}:assumed-role/r/s"
    session = Session("AKx", "secret", OTHER, arn, "AROA:s", "AIDAm", now, now + 60)
    told = refused(sessioned(replica, session))
    assert told == ("ValidationError", 400, f"Endpoint m of account {OTHER} not found.")


def test_its_own_callers_are_answered(replica: Served) -> None:
    headers = {"authorization": "Bearer hk-root"}
    reply = httpx.post(f"{replica.url}/endpoints/m/invocations", json={"inputs": "x"}, headers=headers, trust_env=False)
    assert reply.status_code == 200
