"""The signatures inside an ``aws-chunked`` body: each follows from the one before, the first from the request's.

Source: "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks" and "...:
Including Trailing Headers" (Amazon S3 API Reference).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from server.objects.errors import ObjectError

TRAILER_SIGNATURE = "x-amz-trailer-signature"

_EMPTY_SHA256 = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Seal:
    """What a verified request gives to check its body's chunks with."""

    key: bytes = field(repr=False)
    """The signing key of the request's scope."""
    date: str
    scope: str
    signature: str
    """The request's own, from which the first chunk's follows."""


class _Digest(Protocol):
    def hexdigest(self) -> str: ...


class SealCheck:
    """The chain of one body, in the order of its chunks. Raises SignatureDoesNotMatch where it breaks."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._previous = seal.signature

    def chunk(self, digest: _Digest, signature: str) -> None:
        """`digest` is SHA-256 of the chunk's content."""
        self._follow("PAYLOAD", f"{_EMPTY_SHA256}\n{digest.hexdigest()}", signature)

    def trailers(self, trailers: Mapping[str, str], signature: str) -> None:
        text = "".join(f"{name}:{value}\n" for name, value in sorted(trailers.items()))
        self._follow("TRAILER", hashlib.sha256(text.encode()).hexdigest(), signature)

    def _follow(self, kind: str, hashes: str, signature: str) -> None:
        seal = self._seal
        text = f"AWS4-HMAC-SHA256-{kind}\n{seal.date}\n{seal.scope}\n{self._previous}\n{hashes}".encode()
        if not hmac.compare_digest(hmac.digest(seal.key, text, "sha256").hex().encode(), signature.encode()):
            raise ObjectError("SignatureDoesNotMatch", StringToSign=text.decode(), SignatureProvided=signature)
        self._previous = signature
