"""Signed requests with one thing changed: each is refused, by the control plane's rules and by S3's."""

from __future__ import annotations

import pytest

from server.identity.object_gate import StrictGate
from server.identity.refusals import SignatureRefused
from server.identity.sigv4 import Verifier
from server.objects.errors import ObjectError
from tests.identity.signing import KEYS, KNOWN, SESSION, as_object_request
from tests.identity.tampering import CHANGES, original

VERIFIER = Verifier(KNOWN.get)
GATE = StrictGate(KNOWN.get)
VARIANTS = 32
"""Of one change; some have fewer and come round again."""
EXPIRES = pytest.mark.parametrize("expires", [None, 300], ids=["header", "presigned"])


@EXPIRES
@pytest.mark.parametrize("name", CHANGES)
def test_other_than_signed(name: str, expires: int | None) -> None:
    for keys in (KEYS, SESSION):
        was = original(keys, "sagemaker", expires)
        assert VERIFIER.verify(was.sent, was.body).credential.access_key == keys.access_key
        for seed in range(VARIANTS):
            now = CHANGES[name](was, seed)
            assert now != was
            with pytest.raises(SignatureRefused):
                VERIFIER.verify(now.sent, now.body)


@EXPIRES
@pytest.mark.parametrize("name", [name for name in CHANGES if name != "body"])
def test_other_than_signed_for_s3(name: str, expires: int | None) -> None:
    """Bodies are checked as they arrive: see the tests of the gate."""
    for keys in (KEYS, SESSION):
        was = original(keys, "s3", expires)
        assert GATE.admit(as_object_request(was.sent)).access_key == keys.access_key
        for seed in range(VARIANTS):
            with pytest.raises(ObjectError) as caught:
                GATE.admit(as_object_request(CHANGES[name](was, seed).sent))
            assert caught.value.status in (400, 403)


def test_how_many_they_are() -> None:
    """Different from each other, for each of the two sets of rules."""
    for service in ("sagemaker", "s3"):
        originals = [original(keys, service, expires) for keys in (KEYS, SESSION) for expires in (None, 300)]
        changed = {
            (now.sent.method, now.sent.path, now.sent.query, tuple(now.sent.headers), now.body)
            for was in originals
            for change in CHANGES.values()
            for now in (change(was, seed) for seed in range(VARIANTS))
        }
        assert len(changed) >= 500
