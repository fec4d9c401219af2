"""Calls of every operation of every AWS service here, in each protocol that clients may speak."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from urllib.parse import quote_plus

import cbor2

from benchmarks.fuzz import shapes, values
from benchmarks.fuzz.wire import Field, Sent
from server.control.service import Service
from server.control.services import SERVICES

OPERATIONS: tuple[tuple[Service, str], ...] = tuple(
    (service, name) for service in SERVICES.values() for name in sorted(service.operations)
)
BUILT = tuple((service, name) for service, name in OPERATIONS if name in service.built)
REGIONS = ("us-east-1", "eu-west-1", "a", "../x")

Writer = Callable[[Service, str, Any, Random], Sent]


def call(random: Random) -> Sent:
    """Mostly of an operation that is built, with a document that is right, bent, or nothing of the kind."""
    service, name = random.choice(BUILT if random.random() < 0.85 else OPERATIONS)
    kind = random.random()
    given: Any = {} if (shape := service.input(name)) is None else shapes.document(shape, random)
    if kind > 0.35:
        given = values.bend(given, random, 0.02 if kind < 0.7 else 0.15)
    elif kind > 0.32:
        given = values.anything(random)
    sent = random.choice(WRITERS)(service, name, given, random)
    if random.random() < 0.7:
        sent.fields.append(signed(service.signing_name, random))
    return sent


def signed(signing_name: str, random: Random) -> Field:
    """A header of the form that a signature has, for that service."""
    where = f"AKIDEXAMPLE/20261124/{random.choice(REGIONS)}/{signing_name}/aws4_request"
    text = f"AWS4-HMAC-SHA256 Credential={where}, SignedHeaders=host, Signature={'0' * 64}"
    return b"authorization", text.encode()


def as_json(service: Service, name: str, given: Any, random: Random) -> Sent:
    prefix = service.target_prefix or service.name
    target = f"{prefix}.{name}" if random.random() < 0.97 else values.text(random)
    body = json.dumps(given, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    fields = [(b"content-type", b"application/x-amz-json-1.1"), (b"x-amz-target", _header(target))]
    return Sent("aws json", "door", b"POST", b"/", fields, body)


def as_form(service: Service, name: str, given: Any, random: Random) -> Sent:
    pairs = [("Action", name), ("Version", service.version), *_flat("", given)]
    if random.random() < 0.05:
        pairs += [(values.text(random)[:99], values.text(random)[:99]) for _ in range(random.choice((1, 3000, 20_000)))]
    body = "&".join(f"{_form(key)}={_form(value)}" for key, value in pairs).encode()
    return Sent("aws query", "door", b"POST", b"/", [(b"content-type", b"application/x-www-form-urlencoded")], body)


def as_cbor(service: Service, name: str, given: Any, random: Random) -> Sent:
    path = f"/service/{service.target_prefix or service.name}/operation/{name}".encode()
    try:
        body = cbor2.dumps(given)
    except (cbor2.CBORError, UnicodeError):
        body = random.randbytes(64)
    if random.random() < 0.1:
        body = bytes((random.choice(b"\xc0\xc1\xc2\xc4\xc5\xd8\xd9\xda"),)) + body
    return Sent("aws cbor", "door", b"POST", path, [(b"smithy-protocol", b"rpc-v2-cbor")], body)


WRITERS: tuple[Writer, ...] = (as_json, as_json, as_json, as_form, as_cbor)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), item)
    elif isinstance(value, list):
        for at, item in enumerate(value[:200], 1):
            yield from _flat(f"{name}.member.{at}", item)
    else:
        yield name, str(value).lower() if isinstance(value, bool) else str(value)


def _form(text: str) -> str:
    return quote_plus(text, errors="surrogatepass")


def _header(text: str) -> bytes:
    """Without what would end the header."""
    return bytes(byte for byte in text.encode("utf-8", "replace") if byte not in b"\0\r\n")[:4000]
