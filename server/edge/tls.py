"""The edge's certificate: one's own, or one that Hearth makes and signs with a certificate authority of its own.

HAProxy reads one file, certificate chain and key together; `Certificate.renew` writes it anew when its sources
have changed or a made certificate nears its end, and says so, and the edge is then reloaded.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.settings import Settings

AUTHORITY_LASTS = timedelta(days=3650)
CERTIFICATE_LASTS = timedelta(days=397)
"""The longest that browsers and Apple's clients accept."""
RENEW_BEFORE = timedelta(days=30)
_BACKDATED = timedelta(minutes=5)


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
        return self.folder / "ca.pem"

    def renew(self, now: datetime | None = None) -> bool:
        """Brings the bundle up to date; True when it changed. Raises TlsError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = self._own(self.own) if self.own is not None else self._made(now or datetime.now(UTC))
        if text is None or (self.bundle.exists() and self.bundle.read_text() == text):
            return False
        _write(self.bundle, text)
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
        if self.bundle.exists():
            there = x509.load_pem_x509_certificate(self.bundle.read_bytes())
            if there.not_valid_after_utc > now + RENEW_BEFORE and _names_of(there) >= set(self.names):
                return None
        authority, authority_key = self._authority(now)
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            x509.CertificateBuilder()
            .subject_name(_name(self.names[0]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(min(now + CERTIFICATE_LASTS, authority.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName(list(_alternatives(self.names))), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False)
            .sign(authority_key, hashes.SHA256())
        )
        return _pem(made) + _pem(authority) + _key_pem(key)

    def _authority(self, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """The one there, unless it ends before a new certificate would."""
        key_file = self.folder / "ca.key"
        if self.authority.exists() and key_file.exists():
            there = x509.load_pem_x509_certificate(self.authority.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            if isinstance(key, ec.EllipticCurvePrivateKey) and there.not_valid_after_utc > now + RENEW_BEFORE * 2:
                return there, key
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"Hearth on {socket.gethostname()}"[:64])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + AUTHORITY_LASTS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_SIGNS, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(key_file, _key_pem(key))
        _write(self.authority, _pem(made))
        return made, key


_SIGNS = x509.KeyUsage(
    digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


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


def _write(file: Path, text: str) -> None:
    """The old file or the new one at any moment, for this user alone."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(file)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternatives(names: Iterable[str]) -> Iterable[x509.GeneralName]:
    for name in names:
        try:
            yield x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            yield x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _public(key: Any) -> bytes:
    """What makes two public keys the same."""
    return bytes(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
