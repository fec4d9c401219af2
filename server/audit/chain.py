"""What makes the log tamper-evident: each event's digest covers the one before, and signed marks hold both ends.

A *mark* is a place in the chain under the log's key: `start`, behind which everything is kept, and `head`, the
newest event. Without the key nobody can move one, so cutting the tail shows even when the head goes with it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass

GENESIS = "0" * 64
"""The digest before the first event."""
START, HEAD = "start", "head"


def digest(previous: str, seq: int, event: str) -> str:
    """SHA-256 over the previous digest, the event's number and its canonical JSON; hexadecimal."""
    return hashlib.sha256(f"{previous}\n{seq}\n{event}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Mark:
    """Event number `seq` has `digest`; 0 and GENESIS: none yet."""

    name: str
    seq: int
    digest: str
    mac: str

    @classmethod
    def signed(cls, key: bytes, name: str, seq: int, digest: str) -> Mark:
        return cls(name, seq, digest, _mac(key, name, seq, digest))

    def genuine(self, key: bytes) -> bool:
        return hmac.compare_digest(self.mac, _mac(key, self.name, self.seq, self.digest))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Mark:
        """Raises ValueError for what is no mark."""
        try:
            found = cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(str(error)) from None
        if not (isinstance(found.seq, int) and isinstance(found.digest, str) and isinstance(found.mac, str)):
            raise ValueError("not a mark")
        return found


def _mac(key: bytes, name: str, seq: int, digest: str) -> str:
    return hmac.new(key, f"hearth audit\n{name}\n{seq}\n{digest}".encode(), hashlib.sha256).hexdigest()
