"""The edge's certificate: one's own, or one that Hearth makes and signs with a certificate authority of its own.

HAProxy reads one file, certificate chain and key together; `Certificate.renew` writes it anew when its sources
have changed or a made certificate nears its end, and says so, and the edge is then reloaded.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server.certificates import RENEW_BEFORE, SERVES, Authority, names_of, outlasts, utc_now, write_private
from server.settings import Settings

CERTIFICATE_LASTS = timedelta(days=397)
"""The longest that browsers and Apple's clients accept."""


class TlsError(Exception):
    """The certificate cannot be used; the text names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """Where the edge's certificate comes from and goes to. `own` is None for one that Hearth makes."""

    folder: Path
    own: Path | None
    own_key: Path | None
    names: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> Certificate:
        more = (settings.tls_names or "").split(",")
        names = (settings.host, "localhost", "127.0.0.1", "::1", socket.gethostname(), *more)
        wanted = dict.fromkeys(name.strip().lower() for name in names)
        usable = tuple(name for name in wanted if name not in ("", "0.0.0.0", "::"))
        return cls(settings.tls_dir, settings.tls_certificate, settings.tls_key, usable)

    @property
    def bundle(self) -> Path:
        """What HAProxy reads."""
        return self.folder / "edge.pem"

    @property
    def authority(self) -> Path:
        """What clients verify a made certificate with."""
        return self._authority.file

    @property
    def _authority(self) -> Authority:
        return Authority(self.folder, "Hearth")

    def renew(self, now: datetime | None = None) -> bool:
        """Brings the bundle up to date; True when it changed. Raises TlsError."""
        text = self._own(self.own) if self.own is not None else self._made(now or utc_now())
        if text is None or (self.bundle.exists() and self.bundle.read_text() == text):
            return False
        write_private(self.bundle, text)
        return True

    def _own(self, certificate: Path) -> str:
        key_file = self.own_key or certificate
        chain, key = _read(certificate), _read(key_file)
        try:
            leaf = x509.load_pem_x509_certificates(chain.encode())[0]
        except ValueError as error:
            raise TlsError(f"{certificate}: no certificate in PEM: {error}") from None
        try:
            private = serialization.load_pem_private_key(key.encode(), None)
        except TypeError:
            raise TlsError(f"{key_file}: the key has a password; give one without.") from None
        except ValueError:
            raise TlsError(f"{key_file}: no private key in PEM.") from None
        if _public(private.public_key()) != _public(leaf.public_key()):
            raise TlsError(f"{key_file} is not the key of {certificate}.")
        return chain if key_file == certificate else f"{chain.rstrip()}\n{key.rstrip()}\n"

    def _made(self, now: datetime) -> str | None:
        """A new certificate; None while the one there is good for longer and for all names."""
        if outlasts(self.bundle, now + RENEW_BEFORE) and names_of(self.bundle) >= set(self.names):
            return None
        return self._authority.issue(self.names, CERTIFICATE_LASTS, [SERVES], now)


def check_authority(file: Path) -> None:
    """Raises TlsError for a file that holds no certificate to verify clients with."""
    try:
        x509.load_pem_x509_certificates(_read(file).encode())
    except ValueError as error:
        raise TlsError(f"{file}: no certificate in PEM: {error}") from None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TlsError(f"{file}: {error.strerror if isinstance(error, OSError) else 'not PEM'}") from None


def _public(key: Any) -> bytes:
    """What makes two public keys the same."""
    return bytes(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
