"""How a replica knows that a request is a copy, made by a replica of this Hearth.

A copy carries one header, which the edge takes off every client's request. It says when the copy was made and the
SHA-256 of its body, and is authenticated (HMAC-SHA256) under a key that only this Hearth's processes can derive,
together with the endpoint and variant that the copy is for, its request id and its address. So it opens nothing but
this one request, at this one variant, for a few minutes.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from server.errors import Unauthenticated

HEADER = b"x-hearth-shadow"
WINDOW_S = 300.0
"""How far two machines' clocks may be apart, and how old a copy may be."""
_PURPOSE = b"hearth shadow copies"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A copy whose head is genuine; its body is checked once it is here."""

    digest: str

    def check(self, body: bytes) -> None:
        """Raises Unauthenticated for a body that is not the one that was copied."""
        if not hmac.compare_digest(hashlib.sha256(body).hexdigest(), self.digest):
            raise Unauthenticated("The body of this copied request is not the one that was sealed.")


class Seal:
    """Makes and checks the header of copies for one endpoint. `token` is what the processes of one Hearth share."""

    def __init__(self, token: str, endpoint: str, account: str = "", now: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(token.encode(), _PURPOSE, "sha256")
        self._endpoint = f"{account}/{endpoint}"
        self._now = now

    def header(self, variant: str, request_id: str, target: str, body: bytes) -> str:
        """The header's value. `target`: path and query, as they are sent."""
        at, digest = f"{self._now():.0f}", hashlib.sha256(body).hexdigest()
        return f"{at}:{digest}:{self._mac(variant, request_id, target, at, digest)}"

    def open(self, value: str, variant: str, request_id: str, target: str) -> Sealed:
        """Raises Unauthenticated for a header that no replica of this Hearth made for this request."""
        at, _, rest = value.partition(":")
        digest, _, mac = rest.partition(":")
        expected = self._mac(variant, request_id, target, at, digest)
        if not hmac.compare_digest(mac.encode(), expected.encode()):
            raise Unauthenticated(f"The {HEADER.decode()} header of this request was not made by this Hearth.")
        if abs(self._now() - float(at)) > WINDOW_S:
            raise Unauthenticated(f"This copied request is not of the last {WINDOW_S:.0f} seconds.")
        return Sealed(digest)

    def _mac(self, variant: str, request_id: str, target: str, at: str, digest: str) -> str:
        said = "\n".join((self._endpoint, variant, request_id, target, at, digest))
        return hmac.digest(self._key, said.encode("utf-8", "surrogatepass"), "sha256").hex()
