"""Requests signed by botocore, as the bytes a server would receive."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from server.identity.canonical import Sent
from server.identity.credential import Credential
from server.objects.request import Request

ACCOUNT = "123456789012"
KEYS = Credentials("AKIAHEARTH", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SESSION = Credentials("ASIAHEARTH", "another/Secret+0123456789", "FwoGZXIvYXdzEBYaD//a+b==")
ENDED = Credentials("ASIAENDED", "a/third/secret", "ended")
KNOWN = {
    credential.access_key: credential
    for credential in (
        Credential(KEYS.access_key, KEYS.secret_key, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/me"),
        Credential(
            SESSION.access_key, SESSION.secret_key, ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/r/s",
            hashlib.sha256(str(SESSION.token).encode()).hexdigest(), 4e9,
        ),
        Credential(
            ENDED.access_key, ENDED.secret_key, ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/r/s",
            hashlib.sha256(b"ended").hexdigest(), 1.0,
        ),
    )
}  # fmt: skip


class NamedPayload(botocore.auth.S3SigV4Auth):  # type: ignore[misc]
    """botocore signs the body's hash, or a name of its own choice; this one signs the name it is given."""

    def __init__(self, keys: Credentials, name: str, region: str = "us-east-1") -> None:
        super().__init__(keys, "s3", region)
        self.name = name

    def payload(self, request: AWSRequest) -> str:
        return self.name


def signed(
    method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None, *, keys: Credentials = KEYS,
    service: str = "sagemaker", region: str = "us-east-1", expires: int | None = None, payload: str | None = None,
) -> Sent:  # fmt: skip
    """By SigV4Auth and its siblings, chosen by service and `expires` (presigned). `payload`: S3's, by name."""
    request = AWSRequest(method, url, data=body, headers=headers or {})
    name = f"{'S3' if service == 's3' else ''}SigV4{'Auth' if expires is None else 'QueryAuth'}"
    auth: Any = getattr(botocore.auth, name)
    made = auth(keys, service, region) if expires is None else auth(keys, service, region, expires=expires)
    if payload is not None:
        made = NamedPayload(keys, payload)
    made.add_auth(request)
    return received(method, str(request.url), {name: str(value) for name, value in request.headers.items()})


def received(method: str, url: str, headers: dict[str, str]) -> Sent:
    place, _, query = url.partition("?")
    _, _, rest = place.partition("://")
    host, slash, path = rest.partition("/")
    fields = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    if not any(name == b"host" for name, _ in fields):
        fields.insert(0, (b"host", host.encode()))
    return Sent(method, (slash + path).encode(), query.encode(), tuple(fields))


def with_header(sent: Sent, name: bytes, value: bytes | None) -> Sent:
    """`value` in place of what `name` has; None: without it."""
    rest = tuple(field for field in sent.headers if field[0] != name)
    return replace(sent, headers=rest if value is None else (*rest, (name, value)))


def header(sent: Sent, name: bytes) -> bytes:
    return next(value for field, value in sent.headers if field == name)


def as_object_request(sent: Sent) -> Request:
    return Request(sent.method, "", "", {}, {}, "", sent.path, sent.query, sent.headers)
