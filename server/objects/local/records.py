"""What the index knows about a bucket, an object, an upload and a part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str
    region: str
    created: int
    encryption: Mapping[str, Any] = field(default_factory=dict)
    """The fields of a `Rule`; empty: none was put."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file that an object's content is made of."""

    blob: str
    size: int
    """Of the content; an encrypted file is longer."""
    salt: str = ""
    """Of its encryption, in hexadecimal; empty: the file is the content."""


@dataclass(frozen=True, slots=True)
class Details:
    """What a writer said of an object besides its content."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Content-Type and its kin, by the name of the member in the service model."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    """By algorithm; in an upload that is still open, the algorithm with an empty value."""
    checksum_type: str = "FULL_OBJECT"
    upload: str | None = None
    """The multipart upload that made it."""
    encryption: Mapping[str, Any] = field(default_factory=dict)
    """The data key, encrypted, and under what (`server.objects.local.encryption`); empty: nothing is encrypted."""

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Details:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as a reader sees it: content and everything about it change together or not at all."""

    bucket: str
    key: str
    size: int
    etag: str
    """Without its quotes."""
    modified: int
    details: Details
    pieces: tuple[Piece, ...]
    inline: bytes = b""
    """Content that is small enough to be kept in the index, where there are no pieces."""


@dataclass(frozen=True, slots=True)
class Upload:
    id: str
    bucket: str
    key: str
    initiated: int
    details: Details


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    size: int
    etag: str
    modified: int
    blob: str
    checksums: Mapping[str, str]
    salt: str = ""
    """As of a `Piece`."""


class Listed(NamedTuple):
    """A row of a listing: what it shows, without the object's details."""

    key: str
    size: int
    etag: str
    modified: int
    algorithm: str | None
    checksum_type: str


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def pieces_json(pieces: tuple[Piece, ...]) -> str:
    return json.dumps(
        [[piece.blob, piece.size, *([piece.salt] if piece.salt else [])] for piece in pieces], separators=(",", ":")
    )


def pieces_from(text: str) -> tuple[Piece, ...]:
    rows: list[Any] = json.loads(text)
    return tuple(Piece(*row) for row in rows)
