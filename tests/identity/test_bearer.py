"""SageMaker's bearer tokens, made as the SageMaker SDK makes them."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from server.identity import bearer
from server.identity.refusals import Reason, SignatureRefused
from server.identity.sigv4 import Verifier
from tests.identity.signing import ENDED, KEYS, KNOWN, SESSION, signed


def token(keys: Credentials = KEYS, **other: Any) -> str:
    """`other`: method, url, action, expires, service, headers or version in place of the SDK's."""
    headers = {"host": "sagemaker.amazonaws.com", **other.get("headers", {})}
    request = AWSRequest(other.get("method", "POST"), other.get("url", "https://sagemaker.amazonaws.com/"), headers,
                         params={"Action": other.get("action", "CallWithBearerToken")})  # fmt: skip
    request.headers = headers
    SigV4QueryAuth(keys, other.get("service", "sagemaker"), "eu-west-1", expires=other.get("expires", 43200)).add_auth(
        request
    )
    return encoded(str(request.url).replace("https://", "") + other.get("version", "&Version=1"))


def encoded(address: str) -> str:
    return "sagemaker-api-key-" + base64.b64encode(address.encode()).decode()


def reason(text: str, verifier: Verifier | None = None) -> Reason:
    with pytest.raises(SignatureRefused) as caught:
        bearer.verify(text, verifier or Verifier(KNOWN.get))
    return caught.value.reason


@pytest.mark.parametrize("keys", [KEYS, SESSION])
def test_a_token_is_its_maker(keys: Credentials) -> None:
    made = token(keys)
    assert bearer.is_bearer(made)
    found = bearer.verify(made, Verifier(KNOWN.get))
    assert (found.credential, found.region) == (KNOWN[keys.access_key], "eu-west-1")
    assert found.expires_at == pytest.approx(time.time() + 43200, abs=10)


def test_a_token_ends() -> None:
    made = token(expires=900)
    now = time.time()
    assert bearer.verify(made, Verifier(KNOWN.get, now=lambda: now + 890)).credential == KNOWN[KEYS.access_key]
    assert reason(made, Verifier(KNOWN.get, now=lambda: now + 910)) is Reason.EXPIRED


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (token(Credentials(KEYS.access_key, "wrong")), Reason.MISMATCH),
        (token(Credentials("AKIANOBODY", "wrong")), Reason.UNKNOWN_KEY),
        (token(Credentials(SESSION.access_key, SESSION.secret_key)), Reason.TOKEN),
        (token(ENDED), Reason.TOKEN_EXPIRED),
        (token(service="bedrock"), Reason.SCOPE),
        (token(method="GET"), Reason.MISMATCH),
        (token(action="DeleteEndpoint"), Reason.QUERY),
        (token(expires=43201), Reason.QUERY),
        (token(version=""), Reason.QUERY),
        (token(version="&Version=2"), Reason.QUERY),
        (token(version="&More=1&Version=1"), Reason.QUERY),
        (token(url="https://bedrock.amazonaws.com/"), Reason.QUERY),
        (token(url="https://sagemaker.amazonaws.com/other"), Reason.QUERY),
        (token(headers={"x-more": "1"}), Reason.QUERY),
        ("sagemaker-api-key-", Reason.QUERY),
        ("sagemaker-api-key-!!!!", Reason.QUERY),
        ("sagemaker-api-key-\xe9", Reason.QUERY),
        ("sagemaker-api-key-" + "A" * 9000, Reason.QUERY),
        ("bedrock-api-key-AAAA", Reason.QUERY),
        (encoded("sagemaker.amazonaws.com/?Action=CallWithBearerToken&Version=1"), Reason.MISSING),
    ],
)  # fmt: skip
def test_what_is_no_token(made: str, why: Reason) -> None:
    assert reason(made) is why


def test_each_character_counts() -> None:
    address = base64.b64decode(token(SESSION).removeprefix(bearer.PREFIX)).decode()
    for place in range(len(address) - len("&Version=1")):
        other = "A" if address[place] != "A" else "B"
        reason(encoded(address[:place] + other + address[place + 1 :]))


def test_a_presigned_address_of_another_call_is_no_token() -> None:
    sent = signed("POST", "https://sagemaker.amazonaws.com/?Action=ListModels", expires=60)
    assert reason(encoded(f"sagemaker.amazonaws.com/?{sent.query.decode()}&Version=1")) is Reason.QUERY
