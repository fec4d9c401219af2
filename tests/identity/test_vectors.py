"""The published test suites of Signature Version 4: aws-c-auth's 38, header and query, and botocore's own 34."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from server.identity import canonical, sigv4
from server.identity.canonical import Rules, Sent
from server.identity.credential import Credential
from server.identity.refusals import Reason, SignatureRefused
from server.identity.signed import read
from server.identity.sigv4 import Verifier

VECTORS = Path(__file__).parent / "vectors"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = 1440938160.0
"""2015-08-30T12:36:00Z."""


def load(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((VECTORS / name).read_text())["vectors"]
    return found


AWS_C_AUTH = load("aws_c_auth.json")
BOTOCORE = load("botocore.json")


def parsed(text: str) -> tuple[Sent, bytes]:
    """A request as text: targets may have spaces, header values go on in lines that begin with a space."""
    head, _, body = text.partition("\n\n")
    first, *lines = head.split("\n")
    method, target = first.removesuffix(" HTTP/1.1").split(" ", 1)
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line.startswith(" "):
            headers[-1] = (headers[-1][0], headers[-1][1] + b"\n" + line.encode())
        else:
            name, _, value = line.partition(":")
            headers.append((name.lower().encode(), value.encode()))
    path, _, query = target.partition("?")
    return Sent(method, path.encode(), query.encode(), headers), body.rstrip("\n").encode()


def verifier(token: str | None) -> Verifier:
    digest = None if token is None else hashlib.sha256(token.encode()).hexdigest()
    credential = Credential("AKIDEXAMPLE", SECRET, "123456789012", "arn:aws:iam::123456789012:user/example", digest)
    return Verifier({"AKIDEXAMPLE": credential}.get, now=lambda: NOW)


def check(text: str, request: str, to_sign: str, rules: Rules, without: frozenset[bytes]) -> None:
    """The canonical request and the string to sign, to the byte."""
    sent, body = parsed(text)
    signed = read(sent)
    made = canonical.request(
        sent, canonical.path(sent.path, rules), canonical.query(sent.query, without),
        b";".join(signed.signed_headers), canonical.headers(sent.headers, signed.signed_headers, rules),
        hashlib.sha256(body).hexdigest(),
    )  # fmt: skip
    assert made.decode() == request
    assert sigv4.string_to_sign(signed, made).decode() == to_sign


def verify(text: str, token: str | None) -> None:
    """As services do it; a path with dot segments or empty ones gets as far as a right signature lets it."""
    sent, body = parsed(text)
    if canonical.normalised(sent.path) == sent.path:
        assert verifier(token).verify(sent, body, services=["service"]).credential.access_key == "AKIDEXAMPLE"
        return
    with pytest.raises(SignatureRefused) as caught:
        verifier(token).verify(sent, body)
    assert caught.value.reason is Reason.PATH


@pytest.mark.parametrize("kind", ["header", "query"])
@pytest.mark.parametrize("name", AWS_C_AUTH)
def test_aws_c_auth(name: str, kind: str) -> None:
    vector = AWS_C_AUTH[name]
    text, token = vector[f"{kind}-signed-request"], vector.get("token")
    rules = Rules(normalise=vector["normalize"], encode_again=True, token_may_follow=True)
    without = {b"X-Amz-Signature"} | ({b"X-Amz-Security-Token"} if vector.get("omit_session_token") else set())
    to_sign = vector[f"{kind}-string-to-sign"]
    check(text, vector[f"{kind}-canonical-request"], to_sign, rules, frozenset(without))
    key = sigv4.signing_key(SECRET, "20150830", "us-east-1", "service")
    assert hmac.digest(key, to_sign.encode(), "sha256").hex() == vector[f"{kind}-signature"]
    assert read(parsed(text)[0]).signature == vector[f"{kind}-signature"]
    if rules.normalise:  # no service of ours signs a path as it is and encodes it twice
        verify(text, token)


@pytest.mark.parametrize("name", BOTOCORE)
def test_botocore(name: str) -> None:
    text, session = authorized(BOTOCORE[name])
    check(text, BOTOCORE[name]["creq"], BOTOCORE[name]["sts"], canonical.AWS, frozenset())
    verify(text, session)


def authorized(vector: dict[str, Any]) -> tuple[str, str | None]:
    """The signed request and its token. The header is .authz's, as in botocore's own test: one .sreq has another."""
    head, blank, body = vector["sreq"].partition("\n\n")
    lines = [line for line in head.split("\n") if not line.startswith("Authorization:")]
    tokens = [line.partition(":")[2] for line in lines if line.startswith("X-Amz-Security-Token:")]
    text = "\n".join([*lines, f"Authorization: {vector['authz'].strip()}"]) + blank + body
    return text, tokens[0] if tokens else None


def test_none_is_missing() -> None:
    assert (len(AWS_C_AUTH), len(BOTOCORE)) == (38, 34)


@pytest.mark.parametrize("name", BOTOCORE)
def test_another_secret_makes_none_of_them(name: str) -> None:
    credential = Credential("AKIDEXAMPLE", SECRET + "x", "123456789012", "arn")
    sent, body = parsed(authorized(BOTOCORE[name])[0])
    with pytest.raises(SignatureRefused) as caught:
        Verifier({"AKIDEXAMPLE": credential}.get, now=lambda: NOW).verify(sent, body)
    assert caught.value.reason is Reason.MISMATCH
