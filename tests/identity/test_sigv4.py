"""What botocore signs is taken; whatever is changed after that is not."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import botocore.auth
import pytest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from server.identity.canonical import Sent
from server.identity.object_gate import StrictGate
from server.identity.refusals import CODES, Family, Reason, SignatureRefused
from server.identity.sigv4 import SKEW_S, SigningKeys, Verifier
from server.objects.errors import CODES as OBJECT_CODES
from tests.identity.signing import (
    ENDED,
    KEYS,
    KNOWN,
    SESSION,
    as_object_request,
    signed,
)

HOST = "https://hearth.example:8443"
VERIFIER = Verifier(KNOWN.get)
GATE = StrictGate(KNOWN.get)
PAYLOADS = ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER"]  # fmt: skip

METHODS = st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"])
SEGMENTS = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=12).filter(
    lambda text: text not in (".", "..")
)
PATHS = st.lists(SEGMENTS, max_size=5).map(lambda parts: "/" + "/".join(quote(part, safe="-_.~") for part in parts))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
# The names of a presigned address are the signature's own: a second one of them is refused.
QUERIES = st.dictionaries(
    TEXTS.filter(lambda name: bool(name) and not name.startswith("X-Amz-")), TEXTS, max_size=5
).map(lambda pairs: urlencode(pairs, quote_via=quote, safe="-_.~"))
HEADERS = st.dictionaries(
    st.from_regex(r"x-(amz-meta|custom)-[a-z]{1,8}", fullmatch=True),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20), max_size=5,
)  # fmt: skip
BODIES = st.binary(max_size=300)
CALLERS = st.sampled_from([KEYS, SESSION])


def refused(sent: Sent, body: bytes = b"", verifier: Verifier = VERIFIER, *services: str) -> SignatureRefused:
    with pytest.raises(SignatureRefused) as caught:
        verifier.verify(sent, body, services=services)
    return caught.value


def at(monkeypatch: pytest.MonkeyPatch, moment: float) -> None:
    """botocore signs as of `moment`."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: _naive(moment))


def _naive(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC).replace(tzinfo=None)


@given(METHODS, PATHS, QUERIES, HEADERS, BODIES, CALLERS, st.sampled_from(["sagemaker", "sts", "logs"]))
@settings(max_examples=300, deadline=None)
def test_what_botocore_signs_in_the_header(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, keys: Credentials, service: str
) -> None:
    sent = signed(method, f"{HOST}{path}?{query}", body, headers, keys=keys, service=service)
    verified = VERIFIER.verify(sent, body, services=[service], region="us-east-1")
    assert verified.credential == KNOWN[keys.access_key]
    assert (verified.signed.token, verified.signed.expires) == (keys.token, None)
    assert refused(sent, body + b"x").reason is Reason.MISMATCH


@given(METHODS, PATHS, QUERIES, HEADERS, CALLERS, st.integers(600, 604800))
@settings(max_examples=200, deadline=None)
def test_what_botocore_presigns(
    method: str, path: str, query: str, headers: dict[str, str], keys: Credentials, expires: int
) -> None:
    sent = signed(method, f"{HOST}{path}?{query}", b"", headers, keys=keys, expires=expires)
    verified = VERIFIER.verify(sent, b"")
    assert (verified.credential.access_key, verified.signed.expires) == (keys.access_key, expires)


@given(METHODS, PATHS, QUERIES, HEADERS, BODIES, CALLERS, st.sampled_from([None, *PAYLOADS]))
@settings(max_examples=300, deadline=None)
def test_what_botocore_signs_for_s3(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, keys: Credentials, payload: str | None
) -> None:
    sent = signed(method, f"{HOST}{path}?{query}", body, headers, keys=keys, service="s3", payload=payload)
    caller = GATE.admit(as_object_request(sent))
    assert (caller.access_key, caller.account, caller.arn) == (keys.access_key, "123456789012",
                                                               KNOWN[keys.access_key].arn)  # fmt: skip
    assert caller.payload == (payload or hashlib.sha256(body).hexdigest())
    assert (caller.seal is not None) == caller.payload.startswith("STREAMING-AWS4-HMAC-SHA256")
    presigned = signed(method, f"{HOST}{path}?{query}", b"", headers, keys=keys, service="s3", expires=600)
    assert GATE.admit(as_object_request(presigned)).payload == "UNSIGNED-PAYLOAD"


BODY = b'{"inputs": "hello"}'


@pytest.mark.parametrize("offset", [-SKEW_S - 2, SKEW_S + 2, -86400, 86400 * 365])
def test_a_replay_outside_the_window(monkeypatch: pytest.MonkeyPatch, offset: float) -> None:
    now = time.time()
    at(monkeypatch, now + offset)
    error = refused(signed("POST", HOST, BODY), BODY, Verifier(KNOWN.get, now=lambda: now))
    assert error.reason is Reason.SKEWED
    assert (error.code, error.status) == ("InvalidSignatureException", 403)
    assert error.message.startswith("Signature expired: " if offset < 0 else "Signature not yet current: ")


def test_a_replay_inside_the_window_is_taken_and_outside_refused() -> None:
    moment = time.time()
    sent, verifier = signed("POST", HOST, BODY), Verifier(KNOWN.get, now=lambda: moment)
    for _ in range(2):
        verifier.verify(sent, BODY)
    moment += SKEW_S - 2
    verifier.verify(sent, BODY)
    moment += 4
    assert refused(sent, BODY, verifier).message.endswith(" - 15 min.)")


def test_a_presigned_address_ends() -> None:
    moment = time.time()
    sent, verifier = signed("GET", HOST, expires=60), Verifier(KNOWN.get, now=lambda: moment)
    verifier.verify(sent, b"")
    moment += 58
    verifier.verify(sent, b"")
    moment += 4
    error = refused(sent, b"", verifier)
    assert (error.reason, error.details["X-Amz-Expires"]) == (Reason.EXPIRED, "60")
    moment -= SKEW_S + 70
    assert refused(sent, b"", verifier).reason is Reason.EARLY


@pytest.mark.parametrize("expires", ["0", "604801", "-1", "", "1e3", "99999999", "٣"])
def test_how_long_a_presigned_address_may_last(expires: str) -> None:
    sent = signed("GET", HOST, expires=60)
    query = sent.query.replace(b"X-Amz-Expires=60", f"X-Amz-Expires={quote(expires)}".encode())
    assert refused(Sent("GET", sent.path, query, sent.headers)).reason in (Reason.QUERY, Reason.HEADER)


def test_tokens() -> None:
    assert refused(signed("POST", HOST, BODY, keys=ENDED), BODY).said(Family.JSON) == ("ExpiredTokenException", 403)
    without = signed("POST", HOST, BODY, keys=Credentials(SESSION.access_key, SESSION.secret_key))
    needless = signed("POST", HOST, BODY, keys=Credentials(KEYS.access_key, KEYS.secret_key, "a token"))
    for sent in (without, needless):
        assert refused(sent, BODY).said(Family.QUERY) == ("InvalidClientTokenId", 403)
        assert refused(sent, BODY).reason is Reason.TOKEN


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.MISSING),
        ("Bearer abc", Reason.MISSING),
        ("AWS AKIAHEARTH:c2lnbmF0dXJl", Reason.OLD),
        ("AWS4-ECDSA-P256-SHA256 Credential=a", Reason.OLD),
        ("AWS4-HMAC-SHA256", Reason.HEADER),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/e", Reason.HEADER),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d, SignedHeaders=host, Signature=00", Reason.HEADER),
        ("AWS4-HMAC-SHA256 Credential=a/b/x/\xe9/aws4_request, SignedHeaders=host, Signature=00", Reason.HEADER),
        ("AWS4-HMAC-SHA256 Credential=a/DAY/us-east-1/sts/aws5, SignedHeaders=host, Signature=00", Reason.SCOPE),
        ("AWS4-HMAC-SHA256 Credential=a/19990101/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=00",
         Reason.SCOPE),
        ("AWS4-HMAC-SHA256 Credential=a/DAY/us-east-1/sts/aws4_request, SignedHeaders=x-amz-date, Signature=00",
         Reason.COVERAGE),
        ("AWS4-HMAC-SHA256 Credential=a/DAY/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=00",
         Reason.COVERAGE),
        ("AWS4-HMAC-SHA256 Credential=a/DAY/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature=00",
         Reason.UNKNOWN_KEY),
        ("AWS4-HMAC-SHA256 Credential=AKIAHEARTH/DAY/us-east-1/sts/aws4_request,SignedHeaders=host;x-amz-date,"
         "Signature=zz", Reason.MISMATCH),
    ],
)  # fmt: skip
def test_authorization_headers(text: str, reason: Reason) -> None:
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    fields = [(b"host", b"h"), (b"x-amz-date", date.encode())]
    if text:
        fields.append((b"authorization", text.replace("DAY", date[:8]).encode("latin-1")))
    assert refused(Sent("POST", b"/", b"", fields)).reason is reason


@given(st.text(max_size=80), st.binary(max_size=80), st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused_and_never_break(text: str, query: bytes, value: bytes) -> None:
    fields = [(b"authorization", b"AWS4-HMAC-SHA256 " + text.encode()), (b"x-amz-date", value), (b"host", b"h")]
    refused(Sent("POST", query, b"X-Amz-" + query, fields))
    refused(Sent("POST", query, b"X-Amz-Signature=1&X-Amz-Date=" + query, [(b"host", value)]))


def test_services_and_regions_are_held() -> None:
    sent = signed("POST", HOST, BODY, service="sts", region="eu-west-1")
    assert VERIFIER.verify(sent, BODY, services=["sts", "iam"], region="eu-west-1").signed.region == "eu-west-1"
    assert "correct service: 'iam'" in refused(sent, BODY, VERIFIER, "iam").message
    with pytest.raises(SignatureRefused, match="expecting 'us-east-1'"):
        VERIFIER.verify(sent, BODY, region="us-east-1")


def test_keys_are_kept_within_bounds_and_only_for_right_signatures() -> None:
    keys = SigningKeys(limit=3)
    verifier = Verifier(KNOWN.get, keys=keys)
    refused(signed("POST", HOST, BODY, keys=Credentials(KEYS.access_key, "wrong")), BODY, verifier)
    assert len(keys) == 0
    for number in range(6):
        for _ in range(2):
            verifier.verify(signed("POST", HOST, BODY, region=f"r-{number}"), BODY)
        assert len(keys) == min(number + 1, 3)


def test_a_kept_key_is_worth_nothing_once_the_secret_is_another() -> None:
    known = dict(KNOWN)
    verifier = Verifier(known.get)
    sent = signed("POST", HOST, BODY)
    verifier.verify(sent, BODY)
    known[KEYS.access_key] = type(known[KEYS.access_key])(KEYS.access_key, "new secret", "1", "arn")
    assert refused(sent, BODY, verifier).reason is Reason.MISMATCH
    del known[KEYS.access_key]
    assert refused(sent, BODY, verifier).reason is Reason.UNKNOWN_KEY


def test_a_date_header_does_for_x_amz_date() -> None:
    sent = signed("POST", HOST, BODY, {"Date": "anything"})
    assert not any(name == b"x-amz-date" for name, _ in sent.headers)
    assert VERIFIER.verify(sent, BODY).credential.access_key == KEYS.access_key


def test_every_reason_has_a_code_in_every_family() -> None:
    for reason in Reason:
        for family in Family:
            code, status = CODES[reason][family]
            assert status in (400, 403)
            if family is Family.S3:
                assert OBJECT_CODES[code][0] == status


def test_no_secret_shows() -> None:
    verified = VERIFIER.verify(signed("POST", HOST, BODY, keys=SESSION), BODY)
    for secret in (SESSION.secret_key, str(SESSION.token), repr(verified.key)):
        assert secret not in repr(verified)
