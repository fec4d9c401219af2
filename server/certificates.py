"""A certificate authority of Hearth's own: made at first need, kept in a folder, it signs the edge's certificate and
the nodes'."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LASTS = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=30)
SERVES, CALLS = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_BACKDATED = timedelta(minutes=5)
_SIGNS = x509.KeyUsage(
    digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


class Authority:
    """`ca.pem` and `ca.key` in `folder`; `whose` stands in its name. Replaced by a new one `renew_before` its end."""

    def __init__(self, folder: Path, whose: str, renew_before: timedelta = RENEW_BEFORE * 2) -> None:
        self._folder = folder
        self._whose = whose
        self._renew_before = renew_before

    @property
    def file(self) -> Path:
        """What the certificates it signs are verified with, in PEM."""
        return self._folder / "ca.pem"

    def issue(
        self, names: Sequence[str], lasts: timedelta, uses: Sequence[x509.ObjectIdentifier], now: datetime
    ) -> str:
        """A new certificate for `names` (hosts and addresses), its authority's and its key, in PEM."""
        authority, authority_key = self._pair(now)
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            x509.CertificateBuilder()
            .subject_name(_name(names[0]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(min(now + lasts, authority.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName(list(_alternatives(names))), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False)
            .sign(authority_key, hashes.SHA256())
        )
        return _pem(made) + _pem(authority) + _key_pem(key)

    def _pair(self, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key_file = self._folder / "ca.key"
        if self.file.exists() and key_file.exists():
            there = x509.load_pem_x509_certificate(self.file.read_bytes())
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            if isinstance(key, ec.EllipticCurvePrivateKey) and there.not_valid_after_utc > now + self._renew_before:
                return there, key
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"{self._whose} on {socket.gethostname()}")
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
        write_private(key_file, _key_pem(key))
        write_private(self.file, _pem(made))
        return made, key


def outlasts(file: Path, moment: datetime) -> bool:
    """Whether the first certificate of `file` (PEM) is there and good until after `moment`."""
    return file.exists() and x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc > moment


def names_of(file: Path) -> set[str]:
    """Hosts and addresses that the first certificate of `file` is for."""
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def write_private(file: Path, text: str) -> None:
    """The old file or the new one at any moment, for this user alone. Makes its folder."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(file)


def utc_now() -> datetime:
    return datetime.now(UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternatives(names: Iterable[str]) -> Iterable[x509.GeneralName]:
    for name in names:
        try:
            yield x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            yield x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
