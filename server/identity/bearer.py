"""SageMaker's bearer token: what an OpenAI client gives as its API key on ``/endpoints/{name}/openai/v1/*``.

    sagemaker-api-key-BASE64(ADDRESS&Version=1)

where ADDRESS, without its ``https://``, is ``POST https://sagemaker.amazonaws.com/?Action=CallWithBearerToken``,
presigned for the service `sagemaker` and 12 hours at most. ``Version=1`` follows the signature and is not signed.
Source: `sagemaker.core.token_generator` of the SageMaker Python SDK; "Invoke endpoints with OpenAI-compatible APIs"
(Amazon SageMaker AI Developer Guide).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import parse_qsl

from server.identity.canonical import Sent
from server.identity.credential import Credential
from server.identity.refusals import Reason, SignatureRefused
from server.identity.sigv4 import Verifier

PREFIX = "sagemaker-api-key-"
ACTION = "CallWithBearerToken"
"""The bearer needs ``sagemaker:CallWithBearerToken`` beside the permission for what is called."""
LONGEST_S = 12 * 3600

_HOST = "sagemaker.amazonaws.com"
_VERSION = "&Version=1"
_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_MAX_CHARS = 8 * 1024
_NAMES = frozenset({"Action", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
                    "X-Amz-SignedHeaders", "X-Amz-Security-Token", "X-Amz-Signature"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bearer:
    credential: Credential
    region: str
    expires_at: float
    """Unix seconds; the session of a temporary credential may end sooner."""


def is_bearer(token: str) -> bool:
    return token.startswith(PREFIX)


def verify(token: str, verifier: Verifier) -> Bearer:
    """Raises SignatureRefused; QUERY for what is no such token."""
    sent = _request(token)
    signed = verifier.read(sent, services=("sagemaker",))
    if signed.expires is None or signed.expires > LONGEST_S:
        raise _malformed(f"it may last {LONGEST_S} seconds at most")
    if signed.signed_headers != (b"host",):
        raise _malformed("host is the one header it signs")
    verified = verifier.prove(sent, signed, _EMPTY_SHA256)
    return Bearer(verified.credential, signed.region, signed.at + signed.expires)


def _request(token: str) -> Sent:
    """The request that the token is the signature of."""
    if not is_bearer(token) or len(token) > _MAX_CHARS:
        raise _malformed(f"it begins with {PREFIX} and has {_MAX_CHARS} characters at most")
    try:
        address = base64.b64decode(token.removeprefix(PREFIX), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise _malformed(f"what follows {PREFIX} is not base64 of an address") from None
    place, _, query = address.partition("?")
    if place != f"{_HOST}/" or not query.endswith(_VERSION):
        raise _malformed(f"it holds {_HOST}/?...{_VERSION}")
    query = query.removesuffix(_VERSION)
    names = dict(parse_qsl(query, keep_blank_values=True))
    if names.get("Action") != ACTION or not names.keys() <= _NAMES:
        raise _malformed(f"it holds Action={ACTION} and the parameters of a presigned address")
    return Sent("POST", b"/", query.encode(), ((b"host", _HOST.encode()),))


def _malformed(why: str) -> SignatureRefused:
    return SignatureRefused(Reason.QUERY, f"The bearer token is malformed: {why}.")
